"""The largest diameter of a mask, in mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from diffseg.errors import CaseError

# Rows of the table of distances that are in memory at once.
_BLOCK = 512


def largest_diameter_mm(mask: NDArray[Any], spacing_mm: Sequence[float]) -> float:
    """Length of the longest straight line between two points of one connected piece of a mask (*S), in mm.

    Every voxel that is not 0 counts; pieces are connected through faces, edges or corners. The points are the
    middles of the voxels' faces, so that a row of n cubic voxels measures n times their side. The line may
    run in any direction, also across slices and outside the mask; it is not the in-plane diameter of RECIST.
    0 for an empty mask. Raises CaseError for a spacing of another length.
    """
    if len(spacing_mm) != mask.ndim:
        raise CaseError(f"A mask with {mask.ndim} axes needs {mask.ndim} spacings, not {len(spacing_mm)}.")
    found = find_objects((mask != 0).astype(np.uint8))
    if not found:
        return 0.0
    pieces, _ = label(mask[found[0]], structure=np.ones((3,) * mask.ndim))
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    boxes = find_objects(pieces)
    reach = [float(np.linalg.norm([(s.stop - s.start) * mm for s, mm in zip(b, spacing, strict=True)])) for b in boxes]
    longest = 0.0
    # No line is longer than the diagonal of its box, so small pieces are passed over.
    for number in sorted(range(len(boxes)), key=lambda i: -reach[i]):
        if reach[number] <= longest:
            break
        longest = max(longest, _span_mm(pieces[boxes[number]] == number + 1, spacing))
    return longest


def _span_mm(piece: NDArray[np.bool_], spacing: NDArray[np.float64]) -> float:
    points = _outer_points(piece, spacing)
    corners = points[ConvexHull(points).vertices]
    blocks = (corners[i : i + _BLOCK] for i in range(0, len(corners), _BLOCK))
    return float(max(cdist(block, corners).max() for block in blocks))


def _outer_points(piece: NDArray[np.bool_], spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Face middles (n, ndim) in mm that hold the corners of the piece's convex hull.

    Along each row only the two ends matter: what lies between them is a mean of their points.
    """
    rows = np.argwhere(piece.any(axis=-1))
    lines = piece[tuple(rows.T)]
    first = lines.argmax(axis=-1)
    last = piece.shape[-1] - 1 - lines[:, ::-1].argmax(axis=-1)
    ends = [np.concatenate([rows, end[:, None]], axis=1) for end in (first, last)]
    centres = np.unique(np.concatenate(ends), axis=0)
    halves = np.concatenate([np.eye(piece.ndim), -np.eye(piece.ndim)]) / 2
    return (centres[:, None] + halves).reshape(-1, piece.ndim) * spacing
