"""Scans, layers and models: opening them, choosing them, and the region they begin with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffseg.card import read_card
from diffseg.case import Case
from diffseg.errors import CheckpointError, DiffsegError
from diffseg.grid import Box
from diffseg.io import read_case
from diffseg.zoo import SampleScan, find_model, find_sample, sample_scans, shipped_models
from napari_diffseg.fromlayers import case_from_layers
from napari_diffseg.jobs import Job
from napari_diffseg.layerdata import Frame
from napari_diffseg.runs import command, start
from napari_diffseg.session import Session, unwrapped
from napari_diffseg.state import Message

# Up to this many times the model's window, a scan is segmented whole unless a region is placed.
WHOLE_SCAN = 2.0


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
    """Read a shipped sample with its rater masks, and take its model and region."""
    scan = find_sample(name)
    _open(session, scan.paths, scan.raters, scan.channels)


def _open(session: Session, images: tuple[Path, ...], raters: tuple[Path, ...], channels: Sequence[str] | None) -> None:
    found: list[Case] = []

    def read() -> Iterator[_Read]:
        yield _Read(read_case(images, raters, channels))

    def keep(record: _Read) -> None:
        found.append(record.case)

    def ended() -> str:
        _adopt(session, found[0], images, raters)
        return _case_words(session)

    job = Job(f"Opening {images[0].name}" if images else "Opening", read, inline=session.inline)
    start(session, job, keep, ended)


def _case_words(session: Session) -> str:
    case = session.case
    assert case is not None
    voxels, mm = (" × ".join(f"{v:.4g}" for v in values) for values in (case.grid.shape, case.spacing_mm))
    return f"{case.name}: {voxels} voxels of {mm} mm."


@command("open")
def use_layers(session: Session, layers: Sequence[Any], raters: Sequence[Any] = ()) -> None:
    """Make a case of Image layers, one per channel, and Labels layers as raters."""
    layers = [unwrapped(layer) for layer in layers]
    found = case_from_layers(layers, [unwrapped(layer) for layer in raters])
    if found.case is not session.case:
        _adopt(session, found.case, found.files, found.rater_files, found.frame, layers)
    if found.note:
        session.message = Message(found.note, "info")


def _adopt(
    session: Session,
    case: Case,
    files: tuple[Path, ...],
    raters: tuple[Path, ...],
    frame: Frame | None = None,
    layers: Sequence[Any] = (),
) -> None:
    """A new case, shown by ``layers`` already or by new ones, with the model and region that suit it."""
    session.case = case
    session.files, session.rater_files, session.frame = files, raters, frame
    if session.view is not None:
        if layers:
            session.view.scan_shown_by(layers)
        else:
            session.view.show_scan()
    sample = _sample_of(files)
    if sample is not None:
        _take_model(session, find_model(sample.model))
        session.roi = sample.roi
    elif session.model is None or session.model.spatial != case.ndim:
        for path in _fitting_models(case):
            _take_model(session, path)
            break
    default_region(session)
    if session.view is not None and session.roi is not None:
        session.view.look_into(session.roi)


def _sample_of(files: tuple[Path, ...]) -> SampleScan | None:
    try:
        return next((scan for scan in sample_scans().values() if scan.paths == files), None)
    except DiffsegError:
        return None


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
    _take_model(session, find_model(model))
    default_region(session)


def _take_model(session: Session, path: Path) -> None:
    card, _ = read_card(path)
    if path == session.model_path and card == session.model:
        return  # choosing the same again costs no results
    session.model_path = path
    session.model = card
    session.settings = replace(
        session.settings, sampler=card.sampler, sampler_settings=dict(card.sampler_settings), steps=card.steps
    )


def default_region(session: Session) -> None:
    """Scans much larger than the model's window get a region, smaller ones none."""
    case, window = session.case, session.window()
    if case is None or window is None or session.roi is not None:
        return
    if any(n > WHOLE_SCAN * w for n, w in zip(case.grid.shape, window, strict=True)):
        centre_on(session, case, window, None)


def centre_on(session: Session, case: Case, window: tuple[int, ...], centre: Sequence[float] | None) -> None:
    if centre is None and session.view is not None:
        centre = session.view.centre_voxel()
    middle = centre if centre is not None else [(n - 1) / 2 for n in case.grid.shape]
    session.roi = Box.centred(middle, window, case.grid.shape)
