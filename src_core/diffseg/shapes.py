"""Masks as signed distances, and what strokes at some voxels say about the others. No torch.

Symbols: ``K`` classes with 0 the background, ``*S`` the axes; ``phi (K - 1, *S)`` the signed distance to the border of
each foreground class in voxels, positive inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseg.registry import check_knobs, knob

Field = NDArray[np.float32]
Labels = NDArray[np.uint8]

# Distances end here, in voxels: what lies further from a border says nothing about it.
FAR = 12.0
# Strokes are thinned out to this many voxels, since they are solved for together.
MOST_SEEN = 200


def distances(labels: Labels, classes: int, sides: Sequence[float]) -> Field:
    """``phi`` of labels ``(*S)``, within -FAR and FAR; ``sides`` are the voxel's, its smallest being 1.

    Borders lie midway between voxel centres. A class that is nowhere is -FAR throughout, one that is everywhere FAR.
    """
    return np.stack([_distance(labels == k, sides) for k in range(1, classes)])


def _distance(inside: NDArray[np.bool_], sides: Sequence[float]) -> Field:
    if not inside.any() or inside.all():
        return np.full(inside.shape, FAR if inside.any() else -FAR, np.float32)
    within = ndimage.distance_transform_edt(inside, sampling=sides)
    beyond = ndimage.distance_transform_edt(~inside, sampling=sides)
    return np.asarray(np.clip(np.where(inside, within - 0.5, 0.5 - beyond), -FAR, FAR), np.float32)


def labels_of(phi: Field) -> Labels:
    """The class with the largest positive distance, the lower on a tie; background where there is none."""
    return np.asarray(np.where(phi.max(axis=0) > 0, phi.argmax(axis=0) + 1, 0), np.uint8)


@dataclass(frozen=True)
class Kinship:
    """How much a border moves elsewhere when it is moved in one place.

    The covariance of two voxels' distances is ``alike^2`` times that of the members of an ensemble, plus
    ``near^2 exp(-d^2 / 2 reach^2)`` for voxels of one class ``d`` apart; strokes are believed up to the standard
    deviation ``doubt``. ``depth`` is how far inside its new class a stroke puts a voxel that was not in it.
    """

    alike: float = knob(0.5, low=0, high=10, help="Weight of what varies together from mask to mask")
    near: float = knob(0.5, low=0, high=10, unit="voxels", help="How far the border follows a stroke beside it")
    reach: float = knob(2.0, low=0.1, high=100, unit="voxels", help="How far beside it")
    depth: float = knob(0.25, low=0.0, high=10, unit="voxels", help="How deep inside a stroke is taken to lie")
    doubt: float = knob(0.3, low=1e-3, high=10, unit="voxels", help="How exactly strokes are followed")

    def __post_init__(self) -> None:
        check_knobs(self)


def followed(
    before: Labels,
    strokes: Labels,
    fixed: NDArray[np.bool_],
    members: Sequence[Labels],
    classes: int,
    sides: Sequence[float],
    kinship: Kinship | None = None,
) -> Labels:
    """``before (*S)`` with its borders moved so that they agree with the labels ``strokes`` at the voxels ``fixed``.

    It is the mean of a Gaussian field of distances around those of ``before``, given that strokes lie inside their
    classes. Strokes that agree with ``before`` already hold the border where it is. Without members, or where they are
    all alike, the border moves near the strokes only. The fixed voxels themselves are exact.
    """
    k = kinship or Kinship()
    seen = _thinned(np.flatnonzero(fixed))
    if seen.size == 0:
        return before.copy()
    phi = distances(before, classes, sides)
    flat = phi.reshape(classes - 1, -1)
    wanted = strokes.reshape(-1)[seen]
    rows = []
    for label, row in enumerate(flat, start=1):
        now = row[seen]
        rows.append(np.where(wanted == label, np.maximum(now, k.depth), np.minimum(now, -k.depth)) - now)
    spread = _spread(members, classes, sides) * np.float32(k.alike)
    moved = flat + _mean_shift(np.stack(rows), seen, spread, before.shape, sides, k)
    return np.asarray(np.where(fixed, strokes, labels_of(moved.reshape(phi.shape))), np.uint8)


def _thinned(seen: NDArray[np.intp]) -> NDArray[np.intp]:
    return seen[:: -(-seen.size // MOST_SEEN)] if seen.size > MOST_SEEN else seen


def _spread(members: Sequence[Labels], classes: int, sides: Sequence[float]) -> Field:
    """Deviations of the members from their mean, ``(n, K - 1, voxels)``, whose products sum to the covariance."""
    if len(members) < 2:
        shape = members[0].shape if len(members) else (0,)
        return np.zeros((0, classes - 1, int(np.prod(shape))), np.float32)
    found = np.stack([distances(m, classes, sides).reshape(classes - 1, -1) for m in members])
    return np.asarray((found - found.mean(axis=0)) / np.sqrt(len(members) - 1), np.float32)


def _mean_shift(
    residual: NDArray[np.floating], seen: NDArray[np.intp], spread: Field, shape: tuple[int, ...],
    sides: Sequence[float], k: Kinship,
) -> Field:  # fmt: skip
    """Conditional mean of the shift of every voxel, ``(K - 1, voxels)``, given ``residual (K - 1, seen)``."""
    count, classes = seen.size, len(residual)
    at = np.stack(np.unravel_index(seen, shape), axis=1) * np.asarray(sides)
    local = k.near**2 * np.exp(-np.square(at[:, None] - at[None]).sum(axis=2) / (2 * k.reach**2))
    covariance = np.kron(np.eye(classes), local) + k.doubt**2 * np.eye(classes * count)
    seen_spread = spread[:, :, seen].reshape(len(spread), -1) if len(spread) else np.zeros((0, classes * count))
    covariance += seen_spread.T @ seen_spread
    pull = np.linalg.solve(covariance, residual.reshape(-1))
    shift = np.zeros((classes, int(np.prod(shape))), np.float32)
    if len(spread):
        shift += np.tensordot((seen_spread @ pull).astype(np.float32), spread, axes=1)
    for row, weights in zip(shift, pull.reshape(classes, count), strict=True):
        row += _near(weights, seen, shape, sides, k)
    return shift


def _near(
    weights: NDArray[np.floating], seen: NDArray[np.intp], shape: tuple[int, ...], sides: Sequence[float], k: Kinship
) -> Field:
    """Sum of Gaussian bumps of these weights at the voxels ``seen``, ``(voxels)``; separable, so by filtering."""
    bumps = np.zeros(shape)
    bumps.reshape(-1)[seen] = weights
    for axis, side in enumerate(sides):
        steps = np.arange(-int(4 * k.reach / side) - 1, int(4 * k.reach / side) + 2) * side
        bumps = ndimage.correlate1d(bumps, np.exp(-np.square(steps) / (2 * k.reach**2)), axis=axis, mode="constant")
    return np.asarray(k.near**2 * bumps.reshape(-1), np.float32)


def tapered(new: Labels, old: Labels, weight: Field, classes: int, sides: Sequence[float]) -> Labels:
    """From ``old`` where ``weight (*S)`` is 0 to ``new`` where it is 1, borders going over into each other between.

    Where both have the same label, they keep it.
    """
    a, b = distances(new, classes, sides), distances(old, classes, sides)
    blended = labels_of(weight * a + (1 - weight) * b)
    return np.asarray(np.where(weight >= 1, new, np.where((weight <= 0) | (new == old), old, blended)), np.uint8)
