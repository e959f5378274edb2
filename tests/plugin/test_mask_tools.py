"""Tools on the mask, places to check, and blind readings, in a viewer without windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from diffseg.editing import fill_between, grow
from napari_diffseg import blind, checking, commands, mask_tools
from napari_diffseg.layerdata import own
from napari_diffseg.mask_edit import CLEANED, INTERPOLATED, PAINTED, origin_of
from napari_diffseg.runs import live
from napari_diffseg.session import Session
from napari_diffseg.sync import attach
from oracle import save_tiny
from tiny_session import write_scan


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def session(viewer: ViewerModel, tmp_path: Path) -> Session:
    """A viewer's session with the small odd scan, a model and an empty mask."""
    session = attach(viewer)
    session.inline = True
    save_tiny(tmp_path / "tiny.safetensors")
    commands.choose_model(session, tmp_path / "tiny.safetensors")
    commands.open_files(session, [write_scan(tmp_path / "scan.nii.gz")])
    commands.promote(session, "empty")
    return session


def layer_of(viewer: ViewerModel, role: str = "mask") -> Any:
    return next(layer for layer in viewer.layers if own(layer).get("role") == role)


def paint(viewer: ViewerModel, box: tuple[slice, ...], label: int = 1) -> None:
    layer = layer_of(viewer)
    where = np.zeros(layer.data.shape, bool)
    where[box] = True
    layer.data_setitem(np.nonzero(where), label)


def text(session: Session) -> str:
    return "" if session.message is None else session.message.text


def test_slices_between_two_painted_ones_are_filled_as_one_step_and_known_as_interpolated(
    viewer: ViewerModel, session: Session
) -> None:
    assert session.mask is not None
    paint(viewer, np.s_[2, 3:9, 3:9])
    paint(viewer, np.s_[6, 5:9, 5:12])
    painted = session.mask.labels.copy()
    assert mask_tools.fill_between(session)
    expected = fill_between(painted, 1, 0, session.mask.case.spacing_mm)
    np.testing.assert_array_equal(session.mask.labels, expected)
    origin = origin_of(session)
    assert set(np.unique(origin[2])) == {0, PAINTED} and set(np.unique(origin[4])) == {0, INTERPOLATED}
    layer_of(viewer).undo()
    np.testing.assert_array_equal(session.mask.labels, painted)


def test_a_corrected_slice_between_them_is_a_key_of_the_next_filling(viewer: ViewerModel, session: Session) -> None:
    assert session.mask is not None
    paint(viewer, np.s_[2, 3:9, 3:9])
    paint(viewer, np.s_[8, 3:9, 3:9])
    mask_tools.fill_between(session)
    paint(viewer, np.s_[5, 3:9, 6:9], 0)
    before = session.mask.labels[5].copy()
    mask_tools.fill_between(session)
    np.testing.assert_array_equal(session.mask.labels[5], before)
    assert session.mask.labels[4].sum() < session.mask.labels[3].sum() < 36


def test_slices_are_those_of_the_plane_that_is_looked_at(viewer: ViewerModel, session: Session) -> None:
    assert session.mask is not None
    commands.set_plane(session, "sagittal")
    paint(viewer, np.s_[3:9, 3:9, 4])
    paint(viewer, np.s_[3:9, 3:9, 8])
    mask_tools.fill_between(session)
    assert session.mask.labels.sum() == 5 * 36


def test_tools_clean_the_chosen_class_only_and_undo_one_by_one(viewer: ViewerModel, session: Session) -> None:
    assert session.mask is not None
    mm = session.mask.case.spacing_mm
    paint(viewer, np.s_[3:7, 3:9, 3:9])
    paint(viewer, np.s_[4, 5, 5], 0)
    paint(viewer, np.s_[10, 10, 10])
    paint(viewer, np.s_[0, 0, 0:3], 2)
    stages = [session.mask.labels.copy()]
    mask_tools.set_tools(session, mm=2.0)
    for tool in (mask_tools.keep_largest, mask_tools.fill_holes, mask_tools.grow, mask_tools.shrink):
        assert tool(session) and "voxels changed" in text(session)
        stages.append(session.mask.labels.copy())
    assert stages[1][10, 10, 10] == 0 and stages[2][4, 5, 5] == 1
    np.testing.assert_array_equal(stages[3], grow(stages[2], 1, 2.0, mm))
    assert all((stage[0, 0, 0:3] == 2).all() for stage in stages)
    assert (origin_of(session)[3:7, 5:7, 5:7] != PAINTED).any() and (origin_of(session) == CLEANED).any()
    for stage in reversed(stages[:-1]):
        layer_of(viewer).undo()
        np.testing.assert_array_equal(session.mask.labels, stage)


def test_strokes_made_while_a_tool_works_win(viewer: ViewerModel, session: Session) -> None:
    assert session.mask is not None
    paint(viewer, np.s_[3:7, 3:9, 3:9])
    session.inline = False
    assert mask_tools.grow(session, 2.0)
    job = live(session).tool
    assert job is not None and not mask_tools.keep_largest(session) and "still at work" in text(session)
    paint(viewer, np.s_[5, 9, 5], 2)  # within reach of what grows
    assert job.wait(20)
    assert session.mask.labels[5, 9, 5] == 2 and session.mask.labels[5, 9, 6] == 1


