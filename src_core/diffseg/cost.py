"""What a run will cost, told before it starts: model windows, network passes, voxels. Free of torch.

Seconds are passes times a pace that was measured on the machine; this module knows no machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffseg.card import Card
from diffseg.case import Case
from diffseg.grid import Box
from diffseg.preprocess import window_shape

# Regions of up to this many model windows are denoised in one piece.
WHOLE = 3


@dataclass(frozen=True)
class Cost:
    """One pass of the network over a region: ``windows`` windows with ``voxels`` of the model's grid in all."""

    windows: int
    voxels: int


def starts(size: int, window: int, overlap: int) -> tuple[int, ...]:
    """First voxels of the fewest equally spread windows that cover ``size`` and overlap by at least ``overlap``."""
    if size <= window:
        return (0,)
    count = -(-(size - overlap) // (window - overlap))
    return tuple(int(round(p)) for p in np.linspace(0, size - window, count))


def window_count(shape: Sequence[int], window: Sequence[int]) -> int:
    """Number of windows with the default overlap, half a window."""
    return int(np.prod([len(starts(size, side, side // 2)) for size, side in zip(shape, window, strict=True)]))


def is_whole(shape: Sequence[int], window: Sequence[int]) -> bool:
    """Whether a region of this shape on the model's grid is denoised in one piece."""
    return int(np.prod(shape)) <= WHOLE * int(np.prod(window))


def pieces(shape: Sequence[int], window: Sequence[int]) -> tuple[int, int]:
    """Number of windows per network pass, and voxels in all of them, for a region on the model's grid.

    A slice model goes through a volume slice by slice: ``shape`` may have more axes than ``window``.
    """
    slices = int(np.prod(shape[: -len(window)], dtype=int))
    inner = shape[-len(window) :]
    if is_whole(inner, window):
        return slices, slices * int(np.prod(inner))
    count = slices * window_count(inner, window)
    sides = [min(size, side) for size, side in zip(inner, window, strict=True)]
    return count, count * int(np.prod(sides))


def cost_of(case: Case, card: Card, roi: Box | None) -> Cost:
    """What one network pass over a region of a case takes, None being the whole scan.

    Raises:
        CaseError: the region misses the scan, or the model does not fit its axes.
    """
    box = (roi or Box.whole(case.grid.shape)).clipped(case.grid.shape)
    return Cost(*pieces(window_shape(box, case.spacing_mm, card.rule, card.spatial), card.window))
