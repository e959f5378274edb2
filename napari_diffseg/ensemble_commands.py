"""The verbs of an ensemble beyond drawing it: post-processing, members, readers, tables."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffseg.errors import CaseError
from diffseg.io.atomic import write_text
from diffseg.member_table import member_table, table_csv
from diffseg.raters import figures_csv
from napari_diffseg import masks
from napari_diffseg.ensemble_state import READER_MAPS
from napari_diffseg.jobs import Job, Outcome
from napari_diffseg.readers_job import Compared, Question, comparison, local_map
from napari_diffseg.runs import command, live, start, take
from napari_diffseg.session import Session
from napari_diffseg.state import Message, Request

if TYPE_CHECKING:
    from napari_diffseg.sampling import Update

# Jobs that write a table; a thread alone does not keep its job.
_writing: set[Job] = set()


# ---- drawing and post-processing ----


@command()
def set_stop_early(session: Session, on: bool) -> None:
    """Stop once the ensemble has settled, or only at the number asked for; counts at once, also for a run."""
    session.ensemble = replace(session.ensemble, stop_early=on)
    opened = live(session).opened
    if opened is not None:
        opened.choices = session.ensemble


def settled_already(session: Session, request: Request) -> bool:
    """Whether an ensemble that stops by itself has nothing to add, which it then tells."""
    held, found = live(session), session.findings
    before = held.opened or held.drawn
    done = found is not None and found.settling.settled and before is not None and before.request.same_run(request)
    if not done or not session.ensemble.stop_early or found is None:
        return False
    session.message = Message(f"Settled with {len(found.measures)} masks: untick 'Stop when settled' to draw more.")
    return True


@command("choose")
def set_relative_area(session: Session, on: bool) -> None:
    """Empty the masks that are at most half as large as the largest one, or bring them back."""
    wanted = replace(session.ensemble, relative_area=on)
    opened = live(session).opened
    if session.snapshot is None or session.ensemble == wanted:
        session.ensemble = wanted
        return
    if opened is None:
        raise CaseError("The masks as they were drawn are no longer in memory: press Grow to take them up again.")
    session.ensemble = wanted

    def source() -> Iterator[Update]:
        from napari_diffseg.sampling import recount  # torch is there already

        return recount(opened, wanted)

    job = Job("Post-processing", source, inline=session.inline)
    start(session, job, functools.partial(take, session), functools.partial(_area_words, session))


def _area_words(session: Session) -> str:
    found = session.findings
    if found is None or not session.ensemble.relative_area:
        return "All masks are shown as they were drawn."
    n = len(found.measures)
    return f"{found.emptied} of {n} masks were at most half as large as the largest one and count as empty."


@command()
def show_member(session: Session, member: int | None) -> None:
    """Show the mask of this number (from 0) as a layer; None for none."""
    ids = session.snapshot.ids if session.snapshot is not None else ()
    session.member = member if member in ids else None


# ---- readers ----


@command("compare")
def compare_readers(session: Session) -> None:
    """Measure the ensemble against the readers' masks."""
    asked, local = _question(session), "local_ged" in session.shown

    def source() -> Iterator[Compared]:
        return comparison(asked, local)

    _compare(session, source)


@command()
def show_reader_map(session: Session, name: str, on: bool) -> None:
    """Switch a map of the comparison; the local one is computed when it is first asked for."""
    if name not in READER_MAPS:
        raise KeyError(name)
    session.shown = session.shown | {name} if on else session.shown - {name}
    readers = session.readers
    if not on or readers is None or name in readers.maps or session.blockers("compare"):
        return

    def source() -> Iterator[Compared]:
        return local_map(readers)

    _compare(session, source)


def _question(session: Session) -> Question:
    case, snapshot, maps = session.case, session.snapshot, session.maps
    assert case is not None and snapshot is not None and maps is not None  # told by the blockers
    names = [info.name for info in session.model.classes[1:]] if session.model is not None else []
    classes = names or [str(k) for k in range(1, snapshot.classes)]
    return Question(snapshot, session.modes, maps.roi, case, session.plan, session.raters, classes)


def _compare(session: Session, source: Any) -> None:
    def keep(record: Compared) -> None:
        if record.readers is not None and record.readers.case is session.case:
            session.readers = record.readers

    job = Job("Comparing with the readers", source, inline=session.inline)
    start(session, job, keep, functools.partial(_readers_words, session))


def _readers_words(session: Session) -> str:
    readers = session.readers
    if readers is None:
        return "Finished."
    alone = readers.board.raters_alone()
    n, m = readers.figures.members, len(readers.names)
    if not alone:
        return f"{n} masks compared with {m} readers: a mode matches each of them."
    return f"{n} masks compared with {m} readers: no mode matches {listed(alone)}."


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


@command()
def look_at_slice(session: Session, index: int) -> None:
    """Move to an axial slice of the scan, turning to the axial plane if need be."""
    case = session.case
    if case is None or case.ndim < 3 or session.view is None:
        return
    if session.plane is not None:
        session.plane = "axial"
    middle = session.maps.roi if session.maps is not None else None
    rest = [(n - 1) / 2 for n in case.grid.shape[1:]]
    if middle is not None:
        rest = [(a + b - 1) / 2 for a, b in zip(middle.start[1:], middle.stop[1:], strict=True)]
    session.view.look_at((min(max(index, 0), case.grid.shape[0] - 1), *rest))


# ---- tables ----


@command()
def open_features_table(session: Session) -> None:
    """Open napari's own table on the layer that holds a row per mask."""
    if session.snapshot is None or session.view is None:
        raise CaseError("There are no masks yet: press Grow.")
    session.view.show_table()


def columns(session: Session) -> dict[str, list[Any]]:
    """The table of members; empty without an ensemble."""
    if session.snapshot is None or session.findings is None:
        return {}
    names = [info.name for info in session.model.classes[1:]] if session.model is not None else []
    seed = session.plan.seed if session.plan is not None else None
    return member_table(session.snapshot, session.modes, session.findings.measures, names, seed)


def csv_of(session: Session, which: str) -> str:
    """The table "members" or "readers" as comma-separated values; empty where there is none."""
    if which == "members":
        table = columns(session)
        return table_csv(table) if table else ""
    readers = session.readers
    return figures_csv(readers.figures, readers.board) if readers is not None else ""


@dataclass(frozen=True)
class _Written:
    """The one record of writing a table."""

    done: int = 1
    total: int = 1


@command()
def export_csv(session: Session, which: str, path: Path | str) -> None:
    """Write a table to a file, whole or not at all, even while a run goes on."""
    text = csv_of(session, which)
    if not text:
        raise CaseError("There is no table to export yet.")
    target = Path(path).expanduser()
    target = target if target.suffix else target.with_suffix(".csv")
    masks.refuse_folder(target)

    def write() -> Iterator[_Written]:
        write_text(target, text)
        yield _Written()

    job = Job("Exporting the table", write, inline=session.inline)
    _writing.add(job)
    job.finished.connect(functools.partial(_exported, session, job, target))
    job.start()


def _exported(session: Session, job: Job, target: Path, outcome: Outcome) -> None:
    _writing.discard(job)
    done = outcome.kind == "done"
    session.message = Message(f"Saved {target}.") if done else Message(outcome.sentence, "error", outcome.details)
