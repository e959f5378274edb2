"""What a sampling job yields: records of plain arrays, made in the job's thread from the core's steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from diffseg.checkpoint import load_checkpoint
from diffseg.devices import describe, release_memory
from diffseg.ensemble import Ensemble, Snapshot
from diffseg.grid import Box
from diffseg.modes import Mode, find_modes
from diffseg.outputs import INNER, OUTER
from diffseg.plan import SamplePlan, plan_for
from diffseg.run import Run
from diffseg.sample import Step
from napari_diffseg.state import Maps, Request, TrajectoryView

# Maps are recomputed at most this often while members arrive, and once at the end.
MAPS_INTERVAL_S = 0.3


@dataclass(eq=False)
class Opened:
    """A run with its model in memory and the members drawn so far. Advanced by one job at a time.

    ``last`` is the newest step of the trajectory, so that its mask can be asked for.
    """

    request: Request
    run: Run
    ensemble: Ensemble
    last: Step | None = None

    @property
    def device(self) -> str:
        """The device in words; it changes when memory runs out."""
        return describe(self.run.device)

    @property
    def plan(self) -> SamplePlan:
        """The plan of the members there are."""
        members = max(self.ensemble.ids, default=0) + 1
        return replace(self.run.plan, members=members)


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
    note: str = ""


def open_run(request: Request, opened: Opened | None) -> Opened:
    """``opened`` again if it serves the request, else the model loaded, the scan prepared, no members yet.

    Raises:
        DiffsegError: what does not fit, in one sentence.
    """
    if opened is not None and opened.request.same_run(request):
        return opened
    model = request.checkpoint or load_checkpoint(request.model_path)
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
    )
    run = Run(plan, request.case, model)
    return Opened(request, run, run.ensemble())


def first_mask(request: Request, opened: Opened | None, run_id: int) -> Iterator[Update]:
    """The trajectory of member 0, slot by slot, and at its end the ensemble with that mask in it."""
    opened = open_run(request, opened)
    run = opened.run
    view = _begun(run, run_id)
    yield Update(0, run.steps, opened, view)
    for step in run.trajectory(view.member):
        opened.last = step
        view = _with_step(view, run, step)
        if step.done < step.total:
            yield Update(step.done, run.steps, opened, view)
    if opened.last is not None and view.member not in opened.ensemble.ids:
        opened.ensemble.add(run.mask(opened.last.x0), view.member)
    yield Update(run.steps, run.steps, opened, view, **results(opened))


def growth(request: Request, opened: Opened | None, target: int) -> Iterator[Update]:
    """Members until there are ``target``; the first one is reported at once."""
    opened = open_run(request, opened)
    missing = sum(m not in opened.ensemble.ids for m in range(target))
    latest = Update(0, missing * opened.run.steps, opened, **results(opened))
    yield latest
    due = 0.0
    for g in opened.run.grow(opened.ensemble, target):
        fresh: dict[str, Any] = {}
        if g.snapshot is not None and (time.monotonic() >= due or g.done == g.total):
            fresh = results(opened)
            due = time.monotonic() + MAPS_INTERVAL_S
        latest = replace(latest, done=g.done, total=g.total, note=g.note or latest.note, **fresh)
        yield latest


def mask_of(opened: Opened, step: Step) -> np.ndarray:
    """Labels ``(*roi)`` uint8 of the clean mask seen at ``step``."""
    return opened.run.mask(step.x0)


def rest(opened: Opened) -> None:
    """Let go of everything on the device, and give cached memory back to the system. The members stay, and so
    the ensemble can be taken up again.
    """
    opened.last = None
    opened.run.checkpoint.network.to("cpu")
    # A new run has not bound the network to the image yet.
    opened.run = Run(opened.run.plan, opened.request.case, opened.run.checkpoint)
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


def results(opened: Opened) -> dict[str, Any]:
    """``snapshot``, ``modes`` and ``maps`` of an ``Update`` for the members there are; empty without
    members.
    """
    if len(opened.ensemble) == 0:
        return {}
    snapshot = opened.ensemble.snapshot()
    modes = find_modes(snapshot, opened.request.case.grid.voxel_ml)
    return {
        "snapshot": snapshot,
        "modes": modes,
        "maps": maps_of(snapshot, opened.run.prepared.roi, opened.plan),
    }


def _begun(run: Run, run_id: int) -> TrajectoryView:
    slots = (run.steps + 1, *run.shape)
    x = np.zeros(slots, np.float16)
    x[0] = _field(run, run.initial((0,)))
    # No mask is seen before the first step.
    x0 = np.full(slots, -1, np.float16)
    return TrajectoryView(
        run_id,
        x,
        x0,
        done=0,
        total=run.steps,
        offset=tuple(float(v) for v in run.prepared.offset),
        step=tuple(float(v) for v in run.prepared.step),
        times=tuple(level.t for level in run.levels),
        log_snr=tuple(level.log_snr for level in run.levels),
        changes=(),
        member=0,
        seed=run.plan.seed,
    )


def _with_step(view: TrajectoryView, run: Run, step: Step) -> TrajectoryView:
    """Fills the step's slot of the buffers, which is not on display yet."""
    k = step.done
    view.x[k], view.x0[k] = _field(run, step.x), _field(run, step.x0)
    change = float("nan")
    if k > 1:
        change = float(np.abs(view.x0[k].astype(np.float32) - view.x0[k - 1]).mean())
    return replace(view, done=k, changes=(*view.changes, change))


def _field(run: Run, x: Tensor) -> np.ndarray:
    """Clipped because noise reaches far beyond [-1, 1], which is all that is shown."""
    return np.clip(run.display(x), -1, 1)
