"""What a comparison with readers yields, computed in the job's thread. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from diffseg.case import Case, Labels
from diffseg.ensemble import Snapshot
from diffseg.grid import Box
from diffseg.modes import Mode
from diffseg.plan import SamplePlan
from diffseg.raters import bench, board, compare
from napari_diffseg.ensemble_state import Readers


@dataclass(frozen=True, eq=False)
class Compared:
    """Progress of a comparison; ``readers`` is there at its end."""

    done: int
    total: int
    readers: Readers | None = None


@dataclass(frozen=True, eq=False)
class Question:
    """An ensemble on ``roi`` of the case, and the readers' masks ``(*S)`` by name, frozen when a person asked."""

    snapshot: Snapshot
    modes: tuple[Mode, ...]
    roi: Box
    case: Case
    plan: SamplePlan | None
    raters: Mapping[str, Labels]
    classes: Sequence[str]


def comparison(asked: Question, local: bool) -> Iterator[Compared]:
    """The figures, the board and the voxelwise map, and the local map if it is wanted.

    Raises:
        CaseError: readers' masks of another task.
    """
    case = asked.case
    at = bench(asked.snapshot, asked.roi, asked.raters, asked.classes, case.spacing_mm, case.grid.voxel_ml)
    # The maps count as one rater more.
    total = len(at.raters) + 1
    figures = None
    for record in compare(at):
        figures = record.figures
        yield Compared(record.done, total)
    assert figures is not None  # the last record carries them
    found = Readers(
        asked.snapshot,
        tuple(at.raters),
        case,
        asked.plan,
        at,
        figures,
        board(at, asked.modes),
        at.ged_map(),
        at.local_ged_map() if local else None,
    )
    yield Compared(total, total, found)


def local_map(readers: Readers) -> Iterator[Compared]:
    """The local map of a comparison that lacks it."""
    yield Compared(0, 1)
    yield Compared(1, 1, replace(readers, local_ged=readers.bench.local_ged_map()))
