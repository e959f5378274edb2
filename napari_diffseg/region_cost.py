"""What the region and the whole scan would cost with the chosen model, in words. No torch, no Qt."""

from __future__ import annotations

from diffseg.card import Card
from diffseg.case import Case
from diffseg.cost import Cost, cost_of
from diffseg.errors import DiffsegError
from diffseg.grid import Box
from napari_diffseg.pace import about, paces
from napari_diffseg.session import Session
from napari_diffseg.state import JobState, Request

# Jobs whose records count network passes.
SAMPLING = ("First mask", "Ensemble")


def cost_words(session: Session, roi: Box | None) -> str:
    """``36 windows, ~4 min`` for one mask of the region, None being the whole scan; empty while nothing can be told."""
    case, model = session.case, session.model
    if case is None or model is None or case.ndim < model.spatial:
        return ""
    try:
        cost = cost_of(case, model, roi)
    except DiffsegError:
        return ""
    took = paces.seconds(model.name, session.settings.device, session.settings.steps, cost.voxels)
    windows = "1 window" if cost.windows == 1 else f"{cost.windows} windows"
    return windows if took is None else f"{windows}, {about(took)}"


def learn(request: Request, card: Card, state: JobState) -> None:
    """Take the pace of a running job to heart: every record of sampling is one network pass over the region."""
    left = state.total - state.done
    if state.name not in SAMPLING or state.state != "running" or left <= 0 or not state.seconds_left:
        return
    cost = _cost(request.case, card, request.roi)
    if cost is not None:
        paces.learn(card.name, request.settings.device, left, cost.voxels, state.seconds_left)


def _cost(case: Case, card: Card, roi: Box | None) -> Cost | None:
    try:
        return cost_of(case, card, roi)
    except DiffsegError:
        return None
