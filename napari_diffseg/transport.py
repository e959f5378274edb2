"""The trajectory's verbs: play, step, back, reset, and other endings of it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffseg.errors import PlanError
from napari_diffseg import masks
from napari_diffseg.jobs import Job
from napari_diffseg.runs import command, job_of, live, start, take
from napari_diffseg.session import Session
from napari_diffseg.state import TrajectoryView

if TYPE_CHECKING:
    from napari_diffseg.branching import BranchUpdate
    from napari_diffseg.sampling import Update

# A is the trajectory itself.
LETTERS = "BCDEF"
# The trajectory and all its branches together.
ALL_BYTES = 2 * 2**30

FIRST_MASK = "First mask"

# Numbers of trajectories, unique in the process so that a layer names its run.
_run_ids = itertools.count(1)


# ---- what is on display ----


@command()
def set_follow(session: Session, on: bool) -> None:
    """Let the view move along with the run, or leave it where it is."""
    session.follow = on
    if on and session.trajectory is not None:
        session.step = newest(session)


@command()
def set_side_by_side(session: Session, on: bool) -> None:
    """Give scan, x_t and x̂0 a view each, other layers being hidden meanwhile, or all of them one view."""
    session.side_by_side = on


@command()
def show_step(session: Session, step: int) -> None:
    """Show this slot of the trajectory, as far as it has come."""
    if session.trajectory is not None:
        session.step = min(max(step, 0), reach(session))


@command()
def step_back(session: Session) -> None:
    """Show the state before the one on display."""
    show_step(session, session.step - 1)


@command()
def advance(session: Session) -> None:
    """Show the next state; at the newest one, compute it: exactly one more denoising step."""
    view = session.trajectory
    if view is not None and session.step < newest(session):
        show_step(session, session.step + 1)
    elif can_step(session):
        step_once(session)


def reach(session: Session) -> int:
    """The newest slot of any line."""
    return max((view.done for _, view in lines(session)), default=0)


def newest(session: Session) -> int:
    """The newest slot of the line that is being computed; of any line while nothing is."""
    busy = session.job.name if session.job.state != "idle" else ""
    computed = [view.done for letter, view in lines(session) if busy == f"Branch {letter}"]
    if session.trajectory is not None and busy == FIRST_MASK:
        computed = [session.trajectory.done]
    return computed[0] if computed else reach(session)


def can_step(session: Session) -> bool:
    """Whether there is a step left to compute, with the settings of now."""
    first = session.trajectory
    return session.job.state == "paused" or first is None or first.done < first.total or not is_current(session)


# ---- runs ----


@command()
def lock_seed(session: Session, on: bool) -> None:
    """Start every trajectory from the same noise, or each from the noise of the next seed."""
    session.seed_locked = on


@command("play")
def play(session: Session) -> None:
    """Run from noise to the first mask, or from where a run of the same settings was stopped."""
    _start_trajectory(session, steps=None)


@command("step")
def step_once(session: Session) -> None:
    """Exactly one more denoising step, then pause."""
    job = live(session).job
    if session.job.state == "paused" and job is not None:
        job.step()
    else:
        _start_trajectory(session, steps=1)


@command("pause")
def pause(session: Session) -> None:
    """Stop after the step in progress, ready to go on."""
    job_of(session).pause()


@command("resume")
def resume(session: Session) -> None:
    """Go on freely."""
    job_of(session).resume()


@command("cancel")
def cancel(session: Session) -> None:
    """Stop within one step; what is finished stays."""
    job_of(session).cancel()


@command("reset")
def reset(session: Session) -> None:
    """Drop the trajectory and its branches; a run in progress stops."""
    held = live(session)
    if held.job is not None:
        held.job.cancel()
    if session.trajectory is not None:
        held.dropped = session.trajectory.run_id
    if held.opened is not None:
        held.opened.forget()
    session.branches = ()
    session.trajectory = None
    session.step = 0


def is_current(session: Session) -> bool:
    """Whether the trajectory on display is what the settings of now would give."""
    view = session.trajectory
    ready = session.case is not None and session.model_path is not None
    return ready and view is not None and view.request is not None and view.request.same_run(session.request())


def _start_trajectory(session: Session, steps: int | None) -> None:
    held, view = live(session), session.trajectory
    opened = held.opened
    unfinished = view is not None and view.done < view.total and is_current(session)
    same = opened is not None and opened.last is not None and opened.request.same_run(session.request())
    before = view if unfinished and same else None
    if before is None:
        session.branches = ()
        _next_seed(session)
    request, run_id = session.request(), next(_run_ids)
    held.drawn_seed = session.settings.seed
    if session.view is not None and session.roi is not None:
        session.view.look_into(session.roi)

    def source() -> Iterator[Update]:
        from napari_diffseg.sampling import first_mask  # torch starts in the job's thread

        return first_mask(request, opened, run_id, before)

    job = Job(FIRST_MASK, source, inline=session.inline)
    start(session, job, functools.partial(take, session), functools.partial(ensemble_words, session), steps)


def _next_seed(session: Session) -> None:
    """A seed that is not locked is used once."""
    settings = session.settings
    if not session.seed_locked and live(session).drawn_seed == settings.seed:
        session.settings = replace(settings, seed=settings.seed + 1)


def ensemble_words(session: Session) -> str:
    """What there is, in a sentence."""
    if session.snapshot is None:
        return "Finished."
    n, modes = len(session.snapshot), session.modes
    size = masks.size(modes[0].volume_ml, len(session.snapshot.shape))
    if n == 1:
        return "One mask: nothing found." if modes[0].empty else f"One mask: {size}."
    first = "with nothing found" if modes[0].empty else f"of {size}"
    kinds = f"one mode {first}" if len(modes) == 1 else f"{len(modes)} modes, the most frequent {first}"
    settled = " Settled, so no more were drawn." if session.findings is not None and session.findings.stopped else ""
    return f"{n} masks in {kinds}.{settled}"


# ---- branches ----


@command("branch")
def branch_here(session: Session, seed: int | None = None) -> None:
    """Another ending of the trajectory: the state on display, and from there the noise of another ``seed``, the
    next one that is not taken unless given. A run that waits is stopped; Play takes it up again.
    """
    first = session.trajectory
    assert first is not None
    letter = next((one for one in LETTERS if all(b.letter != one for b in session.branches)), None)
    if letter is None:
        raise PlanError(f"There are branches up to {LETTERS[-1]} already: remove one first.")
    refuse_memory(session, first)
    taken = [first.seed, *(b.view.seed for b in session.branches)]
    seed = max(taken) + 1 if seed is None else seed
    _when_idle(session, functools.partial(_start_branch, session, first, letter, session.step, seed))


@command("remove branch")
def remove_branch(session: Session, letter: str) -> None:
    """Drop a branch and its layers."""
    job = live(session).job
    if job is not None and job.state.name == f"Branch {letter}":
        # Its last record may still be on the way.
        job.finished.connect(lambda outcome: _drop(session, letter))
        job.cancel()
    _drop(session, letter)


def _drop(session: Session, letter: str) -> None:
    session.branches = tuple(b for b in session.branches if b.letter != letter)
    session.step = min(session.step, reach(session))


def refuse_memory(session: Session, first: TrajectoryView) -> None:
    """Raise ``PlanError`` when one more branch would take too much memory."""
    size = first.x.nbytes + first.x0.nbytes
    if size * (len(session.branches) + 2) > ALL_BYTES:
        raise PlanError(f"A branch of this run takes {size / 2**20:.0f} MB: remove one, or choose a smaller region.")


def _when_idle(session: Session, begin: Callable[[], None]) -> None:
    """Now, or after the job that waits has ended; it may still be finishing a step, so nobody waits for it."""
    job = live(session).job
    if job is None:
        begin()
        return
    job.finished.connect(lambda outcome: begin())
    job.cancel()


def _start_branch(session: Session, first: TrajectoryView, letter: str, slot: int, seed: int) -> None:
    held = live(session)
    if session.trajectory is None or session.trajectory.run_id != first.run_id or held.job is not None:
        return
    opened = held.opened

    def source() -> Iterator[BranchUpdate]:
        from napari_diffseg.branching import branch_off  # torch is there already

        return branch_off(first, letter, slot, seed, opened)

    job = Job(f"Branch {letter}", source, inline=session.inline)
    start(session, job, functools.partial(_take_branch, session), functools.partial(_branch_words, session, letter))


def _take_branch(session: Session, update: BranchUpdate) -> None:
    branch, first = update.branch, session.trajectory
    if first is None or first.run_id != branch.view.run_id:
        return  # reset meanwhile
    if live(session).opened is None:
        live(session).opened = update.opened
    others = tuple(b for b in session.branches if b.letter != branch.letter)
    session.branches = tuple(sorted((*others, branch), key=lambda b: b.letter))
    if session.follow:
        session.step = branch.view.done


def _branch_words(session: Session, letter: str) -> str:
    branch = next((b for b in session.branches if b.letter == letter), None)
    if branch is None or branch.view.volume_ml is None:
        return "Finished."
    return f"Branch {letter}: {masks.size(branch.view.volume_ml, len(branch.view.step))}."


def lines(session: Session) -> tuple[tuple[str, Any], ...]:
    """``(letter, trajectory)`` of everything that runs side by side, the first one as A."""
    first = session.trajectory
    return () if first is None else (("A", first), *((b.letter, b.view) for b in session.branches))
