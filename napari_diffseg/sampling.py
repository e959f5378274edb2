"""What a sampling job yields: records of plain arrays, made in the job's thread from the core's steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

# napari imports it for the first layer with features, which would block the GUI thread; here it does not.
import pandas  # noqa: F401

from diffseg.branch import KeptSteps
from diffseg.checkpoint import load_checkpoint
from diffseg.devices import describe, release_memory
from diffseg.ensemble import Ensemble, Snapshot
from diffseg.grid import Box
from diffseg.measurements import MemberMeasure
from diffseg.modes import Mode
from diffseg.outputs import INNER, OUTER
from diffseg.plan import SamplePlan, plan_for
from diffseg.run import Run
from diffseg.sample import Step
from diffseg.stages import Stage
from napari_diffseg.ensemble_state import EnsembleSettings, Findings
from napari_diffseg.gathering import Gathered, findings_of, gather
from napari_diffseg.recording import Recorder, begun
from napari_diffseg.state import Maps, Request, TrajectoryView

# Maps are recomputed at most this often while members arrive, and once at the end.
MAPS_INTERVAL_S = 0.3


@dataclass(eq=False)
class Opened:
    """A run with its model in memory and the members drawn so far. Advanced by one job at a time.

    ``last`` is the newest step of the trajectory, so that its mask can be asked for and it can go on; ``kept`` are
    the states that branches may leave. ``choices`` may change while members are drawn; ``measured`` are the sizes of
    the masks as drawn.
    """

    request: Request
    run: Run
    ensemble: Ensemble
    last: Step | None = None
    kept: KeptSteps = field(default_factory=KeptSteps)
    choices: EnsembleSettings = EnsembleSettings()
    measured: tuple[MemberMeasure, ...] = ()

    def forget(self) -> None:
        """Let go of the states of the trajectory."""
        self.last = None
        self.kept.clear()

    @property
    def device(self) -> str:
        """The device in words; it changes when memory runs out."""
        return describe(self.run.device)

    @property
    def plan(self) -> SamplePlan:
        """The plan of the members there are."""
        members = max(self.ensemble.ids, default=0) + 1
        return self.run.record(members)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Members that outlive their model, which was closed; ``ran`` tells how they were drawn."""

    request: Request
    ensemble: Ensemble
    measured: tuple[MemberMeasure, ...]
    ran: tuple[Stage, ...] = ()


@dataclass(frozen=True, eq=False)
class Update:
    """Progress of a sampling job; each stands for all earlier ones of its job."""

    done: int
    total: int
    opened: Opened
    trajectory: TrajectoryView | None = None
    snapshot: Snapshot | None = None
    modes: tuple[Mode, ...] = ()
    maps: Maps | None = None
    findings: Findings | None = None
    note: str = ""


def open_run(request: Request, opened: Opened | None, drawn: Drawn | None = None) -> Opened:
    """``opened`` again if it serves the request, else the model loaded and the scan prepared, with the members
    ``drawn`` for an equal request before, if any.

    Raises:
        DiffsegError: what does not fit, in one sentence.
    """
    if opened is not None and opened.request.same_run(request):
        return opened
    model = request.checkpoint or load_checkpoint(request.model_path)
    drawn = drawn if drawn is not None and drawn.request.same_run(request) else None
    s = request.settings
    plan = plan_for(
        model.card,
        model.sha256,
        request.files,
        request.rater_files,
        sampler=s.sampler,
        sampler_settings=dict(s.sampler_settings),
        steps=s.steps,
        members=s.members,
        seed=s.seed,
        device=s.device,
        roi=None if request.roi is None else str(request.roi),
        ran=() if drawn is None else drawn.ran,
    )
    run = Run(plan, request.case, model)
    if drawn is not None:
        return Opened(request, run, drawn.ensemble, measured=drawn.measured)
    return Opened(request, run, run.ensemble())


