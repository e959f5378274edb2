"""Class activation maps of the classifier that also guides, through the package ``grad-cam`` (extra ``cam``).

These look at the clean image only, cost one or a few passes, and are as coarse as the layer they look at.

References:
    Selvaraju et al. 2017 (Grad-CAM); Chattopadhay et al. 2018 (Grad-CAM++); Wang et al. 2020 (Score-CAM);
    Jiang et al. 2021 (Layer-CAM); Gildenblat and contributors 2021 for the implementation.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from diffseg.errors import PlanError
from diffseg.registry import knob
from diffseg.saliency.method import SALIENCY, Models, Need, Partial, Question, SaliencyMethod

# Images that ``aug_smooth`` looks at: with and without a flip, at three brightnesses.
SMOOTHED = 6
# Operators that an import of torchvision has been seen to miss are two; more tries than this are in vain.
_TRIES = 8


def grad_cam() -> Any:
    """The package ``pytorch_grad_cam``, imported when first needed.

    Raises:
        PlanError: it is not installed or cannot be imported.
    """
    for _ in range(_TRIES):
        try:
            package = import_module("pytorch_grad_cam")
        except ImportError as missing:
            raise PlanError(
                f"Class activation maps need the package grad-cam, but {missing.name or missing} is missing; install "
                "it with 'pip install napari-diffseg[cam]'."
            ) from None
        except RuntimeError as bad:
            _declare_operator(bad)
        else:
            # Score-CAM draws a progress bar of its own; the core never prints.
            import_module("pytorch_grad_cam.score_cam").tqdm = SimpleNamespace(tqdm=iter)  # type: ignore[attr-defined]
            return package
    raise PlanError("The package grad-cam cannot be imported; install a torchvision that was made for this torch.")


def _declare_operator(error: RuntimeError) -> None:
    """Make up for an operator that torchvision misses when it was compiled for another build of torch.

    Such pairs are common (torch for the CPU, torchvision from PyPI) and stop the import of grad-cam, which never
    uses these operators, only image transforms.
    """
    missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
    if missing is None:
        raise PlanError(f"The package grad-cam cannot be imported: {error}; install it again.") from None
    torch.library.define(missing[1], "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


class Frozen(nn.Module):
    """A copy of a classifier at one time, so that hooks and gradients leave the original alone.

    ``passes`` counts the images that went through it.
    """

    def __init__(self, classifier: nn.Module, told: float) -> None:
        super().__init__()
        self.classifier = copy.deepcopy(classifier).eval().requires_grad_(False)
        self.told = told
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        """Class logits of images ``x (B, C, H, W)``."""
        self.passes += len(x)
        logits: Tensor = self.classifier(x, torch.full((len(x),), self.told, device=x.device))
        return logits

    def layer(self, name: str) -> nn.Module:
        """The layer of that dotted name; raises ``PlanError`` naming the outermost ones if there is none."""
        layers = dict(self.classifier.named_modules())
        if name in layers and name:
            return layers[name]
        known = ", ".join(child for child, _ in self.classifier.named_children())
        raise PlanError(f"The classifier has no layer {name!r}; choose one of, or one inside: {known}.")


def width(layer: nn.Module) -> int:
    """Channels of a layer's output: those of its last convolution, 0 where it has none."""
    found = [m.out_channels for m in layer.modules() if isinstance(m, nn.Conv2d | nn.Conv1d)]
    return found[-1] if found else 0


@dataclass(frozen=True)
class ActivationMap(SaliencyMethod):
    """What the four methods share. ``kind`` is the class of the package; ``layer`` the dotted name of a layer.

    The classifier is asked at time step 0. Maps are stretched to [0, 1] per slice by the package, so a slice
    without any evidence can look like one with much. ``aug_smooth`` averages over a horizontal flip and three
    brightnesses (6 passes), ``eigen_smooth`` keeps the first principal component, whose sign is arbitrary; Hu
    et al. 2023 used both.
    """

    kind: ClassVar[str]
    needs: ClassVar[tuple[Need, ...]] = ("classifier",)
    range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    unit: ClassVar[str] = "share of the slice's maximum"
    random: ClassVar[bool] = False

    layer: str = knob("middle_block", help="Layer of the classifier that is looked at; deeper ones are coarser")
    aug_smooth: bool = knob(False, help="Average over a flip and three brightnesses")
    eigen_smooth: bool = knob(False, help="Keep the first principal component only")

    def units(self, models: Models) -> int:
        """See ``SaliencyMethod``."""
        return 1

    def passes(self, models: Models) -> int:
        """See ``SaliencyMethod``."""
        return SMOOTHED if self.aug_smooth else 1

    def partials(self, models: Models, x: Tensor, noise: Tensor, question: Question) -> Iterator[Partial]:
        """See ``SaliencyMethod``: one final map."""
        assert models.classifier is not None
        package = grad_cam()
        with torch.inference_mode(False):
            network = Frozen(models.classifier, models.times[0].told)
        layer = network.layer(self.layer)
        targets = import_module("pytorch_grad_cam.utils.model_targets")
        cam = getattr(package, self.kind)(model=network, target_layers=[layer])
        try:
            # One image at a time: Score-CAM makes a masked copy of the image for every channel of the layer.
            maps = [self._map(cam, image[None], targets.ClassifierOutputTarget(question.target)) for image in x]
        except (IndexError, ValueError) as bad:
            raise PlanError(
                f"The layer {self.layer!r} and class {question.target} of the classifier give no map ({bad}); choose a "
                "layer whose output is an image, and a class that the classifier knows."
            ) from None
        finally:
            cam.activations_and_grads.release()
        yield Partial(torch.stack(maps), network.passes // len(x))

    def _map(self, cam: Any, image: Tensor, target: Any) -> Tensor:
        smooth = {"aug_smooth": self.aug_smooth, "eigen_smooth": self.eigen_smooth}
        image = image.detach().clone()
        with torch.inference_mode(False), torch.enable_grad():
            # The parameters are frozen, so the image is what gradients need to flow at all.
            image = image.clone().requires_grad_(True)
            return torch.as_tensor(cam(input_tensor=image, targets=[target], **smooth)[0])


@SALIENCY.add("grad-cam", "Grad-CAM of the classifier")
@dataclass(frozen=True)
class GradCAM(ActivationMap):
    """Channels weighted by the mean of their gradients."""

    kind: ClassVar[str] = "GradCAM"


@SALIENCY.add("grad-cam++", "Grad-CAM++ of the classifier")
@dataclass(frozen=True)
class GradCAMPlusPlus(ActivationMap):
    """Channels weighted by their positive gradients, second order."""

    kind: ClassVar[str] = "GradCAMPlusPlus"


@SALIENCY.add("score-cam", "Score-CAM of the classifier: no gradients, one pass per channel")
@dataclass(frozen=True)
class ScoreCAM(ActivationMap):
    """Channels weighted by the score that the image keeps when masked by them."""

    kind: ClassVar[str] = "ScoreCAM"

    def passes(self, models: Models) -> int:
        """See ``SaliencyMethod``: once more for each channel of the layer."""
        assert models.classifier is not None
        layer = dict(models.classifier.named_modules()).get(self.layer)
        return super().passes(models) * (1 + (width(layer) if layer is not None else 0))


@SALIENCY.add("layer-cam", "Layer-CAM of the classifier: finer in shallow layers")
@dataclass(frozen=True)
class LayerCAM(ActivationMap):
    """Every pixel of every channel weighted by its own positive gradient."""

    kind: ClassVar[str] = "LayerCAM"
