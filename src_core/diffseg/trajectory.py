"""What is kept and looked at of one trajectory: which steps, their masks as one field, how much they change. No torch.

A *slot* is a kept state of a run: slot 0 the starting noise, the last slot the finished mask. Symbols: ``p (K, *W)``
class probabilities, background first; ``s = 1 - p_0`` how certain it is that a voxel belongs to any structure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Share of a class's band that stays empty at either end, so that rounding to float16 never leaves the band.
EDGE = 0.02
# Below this certainty a voxel is background: bands other than the first would begin to show.
FAINTEST = 0.004


def kept_slots(steps: int, slot_bytes: int, budget_bytes: int) -> tuple[int, ...]:
    """Numbers of the steps that are kept of a run of ``steps``: 0, every n-th, and the last.

    n is the smallest number for which all slots fit into ``budget_bytes``; first and last are kept whatever they need.
    """
    most = max(2, budget_bytes // max(1, slot_bytes))
    every = max(1, -(-steps // (most - 1)))
    return (*range(0, steps, every), steps)


def last_branch(steps: int) -> int:
    """The last step after which a branch can leave a run of ``steps``; negative for none.

    The step that reaches the clean mask adds no noise, so the state before it has one ending only.
    """
    return steps - 2


def class_field(p: NDArray[np.floating]) -> NDArray[np.float32]:
    """Probabilities ``(K, *W)`` as one field ``(*W)`` in [-1, 1] that can be shown with a colormap of K - 1 hues.

    The range is divided into K - 1 equal bands, one per foreground class, in which the field rises with ``s``; a voxel
    lies in the band of its most probable foreground class (ties: the lower one). Certain background is -1. With two
    classes the field is ``2 s - 1``.
    """
    bands = len(p) - 1
    s = np.clip(1 - np.asarray(p[0], np.float32), 0, 1)
    if bands == 1:
        return 2 * s - 1
    which = np.asarray(p[1:]).argmax(axis=0).astype(np.float32)
    field = 2 * (which + EDGE + (1 - 2 * EDGE) * s) / bands - 1
    return np.where(s < FAINTEST, np.float32(-1), field)


def read_field(field: NDArray[np.floating], classes: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """``class_field`` read again: the most probable foreground class (1 to K - 1) and ``s``, both shaped like it."""
    bands = classes - 1
    place = (np.asarray(field, np.float32) + 1) / 2 * bands
    which = np.clip(np.floor(place), 0, bands - 1)
    edge = EDGE if bands > 1 else 0.0
    s = np.clip((place - which - edge) / (1 - 2 * edge), 0, 1)
    return (which + 1).astype(np.uint8), s


def field_stops(colors: Sequence[str]) -> tuple[list[float], list[tuple[float, float, float, float]]]:
    """Places in [0, 1] and RGBA colours of the colormap that shows a ``class_field``; linear in between.

    ``colors`` are ``#rrggbb`` of the foreground classes. Within each band the colour goes from see-through to opaque.
    """
    bands = len(colors)
    edge = EDGE if bands > 1 else 0.0
    places: list[float] = []
    shades: list[tuple[float, float, float, float]] = []
    for k, color in enumerate(colors):
        r, g, b = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
        # Duplicate places are not allowed, so bands meet within a hair's breadth.
        start, end = (k + (1e-6 if k else 0)) / bands, (k + 1) / bands
        inside = [(start + edge / bands, 0.0), (end - edge / bands, 1.0)]
        ends = [(start, 0.0), *inside, (end, 1.0)] if edge else [(0.0, 0.0), (1.0, 1.0)]
        places += [place for place, _ in ends]
        shades += [(r, g, b, alpha) for _, alpha in ends]
    return places, shades


def changed_voxels(p: NDArray[np.floating], q: NDArray[np.floating]) -> float:
    """How many voxels are expected to change their class from ``p`` to ``q (K, *W)``: half the L1 distance."""
    return float(np.abs(np.asarray(p, np.float32) - q).sum(dtype=np.float64) / 2)
