"""Relative-area post-processing of a set of samples (Christensen et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import PlanError


def relative_area(
    samples: Sequence[NDArray[Any]], ratio: float = 0.5, keep_equal: bool = False
) -> list[NDArray[Any]]:
    """Empty every mask whose foreground is not larger than `ratio` times the largest foreground of the set.

    A mask of exactly that size is emptied, as in the authors' code; with `keep_equal` it stays, as in their
    text. The other masks are returned as they are. Raises PlanError for a ratio outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise PlanError(f"The area ratio is {ratio}, but must lie between 0 and 1; change it and try again.")
    areas = [int(np.count_nonzero(sample)) for sample in samples]
    limit = ratio * max(areas, default=0)
    kept = [area >= limit if keep_equal else area > limit for area in areas]
    return [sample if keep else np.zeros_like(sample) for sample, keep in zip(samples, kept, strict=True)]
