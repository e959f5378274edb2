"""Choosing the whole scan, whose cost is measured first where it is not known yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diffseg.cost import cost_of
from napari_diffseg.jobs import Job
from napari_diffseg.pace import paces
from napari_diffseg.region_cost import cost_words
from napari_diffseg.runs import command, start
from napari_diffseg.session import Session


@dataclass(frozen=True)
class Timed:
    """The one record of timing a pass over ``voxels``."""

    seconds: float
    voxels: int
    done: int = 1
    total: int = 1


@command("region")
def choose_whole(session: Session) -> None:
    """Segment the whole scan; a first time, one pass of the model is timed to tell how long that will take."""
    session.roi = None
    case, model, path = session.case, session.model, session.model_path
    if case is None or model is None or path is None or session.blockers("play"):
        return
    device = session.settings.device
    if paces.seconds(model.name, device, 1, 1) is not None or cost_of(case, model, None).windows == 1:
        return

    def timing() -> Iterator[Timed]:
        from diffseg.checkpoint import load_checkpoint  # torch starts in the job's thread
        from diffseg.timing import time_pass

        yield Timed(*time_pass(load_checkpoint(path), device))

    def keep(record: Timed) -> None:
        paces.learn(model.name, device, 1, record.voxels, record.seconds)

    job = Job("Timing one window", timing, inline=session.inline)
    start(session, job, keep, lambda: f"One mask of the whole scan takes {cost_words(session, None)}.")
