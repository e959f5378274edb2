"""What redrawing yields. Made in the job's thread from the core's records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from diffseg.ensemble import Snapshot
from diffseg.grid import Box
from diffseg.redraw import RedrawPlan, redraw
from diffseg.strokes import Alternative, Strokes
from napari_diffseg.mask_edit import machine_of
from napari_diffseg.sampling import Drawn, Opened, open_run
from napari_diffseg.state import MaskState, Request


@dataclass(frozen=True, eq=False)
class Question:
    """What was on screen when a person asked: ``labels`` is a copy of the mask, ``answered`` flat indices of strokes
    that were followed before; ``snapshot`` lies on ``roi``.
    """

    request: Request
    mask: MaskState
    labels: np.ndarray
    answered: np.ndarray
    snapshot: Snapshot | None
    roi: Box | None
    seed: int


@dataclass(frozen=True, eq=False)
class Redrawn:
    """Progress; each record stands for all earlier ones."""

    done: int
    total: int
    opened: Opened
    box: Box
    asked: np.ndarray
    strokes: np.ndarray
    alternatives: tuple[Alternative, ...]
    note: str = ""


def redrawing(asked: Question, opened: Opened | None, drawn: Drawn | None) -> Iterator[Redrawn]:
    """Alternatives as they are found; ``opened`` serves if it holds the model and the scan, whatever its settings.

    Raises:
        PlanError: nothing was painted. DiffsegError: what does not fit, in one sentence.
    """
    strokes = strokes_of(asked)
    seen = np.flatnonzero(strokes.fixed)
    request = asked.request
    if opened is None or opened.request.case is not request.case or opened.request.model_path != request.model_path:
        opened = open_run(request, None, drawn)
    plan = RedrawPlan(seed=asked.seed)
    for r in redraw(opened.run, strokes, asked.snapshot, asked.roi, plan):
        part = strokes.now[r.box.slices]
        yield Redrawn(r.done, r.total, opened, r.box, part, seen, r.alternatives, r.note)


def strokes_of(asked: Question) -> Strokes:
    """The person's strokes in the mask; those answered before hold the borders where they are."""
    now, machine = asked.labels, machine_of(asked.mask)
    before = np.array(machine)
    before.reshape(-1)[asked.answered] = now.reshape(-1)[asked.answered]
    return Strokes(now, before, now != machine)
