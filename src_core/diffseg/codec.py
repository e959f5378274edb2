"""Masks as the numbers that diffuse: label map <-> state ``x`` <-> probabilities.

Shapes: labels ``(B, *S)`` integers 0..K-1 with 0 the background; states ``x (B, channels, *S)``; probabilities
``(B, K, *S)``. A codec says how many channels diffuse, in which range clean states lie (``clip``), and how a state is
read as classes. Not every codec has one channel per class: samplers and networks follow ``channels``, votes and
metrics follow ``classes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from pydantic import ConfigDict
from torch import Tensor

from diffseg.errors import CheckpointError, PlanError
from diffseg.records import from_dict
from diffseg.registry import Registry

Range = tuple[float, float]
# A misspelt setting on a card must not be passed over.
FORBID = ConfigDict(extra="forbid")


class Codec(Protocol):
    """See the module. Every codec is a frozen dataclass whose first field is ``classes``."""

    @property
    def classes(self) -> int:
        """Number of classes K, background included."""
        ...

    @property
    def channels(self) -> int:
        """Number of diffusing channels."""
        ...

    @property
    def clip(self) -> Range:
        """Range to which predicted clean states are clipped."""
        ...

    def encode(self, labels: Tensor) -> Tensor:
        """Labels ``(B, *S)`` to the clean state ``(B, channels, *S)``."""
        ...

    def from_logits(self, logits: Tensor) -> Tensor:
        """A network's logits to the clean state, same shape."""
        ...

    def probabilities(self, x0: Tensor) -> Tensor:
        """A clean state to class probabilities ``(B, K, *S)`` that sum to 1."""
        ...

    def labels(self, x0: Tensor) -> Tensor:
        """A clean state to labels ``(B, *S)`` int64."""
        ...

    def foreground(self, x: Tensor) -> Tensor:
        """One field ``(B, *S)`` to look at: +1 where a structure is certain, -1 in the background."""
        ...


CODECS: Registry[type[Codec]] = Registry("codec")


def build_codec(name: str, classes: int, settings: Mapping[str, Any]) -> Codec:
    """The codec called ``name`` for ``classes`` classes.

    Raises:
        CheckpointError: settings that it does not know or that are out of range.
        PlanError: an unknown name.
    """
    return from_dict(CODECS[name], {"classes": classes, **settings}, f"Codec {name}", CheckpointError)


@CODECS.add("onehot", "One channel per class, background included, -1 or +1 (ImgX-DiffSeg)")
@dataclass(frozen=True)
class MaskCodec:
    """K-class codec, background included.

    References:
        Fu et al. 2023 (ImgX-DiffSeg): ``x_0 = 2 onehot - 1`` and ``x0hat = 2 softmax(logits) - 1``.
    """

    __pydantic_config__ = FORBID

    classes: int

    @property
    def channels(self) -> int:
        """One per class."""
        return self.classes

    @property
    def clip(self) -> Range:
        """The range of clean masks."""
        return (-1.0, 1.0)

    def encode(self, labels: Tensor) -> Tensor:
        """Labels ``(B, *S)`` to ``x_0 (B, K, *S)``, exactly -1 or +1."""
        onehot = torch.nn.functional.one_hot(labels.long(), self.classes)
        return onehot.movedim(-1, 1).float() * 2 - 1

    def from_logits(self, logits: Tensor) -> Tensor:
        """Logits to ``x0hat`` in [-1, 1]; the channels' probabilities sum to 1."""
        return logits.softmax(dim=1) * 2 - 1

    def probabilities(self, x0: Tensor) -> Tensor:
        """``x0hat`` to class probabilities; values outside [-1, 1] are clipped, the sum is made 1.

        A voxel where every clipped class is 0 becomes background with probability 1.
        """
        p = ((x0 + 1) / 2).clamp(0, 1)
        total = p.sum(dim=1, keepdim=True)
        background = torch.zeros_like(p)
        background[:, 0] = 1
        return torch.where(total > 0, p / total.clamp_min(1e-12), background)

    def labels(self, x0: Tensor) -> Tensor:
        """``x0hat`` to labels ``(B, *S)`` int64: the class of the largest value (ties: the lower class)."""
        return x0.argmax(dim=1)

    def foreground(self, x: Tensor) -> Tensor:
        """One field ``(B, *S)`` to look at: +1 where the background is absent, -1 where it is certain."""
        return -x[:, 0]


