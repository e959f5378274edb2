"""MONAI's ``DiffusionModelUNet`` as a mask network. MONAI is an extra, imported only when such a network is
built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffseg.errors import CheckpointError
from diffseg.nets.architecture import ARCHITECTURES

MISSING = (
    "This model needs MONAI and einops, of which one is not installed; install both with "
    "'pip install napari-diffseg[monai]'."
)


@dataclass(frozen=True)
class MonaiUNetConfig:
    """``arguments`` of MONAI's constructor, and whether the mask comes before the image (MONAI's tutorials:
    after).
    """

    arguments: dict[str, Any]
    mask_first: bool = False


@ARCHITECTURES.add("monai-diffusion-unet", "DiffusionModelUNet of MONAI, image and x_t concatenated")
class MonaiUNet(nn.Module):
    """Predicts the head's quantity from ``x_t``, a time step and an image; two or three dimensions."""

    Config = MonaiUNetConfig

    def __init__(self, config: MonaiUNetConfig) -> None:
        """Build the network.

        Raises:
            CheckpointError: MONAI is missing, or refuses the arguments, or the network needs a text or class
            prompt.
        """
        super().__init__()
        self.config = config
        if config.arguments.get("with_conditioning") or config.arguments.get("num_class_embeds"):
            raise CheckpointError(
                "This MONAI network expects a context or class label with every image, which masks do not "
                "need; only networks without with_conditioning and num_class_embeds can be run."
            )
        try:
            from monai.networks.nets import DiffusionModelUNet
        except ImportError:
            raise CheckpointError(MISSING) from None
        try:
            self.net = DiffusionModelUNet(**config.arguments)
        except ImportError:
            raise CheckpointError(MISSING) from None
        except (TypeError, ValueError) as bad:
            raise CheckpointError(f"MONAI refuses the arguments of this DiffusionModelUNet: {bad}") from None

    @property
    def stride(self) -> int:
        """Sides of the input must be multiples of this."""
        return int(2 ** (len(self.config.arguments["channels"]) - 1))

    def forward(self, x: Tensor, t: Tensor, image: Tensor) -> Tensor:
        """``x (B, K, *S)``, time steps ``t (B,)`` and ``image (B, C, *S)`` to the network's output."""
        parts = [x, image] if self.config.mask_first else [image, x]
        out: Tensor = self.net(torch.cat(parts, dim=1), t)
        return out