def first_mask(
    request: Request, opened: Opened | None, run_id: int, begun_view: TrajectoryView | None = None
) -> Iterator[Update]:
    """The trajectory of member 0, slot by slot, and at its end the ensemble with that mask in it.

    ``begun_view`` goes on where ``opened.last`` is, instead of from noise.
    """
    opened = open_run(request, opened)
    run, start = opened.run, opened.last
    if begun_view is None or start is None:
        opened.forget()
        start, view = None, begun(run, request, run_id)
        # A run that goes on has shown this already, and it would count as a step.
        yield Update(0, run.steps, opened, view)
    else:
        view = begun_view
    recorder = Recorder(run, view, None if start is None else start.x0)
    for step in run.trajectory(view.member, start):
        opened.last = step
        opened.kept.add(step)
        view = recorder.add(step)
        if step.done < step.total:
            yield Update(step.done, run.steps, opened, view, note=run.take_note())
    if opened.last is not None:
        mask = run.mask(opened.last.x0)
        view = recorder.finish(mask)
        if view.member not in opened.ensemble.ids:
            opened.ensemble.add(mask, view.member)
    yield Update(run.steps, run.steps, opened, view, **results(opened))


def growth(
    request: Request,
    opened: Opened | None,
    target: int,
    choices: EnsembleSettings | None = None,
    drawn: Drawn | None = None,
) -> Iterator[Update]:
    """Members until there are ``target`` or, where ``choices`` say so, the ensemble has settled; the first one is
    reported at once.
    """
    opened = open_run(request, opened, drawn)
    opened.choices = choices or opened.choices
    missing = sum(m not in opened.ensemble.ids for m in range(target))
    latest = Update(0, missing * opened.run.steps, opened, **results(opened))
    yield latest
    due = 0.0
    for g in opened.run.grow(opened.ensemble, target):
        fresh: dict[str, Any] = {}
        stopped = False
        if g.snapshot is not None:
            found = gathered(opened)
            stopped = opened.choices.stop_early and found.settling.settled and g.done < g.total
            if stopped or time.monotonic() >= due or g.done == g.total:
                fresh = results(opened, found, stopped)
                due = time.monotonic() + MAPS_INTERVAL_S
        total = g.done if stopped else g.total
        latest = replace(latest, done=g.done, total=total, note=g.note or latest.note, **fresh)
        yield latest
        if stopped:
            return


def recount(opened: Opened, choices: EnsembleSettings) -> Iterator[Update]:
    """The members there are, with another post-processing."""
    yield Update(0, 1, opened)
    opened.choices = choices
    yield Update(1, 1, opened, **results(opened))


def mask_of(opened: Opened, step: Step) -> np.ndarray:
    """Labels ``(*roi)`` uint8 of the clean mask seen at ``step``."""
    return opened.run.mask(step.x0)


def rest(opened: Opened) -> None:
    """Let go of everything on the device, and give cached memory back to the system. The members stay, and so
    the ensemble can be taken up again.
    """
    opened.forget()
    opened.run.checkpoint.network.to("cpu")
    # A new run has not bound the network to the image yet.
    opened.run = Run(opened.plan, opened.request.case, opened.run.checkpoint)
    release_memory()


def maps_of(snapshot: Snapshot, roi: Box, plan: SamplePlan) -> Maps:
    """The layers of an ensemble that has at least one member."""
    return Maps(
        roi,
        plan,
        len(snapshot),
        snapshot.consensus(INNER),
        snapshot.consensus(OUTER),
        snapshot.variance(),
        snapshot.entropy(),
        1 - snapshot.mean(0),
    )


def gathered(opened: Opened) -> Gathered:
    """Modes and sizes of the members there are, at least one."""
    found = gather(opened.ensemble.snapshot(), opened.request.case.grid, opened.choices, opened.measured)
    opened.measured = found.raw
    return found


def results(opened: Opened, found: Gathered | None = None, stopped: bool = False) -> dict[str, Any]:
    """``snapshot``, ``modes``, ``maps`` and ``findings`` of an ``Update`` for the members there are; empty without
    members.
    """
    if len(opened.ensemble) == 0:
        return {}
    found = found or gathered(opened)
    roi = opened.run.prepared.roi
    return {
        "snapshot": found.snapshot,
        "modes": found.modes,
        "maps": maps_of(found.snapshot, roi, opened.plan),
        "findings": findings_of(found, roi, opened.request.case, stopped),
    }