@CODECS.add("binary", "One channel: background low, structure high (CIMD, Wolleb, AmbDiffSeg)")
@dataclass(frozen=True)
class BinaryCodec:
    """One diffusing channel for two classes.

    Clean masks are ``low`` in the background and ``high`` in the structure. Voxels *above* ``threshold`` belong to
    the structure; None is the middle of low and high. ``clip`` is the range of predicted clean masks. AmbDiffSeg
    uses the defaults. CIMD and Wolleb's code have masks in {0, 1} but clip them to [-1, 1]: ``low`` 0 with the
    default ``clip``; CIMD's own evaluation thresholds at 0 instead of 0.5.

    References:
        Rahman et al. 2023 (CIMD); Wolleb et al. 2022; Christensen et al. 2025 (AmbDiffSeg).
    """

    __pydantic_config__ = FORBID

    classes: int = 2
    low: float = -1.0
    high: float = 1.0
    threshold: float | None = None
    clip: Range = (-1.0, 1.0)

    def __post_init__(self) -> None:
        if self.classes != 2:
            raise CheckpointError(f"A binary codec has 2 classes, but {self.classes} were given; name just two.")
        bottom, top = self._ends
        if not (self.low < self.high and bottom < self.cut < top):
            raise CheckpointError(
                f"Masks of {self.low} and {self.high} clipped to {self.clip} cannot be told apart at {self.cut}; give "
                "low < high and a threshold between them."
            )

    @property
    def channels(self) -> int:
        """One, whatever the number of classes."""
        return 1

    @property
    def cut(self) -> float:
        """The threshold in use."""
        return (self.low + self.high) / 2 if self.threshold is None else self.threshold

    @property
    def _ends(self) -> Range:
        """Values where the structure is impossible and certain; they reach out to ``clip`` where the cut demands it."""
        bottom = self.low if self.low < self.cut else self.clip[0]
        return bottom, self.high if self.cut < self.high else self.clip[1]

    def encode(self, labels: Tensor) -> Tensor:
        """Labels ``(B, *S)`` to ``x_0 (B, 1, *S)``, exactly ``low`` or ``high``; every label above 0 is structure."""
        return (labels[:, None] > 0).float() * (self.high - self.low) + self.low

    def from_logits(self, logits: Tensor) -> Tensor:
        """Logits of the structure to ``x0hat`` between ``low`` and ``high``."""
        return logits.sigmoid() * (self.high - self.low) + self.low

    def probabilities(self, x0: Tensor) -> Tensor:
        """``x0hat (B, 1, *S)`` to ``(B, 2, *S)``: linear on both sides of the threshold, where it is exactly 0.5."""
        bottom, top = self._ends
        below, above = (x0 - bottom) / (self.cut - bottom), (x0 - self.cut) / (top - self.cut)
        p = torch.where(x0 > self.cut, above.clamp(max=1) + 1, below.clamp(min=0)) / 2
        return torch.cat((1 - p, p), dim=1)

    def labels(self, x0: Tensor) -> Tensor:
        """``x0hat`` to labels: 1 strictly above the threshold."""
        return (x0[:, 0] > self.cut).long()

    def foreground(self, x: Tensor) -> Tensor:
        """``low`` becomes -1 and ``high`` +1; noisy states reach beyond."""
        return (2 * x[:, 0] - self.low - self.high) / (self.high - self.low)


@CODECS.add("image", "The image itself diffuses; there is no mask (CDM, CG-Diff)")
@dataclass(frozen=True)
class ImageCodec:
    """Image diffusion: states are images of ``channels`` channels, clipped to ``clip``.

    The guided-diffusion family clips to [-1, 1] even where its images lie in [0, 1].
    """

    __pydantic_config__ = FORBID

    classes: int = 2
    channels: int = 1
    clip: Range = (-1.0, 1.0)

    def encode(self, labels: Tensor) -> Tensor:
        """An image ``(B, channels, *S)`` is its own clean state."""
        return labels

    def from_logits(self, logits: Tensor) -> Tensor:
        """The network's output is the image."""
        return logits

    def probabilities(self, x0: Tensor) -> Tensor:
        """Raises ``PlanError``: an image is no mask."""
        raise PlanError("This model draws images, not masks; use it for saliency, or choose a mask model.")

    def labels(self, x0: Tensor) -> Tensor:
        """Raises ``PlanError``: an image is no mask."""
        return self.probabilities(x0)

    def foreground(self, x: Tensor) -> Tensor:
        """The mean over channels, mapped from ``clip`` to [-1, 1]."""
        low, high = self.clip
        return (2 * x.mean(dim=1) - low - high) / (high - low)
