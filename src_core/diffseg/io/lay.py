"""Masks that cover a part of a scan, laid on its grid. Nothing is resampled: every voxel must meet one of the scan."""

from __future__ import annotations

import numpy as np

from diffseg.case import Labels
from diffseg.errors import CaseError
from diffseg.grid import Grid
from diffseg.io.volume import Volume, named


def laid_on(volume: Volume, grid: Grid, tolerance_voxels: float) -> Labels:
    """The labels of `volume` on `grid` (*S), 0 where it does not reach.

    Raises CaseError when a voxel of it lies further than `tolerance_voxels` from every voxel of the grid, or when a
    labelled one lies outside.
    """
    labels = volume.labels()
    map_ = np.linalg.inv(grid.affine) @ volume.grid.affine
    whole = np.rint(map_)
    reach = np.array([*(0,) * (3 - labels.ndim), *(n - 1 for n in labels.shape), 1.0])
    if (np.abs(map_ - whole) @ reach)[:3].max() > tolerance_voxels:
        raise CaseError(
            f"{named(volume.path)} lies between the scan's voxels, or has another voxel size; resample it to the "
            "scan's grid."
        )
    found = np.zeros(grid.shape, labels.dtype)
    outside = 0
    for first, slab in enumerate(labels):
        inside = np.argwhere(slab)
        points = np.zeros((len(inside), 3), np.int64)
        points[:, 3 - inside.shape[1] :] = inside
        points[:, 3 - labels.ndim] = first
        target = points @ whole[:3, :3].T.astype(np.int64) + whole[:3, 3].astype(np.int64)
        off_plane = target[:, : 3 - grid.ndim].any(axis=1)
        index = target[:, 3 - grid.ndim :]
        kept = ((index >= 0) & (index < grid.shape)).all(axis=1) & ~off_plane
        outside += int(np.count_nonzero(~kept))
        found[tuple(index[kept].T)] = slab[tuple(inside[kept].T)]
    if outside:
        raise CaseError(f"{named(volume.path)} marks {outside} voxels outside the scan; choose the mask of this scan.")
    return found
