"""Small pictures of modes: the slice of largest area, with the outline of the mask. No torch, no Qt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_erosion, map_coordinates

from diffseg.case import Case
from diffseg.ensemble import Snapshot
from diffseg.grid import Box
from diffseg.modes import Mode
from napari_diffseg.layerdata import lightened, look_at, mode_color

# Pixels along each side, drawn at half that size on ordinary screens so that it is sharp on fine ones.
SIDE = 160
OUTLINE_PX = 3
# What is shown beyond the masks, as a share of their extent, and the least extent in mm.
MARGIN = 0.6
SMALLEST_MM = 16.0


def thumbnails(modes: Sequence[Mode], snapshot: Snapshot, roi: Box, case: Case) -> tuple[np.ndarray, ...]:
    """One RGB picture ``(SIDE, SIDE, 3)`` uint8 per mode, all of the same part of the slice plane, where the
    representative masks lie.

    A mode without foreground shows the scan where the other masks are largest.
    """
    low, high = look_at(case).limits[0]
    masks = [snapshot.member(mode.medoid) for mode in modes]
    centre, extent_mm = _part(masks, roi, case.spacing_mm)
    votes = np.any(snapshot.votes, axis=0)
    pictures = []
    for mode, labels in zip(modes, masks, strict=True):
        at = _largest_slice(labels if labels.any() else votes)
        grey = np.clip((_view(case.image[0], centre, extent_mm, case, at, roi) - low) / (high - low), 0, 1)
        picture = np.repeat((255 * grey).astype(np.uint8)[..., None], 3, axis=-1)
        shown = _view(labels, centre, extent_mm, case, at, roi, inside=True)
        for k in range(1, snapshot.classes):
            inner = shown == k
            line = inner & ~binary_erosion(inner, iterations=OUTLINE_PX, border_value=1)
            picture[line] = _rgb(lightened(mode_color(mode.index), 0.35 * (k - 1)))
        pictures.append(picture)
    return tuple(pictures)


def _largest_slice(mask: np.ndarray) -> int | None:
    """The slice with most foreground, the middle one without any; None for a flat scan."""
    if mask.ndim == 2:
        return None
    areas = np.count_nonzero(mask, axis=(1, 2))
    return int(areas.argmax()) if areas.any() else len(areas) // 2


def _part(masks: Sequence[np.ndarray], roi: Box, spacing_mm: Sequence[float]) -> tuple[np.ndarray, float]:
    """Centre, in voxels of the slice plane of the scan, and side in mm of the square that holds all ``masks``, on the
    region.
    """
    # Over the slices of a volume as well.
    plane = np.any(masks, axis=tuple(range(masks[0].ndim - 1)))
    sides = [np.flatnonzero(plane.any(axis=other)) for other in (1, 0)]
    start = np.array(roi.start[-2:], float)
    ends = [(s[0], s[-1]) if s.size else (0, n - 1) for s, n in zip(sides, plane.shape, strict=True)]
    extent = max((b - a + 1) * mm for (a, b), mm in zip(ends, spacing_mm[-2:], strict=True))
    return start + [(a + b) / 2 for a, b in ends], max(extent * (1 + MARGIN), SMALLEST_MM)


def _view(
    values: np.ndarray, centre: np.ndarray, extent_mm: float, case: Case, at: int | None, roi: Box, inside: bool = False
) -> np.ndarray:
    """The square of one slice, brought to ``(SIDE, SIDE)``; ``inside`` values lie on the region only.

    ``at`` is a slice of the region.
    """
    spacing = np.array(case.spacing_mm[-2:])
    steps = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    rows, columns = (c + steps * extent_mm / mm for c, mm in zip(centre, spacing, strict=True))
    offset = np.array(roi.start[-2:]) if inside else np.zeros(2)
    if at is not None:
        values = values[at if inside else at + roi.start[0]]
    grid = np.meshgrid(rows - offset[0], columns - offset[1], indexing="ij")
    outside = 0 if inside else float(values.min())
    return map_coordinates(values, grid, order=0 if inside else 1, mode="constant", cval=outside)


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))
