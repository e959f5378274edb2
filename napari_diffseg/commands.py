"""The verbs: what a person can do, as plain functions of a Session.

Buttons, menu entries and tests call the same functions. Each checks ``session.blockers`` and never raises for
something the person did: it leaves one sentence in ``session.message`` instead.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffseg.card import read_card
from diffseg.case import Case
from diffseg.errors import CaseError, CheckpointError, DiffsegError
from diffseg.grid import Box
from diffseg.io import read_case
from diffseg.zoo import find_model, find_sample, shipped_models
from napari_diffseg import masks
from napari_diffseg.fromlayers import case_from_layers
from napari_diffseg.jobs import Job, Outcome
from napari_diffseg.layerdata import Frame
from napari_diffseg.runs import command, job_of, live, shutdown, start, take
from napari_diffseg.session import MAP_NAMES, MaskState, Message, Plane, SampleSettings, Session, unwrapped

if TYPE_CHECKING:
    from napari_diffseg.sampling import Update

# Up to this many times the model's window, a scan is segmented whole unless a region is placed.
WHOLE_SCAN = 2.0
# Numbers of trajectories, unique in the process so that a layer names its run.
_run_ids = itertools.count(1)

__all__ = ["shutdown"]


# ---- scans and models ----


@dataclass(frozen=True)
class _Written:
    """The one record of saving."""

    done: int = 1
    total: int = 1


@dataclass(frozen=True, eq=False)
class _Read:
    """The one record of reading files."""

    case: Case
    done: int = 1
    total: int = 1


@command("open")
def open_files(
    session: Session,
    images: Sequence[Path | str],
    raters: Sequence[Path | str] = (),
    channels: Sequence[str] | None = None,
) -> None:
    """Read one scan (a file per channel) with its rater masks, and make it the case."""
    _open(session, tuple(map(Path, images)), tuple(map(Path, raters)), channels)


@command("open")
def open_sample(session: Session, name: str) -> None:
    """Read a shipped sample with its model and region."""
    scan = find_sample(name)

    def then() -> None:
        choose_model(session, scan.model)
        if scan.roi is not None:
            place_region(session, scan.roi)

    _open(session, scan.paths, (), scan.channels, then)


def _open(
    session: Session,
    images: tuple[Path, ...],
    raters: tuple[Path, ...],
    channels: Sequence[str] | None,
    then: Callable[[], None] | None = None,
) -> None:
    def read() -> Iterator[_Read]:
        yield _Read(read_case(images, raters, channels))

    def show(record: _Read) -> None:
        _adopt(session, record.case, images, raters)
        if then is not None:
            then()

    job = Job(f"Opening {images[0].name}" if images else "Opening", read, inline=session.inline)
    start(session, job, show, lambda: _case_words(session))


def _case_words(session: Session) -> str:
    case = session.case
    assert case is not None
    voxels, mm = (" × ".join(f"{v:.4g}" for v in values) for values in (case.grid.shape, case.spacing_mm))
    return f"{case.name}: {voxels} voxels of {mm} mm."


@command("open")
def use_layers(session: Session, layers: Sequence[Any], raters: Sequence[Any] = ()) -> None:
    """Make a case of Image layers, one per channel, and Labels layers as raters."""
    found = case_from_layers([unwrapped(la) for la in layers], [unwrapped(la) for la in raters])
    if found.case is not session.case:
        _adopt(session, found.case, found.files, found.rater_files, found.frame)
    if found.note:
        session.message = Message(found.note, "info")


def _adopt(
    session: Session,
    case: Case,
    files: tuple[Path, ...],
    raters: tuple[Path, ...],
    frame: Frame | None = None,
) -> None:
    session.case = case
    session.files, session.rater_files, session.frame = files, raters, frame
    if session.model is None or session.model.spatial != case.ndim:
        for path in _fitting_models(case):
            choose_model(session, path)
            break
    _default_region(session)


def models() -> dict[str, Path]:
    """The shipped models by name; empty where none are installed."""
    try:
        return shipped_models()
    except DiffsegError:
        return {}


def _fitting_models(case: Case) -> Iterator[Path]:
    for path in models().values():
        try:
            card, _ = read_card(path)
        except CheckpointError:
            continue
        if card.spatial == case.ndim and len(card.channels) == len(case.channels):
            yield path


@command("choose")
def choose_model(session: Session, model: str | Path) -> None:
    """Take a shipped model by its name, or a checkpoint by its path, with its own default settings."""
    path = find_model(model)
    card, _ = read_card(path)
    if path == session.model_path and card == session.model:
        return  # choosing the same again costs no results
    session.model_path = path
    session.model = card
    session.settings = replace(
        session.settings, sampler=card.sampler, sampler_settings=dict(card.sampler_settings), steps=card.steps
    )
    _default_region(session)


@command()
def set_settings(session: Session, /, **changes: Any) -> None:
    """Change fields of ``session.settings``; they count from the next run on."""
    wanted: SampleSettings = replace(session.settings, **changes)
    session.settings = wanted


# ---- region and view ----


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
    if centre is None and session.view is not None:
        centre = session.view.centre_voxel()
    middle = centre if centre is not None else [(n - 1) / 2 for n in case.grid.shape]
    session.roi = Box.centred(middle, window, case.grid.shape)


def _default_region(session: Session) -> None:
    """Scans much larger than the model's window get a region, smaller ones none."""
    case, window = session.case, session.window()
    if case is None or window is None or session.roi is not None:
        return
    if any(n > WHOLE_SCAN * w for n, w in zip(case.grid.shape, window, strict=True)):
        centre_region(session)


