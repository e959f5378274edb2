"""What a model or a tool writes into the mask that a person corrects, and who wrote each voxel. No torch, no Qt.

Everything written here is one step of napari's own undo, and the array of the layer stays the same one. A person's
stroke is never noted down: a voxel is theirs when it differs from what the start, or the last edit of a model or tool
that is still in effect, left there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import CaseError
from diffseg.grid import Box

if TYPE_CHECKING:
    from napari_diffseg.session import Session
    from napari_diffseg.state import MaskState

Kind = Literal["redrawn", "cleaned", "interpolated"]

# Values of ``origin_of``.
STARTED, REDRAWN, PAINTED, INTERPOLATED, CLEANED = range(5)
ORIGINS: dict[str, int] = {"redrawn": REDRAWN, "interpolated": INTERPOLATED, "cleaned": CLEANED}
ORIGIN_WORDS = ("as it started", "redrawn", "painted or erased", "interpolated", "cleaned up")


@dataclass(frozen=True, eq=False, repr=False)
class ModelEdit:
    """One edit that no person drew: ``values`` uint8 at the flat indices ``where`` of the mask (C order), both 1D.

    ``words`` says what it was. ``step`` is the object by which napari's history knows it, None without a viewer;
    ``in_effect`` is False while it is undone.
    """

    kind: Kind
    words: str
    where: NDArray[np.intp]
    values: NDArray[np.uint8]
    step: Any = None
    in_effect: bool = True


def apply(session: Session, box: Box, labels: NDArray[Any], kind: Kind, words: str) -> int:
    """Write ``labels (*box)`` into the mask where they differ from it, as one undo step; returns the number of voxels
    that changed. The mask then counts as edited, unless nothing changed.

    Raises:
        CaseError: no mask, a box that leaves it, labels of another shape or outside 0 to 255.
    """
    mask = session.mask
    if mask is None:
        raise CaseError("There is no mask to change: make one editable first.")
    _refuse(mask, box, labels)
    return apply_at(session, *_changes(mask.labels, box, labels), kind, words)


def apply_at(session: Session, where: NDArray[np.intp], values: NDArray[np.uint8], kind: Kind, words: str) -> int:
    """As ``apply`` for ``values`` at flat indices ``where`` of the mask, each given once and each a change."""
    assert session.mask is not None
    if where.size == 0:
        return 0
    if session.view is None:
        session.mask.labels[np.unravel_index(where, session.mask.labels.shape)] = values
        step = None
    else:
        step = session.view.edit_mask(where, values)
    mask = session.mask
    edits = (*mask.edits, ModelEdit(kind, words, where, values, step))
    session.mask = replace(mask, dirty=True, edited=True, revision=mask.revision + 1, edits=edits)
    return int(where.size)


def _refuse(mask: MaskState, box: Box, labels: NDArray[Any]) -> None:
    shape = mask.labels.shape
    inside = box.ndim == len(shape) and min(box.start) >= 0 and (np.array(box.stop) <= shape).all()
    if not inside or labels.shape != box.shape:
        raise CaseError(f"Labels of shape {labels.shape} do not fit the box {box} of the mask {shape}; cut both alike.")
    if labels.min(initial=0) < 0 or labels.max(initial=0) > 255:
        raise CaseError(f"Labels run from {labels.min()} to {labels.max()}, a mask holds 0 to 255; renumber them.")


def _changes(mask: NDArray[np.uint8], box: Box, labels: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Flat indices and new values of the voxels that differ."""
    inner = np.flatnonzero(mask[box.slices] != labels)
    places = np.unravel_index(inner, box.shape)
    where = np.ravel_multi_index([p + a for p, a in zip(places, box.start, strict=True)], mask.shape)
    return np.asarray(where, np.intp), labels.reshape(-1)[inner].astype(np.uint8)


def origin_of(session: Session) -> NDArray[np.uint8]:
    """Who wrote each voxel of the mask, ``(*S)`` uint8: one of STARTED, REDRAWN, PAINTED, INTERPOLATED, CLEANED.

    PAINTED is where labels differ from what the start or the last edit in effect wrote, and so also where a person
    erased; a stroke that changed nothing does not count. All STARTED for a mask whose start is not known.

    Raises:
        CaseError: no mask.
    """
    if session.mask is None:
        raise CaseError("There is no mask: make one editable first.")
    return origin_in(session.mask)


def origin_in(mask: MaskState) -> NDArray[np.uint8]:
    """As ``origin_of``, for any mask."""
    if mask.start is None:
        origin = np.zeros(mask.labels.shape, np.uint8)
    else:
        origin = np.not_equal(mask.start, mask.labels).view(np.uint8)
        np.multiply(origin, np.uint8(PAINTED), out=origin)
    flat = origin.reshape(-1)
    for edit in mask.edits:
        if edit.in_effect:
            flat[edit.where] = np.where(at(mask.labels, edit.where) == edit.values, ORIGINS[edit.kind], PAINTED)
    return origin


def at(labels: NDArray[np.uint8], where: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Labels at flat indices, also of an array that does not lie in one piece."""
    return np.asarray(labels.reshape(-1)[where] if labels.flags.c_contiguous else labels[_places(labels, where)])


def _places(labels: NDArray[np.uint8], where: NDArray[np.intp]) -> tuple[NDArray[np.intp], ...]:
    return np.unravel_index(where, labels.shape)


def machine_of(mask: MaskState) -> NDArray[np.uint8]:
    """The mask ``(*S)`` uint8 without the person's strokes, in a new array unless nothing but the start is there."""
    start = mask.labels if mask.start is None else mask.start
    if not any(edit.in_effect for edit in mask.edits):
        return start
    written = start.copy()
    flat = written.reshape(-1)
    for edit in mask.edits:
        if edit.in_effect:
            flat[edit.where] = edit.values
    return written


def touched(mask: MaskState, where: NDArray[np.intp]) -> NDArray[np.bool_]:
    """For flat indices of the mask, whether the label there is another one than at the start; False if that is
    not known.
    """
    if mask.start is None:
        return np.zeros(where.shape, bool)
    return np.asarray(mask.start.reshape(-1)[where] != at(mask.labels, where))


def revised(edits: tuple[ModelEdit, ...], undo: Any, redo: Any) -> tuple[ModelEdit, ...]:
    """The edits after something happened to napari's histories: what lies in ``redo`` is not in effect, what was
    undone and then left ``redo`` is gone for good, and what the bounded ``undo`` has let go stays in effect.
    """
    undone = {id(atom) for item in redo for atom in item}
    done = {id(atom) for item in undo for atom in item}
    found = []
    for edit in edits:
        known = edit.step is not None and id(edit.step) in done | undone
        effect = id(edit.step) not in undone if known else edit.in_effect
        if known or effect:
            found.append(edit if effect == edit.in_effect else replace(edit, in_effect=effect))
    same = len(found) == len(edits) and all(a is b for a, b in zip(found, edits, strict=True))
    return edits if same else tuple(found)
