"""The verbs of recovery: a mask that an earlier session left in its journal is offered, taken up again or let go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from diffseg.errors import CaseError, DiffsegError, JournalError
from diffseg.grid import Box, Grid
from diffseg.journal import JournalHead, Recovered, read_journal
from diffseg.keeper import left_behind
from diffseg.mask_file import MaskStart
from diffseg.plan import SamplePlan
from diffseg.records import from_dict
from diffseg.saliency_plan import ExplainPlan
from napari_diffseg import mask_sources, opening
from napari_diffseg.jobs import Job, Outcome
from napari_diffseg.journaling import KINDS, MACHINE, START, journaling
from napari_diffseg.layerdata import layer_name
from napari_diffseg.mask_edit import ORIGINS, ModelEdit
from napari_diffseg.runs import command, live, start
from napari_diffseg.safety_state import Offer
from napari_diffseg.session import Session
from napari_diffseg.state import MaskState, Message

# Files of one scan by different tools differ by rounding; so may the same file read by another version.
TOLERANCE_VOXELS = 0.1


@dataclass(frozen=True, eq=False)
class _Found:
    """The one record of looking for journals, and of reading one."""

    offer: Offer | None = None
    recovered: Recovered | None = None
    edits: tuple[ModelEdit, ...] = ()
    done: int = 1
    total: int = 1


@command()
def look(session: Session) -> None:
    """Offer the newest mask that was left behind, if there is one; in the background."""
    if session.offer is not None or live(session).looking is not None:
        return
    found: list[_Found] = []

    def search() -> Iterator[_Found]:
        yield _Found(newest())

    def ended(outcome: Outcome) -> None:
        wanted, live(session).looking = live(session).looking is job, None
        offer = found[-1].offer if found else None
        if offer is not None and wanted:
            session.offer = offer
        elif offer is not None:
            offer.claim.release()  # the panel was closed meanwhile

    job = live(session).looking = Job("Looking for journals", search, inline=session.inline)
    job.progressed.connect(found.append)
    job.finished.connect(ended)
    job.start()


def newest() -> Offer | None:
    """The newest journal that can be read, claimed, and how many wait behind it."""
    offer, more = None, 0
    for mine in left_behind():
        if offer is not None:
            more += 1
            mine.release()
            continue
        try:
            found = read_journal(mine.path)
        except JournalError:
            mine.release()
            continue
        offer = Offer(mine, found.head, found.state, int(np.count_nonzero(found.labels)), found.written)
    return None if offer is None else replace(offer, more=more)


def offer_words(offer: Offer) -> str:
    """The line that offers a mask."""
    name = Path(offer.head.files[0]).name if offer.head.files else "a scan that came from no file"
    when = datetime.fromtimestamp(offer.written)
    day = f"{when:%H:%M}" if when.date() == datetime.now().date() else f"{when:%H:%M on %d %B}"
    kept = "A mask" if not offer.state.dirty else "An unsaved mask"
    more = f" {offer.more} more wait." if offer.more else ""
    made = f"{offer.voxels:,} voxels, made from {offer.head.source}"
    return f"{kept} of {name} from {day} can be recovered: {made}.{more}"


@command()
def discard(session: Session) -> None:
    """Let go of the mask on offer, for good; the next one is offered."""
    offer, session.offer = session.offer, None
    if offer is None:
        raise JournalError("There is no mask to recover.")
    offer.claim.discard()
    look(session)


@command("open")
def recover(session: Session) -> None:
    """Open the scan of the mask on offer again, and go on with mask, slice, mode and seed where they were left."""
    offer = session.offer
    if offer is None:
        raise JournalError("There is no mask to recover.")
    if session.mask is not None and session.mask.edited and session.mask.dirty:
        raise CaseError("The mask has edits that are not saved: save it before you recover another one.")
    missing = [name for name in offer.head.files if not Path(name).exists()]
    if missing:
        raise CaseError(f"The scan {missing[0]} is not there any more: put it back, then recover the mask.")
    found: list[_Found] = []

    def read() -> Iterator[_Found]:
        recovered = read_journal(offer.claim.path)
        machine = recovered.planes.get(MACHINE)
        # Here, since it takes long for a large mask.
        edits = () if machine is None else edits_of(machine, recovered.planes[KINDS])
        yield _Found(recovered=recovered, edits=edits)

    def ended() -> str:
        assert found[-1].recovered is not None
        _with_scan(session, offer.head, lambda: _take_up(session, offer, found[-1]))
        said = session.message
        if said is not None and said.kind == "error":
            raise CaseError(said.text)
        return "Opening the scan of the mask." if said is None else said.text

    start(session, Job("Recovering", read, inline=session.inline), found.append, ended)


def _with_scan(session: Session, head: JournalHead, then: Callable[[], object]) -> None:
    """Do something with the scan of a journal open; it is opened unless it is."""
    if _is_scan(session, head):
        then()
        return
    if not head.files:
        raise CaseError("The scan of this mask came from no file: open it in the viewer first, then recover the mask.")
    files, raters = list(map(Path, head.files)), [p for p in map(Path, head.raters) if p.exists()]

    def opened(outcome: Outcome) -> None:
        if outcome.kind == "done":
            then()

    if opening.open_files(session, files, raters, head.channels or None):
        job = live(session).job
        if job is not None:
            job.finished.connect(opened)
        elif session.case is not None:
            then()


def _is_scan(session: Session, head: JournalHead) -> bool:
    """Whether the scan that is open is the one of the journal: the same files and grid."""
    case = session.case
    if case is None or case.grid.shape != head.shape or len(head.affine) != 16:
        return False
    named = {str(path.resolve()) for path in session.files}
    same = case.grid.same_as(grid_of(head), TOLERANCE_VOXELS * min(case.spacing_mm))
    return same and (not head.files or named == set(head.files))


def grid_of(head: JournalHead) -> Grid:
    """The grid of the mask in a journal."""
    return Grid(head.shape, np.array(head.affine).reshape(4, 4))


@command()
def _take_up(session: Session, offer: Offer, read: _Found) -> None:
    """The mask and all around it as they were left."""
    found = read.recovered
    assert found is not None
    head, state = found.head, found.state
    if not _is_scan(session, head):
        raise CaseError("The scan is not the one that the mask was drawn on: its grid changed. The journal stays.")
    assert session.case is not None
    _choose(session, head, state.settings)
    session.roi = session.roi if state.roi is None else Box.parse(state.roi).clipped(session.case.grid.shape)
    session.offer = None
    journaling(session).replaces = offer.claim
    session.mask = mask_of(session, found, read.edits)
    session.mode = state.mode
    if session.view is not None:
        session.plane = state.view or session.plane  # type: ignore[assignment]
        if state.voxel is not None:
            session.view.look_at(state.voxel)
    cut = "" if found.whole else " Its last record was cut short."
    session.message = Message(f"Recovered the mask as it was left, {offer.voxels:,} voxels.{cut}")
    look(session)


def _choose(session: Session, head: JournalHead, settings: dict[str, Any]) -> None:
    """Model and settings, as far as they are still there."""
    if head.model is not None and Path(head.model).is_file():
        opening.choose_model(session, Path(head.model))
    known = {f.name for f in fields(session.settings)}
    session.settings = replace(session.settings, **{k: v for k, v in settings.items() if k in known})


def mask_of(session: Session, found: Recovered, edits: tuple[ModelEdit, ...]) -> MaskState:
    """The mask in a journal, with what is known of who wrote it."""
    head, state, case = found.head, found.state, session.case
    assert case is not None
    classes = session.model.classes if session.model is not None else ()
    return MaskState(
        found.labels,
        head.source,
        layer_name(case, "mask"),
        case,
        mask_sources.named_classes(classes, int(found.labels.max(initial=0))),
        plan_of(head),
        edited=state.edited,
        selected=state.selected,
        dirty=state.dirty or state.saved is None,
        path=None if state.saved is None else Path(state.saved),
        start=found.planes.get(START),
        edits=edits,
        begun=None if head.start is None else from_dict(MaskStart, head.start, "The journal", JournalError),
    )


def edits_of(machine: np.ndarray, kinds: np.ndarray) -> tuple[ModelEdit, ...]:
    """What models and tools wrote, as one edit of each kind."""
    found = []
    for kind, number in ORIGINS.items():
        where = np.flatnonzero(kinds == number)
        if where.size:
            found.append(ModelEdit(kind, "recovered", where, machine.reshape(-1)[where]))  # type: ignore[arg-type]
    return tuple(found)


def plan_of(head: JournalHead) -> SamplePlan | ExplainPlan | None:
    """The run behind the mask; None where there was none, or it cannot be understood any more."""
    if head.plan is None:
        return None
    kind: Any = ExplainPlan if head.plan.get("kind") == "saliency" else SamplePlan
    try:
        plan: SamplePlan | ExplainPlan = from_dict(kind, head.plan, "The journal", JournalError)
    except DiffsegError:
        return None
    return plan
