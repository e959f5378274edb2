"""Masks as the numbers that diffuse: label map <-> ``x`` in [-1, 1] per class <-> probabilities.

Shapes: labels ``(B, *S)`` integers 0..K-1 with 0 the background; ``x`` and probabilities ``(B, K, *S)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MaskCodec:
    """K-class codec, background included.

    References:
        Fu et al. 2023 (ImgX-DiffSeg): ``x_0 = 2 onehot - 1`` and ``x0hat = 2 softmax(logits) - 1``.
    """

    classes: int

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
