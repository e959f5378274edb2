"""The verbs: what a person can do, as plain functions of a Session.

Buttons, menu entries and tests call the same functions. Each checks ``session.blockers`` and never raises for
something the person did: it leaves one sentence in ``session.message`` instead.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffseg.errors import CheckpointError
from diffseg.grid import Box
from napari_diffseg.ensemble_commands import settled_already
from napari_diffseg.exporting import export_trajectory
from napari_diffseg.jobs import Job
from napari_diffseg.opening import centre_on, choose_model, models, open_files, open_sample, use_layers
from napari_diffseg.runs import command, live, shutdown, start, take
from napari_diffseg.saving import keep_other, replace_other, save_mask
from napari_diffseg.session import Session
from napari_diffseg.starting import dismiss_start, keep_and_start, promote, select_class
from napari_diffseg.state import MAP_NAMES, Message, Plane, SampleSettings
from napari_diffseg.transport import (
    advance,
    branch_here,
    cancel,
    ensemble_words,
    lock_seed,
    pause,
    play,
    remove_branch,
    reset,
    resume,
    set_follow,
    set_side_by_side,
    show_step,
    step_back,
    step_once,
)

if TYPE_CHECKING:
    from napari_diffseg.sampling import Update

__all__ = [
    "advance",
    "branch_here",
    "cancel",
    "choose_model",
    "dismiss_start",
    "export_trajectory",
    "keep_other",
    "keep_and_start",
    "lock_seed",
    "models",
    "open_files",
    "open_sample",
    "pause",
    "play",
    "promote",
    "remove_branch",
    "replace_other",
    "reset",
    "resume",
    "save_mask",
    "select_class",
    "set_follow",
    "set_side_by_side",
    "show_step",
    "shutdown",
    "step_back",
    "step_once",
    "use_layers",
]


@command()
def set_settings(session: Session, /, **changes: Any) -> None:
    """Change fields of ``session.settings``; they count from the next run on."""
    wanted: SampleSettings = replace(session.settings, **changes)
    session.settings = wanted


# ---- settings, region and view ----


@command("region")
def place_region(session: Session, box: Box | None) -> None:
    """Segment this box of the scan, cut to it; None for the whole scan."""
    assert session.case is not None
    session.roi = None if box is None else box.clipped(session.case.grid.shape)


@command("region")
def centre_region(session: Session, centre: Sequence[float] | None = None) -> None:
    """The model's window around a voxel, the centre of the view unless given."""
    case, window = session.case, session.window()
    if case is None or window is None:
        raise CheckpointError("Choose a model first: the region takes its size from the model's window.")
    centre_on(session, case, window, centre)


@command()
def show_region_box(session: Session, on: bool) -> None:
    """Show the region as a box that can be dragged; a whole scan gets one of the model's window first."""
    if on and session.roi is None and session.window() is not None:
        centre_region(session)
    session.region_box = on and session.case is not None
    if session.region_box and session.view is not None and session.roi is not None:
        session.view.look_into(session.roi)


@command()
def look_at(session: Session, voxel: Sequence[float] | None = None) -> None:
    """Move to the slices through a voxel of the scan, the middle of the region unless given."""
    if voxel is None and session.roi is not None:
        voxel = [(a + b - 1) // 2 for a, b in zip(session.roi.start, session.roi.stop, strict=True)]
    if voxel is not None and session.view is not None:
        session.view.look_at(voxel)


@command()
def set_plane(session: Session, plane: Plane) -> None:
    """Look along another axis, or in 3D."""
    session.plane = plane


@command()
def show_map(session: Session, name: str, on: bool) -> None:
    """Switch one of the ensemble's layers."""
    if name not in MAP_NAMES:
        raise KeyError(name)
    session.shown = session.shown | {name} if on else session.shown - {name}


@command()
def show_mode(session: Session, index: int | None) -> None:
    """Show the mode of this ``index`` (from 1) as a layer; None for no mode."""
    session.mode = index


# ---- runs ----


@command("grow")
def grow_ensemble(session: Session, members: int | None = None) -> None:
    """Draw masks until there are ``members`` (the settings' number), keeping those there are."""
    if members is not None:
        set_settings(session, members=members)
    target, request, opened = session.settings.members, session.request(), live(session).opened
    choices, drawn = session.ensemble, live(session).drawn
    if settled_already(session, request):
        return
    if opened is not None and opened.request.same_run(request) and len(opened.ensemble) >= target:
        session.message = Message(f"There are {len(opened.ensemble)} masks already: ask for more members.")
        return

    def source() -> Iterator[Update]:
        from napari_diffseg.sampling import growth  # torch starts in the job's thread

        return growth(request, opened, target, choices, drawn)

    job = Job("Ensemble", source, inline=session.inline)
    start(session, job, functools.partial(take, session), functools.partial(ensemble_words, session))
