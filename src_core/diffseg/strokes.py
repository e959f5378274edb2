"""What a person drew into a mask, and the local box in which the rest may be drawn anew. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diffseg.ensemble import Snapshot
from diffseg.errors import PlanError
from diffseg.grid import Box
from diffseg.shapes import Labels

Method = Literal["followed", "drawn", "nearest"]

# How an answer was found, for people.
WAYS: dict[Method, str] = {
    "followed": "the outline follows the strokes, as outlines vary together",
    "drawn": "drawn by the network around the strokes",
    "nearest": "the nearest mask of the ensemble",
}


@dataclass(frozen=True, eq=False)
class Alternative:
    """One answer: ``labels (*box)`` uint8 for ``box`` of the case, and how it was found.

    ``agreement`` is the share of the strokes in the box that it would have given their class by itself, in [0, 1].
    """

    box: Box
    labels: Labels
    method: Method
    agreement: float


@dataclass(frozen=True, eq=False)
class Strokes:
    """A mask and the strokes in it, all ``(*S)`` on the grid of the case.

    ``now`` uint8 is the mask with the strokes, ``before`` uint8 the mask that they corrected: it differs from ``now``
    where strokes have not been answered yet. ``fixed`` bool are all voxels that belong to the person, which include
    those. Raises PlanError for arrays of different shapes.
    """

    now: Labels
    before: Labels
    fixed: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if not self.now.shape == self.before.shape == self.fixed.shape:
            raise PlanError(
                f"A mask of {self.now.shape}, the one before it of {self.before.shape} and strokes of "
                f"{self.fixed.shape} voxels do not belong together; give all three on one grid."
            )

    @property
    def new(self) -> NDArray[np.bool_]:
        """Voxels of strokes that are not answered yet."""
        return np.asarray(self.fixed & (self.now != self.before))

    def inside(self, box: Box) -> Strokes:
        """Copies of the parts in ``box``."""
        return Strokes(self.now[box.slices].copy(), self.before[box.slices].copy(), self.fixed[box.slices].copy())


def around(marked: NDArray[np.bool_], sides: Sequence[float], margin: float) -> Box | None:
    """The box of the marked voxels ``(*S)``, wider by ``margin`` on every side and cut to the array; None without any.

    ``margin`` counts in the units of ``sides``, the sides of a voxel.
    """
    start, stop = [], []
    for axis, (side, size) in enumerate(zip(sides, marked.shape, strict=True)):
        found = np.flatnonzero(marked.any(axis=tuple(a for a in range(marked.ndim) if a != axis)))
        if found.size == 0:
            return None
        wide = int(np.ceil(margin / side))
        start.append(max(0, int(found[0]) - wide))
        stop.append(min(size, int(found[-1]) + 1 + wide))
    return Box(tuple(start), tuple(stop))


def ramp(box: Box, region: Box, sides: Sequence[float], width: float) -> NDArray[np.float32]:
    """Weights ``(*box)``: 0 in the outermost voxels of ``box``, 1 from ``width`` inside it on, linear between.

    Faces that ``box`` shares with ``region`` have nothing beyond them and no ramp.
    """
    weight = np.ones(box.shape, np.float32)
    for axis, side in enumerate(sides):
        at = np.arange(box.shape[axis]) * side
        own = np.ones(box.shape[axis])
        if box.start[axis] > region.start[axis]:
            own = np.minimum(own, at / max(width, side))
        if box.stop[axis] < region.stop[axis]:
            own = np.minimum(own, at[::-1] / max(width, side))
        weight *= own.astype(np.float32).reshape([-1 if a == axis else 1 for a in range(box.ndim)])
    return weight


def agreement(labels: Labels, strokes: Strokes) -> float:
    """Share of the fixed voxels to which ``labels (*S)`` give what the person gave, in [0, 1]; 1 without any."""
    count = int(np.count_nonzero(strokes.fixed))
    right = int(np.count_nonzero((labels == strokes.now) & strokes.fixed))
    return right / count if count else 1.0


def by_agreement(masks: Sequence[Labels], strokes: Strokes) -> list[int]:
    """Positions of ``masks``, best first: those that agree with most strokes, and of these the nearest to the mask
    as it is now.
    """

    def rank(labels: Labels) -> tuple[float, int]:
        return -agreement(labels, strokes), int(np.count_nonzero(labels != strokes.now))

    return sorted(range(len(masks)), key=lambda i: rank(masks[i]))


def members_in(snapshot: Snapshot | None, roi: Box | None, box: Box) -> list[Labels]:
    """The members of an ensemble on ``roi`` cut to ``box``; none where the box leaves it."""
    if snapshot is None or roi is None:
        return []
    first = tuple(a - b for a, b in zip(box.start, roi.start, strict=True))
    last = tuple(a - b for a, b in zip(box.stop, roi.start, strict=True))
    if min(first) < 0 or any(b > n for b, n in zip(last, roi.shape, strict=True)):
        return []
    within = Box(first, last)
    return [np.ascontiguousarray(snapshot.member(i)[within.slices]) for i in range(len(snapshot))]
