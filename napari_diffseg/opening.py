"""Scans, layers and models: opening them, choosing them, and the region they begin with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffseg.case import Case
from diffseg.channels import arrange, doubtful, match
from diffseg.errors import CheckpointError, DiffsegError
from diffseg.grid import Box
from diffseg.io import is_mask, read_scan
from diffseg.io.folders import files_of
from diffseg.zoo import MODEL_SUFFIX, SampleScan, find_model, find_sample, sample_scans, shipped_models
from napari_diffseg.cards import card_of
from napari_diffseg.fromlayers import case_from_layers
from napari_diffseg.jobs import Job
from napari_diffseg.layerdata import Frame, look_at
from napari_diffseg.raters import ReadMasks, join, read_masks
from napari_diffseg.runs import command, start
from napari_diffseg.saliency_commands import hint_models, take_hint_model, task_of
from napari_diffseg.session import Session, unwrapped
from napari_diffseg.state import Message
from napari_diffseg.warming import warm_labels

# Up to this many times the model's window, a scan is segmented whole unless a region is placed.
WHOLE_SCAN = 2.0


@dataclass(frozen=True, eq=False)
class _Read:
    """The one record of reading files: a scan as the model ``suited`` takes it, images left over, and its files."""

    case: Case
    files: tuple[Path, ...]
    rater_files: tuple[Path, ...] = ()
    rest: Case | None = None
    rest_files: tuple[Path, ...] = ()
    suited: Path | None = None
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
def open_any(session: Session, paths: Sequence[Path | str]) -> None:
    """Read what was dropped: images of one scan with its readers' masks, masks for the scan that is open, or a model.

    Images become channels of a fitting model by their names.
    """
    found = tuple(map(Path, paths))
    model = next((path for path in found if path.suffix.lower() == MODEL_SUFFIX), None)
    if model is not None:
        choose_model(session, model)
        found = tuple(path for path in found if path.suffix.lower() != MODEL_SUFFIX)
    if found:
        _open(session, found, (), None, mixed=True)


@command("open")
def open_sample(session: Session, name: str) -> None:
    """Read a shipped sample with its rater masks, and take its model and region."""
    scan = find_sample(name)
    _open(session, scan.paths, scan.raters, scan.channels)


def _open(
    session: Session,
    images: tuple[Path, ...],
    raters: tuple[Path, ...],
    channels: Sequence[str] | None,
    mixed: bool = False,
) -> None:
    """``mixed``: masks may be among the images, and masks alone are for the scan that is open."""
    found: list[_Read | ReadMasks] = []
    before, current = session.case, session.model_path

    def read() -> Iterator[_Read | ReadMasks]:
        given = tuple(file for path in images for file in files_of(path)) if mixed else images
        masks = tuple(path for path in given if mixed and is_mask(path, named=False))
        scans = tuple(path for path in given if path not in masks)
        if masks and not scans and before is not None:
            yield read_masks(before, masks)
            return
        record = _read(scans or given, raters + (masks if scans else ()), channels, current)
        for case in filter(None, (record.case, record.rest)):
            look_at(case)
        warm_labels()
        yield record

    def ended() -> str:
        record = found[-1]
        if isinstance(record, ReadMasks):
            return join(session, record)
        _adopt(session, record)
        return _case_words(session)

    job = Job(f"Opening {images[0].name}" if images else "Opening", read, inline=session.inline)
    start(session, job, found.append, ended)


def _read(
    images: tuple[Path, ...], raters: tuple[Path, ...], channels: Sequence[str] | None, current: Path | None
) -> _Read:
    """A scan with its channels in the order of the model that suits it; those of a sample are left as they are."""
    case, files = read_scan(images, raters, channels)
    path = suited(case, current)
    everything = range(len(files))
    if path is None or channels is not None:
        return _Read(case, _flat(files, everything), raters, suited=path)
    order = [i for i in match(case.channels, card_of(path).channels) if i is not None]
    arranged, rest = arrange(case, card_of(path).channels)
    if arranged is case:
        return _Read(case, _flat(files, everything), raters, suited=path)
    unused = _flat(files, [i for i in everything if i not in order])
    return _Read(arranged, _flat(files, order), raters, rest, unused, path)


def _flat(files: Sequence[tuple[Path, ...]], channels: Sequence[int]) -> tuple[Path, ...]:
    """The files of these channels, each once."""
    return tuple(dict.fromkeys(path for channel in channels for path in files[channel]))


def _case_words(session: Session) -> str:
    case = session.case
    assert case is not None
    voxels, mm = (" × ".join(f"{v:.4g}" for v in values) for values in (case.grid.shape, case.spacing_mm))
    return " ".join([f"{case.name}: {voxels} voxels of {mm} mm.", *case.notes])


@command("open")
def use_layers(session: Session, layers: Sequence[Any], raters: Sequence[Any] = ()) -> None:
    """Make a case of Image layers, one per channel, and Labels layers as raters."""
    layers = [unwrapped(layer) for layer in layers]
    found = case_from_layers(layers, [unwrapped(layer) for layer in raters])
    if found.case is not session.case:
        path = suited(found.case, session.model_path)
        same = session.case is not None and found.case.origin is session.case.origin and not raters
        kept = (tuple(session.raters.items()), session.rater_files) if same else ((), found.rater_files)
        _adopt(session, _Read(found.case, found.files, kept[1], suited=path), found.frame, layers)
        # Other channels of the same images have the same readers.
        session.added_raters = kept[0]
    if found.note:
        session.message = Message(found.note, "info")


def _adopt(session: Session, record: _Read, frame: Frame | None = None, layers: Sequence[Any] = ()) -> None:
    """A new case, shown by ``layers`` already or by new ones, with the model and region that suit it."""
    session.case = record.case
    session.files, session.rater_files, session.frame = record.files, record.rater_files, frame
    if session.view is not None:
        if layers:
            session.view.scan_shown_by(layers)
        else:
            session.view.show_scan(record.rest, record.rest_files)
    sample = _sample_of(record.files)
    shipped = models()
    if sample is not None and sample.model in hint_models():
        take_hint_model(session, hint_models()[sample.model])
        model, case = session.model, record.case
        if model is not None and (
            model.spatial != case.ndim or None in match(case.channels, model.channels, by_order=False)
        ):
            session.model = session.model_path = None  # it was for the scan before
    elif sample is not None and sample.model in shipped:
        _take_model(session, shipped[sample.model])
    elif record.suited is not None:
        _take_model(session, record.suited)
    elif session.model_path in shipped.values():
        session.model = session.model_path = None  # it was for the scan before
    if sample is not None:
        session.roi = sample.roi
    if session.hint_model is None:
        _take_hint_by_name(session, record.case)
    default_region(session)
    if session.view is not None and session.roi is not None:
        session.view.look_into(session.roi)


def _sample_of(files: tuple[Path, ...]) -> SampleScan | None:
    try:
        return next((scan for scan in sample_scans().values() if scan.paths == files), None)
    except DiffsegError:
        return None


def models() -> dict[str, Path]:
    """The shipped models that draw masks, by name; empty where none are installed."""
    try:
        return {name: path for name, path in shipped_models().items() if task_of(path) == "mask"}
    except DiffsegError:
        return {}


def suited(case: Case, current: Path | None) -> Path | None:
    """The model at ``current`` if it takes scans of as many axes, else the first shipped one that takes this one.

    A shipped one is not for a scan that says by its name to be of another contrast.
    """
    shipped = models().values()
    for path in (*(() if current is None else (current,)), *shipped):
        try:
            card = card_of(path)
        except CheckpointError:
            continue
        wanted = path == current or None not in match(case.channels, card.channels)
        # A checkpoint of the person's own is theirs to judge.
        doubt = path in shipped and doubtful(case.channels, card.channels) is not None
        if card.task == "mask" and card.spatial == case.ndim and wanted and not doubt:
            return path
    return None


def _take_hint_by_name(session: Session, case: Case) -> None:
    """A shipped model of hints, if the scan says by its name that it is of that contrast."""
    for path in hint_models().values():
        if None not in match(case.channels, card_of(path).channels, by_order=False):
            take_hint_model(session, path)
            return


def complete(session: Session, layers: Sequence[Any]) -> bool:
    """Take scans that were opened one by one as the channels of the model that waits for them, told by their names."""
    case, model = session.case, session.model
    if case is None or model is None or len(case.channels) >= len(model.channels) or session.blockers("open"):
        return False
    index = [i for i in match([la.name for la in layers], model.channels, by_order=False) if i is not None]
    return len(index) == len(model.channels) and use_layers(session, [layers[i] for i in index])


@command("choose")
def choose_model(session: Session, model: str | Path) -> None:
    """Take a shipped model by its name, or a checkpoint by its path, with its own default settings.

    One that knows image-level labels only goes to the page Saliency.
    """
    path = find_model(model)
    if card_of(path).task != "mask":
        take_hint_model(session, path)
        session.message = Message(f"{card_of(path).title} draws no masks: it is on the page Saliency.")
        return
    _take_model(session, path)
    default_region(session)


def _take_model(session: Session, path: Path) -> None:
    card = card_of(path)
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
