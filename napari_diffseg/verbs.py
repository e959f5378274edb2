"""What each verb needs before it can act, and the sentences for what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffseg.channels import doubtful, select
from diffseg.trajectory import last_branch

if TYPE_CHECKING:
    from napari_diffseg.session import Session

# What each verb needs, in the order in which a person would provide it.
VERBS: dict[str, tuple[str, ...]] = {
    "open": ("idle",),
    "choose": ("idle",),
    "region": ("case", "idle"),
    "play": ("case", "model", "fit", "idle"),
    "step": ("case", "model", "fit", "idle or paused"),
    "grow": ("case", "model", "fit", "idle"),
    "pause": ("running",),
    "resume": ("paused",),
    "cancel": ("busy",),
    "reset": ("trajectory",),
    "branch": ("trajectory", "branch point", "idle or paused"),
    "remove branch": ("idle or paused",),
    "export": ("trajectory", "idle"),
    "hint": ("case", "hint model", "hint fit", "idle"),
    "compare": ("case", "raters", "snapshot", "idle"),
    "look": ("case",),
    "promote": ("case", "not blind"),
    "save": ("mask",),
    "edit mask": ("mask to correct",),
    "redraw": ("case", "not blind", "model", "fit", "mask to correct", "strokes", "idle"),
    "answers": ("mask to correct", "answers"),
    "check": ("case", "not blind", "masks that differ"),
    "blind": ("case", "not blind"),
    "reveal": ("blind",),
}


def missing(session: Session, wanted: str) -> str:
    """The sentence for an unmet need, or an empty string."""
    state = session.job.state
    checks = {
        "case": (session.case is not None, "Open a scan first: drop a NIfTI file here, or try a sample."),
        "model": (session.model is not None, "Choose a model first."),
        "hint model": (session.hint_model is not None, "Choose a model for the saliency map first."),
        "idle": (state == "idle", f"{session.job.name or 'A run'} is not finished: wait for it, or stop it."),
        "idle or paused": (
            state in ("idle", "paused"),
            f"{session.job.name} is running: pause or stop it first.",
        ),
        "running": (state == "running", "Nothing is running."),
        "paused": (state == "paused", "Nothing is paused."),
        "busy": (state in ("running", "paused"), "Nothing is running."),
        "trajectory": (session.trajectory is not None, "There is no trajectory yet: press Play."),
        "raters": (bool(session.raters), "This scan has no masks of readers: add them on the page Case."),
        "snapshot": (session.snapshot is not None, "There are no masks yet: press Grow."),
        "mask to correct": (session.mask is not None, "There is no mask to correct yet: make one editable first."),
        "strokes": (
            session.mask is not None and session.mask.edited,
            "Nothing was painted or erased yet: correct a part of the mask first.",
        ),
        "answers": (_answers(session), "There is nothing to choose from: redraw around your strokes first."),
        "masks that differ": (
            session.snapshot is not None and len(session.snapshot) > 1,
            "Places to check are where masks differ: grow an ensemble first.",
        ),
        "blind": (session.blind is not None and session.blind.hiding, "No blind reading is going on."),
        "not blind": (
            session.blind is None or not session.blind.hiding,
            "A blind reading is going on: reveal the model's results first.",
        ),
        "mask": (session.mask is not None, "There is no mask to save yet: make one editable first."),
    }
    if wanted == "fit":
        return misfit(session)
    if wanted == "branch point":
        return _no_branch(session)
    if wanted == "hint fit":
        return _hint_misfit(session)
    met, sentence = checks[wanted]
    return "" if met else sentence


def _answers(session: Session) -> bool:
    state, mask = session.redraw, session.mask
    return state is not None and mask is not None and state.labels is mask.labels and state.proposal is not None


def misfit(session: Session) -> str:
    """Why the chosen model cannot draw on this scan, or an empty string."""
    case, model = session.case, session.model
    if case is None or model is None:
        return ""
    if case.ndim != model.spatial:
        return f"{model.title} segments {model.spatial}D scans, this one is {case.ndim}D: choose another model."
    if len(case.channels) != len(model.channels):
        wanted, given = ", ".join(model.channels), ", ".join(case.channels)
        return (
            f"{model.title} expects {len(model.channels)} channels ({wanted}); the scan has "
            f"{len(case.channels)} ({given}): choose its layers on the Case page."
        )
    return ""


def hints_only(session: Session) -> bool:
    """Whether the scan is there for a saliency map: no chosen model draws masks on it."""
    case, hint = session.case, session.hint_model
    if hint is None or (case is not None and doubtful(case.channels, hint.card.channels) is not None):
        return False
    return session.model is None or bool(misfit(session))


def doubt(session: Session) -> str:
    """Why the masks of the chosen model may mean nothing on this scan, which is no reason not to draw them."""
    case, model = session.case, session.model
    found = doubtful(case.channels, model.channels) if case is not None and model is not None else None
    if found is None or model is None:
        return ""
    name, contrast, channel = found
    return f"{name!r} is {contrast} by its name, and {model.title} learned from {channel}: its masks may mean nothing."


def _hint_misfit(session: Session) -> str:
    case, model = session.case, session.hint_model
    if case is None or model is None:
        return ""
    if select(case, model.card.channels) is None:
        wanted, given = ", ".join(model.card.channels), ", ".join(case.channels)
        return f"{model.card.title} needs {wanted}; the scan has {given}: choose its layers on the Case page."
    return model.unmet(session.hints.method)


def _no_branch(session: Session) -> str:
    view = session.trajectory
    if view is None:
        return ""
    last = last_branch(view.steps)
    if last < 0:
        return f"A run of {view.steps} steps adds no noise on its way: take more steps."
    if session.step > view.done:
        return f"The trajectory is at step {view.number(view.done)}: press Play, or go back."
    if view.number(session.step) > last:
        return f"No noise is added after step {view.number(session.step)}: go back to step {last} or before."
    return ""
