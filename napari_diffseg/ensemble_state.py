"""What a Session holds of an ensemble beyond its masks: how it is drawn, how large its masks are, who agrees.

Frozen, no torch, no Qt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffseg.registry import knob

if TYPE_CHECKING:
    from diffseg.case import Case
    from diffseg.ensemble import Snapshot
    from diffseg.grid import Box
    from diffseg.measurements import Distribution, MemberMeasure
    from diffseg.plan import SamplePlan
    from diffseg.raters import Bench, Figures, RaterBoard
    from diffseg.settling import Settling

# Maps of a comparison with readers, switched on and off in ``session.shown``.
READER_MAPS = ("ged", "local_ged")


@dataclass(frozen=True)
class EnsembleSettings:
    """How an ensemble is drawn and what becomes of its masks."""

    stop_early: bool = knob(True, help="Stop once more masks would hardly change shares and volumes")
    relative_area: bool = knob(False, help="Empty every mask that is at most half as large as the largest one")


@dataclass(frozen=True, eq=False)
class Findings:
    """Sizes of the masks of one snapshot.

    ``measures`` has an entry per member; ``thumbnails`` one per mode, ``(side, side, 3)`` uint8, the slice of largest
    area with the outline. ``emptied`` counts the masks that post-processing emptied; ``stopped`` tells that drawing
    ended before the number asked for because the ensemble had settled.
    """

    measures: tuple[MemberMeasure, ...]
    volume: Distribution
    diameter: Distribution
    settling: Settling
    thumbnails: tuple[np.ndarray, ...] = ()
    emptied: int = 0
    stopped: bool = False


@dataclass(frozen=True, eq=False)
class Readers:
    """The ensemble ``snapshot`` against the readers: figures and board, and maps ``(*box)`` float32 in [0, 2].

    ``bench`` is what they were computed from; ``local_ged`` is None until somebody asks for it.
    """

    snapshot: Snapshot
    names: tuple[str, ...]
    case: Case
    plan: SamplePlan | None
    bench: Bench
    figures: Figures
    board: RaterBoard
    ged: np.ndarray
    local_ged: np.ndarray | None = None

    @property
    def box(self) -> Box:
        """Where the maps lie in the scan; they are 0 beyond."""
        return self.bench.box

    @property
    def maps(self) -> Mapping[str, np.ndarray]:
        """Those of ``READER_MAPS`` that there are."""
        found = {"ged": self.ged, "local_ged": self.local_ged}
        return {name: values for name, values in found.items() if values is not None}