@command()
def show_region_box(session: Session, on: bool) -> None:
    """Show the region as a box that can be dragged; a whole scan gets one of the model's window first."""
    if on and session.roi is None and session.window() is not None:
        centre_region(session)
    session.region_box = on and session.case is not None


@command()
def set_plane(session: Session, plane: Plane) -> None:
    """Look along another axis, or in 3D."""
    session.plane = plane


@command()
def set_follow(session: Session, on: bool) -> None:
    """Let the view move along with the run, or leave it where it is."""
    session.follow = on
    if on and session.trajectory is not None:
        session.step = session.trajectory.done


@command()
def show_step(session: Session, step: int) -> None:
    """Show this slot of the trajectory, as far as it has come."""
    if session.trajectory is not None:
        session.step = min(max(step, 0), session.trajectory.done)


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


@command("play")
def play(session: Session) -> None:
    """Run from noise to the first mask."""
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
    """Drop the trajectory; a run in progress stops."""
    job = live(session).job
    if job is not None:
        job.cancel()
    if session.trajectory is not None:
        live(session).dropped = session.trajectory.run_id
    session.trajectory = None
    session.step = 0


@command("grow")
def grow_ensemble(session: Session, members: int | None = None) -> None:
    """Draw masks until there are ``members`` (the settings' number), keeping those there are."""
    if members is not None:
        set_settings(session, members=members)
    target, request, opened = session.settings.members, session.request(), live(session).opened
    if opened is not None and opened.request.same_run(request) and len(opened.ensemble) >= target:
        session.message = Message(f"There are {len(opened.ensemble)} masks already: ask for more members.")
        return

    def source() -> Iterator[Update]:
        from napari_diffseg.sampling import growth  # torch starts in the job's thread

        return growth(request, opened, target)

    job = Job("Ensemble", source, inline=session.inline)
    start(session, job, functools.partial(take, session), functools.partial(_ensemble_words, session))


def _start_trajectory(session: Session, steps: int | None) -> None:
    request, opened, run_id = session.request(), live(session).opened, next(_run_ids)

    def source() -> Iterator[Update]:
        from napari_diffseg.sampling import first_mask  # torch starts in the job's thread

        return first_mask(request, opened, run_id)

    job = Job("First mask", source, inline=session.inline)
    start(session, job, functools.partial(take, session), functools.partial(_ensemble_words, session), steps)


def _ensemble_words(session: Session) -> str:
    if session.snapshot is None:
        return "Finished."
    n, modes = len(session.snapshot), session.modes
    if n == 1:
        return f"One mask: {masks.ml(modes[0].volume_ml)}."
    kinds = "one mode" if len(modes) == 1 else f"{len(modes)} modes"
    return f"{n} masks in {kinds}, the most frequent of {masks.ml(modes[0].volume_ml)}."


# ---- the mask ----


@command("promote")
def promote(session: Session, source: Any) -> None:
    """Make an editable mask of ``source``: a key of ``session.sources()``, or a Labels layer.

    An earlier mask stays in the viewer as it is; it is only no longer the one that ``save_mask`` saves.
    """
    held = live(session)
    session.mask = masks.begin(session, unwrapped(source), held.opened, session.frame)
    session.message = Message(f"Editable mask made from {session.mask.source}: {masks.words(session.mask)}.")


@command("save")
def select_class(session: Session, label: int) -> None:
    """Paint with this class."""
    assert session.mask is not None
    session.mask = replace(session.mask, selected=label)


@command("save")
def save_mask(session: Session, path: Path | str) -> None:
    """Write the mask on the scan's own grid and ``<name>.plan.json`` beside it, even while a run goes on."""
    held, mask = live(session), session.mask
    assert mask is not None
    target = masks.target(Path(path), session)
    labels = mask.labels.copy()
    if held.saving is not None:
        raise CaseError("The mask is being saved already: wait a moment.")

    def write() -> Iterator[_Written]:
        masks.write(target, labels, mask)
        yield _Written()

    job = held.saving = Job("Saving the mask", write, inline=session.inline)
    job.finished.connect(functools.partial(_saved, session, mask, labels, target))
    job.start()


def _saved(session: Session, before: MaskState, labels: Any, target: Path, outcome: Outcome) -> None:
    live(session).saving = None
    if outcome.kind != "done":
        session.message = Message(outcome.sentence, "error", outcome.details)
        return
    mask = session.mask
    if mask is not None and mask.name == before.name and mask.labels is before.labels:
        dirty = not np.array_equal(labels, mask.labels)
        session.mask = replace(mask, path=target, saved_at=datetime.now(), dirty=dirty)
    session.message = Message(f"Saved {target} ({masks.words(replace(before, labels=labels))}).")
