"""What a Session holds for correcting a mask: tools, places to check, a blind reading. No torch, no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from diffseg.places import By, Place
from diffseg.registry import knob

if TYPE_CHECKING:
    from diffseg.case import Case
    from diffseg.ensemble import Snapshot


@dataclass(frozen=True)
class ToolSettings:
    """How the tools on the page Mask work; ``places`` is what the places to check are."""

    protect: bool = knob(True, help="Tools leave voxels of other classes as they are")
    mm: float = knob(1.0, low=0.1, high=50.0, help="How far Grow and Shrink move the outline, in mm")
    places: By = "slice"


@dataclass(frozen=True, eq=False)
class Asked:
    """A start that waits for a second word, because the mask has edits that are not saved."""

    source: Any
    words: str


@dataclass(frozen=True, eq=False)
class Queue:
    """Places to check in the ensemble ``snapshot``, most disagreement first; ``by`` and ``axis`` as asked for."""

    snapshot: Snapshot
    by: By
    axis: int
    places: tuple[Place, ...]


@dataclass(frozen=True, eq=False, repr=False)
class BlindReading:
    """A mask drawn before the model's results were seen: until ``revealed_at`` they are hidden; then ``labels (*S)``
    uint8 is what was drawn by then, and counts as the reader ``name``.
    """

    case: Case
    begun_at: datetime
    revealed_at: datetime | None = None
    labels: np.ndarray | None = None
    name: str = ""

    @property
    def hiding(self) -> bool:
        """Whether results are hidden now."""
        return self.revealed_at is None
