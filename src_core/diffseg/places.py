"""Where to look next: slices or connected regions in the order of how much an ensemble disagrees there. No torch.

The disagreement of a place is the volume in mm³ on which two masks of the ensemble, drawn at random with replacement,
are expected to differ: twice the variance ``p (1 - p)`` of each voxel times its volume. With several classes the
variance is that of the class disputed most, which makes it a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseg.errors import CaseError
from diffseg.grid import Box

By = Literal["slice", "region"]

# Voxels that more than 5 % and fewer than 95 % of the masks agree on, as between the two consensus contours.
LEAST_VARIANCE = 0.05 * 0.95
# Places are listed until they hold this share of all the disagreement: the rest is specks.
COVERED = 0.95
# A place is seen to once this share of its disagreement lies where somebody edited. One slip of the brush must not take
# a large region off the list; nor need every voxel change, since the masks dispute many that are right as they are.
SEEN_TO = 0.5


@dataclass(frozen=True, eq=False)
class Place:
    """Somewhere worth a look: slice ``number`` along ``axis`` of the scan, or the region that ``number`` counts from 1.

    ``disagreement_mm3`` is its own (in 2D mm², a pixel being 1 mm thick), ``voxel`` lies in the middle of it,
    ``where`` are flat indices of its voxels in the scan's grid (C order, ascending) and ``weight`` what each of them
    adds to the disagreement. ``key`` names the same place when the same ensemble is searched again.
    """

    by: By
    axis: int
    number: int
    disagreement_mm3: float
    voxel: tuple[int, ...]
    where: NDArray[np.intp]
    weight: NDArray[np.float32]

    @property
    def key(self) -> tuple[Any, ...]:
        """See the class."""
        return (self.by, self.axis, self.number) if self.by == "slice" else (self.by, *self.voxel)


def find_places(
    variance: NDArray[np.floating[Any]],
    box: Box,
    shape: tuple[int, ...],
    voxel_mm3: float,
    by: By = "slice",
    axis: int = 0,
    covered: float = COVERED,
) -> tuple[Place, ...]:
    """Places in ``variance (*box)`` in [0, 0.25] of a scan of ``shape``, most disagreement first.

    Regions connect through corners. Only voxels of at least ``LEAST_VARIANCE`` count, and only as many places as hold
    ``covered`` of the disagreement. A flat scan has regions only. Empty where all masks agree.

    Raises:
        CaseError: a variance of another shape than its box.
    """
    if variance.shape != box.shape:
        raise CaseError(f"The variance has shape {variance.shape}, its box {box.shape}; give the map of that box.")
    slices = by == "slice" and len(shape) > 2
    inner = np.flatnonzero(variance >= LEAST_VARIANCE)
    if inner.size == 0:
        return ()
    within = np.stack(np.unravel_index(inner, box.shape), axis=1)
    owner = within[:, axis] if slices else _parts(within)
    weight = 2.0 * voxel_mm3 * variance.reshape(-1)[inner].astype(np.float64)
    sums = np.bincount(owner, weight)
    ranked = [int(k) for k in np.argsort(-sums, kind="stable") if sums[k] > 0]
    enough = np.searchsorted(np.cumsum(sums[ranked]), covered * weight.sum() - 1e-9) + 1
    order = np.argsort(owner, kind="stable")
    begins = np.searchsorted(owner[order], np.arange(sums.size + 1))
    places = []
    for rank, k in enumerate(ranked[:enough], start=1):
        mine = order[begins[k] : begins[k + 1]]
        voxels = within[mine] + box.start
        number = int(voxels[0, axis]) if slices else rank
        where = np.asarray(np.ravel_multi_index(tuple(voxels.T), shape), np.intp)
        kind: By = "slice" if slices else "region"
        own = weight[mine]
        middle = _middle(voxels, own, axis)
        places.append(Place(kind, axis, number, float(sums[k]), middle, where, own.astype(np.float32)))
    return tuple(places)


def seen_to(place: Place, edited: NDArray[np.bool_], shape: tuple[int, ...]) -> float:
    """Share, in [0, 1], of the disagreement of ``place`` that somebody saw to; ``edited`` are flags of its voxels.

    A voxel was seen to if it was edited, or touches within its slice along ``place.axis`` one of the place's that was:
    whoever moves a border has looked at both sides of it, but not at the slices behind.
    """
    if not edited.any():
        return 0.0
    mine, low, high = place.where[edited], place.where[0], place.where[-1]
    near = np.zeros(high - low + 1, bool)
    sides = [axis for axis in range(len(shape)) if axis != place.axis or len(shape) < 3]
    strides = [int(np.prod(shape[axis + 1 :], dtype=int)) for axis in sides]
    for steps in product((-1, 0, 1), repeat=len(sides)):
        moved, inside = mine.copy(), np.ones(mine.shape, bool)
        for axis, step, stride in zip(sides, steps, strides, strict=True):
            moved += step * stride
            at = mine // stride % shape[axis] + step
            inside &= (at >= 0) & (at < shape[axis])
        inside &= (moved >= low) & (moved <= high)
        near[moved[inside] - low] = True
    seen = near[place.where - low]
    return float(place.weight[seen].sum(dtype=np.float64) / place.weight.sum(dtype=np.float64))


def _parts(voxels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Which connected part, from 1, each of these ``(count, ndim)`` voxels belongs to."""
    low = voxels.min(axis=0)
    inner = tuple((voxels - low).T)
    marked = np.zeros(voxels.max(axis=0) - low + 1, bool)
    marked[inner] = True
    parts, _ = ndimage.label(marked, ndimage.generate_binary_structure(marked.ndim, marked.ndim))
    return np.asarray(parts[inner], np.intp)


def _middle(voxels: NDArray[np.intp], weight: NDArray[np.float64], axis: int) -> tuple[int, ...]:
    """In the slice along ``axis`` that weighs most, the voxel nearest to the weighted centroid."""
    heaviest = int(np.bincount(voxels[:, axis], weight).argmax())
    chosen = voxels[:, axis] == heaviest
    near = voxels[chosen]
    centroid = np.average(near, axis=0, weights=weight[chosen])
    return tuple(int(v) for v in near[((near - centroid) ** 2).sum(axis=1).argmin()])
