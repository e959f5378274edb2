"""The trajectory and its branches as a file: an animation or a strip of steps."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffseg.errors import CaseError
from napari_diffseg.jobs import Job
from napari_diffseg.layerdata import display_limits, line_color, line_shades
from napari_diffseg.runs import command, start
from napari_diffseg.session import Session
from napari_diffseg.state import TrajectoryView
from napari_diffseg.transport import lines

if TYPE_CHECKING:
    from diffseg.card import ClassInfo
    from diffseg.case import Case
    from diffseg.film import Drawn, Film

# Suffix to the words of the menu.
FORMATS = {".gif": "GIF animation", ".mp4": "MP4 video", ".png": "PNG strip of steps"}


@command("export")
def export_trajectory(session: Session, path: Path | str) -> None:
    """Write scan, x_t and x̂0 of every line at the slice on display, with captions; the suffix chooses the format."""
    from diffseg.film import refuse_missing_encoder, write_film  # brings imageio

    target, case, view = Path(path), session.case, session.trajectory
    assert case is not None and view is not None
    if target.suffix.lower() not in FORMATS:
        raise CaseError(
            f"A trajectory is exported as {', '.join(FORMATS)}; {target.name!r} has none of these suffixes."
        )
    if target.suffix.lower() == ".mp4":
        refuse_missing_encoder()
    model = session.model
    name, classes = ("model", ()) if model is None else (model.name, model.classes)
    shown, cut = lines(session), cut_on_display(session, view)

    def source() -> Iterator[Drawn]:
        return write_film(film_of(case, name, classes, shown, cut), target)

    job = Job("Export", source, inline=session.inline)
    start(session, job, _nothing, functools.partial(_words, target, view.done))


def proposed_name(session: Session, suffix: str) -> str:
    """A file name that tells model and seed, and nothing of the patient."""
    model, view = session.model, session.trajectory
    return f"{model.name if model else 'trajectory'}-seed-{view.seed if view else 0}{suffix}"


def cut_on_display(session: Session, view: TrajectoryView) -> tuple[int, int] | None:
    """``(axis, index)`` of the slice of the window that the viewer shows; None where it shows none of it."""
    sliced = session.view.sliced() if session.view is not None else []
    for axis, voxel in sliced:
        index = round((voxel - view.offset[axis]) / view.step[axis])
        if 0 <= index < view.x.shape[1 + axis]:
            return axis, index
    return None


def film_of(
    case: Case,
    model: str,
    classes: tuple[ClassInfo, ...],
    shown: tuple[tuple[str, TrajectoryView], ...],
    cut: tuple[int, int] | None,
) -> Film:
    """The film of these lines at ``cut``, or where the newest mask is largest along the first axis."""
    from diffseg.film import Film, Line

    first = shown[0][1]
    flat = first.x.ndim == 3
    if cut is None and not flat:
        cut = 0, int((first.x0[first.done] > 0).sum(axis=(1, 2)).argmax())
    place: tuple[Any, ...] = (slice(None), *(() if cut is None else (slice(None),) * cut[0] + (cut[1],)))
    spacing = np.array(first.step) * case.spacing_mm
    tall, wide = spacing if cut is None else np.delete(spacing, cut[0])
    rows = tuple(
        Line(
            f"{letter} · seed {view.seed}",
            view.x[place],
            view.x0[place],
            line_color(letter),
            tuple(line_shades(letter, classes)),
        )
        for letter, view in shown
    )
    numbers = first.numbers or tuple(range(first.total + 1))
    scan = scan_behind(case, first, cut)
    return Film(model, first.seed, scan, (float(tall), float(wide)), rows, numbers, first.times, first.done)


def scan_behind(case: Case, view: TrajectoryView, cut: tuple[int, int] | None) -> np.ndarray:
    """The scan at the voxels of a slice of the window, in [0, 1] over the range in which it is displayed."""
    low, high = display_limits(case.image[0])
    where = []
    for axis, size in enumerate(view.x.shape[1:]):
        index = np.rint(view.offset[axis] + view.step[axis] * np.arange(size)).astype(int)
        where.append(np.clip(index, 0, case.image.shape[1 + axis] - 1))
    if cut is not None:
        where[cut[0]] = where[cut[0]][cut[1] : cut[1] + 1]
    values = case.image[0][np.ix_(*where)].astype(np.float32)
    if cut is not None:
        values = values.squeeze(axis=cut[0])
    return np.clip((values - low) / (high - low), 0, 1)


def _nothing(record: Drawn) -> None:
    """Progress is all there is to see."""


def _words(target: Path, steps: int) -> str:
    return f"Exported {target.name}: {steps} steps and the starting noise."