def test_tools_with_nothing_to_work_on_say_so(viewer: ViewerModel, session: Session) -> None:
    mask_tools.keep_largest(session)
    assert "nothing of this class" in text(session)
    paint(viewer, np.s_[3, 3:9, 3:9])
    mask_tools.fill_between(session)
    assert "nothing to change" in text(session)
    session.mask = None
    assert not mask_tools.grow(session) and "make one editable" in text(session)


# ---- places ----


def test_next_goes_to_the_worst_slice_and_edits_and_ticks_take_places_off_the_list(
    viewer: ViewerModel, session: Session
) -> None:
    assert not checking.next_place(session) and "grow an ensemble" in text(session)
    commands.grow_ensemble(session, 4)
    assert session.maps is not None and session.mask is not None and session.case is not None
    assert checking.next_place(session) and session.queue is not None
    sums = np.where(session.maps.variance >= 0.0475, session.maps.variance, 0).sum(axis=(1, 2))
    worst = int(sums.argmax())
    first = session.queue.places[0]
    assert first.number == worst + session.maps.roi.start[0] and session.looked_at == first.number
    mm3 = float(np.prod(session.case.spacing_mm))
    assert first.disagreement_mm3 == pytest.approx(2 * sums[worst] * mm3, rel=1e-4)  # float32 variances
    count = len(checking.places_left(session))
    checking.tick(session)
    assert len(checking.places_left(session)) == count - 1 and session.place == session.queue.places[1].key
    third = session.queue.places[2]
    before = [p.key for p in checking.places_left(session)]
    there = np.unravel_index(third.where, session.case.grid.shape)
    other = np.where(session.mask.labels[there] == 1, 2, 1)
    assert third.where.size > 40
    layer_of(viewer).data_setitem(tuple(a[:1] for a in there), other[:1])
    assert [p.key for p in checking.places_left(session)] == before, "one voxel is a slip of the brush"
    layer_of(viewer).data_setitem(there, other)
    assert [p.key for p in checking.places_left(session)] == [key for key in before if key != third.key]
    layer_of(viewer).undo()
    assert [p.key for p in checking.places_left(session)] == before
    for _ in range(count):
        checking.tick(session)
    assert checking.places_left(session) == () and "No place is left" in text(session)
    session.queue = replace(session.queue, places=())
    checking.next_place(session)
    assert text(session) == checking.ALL_AGREE, "nothing was looked at, since there was nothing"


def test_another_plane_or_larger_ensemble_makes_another_queue(session: Session) -> None:
    commands.grow_ensemble(session, 3)
    checking.next_place(session)
    assert not checking.stale(session)
    commands.set_plane(session, "coronal")
    assert checking.stale(session)
    checking.next_place(session)
    assert session.queue is not None and session.queue.axis == 1
    checking.look_by(session, "region")
    assert {place.by for place in session.queue.places} == {"region"}
    commands.grow_ensemble(session, 4)
    assert checking.stale(session)


# ---- blind ----


def test_a_blind_reader_sees_no_result_until_the_end_and_both_masks_are_kept(
    viewer: ViewerModel, session: Session
) -> None:
    commands.grow_ensemble(session, 2)
    visible = [layer for layer in viewer.layers if layer.visible and own(layer)["role"] != "mask"]
    shown = session.shown
    assert blind.begin(session) and session.mask is not None
    assert not session.mask.labels.any()
    seen = {own(layer)["role"] for layer in viewer.layers if layer.visible}
    assert seen == {"scan", "mask"} and dict(session.sources()).keys() == {"empty"}
    assert not commands.promote(session, "empty") and not checking.next_place(session)
    layer_of(viewer, "inner").visible = True
    commands.grow_ensemble(session, 4)
    assert "reveal" in text(session) and "4" not in text(session)
    commands.show_mode(session, 1)
    assert {own(layer)["role"] for layer in viewer.layers if layer.visible} == {"scan", "mask"}
    paint(viewer, np.s_[3:7, 3:9, 3:9])
    assert blind.reveal(session)
    assert all(layer.visible for layer in visible if layer in viewer.layers) and session.shown == shown
    assert layer_of(viewer, "mode").visible and layer_of(viewer, "inner").visible
    drawn = session.raters["blind reading"]
    paint(viewer, np.s_[3, 3:9, 3:9], 0)
    assert drawn.sum() == 144 and session.mask.labels.sum() == 108, "the mask goes on without the record"
    assert layer_of(viewer, "rater").visible and "rater:blind reading" in dict(session.sources())
    assert not blind.reveal(session)


def test_a_blind_reading_waits_for_unsaved_edits(viewer: ViewerModel, session: Session) -> None:
    paint(viewer, np.s_[3, 3, 3])
    blind.begin(session)
    assert session.blind is None and "save it" in text(session)
    assert session.mask is not None
    session.mask = replace(session.mask, dirty=False)
    assert blind.begin(session) and session.blind is not None
