"""Training losses for K-class masks. Shapes: ``x0hat``, ``x0 (B, K, *S)`` in [-1, 1]; labels ``(B, *S)``."""

from __future__ import annotations

import torch
from torch import Tensor


def dice_loss(probabilities: Tensor, labels: Tensor) -> Tensor:
    """``1 - 2 sum(p g) / sum(p + g)`` averaged over samples and the foreground classes present in them.

    A class absent from a sample's label is left out of the mean; with no class present at all it is 0.

    References:
        Fu et al. 2023 (ImgX-DiffSeg): no smoothing constant, background left out, absent classes skipped.
    """
    onehot = torch.nn.functional.one_hot(labels.long(), probabilities.shape[1]).movedim(-1, 1)
    p, g = probabilities[:, 1:].flatten(2), onehot[:, 1:].flatten(2).to(probabilities.dtype)
    present = g.sum(2) > 0
    per_class = 1 - 2 * (p * g).sum(2) / (p + g).sum(2).clamp_min(1e-6)
    return (per_class * present).sum() / present.sum().clamp_min(1)


def cross_entropy(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log probability of the true class, over all voxels."""
    log_p = probabilities.clamp_min(1e-7).log()
    return torch.nn.functional.nll_loss(log_p, labels.long())
