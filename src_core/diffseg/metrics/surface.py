"""Distances between the surfaces of two masks, in mm.

The surface of a mask is the set of its voxels with a face neighbour outside it; voxels at the end of the
array count as having one. Distances run between voxel centres, so they are exact for anisotropic spacing.
Both directed distance lists enter every figure. This is the convention of ImgX-DiffSeg (Fu et al. 2023) and
of MONAI; other libraries pool the lists before the percentile or weight by surface area, and so give other
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import cKDTree

from diffseg.errors import CaseError
from diffseg.metrics.overlap import as_masks


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """From each surface voxel of one mask to the nearest of the other, in mm; empty for an empty mask."""

    a_to_b_mm: NDArray[np.float64]
    b_to_a_mm: NDArray[np.float64]

    def percentile(self, q: float) -> float:
        """The larger of the two directed percentiles (0 to 100, linear), in mm.

        NaN when both masks are empty, infinite when one is.
        """
        if self._undefined is not None:
            return self._undefined
        return float(max(np.percentile(self.a_to_b_mm, q), np.percentile(self.b_to_a_mm, q)))

    def mean(self) -> float:
        """Average symmetric surface distance: the mean over all surface voxels of both masks, in mm.

        NaN when both masks are empty, infinite when one is.
        """
        if self._undefined is not None:
            return self._undefined
        return float(np.concatenate([self.a_to_b_mm, self.b_to_a_mm]).mean())

    def larger_mean(self) -> float:
        """The larger of the two directed means, in mm, as ImgX-DiffSeg reports it; otherwise as `mean`."""
        if self._undefined is not None:
            return self._undefined
        return float(max(self.a_to_b_mm.mean(), self.b_to_a_mm.mean()))

    def within(self, tolerance_mm: float) -> float:
        """Normalised surface Dice: the share of all surface voxels no further than `tolerance_mm` apart.

        In [0, 1]; NaN when both masks are empty, 0 when one is. Nikolov et al. 2018, counted in voxels.
        """
        if self._undefined is not None:
            return float("nan") if np.isnan(self._undefined) else 0.0
        return float((np.concatenate([self.a_to_b_mm, self.b_to_a_mm]) <= tolerance_mm).mean())

    @property
    def _undefined(self) -> float | None:
        empty = (not self.a_to_b_mm.size, not self.b_to_a_mm.size)
        return float("nan") if all(empty) else float("inf") if any(empty) else None


def surface_distances(a: NDArray[Any], b: NDArray[Any], spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Directed distances between the surfaces of two masks (*S) with voxels of `spacing_mm`, one per axis.

    An empty mask has no surface: the other's distances are then infinite. Raises CaseError for different
    shapes or a spacing of another length.
    """
    first, second = as_masks(a, b)
    if len(spacing_mm) != first.ndim:
        raise CaseError(f"Masks with {first.ndim} axes need {first.ndim} spacings, not {len(spacing_mm)}.")
    points_a, points_b = _surface_points(first, spacing_mm), _surface_points(second, spacing_mm)
    return SurfaceDistances(_nearest(points_a, points_b), _nearest(points_b, points_a))


def hd95(a: NDArray[Any], b: NDArray[Any], spacing_mm: Sequence[float]) -> float:
    """95th percentile Hausdorff distance in mm; see `SurfaceDistances.percentile`."""
    return surface_distances(a, b, spacing_mm).percentile(95)


def hd(a: NDArray[Any], b: NDArray[Any], spacing_mm: Sequence[float]) -> float:
    """Hausdorff distance in mm; see `SurfaceDistances.percentile`."""
    return surface_distances(a, b, spacing_mm).percentile(100)


def surface_dice(
    a: NDArray[Any], b: NDArray[Any], spacing_mm: Sequence[float], tolerance_mm: float = 1.0
) -> float:
    """Normalised surface Dice; see `SurfaceDistances.within`."""
    return surface_distances(a, b, spacing_mm).within(tolerance_mm)


def _surface_points(mask: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Centres of the surface voxels in mm, (n, ndim)."""
    found = find_objects(mask.astype(np.uint8))
    if not found:
        return np.empty((0, mask.ndim))
    box = found[0]
    # Outside the bounding box there is no mask, so cutting it out changes no neighbour.
    edge = mask[box] & ~binary_erosion(mask[box])
    return (np.argwhere(edge) + [side.start for side in box]) * np.asarray(spacing_mm, dtype=np.float64)


def _nearest(points: NDArray[np.float64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(points) or not len(targets):
        return np.full(len(points), np.inf)
    # A tree over points keeps memory with the surfaces; a distance map would need the whole volume in
    # float64.
    distances, _ = cKDTree(targets).query(points)
    return np.asarray(distances, dtype=np.float64)
