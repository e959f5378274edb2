"""The verbs of tools on the mask: each works on the chosen class off the GUI thread and ends as one undo step.

Strokes that a person makes meanwhile win: a voxel that changed since the tool looked stays as it is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg import editing
from diffseg.errors import CaseError
from diffseg.grid import Box
from napari_diffseg import mask_edit, masks
from napari_diffseg.editing_state import ToolSettings
from napari_diffseg.jobs import Job, Outcome
from napari_diffseg.mask_edit import Kind
from napari_diffseg.runs import command, live
from napari_diffseg.session import Session
from napari_diffseg.state import MaskState, Message

# Labels of a box of the mask, and that box, to new labels of it.
Tool = Callable[[NDArray[np.uint8], Box], NDArray[Any]]


@dataclass(frozen=True, eq=False)
class _Changed:
    """The one record of a tool: flat indices into the mask, and the labels there before and after it."""

    where: NDArray[np.intp]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    done: int = 1
    total: int = 1


@command()
def set_tools(session: Session, /, **changes: Any) -> None:
    """Change fields of ``session.tools``."""
    wanted: ToolSettings = replace(session.tools, **changes)
    session.tools = wanted


@command("edit mask")
def fill_between(session: Session) -> None:
    """Fill the slices between those that the person painted, along the axis that is looked along; where fewer than
    two were painted, the gaps between slices that hold the class.
    """
    mask, axis = session.mask, viewed_axis(session)
    assert mask is not None
    if axis is None:
        raise CaseError("A flat scan has no slices to fill between.")
    mm, protect = mask.case.spacing_mm, session.tools.protect

    def fill(labels: NDArray[np.uint8], box: Box) -> NDArray[Any]:
        keys = painted_slices(mask, box, axis)
        return editing.fill_between(labels, mask.selected, axis, mm, keys if len(keys) > 1 else None, protect)

    _work(session, "Fill between slices", "interpolated", fill)


@command("edit mask")
def keep_largest(session: Session) -> None:
    """Erase all of the class but its largest connected part."""
    label = _label(session)
    _work(session, "Keep largest part", "cleaned", lambda labels, box: editing.keep_largest(labels, label))


@command("edit mask")
def fill_holes(session: Session) -> None:
    """Fill what the class encloses in the slices that are looked at."""
    label, axis, protect = _label(session), viewed_axis(session), session.tools.protect
    _work(session, "Fill holes", "cleaned", lambda labels, box: editing.fill_holes(labels, label, axis, protect))


@command("edit mask")
def grow(session: Session, mm: float | None = None) -> None:
    """Move the outline of the class outwards by ``mm``, unless given as set on the page; inwards if negative."""
    assert session.mask is not None
    by, label, protect = session.tools.mm if mm is None else mm, _label(session), session.tools.protect
    spacing = session.mask.case.spacing_mm
    margin = 1 + math.ceil(max(by, 0.0) / min(spacing))
    words = f"{'Grow' if by > 0 else 'Shrink'} by {abs(by):g} mm"
    _work(session, words, "cleaned", lambda labels, box: editing.grow(labels, label, by, spacing, protect), margin)


@command("edit mask")
def shrink(session: Session) -> None:
    """Move the outline of the class inwards, as far as set on the page."""
    grow(session, -session.tools.mm)


@command("edit mask")
def show_origin(session: Session, on: bool) -> None:
    """Show who wrote which voxel of the mask as a layer, or take it away."""
    session.origin_shown = on


def viewed_axis(session: Session) -> int | None:
    """The axis of the scan that is looked along, the first one in 3D; None for a flat scan."""
    if session.case is None or session.case.ndim < 3:
        return None
    hidden = [] if session.view is None else session.view.sliced()
    return hidden[0][0] if hidden else 0


def painted_slices(mask: MaskState, box: Box, axis: int) -> list[int]:
    """Slices of ``box`` along ``axis`` in which a person painted or erased the chosen class."""
    if mask.start is None:
        return []
    machine, labels = mask_edit.machine_of(mask)[box.slices], mask.labels[box.slices]
    drawn = (machine != labels) & ((labels == mask.selected) | (machine == mask.selected))
    return [int(k) for k in np.flatnonzero(drawn.any(axis=tuple(a for a in range(drawn.ndim) if a != axis)))]


def _label(session: Session) -> int:
    assert session.mask is not None
    return session.mask.selected


def _work(session: Session, words: str, kind: Kind, tool: Tool, margin: int = 1) -> None:
    held, mask = live(session), session.mask
    assert mask is not None
    if held.tool is not None:
        raise CaseError(f"{held.tool.state.name} is still at work: wait a moment.")
    found: list[_Changed] = []

    def work() -> Iterator[_Changed]:
        changed = _changed(mask.labels, mask.selected, tool, margin)
        found.append(changed)
        yield changed

    held.tool = Job(words, work, inline=session.inline)
    held.tool.finished.connect(functools.partial(_finish, session, mask, words, kind, found))
    held.tool.start()


def _changed(mask: NDArray[np.uint8], label: int, tool: Tool, margin: int) -> _Changed:
    """What the tool would change, found in the box around the class."""
    box = editing.around(mask, label, margin)
    if box is None:
        raise CaseError("The mask has nothing of this class: paint some, or choose another class.")
    before = mask[box.slices].copy()
    after = tool(before, box)
    inner = np.flatnonzero(before != after)
    places = np.unravel_index(inner, box.shape)
    where = np.ravel_multi_index([p + a for p, a in zip(places, box.start, strict=True)], mask.shape)
    return _Changed(np.asarray(where, np.intp), before.reshape(-1)[inner], after.reshape(-1)[inner])


def _finish(
    session: Session, begun: MaskState, words: str, kind: Kind, found: list[_Changed], outcome: Outcome
) -> None:
    live(session).tool = None
    mask = session.mask
    if outcome.kind != "done":
        session.message = Message(outcome.sentence, "error", outcome.details)
        return
    if mask is None or mask.labels is not begun.labels:
        session.message = Message(f"{words} came too late: the mask is another one by now.", "warning")
        return
    changed = found[-1]
    same = mask_edit.at(mask.labels, changed.where) == changed.before
    count = mask_edit.apply_at(session, changed.where[same], changed.after[same], kind, words)
    size = masks.size(count * mask.case.grid.voxel_ml, mask.case.ndim)
    told = f"{count:,} voxels changed, {size}; Ctrl+Z on the mask layer takes it back" if count else "nothing to change"
    session.message = Message(f"{words}: {told}.")
