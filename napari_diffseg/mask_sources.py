"""Where an editable mask starts: an answer of the model, a reader, any Labels layer, nothing. No torch, no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diffseg.card import ClassInfo
from diffseg.case import Case, Labels
from diffseg.errors import CaseError
from diffseg.outputs import full
from diffseg.saliency_plan import ExplainPlan
from diffseg.sparse import copied
from napari_diffseg.fromlayers import labels_on
from napari_diffseg.layerdata import CLASS_COLORS, Frame, frame_of, layer_name
from napari_diffseg.mask_starts import start_of
from napari_diffseg.saliency_layers import HINT_COLOR
from napari_diffseg.session import Session
from napari_diffseg.state import MaskState

if TYPE_CHECKING:
    from diffseg.plan import SamplePlan
    from napari_diffseg.saliency_state import SaliencyView
    from napari_diffseg.sampling import Opened

# Of the sources, those that are no result of the run in ``session.plan``.
PLANLESS = ("empty", "rater:", "layer:")
# Those of a run that may not have come to its end, so that ``session.plan`` does not know it yet.
LINES = ("trajectory", "branch:")


def begin(session: Session, source: Any, opened: Opened | None, frame: Frame | None = None) -> MaskState:
    """A new mask on the grid of the case from ``source``: a key of ``session.sources()`` or a Labels layer.

    Raises:
        CaseError: nothing of that name to start from, or a layer on another grid.
    """
    case = session.case
    assert case is not None
    labels, words_ = _start(session, case, source, opened, frame or frame_of(case))
    if labels.max(initial=0) > 255:
        raise CaseError(f"{words_} has labels above 255, which no model here has; renumber them first.")
    classes = session.model.classes if session.model is not None else ()
    made = isinstance(source, str) and not source.startswith(PLANLESS)
    plan: SamplePlan | ExplainPlan | None = session.plan if made else None
    if isinstance(source, str) and source.startswith(LINES):
        plan = _plan_of_line(session, opened)
    if source == "saliency" and session.cut is not None:
        classes, plan = hint_classes(session.cut.view), session.cut.view.plan
    name, painted = layer_name(case, "mask"), labels.astype(np.uint8, copy=False)
    named = named_classes(classes, int(painted.max(initial=0)))
    begun = start_of(session, source)
    return MaskState(painted, words_, name, case, named, plan, start=copied(painted), begun=begun)


def _plan_of_line(session: Session, opened: Opened | None) -> SamplePlan | None:
    """The plan of the trajectory and its branches, None once another run has taken its place."""
    request = None if session.trajectory is None else session.trajectory.request
    same = opened is not None and request is not None and opened.request.same_run(request)
    return opened.plan if same and opened is not None else None


def words_of(session: Session, source: Any) -> str:
    """A source in words, also one that is not there any more."""
    return dict(session.sources()).get(source, source) if isinstance(source, str) else f"layer {source.name!r}"


def named_classes(classes: Sequence[ClassInfo], highest: int) -> tuple[ClassInfo, ...]:
    """The classes, and one for each label up to ``highest`` beyond them, so that none is without a colour."""
    known = list(classes) or [ClassInfo("background", "#000000")]
    if len(known) <= highest:
        known += [ClassInfo(f"label {k}", CLASS_COLORS[(k - 1) % 7]) for k in range(len(known), highest + 1)]
    return tuple(known) if len(known) > 1 else tuple(classes)


def _start(session: Session, case: Case, source: Any, opened: Opened | None, frame: Frame) -> tuple[Labels, str]:
    if not isinstance(source, str):
        return labels_on(case, frame, source), words_of(session, source)
    names = dict(session.sources())
    if source not in names:
        raise CaseError(f"There is no {source!r} to start from now; choose one of: {', '.join(names)}.")
    words, shape = names[source], case.grid.shape
    kind, _, which = source.partition(":")
    if kind == "empty":
        return np.zeros(shape, np.uint8), words
    if kind == "rater":
        return copied(session.raters[which]), words
    if kind == "layer":
        return labels_on(case, frame, _layer(session, which)), words
    if kind == "trajectory":
        from napari_diffseg.sampling import mask_of  # torch is there already

        if opened is None or opened.last is None:
            raise CaseError("The run behind this trajectory was closed; press Play again.")
        return full(mask_of(opened, opened.last), opened.run.prepared.roi, shape), words
    if kind == "branch":
        view = next(b.view for b in session.branches if b.letter == which)
        assert view.mask is not None and view.roi is not None
        return full(view.mask, view.roi, shape), words
    if kind == "saliency":
        assert session.cut is not None
        return full(session.cut.mask, session.cut.view.roi, shape), words
    return _of_ensemble(session, kind, which, shape), words


def _of_ensemble(session: Session, kind: str, which: str, shape: tuple[int, ...]) -> Labels:
    snapshot, maps = session.snapshot, session.maps
    assert snapshot is not None and maps is not None
    if kind in ("inner", "outer"):
        part = getattr(maps, kind)
    elif kind == "mean":
        part = snapshot.means().argmax(axis=0).astype(np.uint8)
    elif kind == "mode":
        part = snapshot.member(next(m.medoid for m in session.modes if m.index == int(which)))
    else:
        part = snapshot.member(int(which))
    return full(part, maps.roi, shape)


def _layer(session: Session, name: str) -> Any:
    layer = None if session.view is None else session.view.labels_named(name)
    if layer is None:
        raise CaseError(f"There is no Labels layer {name!r} any more; choose another start.")
    return layer


def hint_classes(view: SaliencyView) -> tuple[ClassInfo, ...]:
    """The class that was looked for, and everything else."""
    number = view.plan.target
    name = view.labels[number] if number < len(view.labels) else f"class {number}"
    return ClassInfo("background", "#000000"), ClassInfo(name, HINT_COLOR)
