"""What a saliency job yields: records of plain arrays, made in the job's thread from the core's steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np

from diffseg.case import Case
from diffseg.channels import select
from diffseg.checkpoint import Checkpoint, load_checkpoint
from diffseg.devices import describe, release_memory
from diffseg.errors import CaseError
from diffseg.saliency.method import SaliencyStep
from diffseg.saliency.otsu import minmax
from diffseg.saliency.run import SaliencyRun, method_of
from diffseg.saliency_plan import explain_plan
from napari_diffseg.layerdata import files_of_channels
from napari_diffseg.saliency_state import HintModel, HintRequest, SaliencyView

# Maps are brought back to the scan at most this often, and once at the end.
MAP_INTERVAL_S = 0.2
BINS = 128

# Models stay in memory, on the CPU, for as long as they are chosen.
_loaded: WeakKeyDictionary[HintModel, dict[Path, Checkpoint]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class HintUpdate:
    """Progress of a saliency job; each stands for all earlier ones of its job."""

    done: int
    total: int
    view: SaliencyView | None = None
    note: str = ""
    pixels: int = 0


def explanation(request: HintRequest, run_id: int) -> Iterator[HintUpdate]:
    """The map, ever better; the networks leave the device at the end, however it comes.

    Raises:
        DiffsegError: what does not fit, in one sentence.
    """
    run = _run_of(request)
    pixels = int(np.prod(run.prepared.image.shape[-2:]))
    total = run.method.units(run.models) * len(run.numbers) * (run.plan.draws if run.method.random else 1)
    latest = HintUpdate(0, total, pixels=pixels)
    yield latest
    due = 0.0
    try:
        for step in run.explain():
            view = latest.view
            if time.monotonic() >= due or step.done == step.total:
                view = view_of(run, step, request.model.labels, run_id)
                due = time.monotonic() + MAP_INTERVAL_S
            latest = HintUpdate(step.done, step.total, view, step.note or latest.note, pixels)
            yield latest
    finally:
        for checkpoint in filter(None, (run.checkpoint, run.classifier)):
            checkpoint.network.to("cpu")
        if run.device.type != "cpu":
            release_memory()


def view_of(run: SaliencyRun, step: SaliencyStep, labels: tuple[str, ...], run_id: int) -> SaliencyView:
    """A step on the scan's own grid."""
    found = run.on_scan(step.map)
    first = found if run.plan.draws == 1 else run.on_scan(step.first)
    shown = minmax(found)
    counts, _ = np.histogram(shown, bins=BINS, range=(0, 1))
    return SaliencyView(
        run_id=run_id,
        plan=run.record,
        roi=run.prepared.roi,
        done=step.done,
        total=step.total,
        map=found,
        first=first,
        shown=shown,
        low=float(found.min()),
        high=float(found.max()),
        counts=counts,
        passes=step.passes,
        seconds=step.seconds,
        device=describe(run.device),
        unit=run.method.unit,
        labels=labels,
    )


def _run_of(request: HintRequest) -> SaliencyRun:
    """Models loaded, those that the method does not ask left out, and the slices prepared."""
    model, s = request.model, request.settings
    method = method_of(s.method, dict(s.knobs))
    main, guide = model.path, model.classifier
    if "denoiser" not in method.needs and guide is not None:
        main, guide = guide, None
    elif "classifier" not in method.needs:
        guide = None
    checkpoint = _load(model, main)
    classifier = None if guide is None else _load(model, guide)
    case = select(request.case, checkpoint.card.channels)
    if case is None:
        wanted, given = ", ".join(checkpoint.card.channels), ", ".join(request.case.channels)
        raise CaseError(f"{checkpoint.card.title} needs {wanted}, but the scan has {given}: choose other layers.")
    plan = explain_plan(
        (checkpoint.card.name, checkpoint.sha256),
        _files_of(request, case),
        s.method,
        asdict(method),
        None if classifier is None else (classifier.card.name, classifier.sha256),
        draws=s.draws,
        seed=s.seed,
        target=s.target,
        background=s.background,
        threshold=s.threshold,
        component="largest" if s.largest else "all",
        roi=None if request.roi is None else str(request.roi),
        device=request.device,
    )
    return SaliencyRun(plan, case, checkpoint, classifier)


def _files_of(request: HintRequest, case: Case) -> tuple[Path, ...]:
    """The files of the channels that the model looks at; none where the case does not tell them apart."""
    if case is request.case:
        return request.files
    by_channel = dict(zip(request.case.channels, files_of_channels(request.case, request.files), strict=True))
    # Volumes of one file are channels together, so that the file does not tell which one it was.
    told = len(set(by_channel.values())) == len(by_channel) and all(len(files) == 1 for files in by_channel.values())
    return tuple(by_channel[name][0] for name in case.channels) if told else ()


def _load(model: HintModel, path: Path) -> Checkpoint:
    held = _loaded.setdefault(model, {})
    if path not in held:
        held[path] = load_checkpoint(path)
    return held[path]
