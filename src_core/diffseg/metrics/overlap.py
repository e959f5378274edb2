"""Overlap of two masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import CaseError


def dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    """2 |a and b| / (|a| + |b|), in [0, 1]; NaN when both masks are empty.

    Masks of one shape; every voxel that is not 0 counts. Raises CaseError for different shapes.
    """
    shared, size_a, size_b = _counts(a, b)
    return 2 * shared / (size_a + size_b) if size_a + size_b else float("nan")


def iou(a: NDArray[Any], b: NDArray[Any]) -> float:
    """|a and b| / |a or b|, in [0, 1]; NaN when both masks are empty. Otherwise as `dice`."""
    shared, size_a, size_b = _counts(a, b)
    union = size_a + size_b - shared
    return shared / union if union else float("nan")


def as_masks(a: NDArray[Any], b: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Both as bool; CaseError when their shapes differ."""
    if a.shape != b.shape:
        raise CaseError(
            f"Masks of {a.shape} and {b.shape} voxels cannot be compared; bring them to one grid."
        )
    return np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)


def _counts(a: NDArray[Any], b: NDArray[Any]) -> tuple[int, int, int]:
    first, second = as_masks(a, b)
    return (
        int(np.count_nonzero(first & second)),
        int(np.count_nonzero(first)),
        int(np.count_nonzero(second)),
    )
