"""Where to look next: slices or connected regions in the order of how much an ensemble disagrees there. No torch.

The disagreement of a place is the volume in mm³ on which two masks of the ensemble, drawn at random with replacement,
are expected to differ: twice the variance ``p (1 - p)`` of each voxel times its volume. With several classes the
variance is that of the class disputed most, which makes it a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Place:
    """Somewhere worth a look: slice ``number`` along ``axis`` of the scan, or the region that ``number`` counts from 1.

    ``disagreement_mm3`` is its own (in 2D mm², a pixel being 1 mm thick), ``voxel`` lies in the middle of it,
    ``where`` are flat indices of its voxels in the scan's grid (C order). ``key`` names the same place when the same
    ensemble is searched again.
    """

    by: By
    axis: int
    number: int
    disagreement_mm3: float
    voxel: tuple[int, ...]
    where: NDArray[np.intp]

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
        places.append(Place(kind, axis, number, float(sums[k]), _middle(voxels, weight[mine], axis), where))
    return tuple(places)


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
