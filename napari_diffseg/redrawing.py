"""Redraw around strokes: asking for answers, looking through them, taking one or none. No torch until asked."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from napari_diffseg import mask_edit
from napari_diffseg.jobs import Job
from napari_diffseg.redraw_state import Answered, Proposal, RedrawState, way
from napari_diffseg.runs import command, live, start
from napari_diffseg.session import Session
from napari_diffseg.state import Message

if TYPE_CHECKING:
    from napari_diffseg.redraw_job import Redrawn


def state_of(session: Session) -> RedrawState | None:
    """What is known of redrawing the mask there is; a new one if nothing, None without a mask."""
    mask, state = session.mask, session.redraw
    if mask is None:
        return None
    return state if state is not None and state.labels is mask.labels else RedrawState(mask.labels)


def proposal_of(session: Session) -> Proposal | None:
    """The answers that wait for the mask there is."""
    state = state_of(session)
    return None if state is None else state.proposal


def members_of(session: Session) -> int:
    """Masks of the ensemble that answers may come from."""
    return 0 if session.snapshot is None else len(session.snapshot)


@command("redraw")
def redraw(session: Session) -> None:
    """Draw a box around the strokes anew, as several alternatives; an earlier proposal gives way."""
    mask, state, held = session.mask, state_of(session), live(session)
    assert mask is not None and state is not None
    request, opened, drawn = session.request(), held.opened, held.drawn
    labels, answered = mask.labels.copy(), state.strokes_answered(mask)
    ensemble = session.snapshot, session.maps.roi if session.maps is not None else None
    seed = session.settings.seed + state.asked
    session.redraw = replace(state, proposal=None, asked=state.asked + 1)

    def source() -> Iterator[Redrawn]:
        from napari_diffseg.redraw_job import Question, redrawing  # torch starts in the job's thread

        return redrawing(Question(request, mask, labels, answered, *ensemble, seed), opened, drawn)

    job = Job("Redrawing", source, inline=session.inline)
    start(session, job, functools.partial(_take, session, mask.labels), functools.partial(_words, session))


def _take(session: Session, labels: np.ndarray, record: Redrawn) -> None:
    """Shows the alternatives there are so far."""
    held, state = live(session), session.redraw
    if held.opened is None:
        held.opened, session.checkpoint = record.opened, record.opened.run.checkpoint
    if state is None or state.labels is not labels or not record.alternatives:
        return
    before = state.proposal
    at = 0 if before is None else record.alternatives.index(before.shown)
    found = Proposal(record.box, record.asked, record.strokes, record.alternatives, at, record.note)
    session.redraw = replace(state, proposal=found)


def _words(session: Session) -> str:
    found = proposal_of(session)
    if found is None:
        return "The mask changed while it was redrawn: redraw again."
    note = f" {found.note}" if found.note else ""
    return f"{len(found.alternatives)} answers: look through them, then take one or none.{note}"


@command("answers")
def look_at_answer(session: Session, by: int = 1) -> None:
    """Show the answer ``by`` places on; after the last one comes the first."""
    state = state_of(session)
    assert state is not None and state.proposal is not None
    found = state.proposal
    session.redraw = replace(state, proposal=replace(found, at=(found.at + by) % len(found.alternatives)))


def next_answer(session: Session) -> bool:
    """Show the next answer."""
    return look_at_answer(session, 1)


def previous_answer(session: Session) -> bool:
    """Show the answer before."""
    return look_at_answer(session, -1)


@command("answers")
def accept_answer(session: Session) -> None:
    """Write the answer on display into the mask, as one undo step; what was painted meanwhile stays."""
    state, mask = state_of(session), session.mask
    assert state is not None and state.proposal is not None and mask is not None
    found = state.proposal
    words = way(found.shown, members_of(session))
    # Told before the mask is, so that the preview has gone when the mask is shown again.
    session.redraw = replace(state, proposal=None, used=words)
    changed = mask_edit.apply(session, found.box, found.labels(mask.labels), "redrawn", f"redrawn: {words}")
    if changed and session.mask is not None:
        answer = Answered(found.strokes, session.mask.edits[-1].where)
        session.redraw = replace(session.redraw, answered=(*state.answered, answer))
    session.message = Message(f"Redrawn: {words}; {changed:,} voxels changed. Ctrl+Z on the mask takes it back.")


@command("answers")
def reject_answers(session: Session) -> None:
    """Leave the mask as it is."""
    state = state_of(session)
    assert state is not None
    session.redraw = replace(state, proposal=None)
    session.message = Message("The mask stays as you painted it.")


def redraw_or_next(session: Session) -> None:
    """Redraw around the strokes; with answers on display, show the next one."""
    (redraw if proposal_of(session) is None else next_answer)(session)
