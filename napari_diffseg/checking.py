"""The verbs of the next place to check: searching an ensemble for places, going there, ticking them off."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from diffseg.places import SEEN_TO, By, Place, find_places, seen_to
from napari_diffseg import mask_edit
from napari_diffseg.editing_state import Queue
from napari_diffseg.jobs import Job, Outcome
from napari_diffseg.mask_tools import set_tools, viewed_axis
from napari_diffseg.runs import command, live
from napari_diffseg.session import Session
from napari_diffseg.state import Message

ALL_AGREE = "All masks agree: no place to check."
NONE_LEFT = "No place is left to check: everything that holds 95 % of the disagreement was looked at or edited."


@dataclass(frozen=True)
class _Searched:
    """The one record of searching."""

    queue: Queue
    done: int = 1
    total: int = 1


def stale(session: Session) -> bool:
    """Whether the queue is not, or not any more, that of the ensemble and the way it is looked at."""
    queue = session.queue
    wanted = (session.snapshot, session.tools.places, viewed_axis(session) or 0)
    return queue is None or (queue.snapshot, queue.by, queue.axis) != wanted


def places_left(session: Session) -> tuple[Place, ...]:
    """Places that were neither ticked nor edited enough (``diffseg.places.seen_to``), most disagreement first."""
    queue, mask = session.queue, session.mask
    found = () if queue is None else queue.places
    open_ = [place for place in found if place.key not in session.checked]
    if mask is None:
        return tuple(open_)
    shape = mask.labels.shape
    return tuple(p for p in open_ if seen_to(p, mask_edit.touched(mask, p.where), shape) < SEEN_TO)


@command("check")
def search(session: Session) -> None:
    """Look for places to check; those of an earlier ensemble are forgotten."""
    held, snapshot, maps, case = live(session), session.snapshot, session.maps, session.case
    if held.search is not None or snapshot is None or maps is None or case is None:
        return
    by, axis = session.tools.places, viewed_axis(session) or 0
    variance, box, grid = maps.variance, maps.roi, case.grid
    found: list[Queue] = []

    def look() -> Iterator[_Searched]:
        places = find_places(variance, box, grid.shape, 1000 * grid.voxel_ml, by, axis)
        found.append(Queue(snapshot, by, axis, places))
        yield _Searched(found[-1])

    held.search = Job("Search for places to check", look, inline=session.inline)
    held.search.finished.connect(functools.partial(_found, session, found))
    held.search.start()


def _found(session: Session, found: list[Queue], outcome: Outcome) -> None:
    live(session).search = None
    if outcome.kind != "done":
        session.message = Message(outcome.sentence, "error", outcome.details)
    elif session.snapshot is not None:
        session.queue = found[-1]


@command("check")
def next_place(session: Session) -> None:
    """Go to the place with most disagreement that is left; from there to the one after it, and from the last one to
    the first.
    """
    if stale(session):
        search(session)
    left = places_left(session)
    if stale(session):
        session.message = Message("Places to check are being looked for: try again in a moment.")
        return
    if not left:
        agreed = session.queue is not None and not session.queue.places
        session.message = Message(ALL_AGREE if agreed else NONE_LEFT)
        return
    keys = [place.key for place in left]
    at = keys.index(session.place) + 1 if session.place in keys else _after(session, left)
    _go(session, left[at % len(left)])


@command("check")
def tick(session: Session) -> None:
    """The place that was gone to is fine: tick it off and go to the next one."""
    if session.place is None:
        next_place(session)
        return
    session.checked = session.checked | {session.place}
    next_place(session)


@command("check")
def look_by(session: Session, by: By) -> None:
    """Check slices of the plane on display, or connected regions."""
    set_tools(session, places=by)
    search(session)


def _after(session: Session, left: tuple[Place, ...]) -> int:
    """Where in ``left`` to go on after a place that is not in it any more."""
    order = [] if session.queue is None else [place.key for place in session.queue.places]
    if session.place not in order:
        return 0
    behind = order[order.index(session.place) :]
    return next((number for number, place in enumerate(left) if place.key in behind), 0)


def _go(session: Session, place: Place) -> None:
    session.place = place.key
    if session.view is not None:
        session.view.look_at(place.voxel)
