"""Edits of models and tools: one undo step each, and who wrote a voxel, through undo and redo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

from diffseg.errors import CaseError
from diffseg.grid import Box
from napari_diffseg import commands
from napari_diffseg.mask_edit import CLEANED, INTERPOLATED, PAINTED, REDRAWN, STARTED, apply, origin_of
from napari_diffseg.session import Session
from napari_diffseg.sync import attach
from plugin_cases import case_of, scan_file

BOX = Box((2, 3, 4), (5, 7, 9))
INSIDE, OUTSIDE = (3, 4, 5), (0, 0, 0)


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def session(viewer: ViewerModel, tmp_path: Path) -> Session:
    """A viewer's session with a scan of (18, 24, 20) and an empty mask."""
    session = attach(viewer)
    session.inline = True
    commands.open_files(session, [scan_file(tmp_path / "scan.nii.gz")])
    commands.promote(session, "empty")
    return session


def ones() -> np.ndarray:
    return np.ones(BOX.shape, np.uint8)


def index(*voxels: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(axis) for axis in zip(*voxels, strict=True))


def layer_of(viewer: ViewerModel) -> object:
    return viewer.layers.selection.active


def test_an_edit_is_one_undo_step_in_the_array_of_the_layer(viewer: ViewerModel, session: Session) -> None:
    assert session.mask is not None
    layer, array, first = layer_of(viewer), session.mask.labels, session.mask.revision
    assert apply(session, BOX, ones(), "redrawn", "redrawn") == 60
    assert session.mask.labels is array is layer.data and array.sum() == 60 and array[BOX.slices].all()
    assert session.mask.dirty and session.mask.edited and session.mask.revision == first + 1
    layer.undo()
    assert not array.any() and session.mask.revision == first + 2
    layer.redo()
    assert array.sum() == 60
    assert apply(session, BOX, ones(), "redrawn", "again") == 0 and session.mask.revision == first + 3


def test_origin_follows_strokes_edits_undo_and_redo(viewer: ViewerModel, session: Session) -> None:
    layer = layer_of(viewer)
    layer.data_setitem(index(INSIDE, OUTSIDE), 2)
    origin = origin_of(session)
    assert origin[INSIDE] == origin[OUTSIDE] == PAINTED and np.count_nonzero(origin) == 2
    apply(session, BOX, ones(), "cleaned", "over the stroke")
    assert origin_of(session)[INSIDE] == CLEANED and origin_of(session)[OUTSIDE] == PAINTED
    layer.undo()
    assert origin_of(session)[INSIDE] == PAINTED and np.count_nonzero(origin_of(session)) == 2
    layer.redo()
    assert np.count_nonzero(origin_of(session) == CLEANED) == 60
    layer.data_setitem(index(INSIDE), 0)
    assert origin_of(session)[INSIDE] == PAINTED, "erased, although it is again what the start was"


def test_erasing_all_that_an_edit_wrote_is_a_persons_work_also_after_scrolling(
    viewer: ViewerModel, session: Session
) -> None:
    layer = layer_of(viewer)
    apply(session, Box((3, 3, 3), (4, 4, 4)), np.ones((1, 1, 1)), "interpolated", "one voxel")
    assert origin_of(session)[3, 3, 3] == INTERPOLATED
    layer.data_setitem(index((3, 3, 3)), 0)
    viewer.dims.set_current_step(0, 3)
    assert origin_of(session)[3, 3, 3] == PAINTED


def test_what_was_undone_and_painted_over_is_gone_for_good(viewer: ViewerModel, session: Session) -> None:
    layer = layer_of(viewer)
    apply(session, BOX, ones(), "redrawn", "")
    layer.undo()
    layer.data_setitem(index(INSIDE), 1)
    assert session.mask is not None and session.mask.edits == ()
    assert origin_of(session)[INSIDE] == PAINTED and np.count_nonzero(origin_of(session)) == 1
    layer.undo()
    assert (origin_of(session) == STARTED).all()


def test_edits_older_than_the_history_of_napari_stay_in_effect(viewer: ViewerModel, session: Session) -> None:
    layer = layer_of(viewer)
    apply(session, BOX, ones(), "redrawn", "")
    for number in range(120):
        layer.data_setitem(index(OUTSIDE), 1 + number % 2)
    for _ in range(120):
        layer.undo()
    assert np.count_nonzero(origin_of(session) == REDRAWN) == 60


def test_without_a_viewer_the_mask_itself_is_written() -> None:
    session = Session(case=case_of((6, 8, 10)))
    with pytest.raises(CaseError, match="no mask"):
        apply(session, BOX, ones(), "redrawn", "")
    commands.promote(session, "empty")
    assert session.mask is not None
    assert apply(session, Box((2, 3, 4), (5, 7, 9)), ones(), "redrawn", "") == 60
    assert session.mask.labels.sum() == 60 and (origin_of(session) == REDRAWN).sum() == 60
    with pytest.raises(CaseError, match="do not fit"):
        apply(session, BOX, np.ones((2, 2, 2), np.uint8), "redrawn", "")
    with pytest.raises(CaseError, match="0 to 255"):
        apply(session, BOX, ones() * np.int16(300), "redrawn", "")
