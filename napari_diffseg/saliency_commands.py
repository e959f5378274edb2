"""The verbs of saliency: which models look for what, running them, and the threshold of their map."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffseg.errors import CheckpointError, DiffsegError
from diffseg.metrics.overlap import dice
from diffseg.saliency_plan import recommended
from diffseg.zoo import MODEL_SUFFIX, find_model, shipped_models
from napari_diffseg.cards import card_of
from napari_diffseg.jobs import Job, Outcome
from napari_diffseg.pace import about, paces
from napari_diffseg.runs import command, live, start
from napari_diffseg.saliency_state import GUIDE, HintModel, HintRequest, HintSettings, SaliencyCut, SaliencyView
from napari_diffseg.session import Session
from napari_diffseg.state import Message

if TYPE_CHECKING:
    from napari_diffseg.saliency_job import HintUpdate

# Methods in the order in which one is chosen where the card recommends none.
BEST = ("cg-cdm", "cdm", "grad-cam")
# Maps up to this many voxels are cut at once, larger ones in a thread.
SMALL = 300_000

_run_ids = itertools.count(1)


# ---- models and settings ----


def hint_models() -> dict[str, Path]:
    """Shipped models that know image-level labels only, by name: image models, and classifiers without one."""
    try:
        shipped = shipped_models()
    except DiffsegError:
        return {}
    found = {}
    for name, path in shipped.items():
        beside = shipped.get(name.removesuffix(GUIDE)) if name.endswith(GUIDE) else None
        if task_of(path) in ("image", "classifier") and beside is None:
            found[name] = path
    return found


def task_of(path: Path) -> str:
    """The task on a model's card, empty where it has none that can be read."""
    try:
        return card_of(path).task
    except CheckpointError:
        return ""


def hint_model(path: Path) -> HintModel:
    """The model at ``path`` with the classifier beside it.

    Raises:
        CheckpointError: no card, a model that draws masks, or one that takes volumes.
    """
    card = card_of(path)
    if card.task == "mask":
        raise CheckpointError(f"{card.title} draws masks; a saliency map needs an image model or a classifier.")
    if card.spatial != 2:
        raise CheckpointError(f"{card.title} takes volumes, but saliency needs a slice model; choose another model.")
    beside = path.with_name(f"{path.stem}{GUIDE}{MODEL_SUFFIX}")
    if card.task == "classifier" or not beside.is_file():
        return HintModel(path, card)
    return HintModel(path, card, beside, card_of(beside))


@command("choose")
def choose_hint_model(session: Session, model: str | Path) -> None:
    """Take a shipped model by its name, or a checkpoint by its path, with the settings that its card recommends."""
    take_hint_model(session, find_model(model))


def take_hint_model(session: Session, path: Path) -> None:
    """See ``choose_hint_model``; for callers that are commands themselves."""
    if session.hint_model is not None and session.hint_model.path == path:
        return  # choosing the same again costs no results
    found = hint_model(path)
    session.hint_model = found
    session.hints = _with_method(session.hints, found, first_method(found))


def first_method(model: HintModel) -> str:
    """The method to begin with: the card's first recommendation that can run, else the best known."""
    from diffseg.saliency import SALIENCY  # torch

    wanted = [*model.card.saliency, *(model.classifier_card.saliency if model.classifier_card else ()), *BEST]
    fit = (name for name in wanted if name in SALIENCY and set(SALIENCY[name].needs) <= model.has)
    return next(fit, BEST[0])


def _with_method(settings: HintSettings, model: HintModel, method: str) -> HintSettings:
    knobs, draws = recommended(model.card, method)
    if not knobs and model.classifier_card is not None:
        knobs, draws = recommended(model.classifier_card, method)
    return replace(settings, method=method, knobs=knobs, draws=draws, target=1, background=0)


@command("choose")
def set_method(session: Session, method: str) -> None:
    """Another method, with the settings that the model's card recommends for it."""
    if session.hint_model is not None and method != session.hints.method:
        session.hints = _with_method(session.hints, session.hint_model, method)


@command("choose")
def set_hints(session: Session, /, **changes: Any) -> None:
    """Change fields of ``session.hints``; those of the threshold act at once, others from the next run on."""
    before = session.hints
    session.hints = replace(before, **changes)
    if (before.threshold, before.largest) != (session.hints.threshold, session.hints.largest):
        own = session.cut is not None and session.cut.own and before.threshold == session.hints.threshold
        _cut(session, session.cut.line if own and session.cut is not None else None)


# ---- the run ----


def hint_request(session: Session) -> HintRequest:
    """The map that would be made now; only for a session with a scan and a model."""
    assert session.case is not None and session.hint_model is not None
    device = session.settings.device
    return HintRequest(session.case, session.hint_model, session.hints, session.roi, device, session.files)


