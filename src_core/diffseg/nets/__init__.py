"""Networks: building blocks and the architectures made of them, which importing this package registers."""

from diffseg.nets import classifier, guided_unet, image_unet, monai_unet, two_stream, unet
from diffseg.nets.architecture import ARCHITECTURES

__all__ = ["ARCHITECTURES", "classifier", "guided_unet", "image_unet", "monai_unet", "two_stream", "unet"]
