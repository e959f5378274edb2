"""Losses between predicted class probabilities and a label map.

Shapes: probabilities ``p (B, K, *S)`` with class 0 the background; labels ``(B, *S)`` integers. Every registered
loss gives one number per sample, ``(B,)``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffseg.registry import Registry

# Below this a probability is taken as this, so that no voxel alone gives an infinite loss.
SMALLEST = 1e-7

MASK_LOSSES: Registry[Callable[[Tensor, Tensor], Tensor]] = Registry("mask loss")


def onehot(labels: Tensor, like: Tensor) -> Tensor:
    """Labels as 0 and 1 per class, in the shape and type of ``like (B, K, *S)``."""
    return torch.nn.functional.one_hot(labels.long(), like.shape[1]).movedim(-1, 1).to(like.dtype)


def dice_per_class(probabilities: Tensor, labels: Tensor) -> Tensor:
    """``1 - 2 sum(p g) / sum(p + g)`` over voxels, ``(B, K)``; NaN for a class that is absent from the label."""
    p, g = probabilities.flatten(2), onehot(labels, probabilities).flatten(2)
    loss = 1 - 2 * (p * g).sum(2) / (p + g).sum(2).clamp_min(SMALLEST)
    return torch.where(g.sum(2) > 0, loss, torch.nan)


def dice_loss(probabilities: Tensor, labels: Tensor) -> Tensor:
    """``1 - 2 sum(p g) / sum(p + g)``, the mean over a sample's foreground classes, ``(B,)``.

    A class absent from a sample's label is left out of its mean; with no class present at all the loss is 0.

    References:
        Fu et al. 2023 (ImgX-DiffSeg): no smoothing constant, background left out, absent classes skipped.
    """
    p, g = probabilities[:, 1:].flatten(2), onehot(labels, probabilities)[:, 1:].flatten(2)
    present = (g.sum(2) > 0).to(p.dtype)
    # The clamp also keeps the gradient finite where a class has neither label nor probability.
    per_class = 1 - 2 * (p * g).sum(2) / (p + g).sum(2).clamp_min(1e-6)
    return (per_class * present).sum(1) / present.sum(1).clamp_min(1)


def cross_entropy(probabilities: Tensor, labels: Tensor, exclusive: bool = True) -> Tensor:
    """``-ln p`` of the true class, the mean over voxels, ``(B,)``.

    With ``exclusive`` False the classes may overlap, ``p`` are independent (sigmoids), and the loss is the sum
    over classes of ``-g ln p - (1 - g) ln(1 - p)``.
    """
    return focal(probabilities, labels, 0.0, exclusive)


def focal(probabilities: Tensor, labels: Tensor, gamma: float = 2.0, exclusive: bool = True) -> Tensor:
    """``-(1 - q)^gamma ln q`` with ``q`` the probability given to the truth, the mean over voxels, ``(B,)``.

    Exclusive classes: q is the probability of the true class. Otherwise every class has its own q, which is p
    where the class is and 1 - p elsewhere, and their losses are summed.

    References:
        Lin et al. 2017, "Focal loss for dense object detection", equation 4; Fu et al. 2024 for masks.
    """
    if exclusive:
        q = probabilities.gather(1, labels.long()[:, None])
    else:
        g = onehot(labels, probabilities)
        q = g * probabilities + (1 - g) * (1 - probabilities)
    loss = -q.clamp_min(SMALLEST).log()
    if gamma:
        loss = (1 - q) ** gamma * loss
    return loss.sum(1).flatten(1).mean(1)


MASK_LOSSES.add("dice", "Soft Dice of the foreground classes that are present")(dice_loss)
MASK_LOSSES.add("cross_entropy", "Negative log probability of the true class")(cross_entropy)
MASK_LOSSES.add("focal", "Cross-entropy that counts voxels already right less (gamma 2)")(focal)