def cost_words(session: Session) -> str:
    """What the map would cost: ``40 passes over 1 slice, ~12 s``; a sentence on settings that do not fit."""
    from diffseg.channels import select
    from diffseg.saliency.cost import hint_cost  # torch
    from diffseg.saliency.run import method_of

    if session.case is None or session.hint_model is None or session.blockers("hint")[:1]:
        return ""
    model, s = session.hint_model, session.hints
    try:
        case = select(session.case, model.card.channels) or session.case
        method = method_of(s.method, dict(s.knobs))
        cost = hint_cost(method, case, session.roi, model.card, model.classifier_card, s.draws)
    except DiffsegError as error:
        return str(error)
    took = paces.seconds(model.card.name, session.settings.device, cost.passes, cost.pixels, s.method)
    where = "1 slice" if cost.slices == 1 else f"{cost.slices} slices"
    time = about(took) if took is not None else "the time is known after the first run"
    return f"{cost.passes:,} forward passes for {where}, {time}"


@command("hint")
def explain(session: Session) -> None:
    """Make the saliency map of the region, slice by slice in a volume."""
    request, run_id = hint_request(session), next(_run_ids)
    if session.view is not None and session.roi is not None:
        session.view.look_into(session.roi)

    def source() -> Iterator[HintUpdate]:
        from napari_diffseg.saliency_job import explanation  # torch starts in the job's thread

        return explanation(request, run_id)

    job = Job("Saliency", source, inline=session.inline)
    job.finished.connect(functools.partial(_ended, session))
    start(session, job, functools.partial(_show, session, request), functools.partial(_words, session))


def _show(session: Session, request: HintRequest, update: HintUpdate) -> None:
    """Shows a record, unless scan or model changed under it."""
    view = update.view
    if session.case is not request.case or session.hint_model is not request.model:
        return
    if view is not None and view is not session.saliency:
        cut, session.saliency = session.cut, view
        if view.whole or view.map.size <= SMALL:
            moved = cut is not None and cut.own and cut.view.run_id == view.run_id
            _cut(session, cut.line if cut is not None and moved else None)
        if view.whole:
            _learn(request, view, update.pixels)
    if update.note and (session.message is None or session.message.text != update.note):
        session.message = Message(update.note, "warning")


def _learn(request: HintRequest, view: SaliencyView, pixels: int) -> None:
    name, method = request.model.card.name, request.settings.method
    paces.learn(name, request.device, view.passes, pixels, view.seconds, method)
    paces.keep()


def _ended(session: Session, outcome: Outcome) -> None:
    """A map that was stopped half-way is cut as well."""
    stale = session.cut is None or session.cut.view is not session.saliency
    if outcome.kind != "done" and stale:
        _cut(session, None)


def _words(session: Session) -> str:
    return used_words(session.saliency) if session.saliency is not None else "Finished."


def used_words(view: SaliencyView) -> str:
    """``Saliency took 12 s and 40 forward passes on CPU, 2 threads.``"""
    passes = f"{view.passes:,} forward pass{'es' * (view.passes != 1)}"
    return f"Saliency took {view.seconds:.2g} s and {passes} on {view.device}."


# ---- the threshold ----


@command()
def set_threshold(session: Session, value: float | None) -> None:
    """Cut the map at ``value`` in [0, 1] in all slices; None goes back to the rule."""
    _cut(session, value)


def _cut(session: Session, value: float | None) -> None:
    """Cuts small maps at once; large ones in a thread, of which only the newest answer counts."""
    view, case = session.saliency, session.case
    if view is None or case is None:
        return
    rule, largest = session.hints.threshold, session.hints.largest
    whole = dict(session.raters)
    if session.mask is not None and session.mask.case is case:
        whole[MASK] = session.mask.labels
    others = {name: labels[view.roi.slices] for name, labels in whole.items()}

    def cut() -> SaliencyCut:
        return _cut_of(view, rule, value, largest, case.grid.voxel_ml, others)

    if view.map.size <= SMALL or session.inline:
        session.cut = cut()
        return
    held = live(session)
    if held.cutting is not None:
        held.cutting.cancel()
    found: list[_Cut] = []
    job = held.cutting = Job("Threshold", lambda: iter([_Cut(cut())]))
    job.progressed.connect(found.append)
    job.finished.connect(functools.partial(_has_cut, session, job, found))
    job.start()


MASK = "mask being edited"


class _Cut:
    """The one record of cutting a large map."""

    done = total = 1

    def __init__(self, cut: SaliencyCut) -> None:
        self.cut = cut


def _has_cut(session: Session, job: Job, found: list[_Cut], outcome: Outcome) -> None:
    held = live(session)
    if held.cutting is not job:
        return
    held.cutting = None
    if outcome.kind == "failed":
        session.message = Message(outcome.sentence, "error", outcome.details)
    if found and found[-1].cut.view is session.saliency:
        session.cut = found[-1].cut


def _cut_of(
    view: SaliencyView,
    rule: str,
    value: float | None,
    largest: bool,
    voxel_ml: float,
    others: dict[str, np.ndarray],
) -> SaliencyCut:
    from diffseg.saliency.otsu import cut_map  # the map is there, and so is torch

    own = None if value is None else view.from_unit(value)
    cut = cut_map(view.map, view.first, rule, own, largest)
    mask = cut.mask.astype(np.uint8)
    thresholds = np.array([view.to_unit(t) for t in cut.thresholds])
    scores = tuple((name, dice(labels, mask)) for name, labels in others.items())
    size = float(mask.sum()) * voxel_ml
    return SaliencyCut(view, mask, thresholds, own is not None, size, rule, own, largest, scores)
