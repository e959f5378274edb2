"""One job at a time per session: starting it, showing what it yields, ending it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, cast

from diffseg.errors import DiffsegError
from napari_diffseg.jobs import Job, Outcome
from napari_diffseg.pace import paces
from napari_diffseg.region_cost import learn
from napari_diffseg.session import Session
from napari_diffseg.state import JobState, Message

if TYPE_CHECKING:
    from diffseg.ensemble import Snapshot
    from diffseg.modes import Mode
    from napari_diffseg.ensemble_state import Findings
    from napari_diffseg.sampling import Drawn, Opened, Update
    from napari_diffseg.state import Maps

P = ParamSpec("P")

# How long closing waits for the step in progress.
CLOSING_S = 2.0
UNSEEN = "Finished; the result is shown once you reveal it on the page Mask."


@dataclass(eq=False)
class Live:
    """What runs and what it left in memory: no state that anybody observes."""

    job: Job | None = None
    opened: Opened | None = None
    # Members of a run whose model was closed.
    drawn: Drawn | None = None
    saving: Job | None = None
    cutting: Job | None = None
    # A tool at work on the mask, and the search for places to check.
    tool: Job | None = None
    search: Job | None = None
    # The journal of the mask, and the search for those of earlier sessions.
    journal: Any = None
    looking: Job | None = None
    # Trajectories up to this one were reset; a late record must not bring them back.
    dropped: int = 0
    # The seed of the newest trajectory; one that is not locked is used once.
    drawn_seed: int | None = None


def live(session: Session) -> Live:
    """The live objects of a session."""
    if session.live is None:
        session.live = Live()
    return session.live


def command(
    verb: str = "",
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], bool]]:
    """Wraps a verb: blockers and our own errors end in ``session.message``; tells whether it was carried
    out.
    """

    def wrap(act: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], bool]:
        @functools.wraps(act)
        def guarded(session: Session, *args: P.args, **kwargs: P.kwargs) -> bool:
            blockers = session.blockers(verb) if verb else []
            if blockers:
                session.message = Message(blockers[0], "warning")
                return False
            try:
                act(session, *args, **kwargs)
            except DiffsegError as error:
                session.message = Message(str(error), "error")
                return False
            return True

        return cast("Callable[Concatenate[Session, P], bool]", guarded)

    return wrap


def job_of(session: Session) -> Job:
    job = live(session).job
    assert job is not None  # told by the blockers
    return job


def start(
    session: Session,
    job: Job,
    show: Callable[[Any], None],
    words: Callable[[], str],
    steps: int | None = None,
) -> None:
    """The one place where a job begins; ``words`` says what came of it, once it is
    done and another one may begin."""
    live(session).job = job
    session.message = None
    job.changed.connect(functools.partial(_mirror, session))
    job.progressed.connect(show)
    job.finished.connect(functools.partial(_finish, session, job, words))
    job.start(steps)


def _mirror(session: Session, state: JobState) -> None:
    opened = live(session).opened
    if opened is not None:
        learn(opened.request, opened.run.checkpoint.card, state)
    if state.state == "idle":
        paces.keep()
    session.job = replace(state, device=opened.device if opened is not None else session.settings.device)


def take(session: Session, update: Update) -> None:
    """Shows a sampling job's record."""
    held = live(session)
    held.opened, session.checkpoint = update.opened, update.opened.run.checkpoint
    view = update.trajectory
    if view is not None and view.run_id > held.dropped:
        session.trajectory = view
        branched = [b.view.done for b in session.branches]
        session.step = view.done if session.follow else min(session.step, max((view.done, *branched)))
    if update.snapshot is not None and update.snapshot is not session.snapshot:
        _show_results(session, update.opened, update.snapshot, update.modes, update.maps, update.findings)
    if update.note and (session.message is None or session.message.text != update.note):
        session.message = Message(update.note, "warning")


def _show_results(
    session: Session,
    opened: Opened,
    snapshot: Snapshot | None = None,
    modes: tuple[Mode, ...] = (),
    maps: Maps | None = None,
    findings: Findings | None = None,
) -> None:
    """All of one ensemble; the snapshot last, so that its observers find the rest in place."""
    session.plan, session.modes, session.maps, session.findings = opened.plan, modes, maps, findings
    session.snapshot = snapshot


def _finish(session: Session, job: Job, words: Callable[[], str], outcome: Outcome) -> None:
    held = live(session)
    if held.job is job:
        held.job = None
    if outcome.kind == "done":
        try:
            session.message = Message(UNSEEN if _hidden(session) else words())
        except DiffsegError as error:
            session.message = Message(str(error), "error")
        return
    session.message = Message(outcome.sentence, "error" if outcome.kind == "failed" else "info", outcome.details)
    if held.opened is not None:
        _clear_up(session, held.opened, outcome.kind == "failed")


def _hidden(session: Session) -> bool:
    """Whether somebody is drawing who must not hear what the model found."""
    return session.blind is not None and session.blind.hiding


def _clear_up(session: Session, opened: Opened, failed: bool) -> None:
    """After a run that did not end: members that came too quickly to be shown are shown, and after a failure
    the device's memory is given back.
    """
    from napari_diffseg.sampling import rest, results  # torch is there already

    shown = 0 if session.snapshot is None else len(session.snapshot)
    unseen = len(opened.ensemble) != shown or opened.plan != session.plan
    if len(opened.ensemble) > 0 and unseen and opened.request.case is session.case:
        _show_results(session, opened, **results(opened))
    if failed:
        rest(opened)


def shutdown(session: Session) -> None:
    """One panel of the session is closed. The last one stops every job, waiting for the step in progress for
    two seconds at most, lets go of the viewer and frees the device's memory. Safe to call again.
    """
    if session.view is not None and not session.view.release():
        return
    session.view = None
    held = live(session)
    if held.saving is not None:
        held.saving.wait(CLOSING_S)
    if held.journal is not None:
        held.journal.close()
    held.looking = None
    if session.offer is not None:
        session.offer.claim.release()
        session.offer = None
    job = held.job
    if job is not None:
        job.cancel()
        if not job.wait(CLOSING_S):
            # Its step may still be using the device.
            job.finished.connect(functools.partial(_free, session))
            return
    _free(session)


def _free(session: Session, outcome: Outcome | None = None) -> None:
    """Forgets model and run, and gives the device's memory back."""
    held = live(session)
    opened, held.opened = held.opened, None
    session.checkpoint = None
    if opened is not None:
        from napari_diffseg.sampling import Drawn, rest  # torch is there already

        held.drawn = Drawn(opened.request, opened.ensemble, opened.measured, opened.plan.ran)

        rest(opened)
