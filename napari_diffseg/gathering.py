"""What a snapshot's masks amount to, computed in the job's thread. No torch, no Qt."""

from __future__ import annotations

from dataclasses import dataclass

from diffseg.case import Case
from diffseg.cleaning import without_small
from diffseg.ensemble import Snapshot
from diffseg.grid import Box, Grid
from diffseg.measurements import MemberMeasure, distribution, measure
from diffseg.modes import Mode, find_modes
from diffseg.settling import Settling, settling
from napari_diffseg.ensemble_state import EnsembleSettings, Findings
from napari_diffseg.thumbnails import thumbnails


@dataclass(frozen=True, eq=False)
class Gathered:
    """A snapshot after post-processing, with its modes and sizes. ``raw`` are the sizes before, to be taken over."""

    snapshot: Snapshot
    modes: tuple[Mode, ...]
    measures: tuple[MemberMeasure, ...]
    raw: tuple[MemberMeasure, ...]
    settling: Settling

    @property
    def emptied(self) -> int:
        """Masks that post-processing emptied."""
        return sum(m.empty and not before.empty for m, before in zip(self.measures, self.raw, strict=True))


def gather(
    snapshot: Snapshot, grid: Grid, choices: EnsembleSettings, known: tuple[MemberMeasure, ...] = ()
) -> Gathered:
    """Everything that the stopping rule needs, for at least one member; ``known`` sizes are not measured again."""
    raw = measure(snapshot, grid, known)
    shown = without_small(snapshot) if choices.relative_area else snapshot
    untouched = [m for m, a, b in zip(raw, snapshot.members, shown.members, strict=True) if a is b]
    measures = measure(shown, grid, untouched)
    modes = find_modes(shown, grid.voxel_ml)
    state = settling([len(mode.members) for mode in modes], [m.volume_ml for m in measures])
    return Gathered(shown, modes, measures, raw, state)


def findings_of(found: Gathered, roi: Box, case: Case, stopped: bool = False) -> Findings:
    """What the page lists; the thumbnails are drawn on ``roi`` of the case."""
    return Findings(
        found.measures,
        distribution([m.volume_ml for m in found.measures]),
        distribution([m.diameter_mm for m in found.measures]),
        found.settling,
        thumbnails(found.modes, found.snapshot, roi, case),
        found.emptied,
        stopped,
    )
