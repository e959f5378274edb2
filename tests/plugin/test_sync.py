"""Session and viewer stay alike, whatever the person does to the layers; and nothing disturbs the person."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from napari.utils._proxies import PublicOnlyProxy
from pytestqt.qtbot import QtBot

from diffseg.grid import Box
from diffseg.nets.unet import UNet
from napari_diffseg import blind, commands, layerdata, mask_edit, opening, raters, reader, runs, samples, sync
from napari_diffseg.layerdata import own
from napari_diffseg.runs import live
from napari_diffseg.session import Session, session_for
from oracle import save_tiny, tiny_card
from plugin_cases import gradient, scan_file
from scans import save_nifti


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def prepared(viewer: Any, model: Path, folder: Path, inline: bool = True) -> Session:
    session = sync.attach(viewer)
    session.inline = True
    commands.choose_model(session, model)
    commands.open_files(session, [scan_file(folder / "T1.nii.gz", (36, 40, 44))])
    commands.set_settings(session, device="cpu")
    session.inline = inline
    return session


@pytest.fixture
def session(viewer: ViewerModel, model: Path, tmp_path: Path) -> Session:
    """A scan of 44 x 40 x 36 voxels in display order, with a region of 16 in the middle."""
    return prepared(viewer, model, tmp_path)


def role(viewer: Any, name: str) -> Any:
    found = [layer for layer in viewer.layers if own(layer).get("role") == name]
    assert len(found) <= 1, f"{len(found)} layers of role {name}"
    return found[0] if found else None


def settled(qtbot: QtBot, session: Session) -> None:
    """Until nothing runs and every layer is there."""
    view = session.view
    assert view is not None
    qtbot.waitUntil(lambda: session.job.state == "idle" and not view.waiting, timeout=30_000)


def roles(viewer: Any) -> list[str]:
    return [own(layer).get("role", "?") for layer in viewer.layers]


def view_of(viewer: Any) -> tuple[Any, ...]:
    camera = viewer.scene.camera
    return camera.center, camera.zoom, camera.angles, set(viewer.layers.selection), viewer.layers.selection.active


# ---- showing ----


def test_a_scan_opened_by_a_command_is_shown_and_looked_at(viewer: ViewerModel, session: Session) -> None:
    assert roles(viewer) == ["scan"] and session.roi == Box((14, 12, 10), (30, 28, 26))
    assert viewer.layers[0].name == "T1"


def test_a_run_adds_its_layers_and_moves_nothing_but_its_own_slider(viewer: ViewerModel, session: Session) -> None:
    viewer.dims.set_current_step(0, 20)
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0.0, 11.0, 13.0), 2.5
    viewer.layers[0].contrast_limits = (5.0, 90.0)
    before = view_of(viewer)
    session.side_by_side = False
    commands.play(session)
    commands.grow_ensemble(session, 3)
    assert roles(viewer) == ["scan", "x", "x0", "inner", "outer", "members"]
    assert view_of(viewer) == before and viewer.layers[0].contrast_limits == [5.0, 90.0]
    assert viewer.dims.current_step[1:] == (20, 20, 18)[0:1] + viewer.dims.current_step[2:]
    assert viewer.dims.axis_labels == ("step", "z", "y", "x")
    commands.reset(session)
    assert view_of(viewer) == before and viewer.dims.current_step[0] == 20


def test_layers_of_one_viewer_agree_on_units_so_that_the_scale_bar_stays_in_mm(
    viewer: ViewerModel, session: Session
) -> None:
    commands.grow_ensemble(session, 2)
    commands.play(session)
    commands.promote(session, "mean")
    for layer in viewer.layers:
        assert [str(u) for u in layer.units[-3:]] == ["millimeter"] * 3
    assert [str(u) for u in viewer.layers.extent.units[-3:]] == ["millimeter"] * 3


def test_the_view_follows_the_run_only_where_it_is_asked_to(viewer: ViewerModel, session: Session) -> None:
    commands.step_once(session)
    assert viewer.dims.current_step[0] == 1
    commands.step_once(session)
    assert viewer.dims.current_step[0] == 2
    viewer.dims.set_current_step(0, 0)
    assert session.step == 0 and not session.follow, "looking back is not undone by the next step"
    commands.resume(session)
    assert viewer.dims.current_step[0] == 0
    commands.set_follow(session, True)
    assert viewer.dims.current_step[0] == 3
    commands.show_step(session, 1)
    assert viewer.dims.current_step[0] == 1


def test_steps_not_yet_computed_are_out_of_reach(viewer: ViewerModel, session: Session) -> None:
    commands.step_once(session)
    viewer.dims.set_current_step(0, 3)
    assert viewer.dims.current_step[0] == 1 == session.step


def test_steps_that_nobody_looks_at_cost_no_drawing(viewer: ViewerModel, session: Session) -> None:
    commands.step_once(session)
    layer = role(viewer, "x0")
    drawn: list[int] = []
    layer.events.set_data.connect(lambda event: drawn.append(viewer.dims.current_step[0]))
    commands.set_follow(session, False)
    commands.resume(session)
    assert drawn == []
    assert layer.data is session.trajectory.x0  # type: ignore[union-attr]


def test_scan_and_trajectory_lie_side_by_side_until_there_are_results(viewer: ViewerModel, session: Session) -> None:
    commands.step_once(session)
    assert viewer.canvas.grid.enabled and role(viewer, "x").blending == "opaque"
    commands.resume(session)
    assert not viewer.canvas.grid.enabled and role(viewer, "x").blending == "additive"
    assert not role(viewer, "x").visible and role(viewer, "x0").visible
    assert role(viewer, "x0").opacity < 1, "the anatomy shines through"
    commands.step_once(session)
    assert role(viewer, "x").visible and role(viewer, "x").opacity == 1
    assert not viewer.canvas.grid.enabled, "with results there, all stay on the scan"


def test_side_by_side_the_region_fills_the_views_and_the_camera_comes_back(
    viewer: ViewerModel, session: Session
) -> None:
    camera = viewer.scene.camera
    before = camera.center, camera.zoom
    commands.step_once(session)
    assert camera.center == pytest.approx((0, 19.5, 17.5)), "the middle of 12:28 and 10:26"
    # 800 x 600 pixels in two by two views of 400 x 300 rows by columns, for 16 voxels of 1 mm, filled by 90
    # %.
    assert camera.zoom == pytest.approx(0.9 * 300 / 16)
    commands.resume(session)
    assert (camera.center, camera.zoom) == before
    commands.step_once(session)
    commands.set_side_by_side(session, True)
    camera.zoom = 7.0
    commands.resume(session)
    assert camera.zoom == 7.0, "the person's own view is kept"


def test_a_grid_that_the_person_switched_on_is_left_alone(viewer: ViewerModel, session: Session) -> None:
    viewer.canvas.grid.enabled = True
    commands.play(session)
    assert viewer.canvas.grid.enabled
    viewer.canvas.grid.enabled = False
    session.side_by_side = False
    commands.reset(session)
    commands.step_once(session)
    assert not viewer.canvas.grid.enabled


def test_a_second_run_uses_the_layers_of_the_first_with_their_look(viewer: ViewerModel, session: Session) -> None:
    commands.play(session)
    x, x0 = role(viewer, "x"), role(viewer, "x0")
    x.colormap, x0.contrast_limits = "red", (-0.5, 0.5)
    commands.set_settings(session, seed=9)
    commands.place_region(session, Box((2, 3, 4), (18, 19, 20)))
    commands.play(session)
    assert role(viewer, "x") is x and role(viewer, "x0") is x0
    assert x.colormap.name == "red" and x0.contrast_limits == [-0.5, 0.5]
    assert x.data is session.trajectory.x and tuple(x.translate) == (0, 2, 3, 4)  # type: ignore[union-attr]
    assert own(x)["seed"] == 9
    assert tuple(role(viewer, "inner").translate) == (2, 3, 4)


def test_members_refresh_the_maps_in_place(viewer: ViewerModel, session: Session) -> None:
    commands.grow_ensemble(session, 1)
    inner = role(viewer, "inner")
    array, first = inner.data, inner.data.copy()
    commands.grow_ensemble(session, 4)
    assert role(viewer, "inner") is inner and inner.data is array
    assert (inner.data == session.maps.inner).all() and (inner.data != first).any()  # type: ignore[union-attr]


def test_results_go_below_the_mask_that_is_worked_on(viewer: ViewerModel, session: Session) -> None:
    commands.grow_ensemble(session, 2)
    commands.promote(session, "mode:1")
    commands.show_map(session, "entropy", True)
    commands.show_mode(session, 1)
    assert roles(viewer)[-1] == "mask" and viewer.layers.selection.active is role(viewer, "mask")


def test_only_the_mask_can_be_drawn_on(viewer: ViewerModel, session: Session) -> None:
    commands.grow_ensemble(session, 2)
    commands.show_mode(session, 1)
    commands.promote(session, "mean")
    editable = {own(la)["role"]: la.editable for la in viewer.layers if isinstance(la, Labels)}
    assert editable == {"inner": False, "outer": False, "mode": False, "mask": True}


def test_a_mode_is_shown_in_one_layer_that_changes_with_the_choice(viewer: ViewerModel, session: Session) -> None:
    commands.grow_ensemble(session, 3)
    assert len(session.modes) == 3, "random masks are all different"
    commands.show_mode(session, 1)
    layer = role(viewer, "mode")
    commands.show_mode(session, 3)
    assert role(viewer, "mode") is layer and layer.name.endswith("mode 3 (1/3)")
    assert (layer.data == session.snapshot.member(session.modes[2].medoid)).all()  # type: ignore[union-attr]
    commands.show_mode(session, None)
    assert role(viewer, "mode") is None


# ---- what the person does ----


@pytest.mark.parametrize("name", ["x", "x0", "inner", "outer"])
def test_removing_a_result_in_the_middle_of_a_run_breaks_nothing(
    viewer: ViewerModel, session: Session, name: str
) -> None:
    commands.grow_ensemble(session, 1)
    commands.set_settings(session, seed=1)
    commands.step_once(session)
    viewer.layers.remove(role(viewer, name))
    commands.step_once(session)
    commands.resume(session)
    commands.grow_ensemble(session, 3)
    assert role(viewer, name) is None, "what was removed stays away"
    assert session.snapshot is not None and len(session.snapshot) == 3
    if name in ("inner", "outer"):
        assert name not in session.shown
        commands.show_map(session, name, True)
        assert (role(viewer, name).data == getattr(session.maps, name)).all()
    else:
        commands.play(session)
        assert role(viewer, name) is not None, "the next run shows it again"


def test_renaming_layers_breaks_nothing(viewer: ViewerModel, session: Session) -> None:
    commands.grow_ensemble(session, 1)
    for layer in viewer.layers:
        layer.name = "mine"
    commands.grow_ensemble(session, 3)
    assert (role(viewer, "inner").data == session.maps.inner).all()  # type: ignore[union-attr]
    assert roles(viewer) == ["scan", "inner", "outer", "members"]


def test_napari_s_eye_and_the_panels_ticks_are_one_choice(viewer: ViewerModel, session: Session) -> None:
    commands.grow_ensemble(session, 2)
    role(viewer, "outer").visible = False
    assert session.shown == {"inner"}
    commands.show_map(session, "outer", True)
    assert role(viewer, "outer").visible
    commands.show_map(session, "inner", False)
    assert not role(viewer, "inner").visible


def test_maps_that_were_hidden_catch_up_when_they_are_shown(viewer: ViewerModel, session: Session) -> None:
    commands.grow_ensemble(session, 1)
    commands.show_map(session, "inner", False)
    commands.grow_ensemble(session, 4)
    commands.show_map(session, "inner", True)
    assert (role(viewer, "inner").data == session.maps.inner).all()  # type: ignore[union-attr]


def test_removing_the_scan_closes_the_case_but_never_takes_the_mask(viewer: ViewerModel, session: Session) -> None:
    commands.grow_ensemble(session, 2)
    commands.play(session)
    commands.promote(session, "mean")
    mask = role(viewer, "mask")
    viewer.layers.remove(role(viewer, "scan"))
    assert session.case is None and session.snapshot is None and session.mask is None
    assert roles(viewer) == ["mask"] and viewer.layers[0] is mask


def test_removing_everything_at_once_leaves_a_session_that_can_start_again(
    viewer: ViewerModel, session: Session, tmp_path: Path
) -> None:
    commands.grow_ensemble(session, 2)
    commands.play(session)
    commands.promote(session, "mean")
    commands.show_region_box(session, True)
    viewer.layers.clear()
    assert session.case is None and session.mask is None and session.shown == {"inner", "outer"}
    commands.open_files(session, [tmp_path / "T1.nii.gz"])
    commands.grow_ensemble(session, 2)
    assert roles(viewer) == ["scan", "inner", "outer", "members"]


def test_a_new_scan_takes_the_place_of_the_old_one_and_its_results(
    viewer: ViewerModel, session: Session, tmp_path: Path
) -> None:
    commands.grow_ensemble(session, 2)
    commands.play(session)
    commands.promote(session, "mean")
    commands.open_files(session, [scan_file(tmp_path / "T2.nii", (20, 21, 22))])
    assert [la.name for la in viewer.layers] == ["T1", "T2"]
    assert [la.visible for la in viewer.layers] == [False, True]


def test_an_edited_mask_of_the_scan_before_is_hidden_and_results_come_on_top_of_the_new_one(
    viewer: ViewerModel, session: Session, tmp_path: Path
) -> None:
    commands.promote(session, "empty")
    role(viewer, "mask").data_setitem(voxel(1, 2, 3), 1)
    commands.open_files(session, [scan_file(tmp_path / "T1b.nii", (20, 21, 22))])
    commands.grow_ensemble(session, 2)
    names = [la.name for la in viewer.layers]
    assert names[:3] == ["T1", "T1 · earlier mask", "T1b"] and "T1b · 95 % inner" in names[3:]
    kept = viewer.layers["T1 · earlier mask"]
    assert not kept.visible and not kept.editable and kept.data.sum() == 1


def test_maps_lie_beneath_every_outline(viewer: ViewerModel, session: Session) -> None:
    commands.grow_ensemble(session, 2)
    commands.show_mode(session, 1)
    commands.show_map(session, "variance", True)
    assert roles(viewer) == ["scan", "variance", "inner", "outer", "members", "mode"]


def test_x0_gives_way_to_an_ensemble_until_a_step_is_looked_at(viewer: ViewerModel, session: Session) -> None:
    commands.play(session)
    assert role(viewer, "x0").visible and not role(viewer, "x").visible
    commands.show_step(session, 1)
    assert commands.branch_here(session)
    assert role(viewer, "branch x0").visible
    commands.grow_ensemble(session, 2)
    assert not role(viewer, "x0").visible and not role(viewer, "branch x0").visible
    commands.step_back(session)
    assert role(viewer, "x0").visible and role(viewer, "branch x0").visible


def test_a_run_that_ends_before_there_are_views_leaves_its_answer_in_sight(
    viewer: ViewerModel, session: Session, qtbot: QtBot
) -> None:
    session.inline = False
    commands.play(session)
    settled(qtbot, session)
    assert role(viewer, "x0").visible and not role(viewer, "x").visible


def test_after_the_box_of_the_region_the_layer_chosen_before_is_chosen_again(
    viewer: ViewerModel, session: Session
) -> None:
    before = viewer.layers.selection.active
    commands.show_region_box(session, True)
    assert viewer.layers.selection.active is role(viewer, "region")
    commands.show_region_box(session, False)
    assert before is not None and viewer.layers.selection.active is before


def test_while_somebody_reads_blind_new_results_are_hidden_before_they_come(
    viewer: ViewerModel, session: Session, qtbot: QtBot
) -> None:
    session.inline = False
    blind.begin(session)
    commands.grow_ensemble(session, 2)
    settled(qtbot, session)
    # napari pictures a layer in its list as soon as it is sliced.
    pictured = [own(la)["role"] for la in viewer.layers if own(la)["role"] != "scan" and la.thumbnail[..., :3].any()]
    assert {"inner", "outer"} <= set(roles(viewer)) and pictured == []


# ---- drawing ----


def voxel(*index: int) -> tuple[np.ndarray, ...]:
    return tuple(np.array([i]) for i in index)


def test_strokes_undo_and_saving_keep_the_dirty_mark_honest(
    viewer: ViewerModel, session: Session, tmp_path: Path
) -> None:
    commands.promote(session, "empty")
    mask: Any = role(viewer, "mask")
    assert session.mask is not None and session.mask.dirty and not session.mask.edited
    commands.save_mask(session, tmp_path / "m.nii.gz")
    assert not session.mask.dirty
    viewer.dims.set_current_step(0, 3)
    viewer.dims.order = (1, 0, 2)
    viewer.dims.order = (0, 1, 2)
    assert not session.mask.dirty, "scrolling is no edit"
    mask.data_setitem(voxel(3, 4, 5), 1)
    assert session.mask.dirty and session.mask.edited and session.mask.labels[3, 4, 5] == 1
    commands.save_mask(session, tmp_path / "m.nii.gz")
    assert not session.mask.dirty
    mask.undo()
    assert session.mask.dirty and session.mask.labels[3, 4, 5] == 0, "undo after saving is a change"
    commands.save_mask(session, tmp_path / "m.nii.gz")
    mask.refresh()
    assert not session.mask.dirty


def test_the_class_painted_with_is_one_choice_on_both_sides(viewer: ViewerModel, session: Session) -> None:
    commands.promote(session, "empty")
    mask = role(viewer, "mask")
    mask.selected_label = 2
    assert session.mask is not None and session.mask.selected == 2
    commands.select_class(session, 1)
    assert mask.selected_label == 1


def test_a_new_start_asks_before_unsaved_edits_and_then_keeps_them_as_a_layer(
    viewer: ViewerModel, session: Session
) -> None:
    commands.grow_ensemble(session, 2)
    commands.promote(session, "mean")
    commands.promote(session, "member:0")
    assert roles(viewer).count("mask") == 1, "what nobody edited gives way"
    first = role(viewer, "mask")
    first.data_setitem(voxel(0, 0, 0), 1)
    content = first.data.copy()
    commands.promote(session, "member:1")
    assert session.mask is not None and session.mask.labels is first.data, "asked, not done"
    assert session.asked is not None and session.asked.words == "mask 2" and "not saved" in session.message.text  # type: ignore[union-attr]
    commands.keep_and_start(session)
    second = role(viewer, "mask")
    assert second is not first and session.mask.labels is second.data and session.asked is None
    assert not session.mask.edited and not first.editable and (first.data == content).all()
    assert session.label_layers == ("T1 · earlier mask",)
    first.name = "mine"
    second.undo()
    assert (second.data[session.roi.slices] == session.snapshot.member(1)).all()  # type: ignore[union-attr]
    commands.promote(session, "layer:mine")
    assert session.mask is not None and (session.mask.labels == content).all()
    assert roles(viewer).count("mask") == 1


def test_labels_of_others_and_masks_of_readers_can_be_the_start(viewer: ViewerModel, session: Session) -> None:
    assert session.case is not None
    data = np.zeros(session.case.grid.shape, np.uint8)
    data[2, 3, 4] = 5
    viewer.add_labels(data, name="theirs", scale=session.case.spacing_mm)
    assert session.label_layers == ("theirs",) and "layer:theirs" in dict(session.sources())
    assert commands.promote(session, "layer:theirs") and session.mask is not None
    assert session.mask.labels is not data and (session.mask.labels == data).all()
    names = [info.name for info in session.mask.classes[1:]]
    assert names == ["anterior", "posterior", "label 3", "label 4", "label 5"], "none is without name and colour"
    session.added_raters = (("R7", data),)
    assert commands.promote(session, "rater:R7") and session.mask.source == "reader R7"
    assert session.mask is not None and session.mask.plan is None
    viewer.layers.remove("theirs")
    assert session.label_layers == ()
    assert not commands.promote(session, "layer:theirs")


def test_the_layer_of_who_wrote_what_follows_every_stroke(viewer: ViewerModel, session: Session) -> None:
    commands.promote(session, "empty")
    session.origin_shown = True
    layer = role(viewer, "origin")
    assert not layer.data.any() and not layer.editable
    role(viewer, "mask").data_setitem(voxel(1, 2, 3), 1)
    assert layer.data[1, 2, 3] == mask_edit.PAINTED and np.count_nonzero(layer.data) == 1
    role(viewer, "mask").undo()
    assert not layer.data.any()
    viewer.layers.remove(layer)
    assert not session.origin_shown


def test_another_array_put_into_the_mask_layer_is_the_one_that_is_saved(viewer: ViewerModel, session: Session) -> None:
    commands.promote(session, "empty")
    mask = role(viewer, "mask")
    mask.data = np.ones_like(mask.data)
    assert session.mask is not None and session.mask.labels is mask.data and session.mask.dirty
    mask.data = np.ones((3, 3, 3), np.uint8)
    assert session.mask is None and session.message is not None and "no longer fits" in session.message.text


def test_removing_the_mask_is_told(viewer: ViewerModel, session: Session) -> None:
    commands.promote(session, "empty")
    viewer.layers.remove(role(viewer, "mask"))
    assert session.mask is None and session.message is not None and "was removed" in session.message.text
    assert not commands.save_mask(session, "anywhere.nii")


# ---- region and planes ----


def test_the_region_is_a_rectangle_on_the_slice_that_is_shown(viewer: ViewerModel, session: Session) -> None:
    viewer.dims.set_current_step(0, 16)
    commands.show_region_box(session, True)
    box = role(viewer, "region")
    assert session.roi == Box((14, 12, 10), (30, 28, 26))
    assert box.data[0].min(axis=0).tolist() == [16, 11.5, 9.5]
    assert box.data[0].max(axis=0).tolist() == [16, 27.5, 25.5]
    viewer.dims.set_current_step(0, 29)
    assert set(box.data[0][:, 0]) == {29}
    viewer.dims.set_current_step(0, 40)
    assert set(box.data[0][:, 0]) == {29}, "beyond the region it stays behind"
    commands.set_plane(session, "sagittal")
    assert box.data[0].min(axis=0).tolist()[:2] == [13.5, 11.5] and len(set(box.data[0][:, 2])) == 1
    commands.show_region_box(session, False)
    assert role(viewer, "region") is None


def drag(layer: Any, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """What napari does while and after the mouse moves a shape."""
    layer.data = [change(np.asarray(layer.data[0]))]


def test_dragging_the_rectangle_moves_the_region_in_whole_voxels(viewer: ViewerModel, session: Session) -> None:
    viewer.dims.set_current_step(0, 16)
    commands.show_region_box(session, True)
    box = role(viewer, "region")
    drag(box, lambda corners: corners + (0, 3.3, -2.4))
    assert session.roi == Box((14, 15, 8), (30, 31, 24))
    assert box.data[0].min(axis=0).tolist() == [16, 14.5, 7.5], "it snaps"
    drag(box, lambda corners: corners + (0, 500, -500))
    assert session.roi == Box((14, 24, 0), (30, 40, 16)), "pushed back into the scan at its size"
    drag(box, lambda corners: np.where(corners == corners.max(axis=0), corners + (0, 0, 4.2), corners))
    assert session.roi == Box((14, 24, 0), (30, 40, 20)), "a handle resizes it"
    viewer.layers.remove(box)
    assert not session.region_box and session.roi == Box((14, 24, 0), (30, 40, 20))


def test_the_region_follows_numbers_typed_elsewhere(viewer: ViewerModel, session: Session) -> None:
    commands.show_region_box(session, True)
    commands.place_region(session, Box((0, 0, 0), (5, 6, 7)))
    corners = role(viewer, "region").data[0]
    assert corners.min(axis=0).tolist()[1:] == [-0.5, -0.5] and corners.max(axis=0).tolist()[1:] == [5.5, 6.5]


def test_planes_are_turned_to_and_known_with_and_without_a_step_axis(viewer: ViewerModel, session: Session) -> None:
    for lead in ((), (0,)):
        n = len(lead)
        for plane, order in (("coronal", (1, 0, 2)), ("sagittal", (2, 0, 1)), ("axial", (0, 1, 2))):
            commands.set_plane(session, plane)  # type: ignore[arg-type]
            assert viewer.dims.order == (*lead, *(axis + n for axis in order)) and viewer.dims.ndisplay == 2
        commands.set_plane(session, "3d")
        assert viewer.dims.ndisplay == 3
        viewer.dims.ndisplay = 2
        assert session.plane == "axial"
        viewer.dims.order = (*lead, *(axis + n for axis in (2, 0, 1)))
        assert session.plane == "sagittal"
        commands.play(session)


def test_from_3d_one_comes_back_to_the_slices_one_left(viewer: ViewerModel, session: Session) -> None:
    commands.play(session)
    viewer.dims.set_current_step(1, 7)
    viewer.dims.set_current_step(2, 9)
    for plane in ("axial", "sagittal"):
        commands.set_plane(session, "3d")
        viewer.scene.camera.center = (30.0, 3.0, 4.0)
        commands.set_plane(session, plane)  # type: ignore[arg-type]
        assert viewer.dims.current_step[1:3] == (7, 9)


def test_a_pulled_side_snaps_to_the_window_of_the_model(viewer: ViewerModel, session: Session) -> None:
    viewer.dims.set_current_step(0, 16)
    commands.show_region_box(session, True)
    commands.place_region(session, Box((14, 2, 3), (30, 10, 10)))
    box = role(viewer, "region")
    drag(box, lambda corners: np.where(corners == corners.max(axis=0), corners + (0, 7.2, 0), corners))
    assert session.roi == Box((14, 2, 3), (30, 18, 10)), "15.2 voxels are nearly the 16 of the window"
    drag(box, lambda corners: np.where(corners == corners.min(axis=0), corners - (0, 0, 2.0), corners))
    assert session.roi == Box((14, 2, 1), (30, 18, 10)), "9 are not"
    drag(box, lambda corners: np.where(corners == corners.max(axis=0), corners + (0, 0, 8.4), corners))
    assert session.roi == Box((14, 2, 1), (30, 18, 17))


def test_a_scale_bar_in_mm_is_shown_once_and_all_layers_agree_on_the_unit(
    viewer: ViewerModel, session: Session
) -> None:
    bar = viewer.canvas.overlays.scale_bar
    assert bar.visible and not bar.gridded, "one for all views of a grid"
    commands.grow_ensemble(session, 2)
    commands.show_region_box(session, True)
    assert {str(unit) for layer in viewer.layers for unit in layer.units[-3:]} == {"millimeter"}
    bar.visible = False
    commands.open_sample(session, "hippocampus")
    assert not bar.visible, "the person switched it off"


def test_a_mask_opened_in_the_viewer_counts_as_a_readers(viewer: ViewerModel, session: Session, tmp_path: Path) -> None:
    labels = np.zeros((36, 40, 44), np.uint8)
    labels[5:9, 6:9, 7:9] = 1
    affine = np.diag([-1.0, -1.0, -1.0, 1.0])
    (data,) = reader.read_file(save_nifti(tmp_path / "seg_bob.nii.gz", labels, affine))
    viewer.add_layer(Layer.create(*data))
    assert list(session.raters) == ["seg_bob"] and session.raters["seg_bob"].sum() == labels.sum()
    assert roles(viewer).count("rater") == 1, "its layer is there already"
    (data,) = reader.read_file(save_nifti(tmp_path / "seg_else.nii.gz", labels[:-1], affine))
    viewer.add_layer(Layer.create(*data))
    assert list(session.raters) == ["seg_bob"]


def test_added_readers_get_outlines_in_greys_of_their_own(
    viewer: ViewerModel, session: Session, tmp_path: Path
) -> None:
    labels = np.zeros((36, 40, 44), np.uint8)
    labels[5:9, 6:9, 7:9] = 1
    affine = np.diag([-1.0, -1.0, -1.0, 1.0])
    paths = [save_nifti(tmp_path / f"seg_{name}.nii.gz", labels, affine) for name in "ab"]
    raters.add_raters(session, paths)
    found = [layer for layer in viewer.layers if own(layer).get("role") == "rater"]
    assert [layer.name for layer in found] == ["T1 · seg_a", "T1 · seg_b"]
    assert all(layer.contour > 0 and layer.data.sum() == labels.sum() for layer in found)
    assert not np.array_equal(found[0].get_color(1), found[1].get_color(1))


def test_the_centre_of_the_view_is_a_voxel_of_the_scan(viewer: ViewerModel, session: Session) -> None:
    viewer.dims.set_current_step(0, 7)
    viewer.scene.camera.center = (0.0, 21.2, 3.6)
    assert session.view is not None and session.view.centre_voxel() == pytest.approx((7, 21.2, 3.6))
    commands.play(session)
    assert session.view.centre_voxel()[1:] == pytest.approx((21.2, 3.6))  # type: ignore[index]
    commands.set_plane(session, "sagittal")
    viewer.dims.set_current_step(3, 30)
    viewer.scene.camera.center = (0.0, 9.0, 500.0)
    assert session.view.centre_voxel() == pytest.approx((9, 39, 30)), "outside the scan counts as its border"
    commands.centre_region(session)
    assert session.roi == Box((2, 24, 20), (18, 40, 36))


def test_playing_turns_to_the_region_only_where_it_is_out_of_sight(viewer: ViewerModel, session: Session) -> None:
    viewer.dims.set_current_step(0, 15)
    commands.play(session)
    assert viewer.dims.current_step[1] == 15
    viewer.dims.set_current_step(1, 3)
    commands.play(session)
    assert viewer.dims.current_step[1] == 21
    commands.look_at(session, (30, 0, 0))
    assert viewer.dims.current_step[1] == 30


# ---- scans that others opened ----


def test_a_scan_opened_before_the_dock_becomes_the_case_with_its_sample_region(
    viewer: ViewerModel, monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    monkeypatch.setattr("napari_diffseg.opening.find_model", lambda name: model)
    viewer.add_layer(Layer.create(*samples.hippocampus()[0]))
    session = sync.attach(viewer)
    assert session.case is own(viewer.layers[0])["case"] and roles(viewer) == ["scan"]
    roi = session.roi
    assert roi is not None and roi.start[0] <= viewer.dims.current_step[0] < roi.stop[0]


def test_a_scan_dropped_into_an_empty_viewer_becomes_the_case_and_a_second_one_does_not(
    viewer: ViewerModel, tmp_path: Path
) -> None:
    session = sync.attach(viewer)
    session.inline = True
    for name in ("first.nii", "second.nii"):
        (data,) = reader.read(str(scan_file(tmp_path / name, (8, 9, 10))))
        viewer.add_layer(Layer.create(*data))
    assert session.case is own(viewer.layers[0])["case"] and session.files == (tmp_path / "first.nii",)
    assert commands.use_layers(session, [PublicOnlyProxy(viewer).layers[1]])
    assert session.case is own(viewer.layers[1])["case"]


def test_results_lie_on_the_layer_of_another_reader(viewer: ViewerModel, model: Path) -> None:
    session = sync.attach(viewer)
    session.inline = True
    commands.choose_model(session, model)
    layer = viewer.add_image(
        gradient((20, 21, 22)), scale=(-2.0, 1.0, 0.5), translate=(100, 7, 9), units="mm", name="theirs"
    )
    before = layer.metadata.copy()
    commands.use_layers(session, [layer])
    commands.place_region(session, Box((2, 3, 4), (18, 19, 20)))
    commands.play(session)
    commands.promote(session, "mode:1")
    assert layer.metadata == before, "a layer that is not ours is left as it is"
    assert roles(viewer) == ["?", "x", "x0", "inner", "outer", "mask"], "and not shown twice"
    mask = role(viewer, "mask")
    assert mask.extent.world == pytest.approx(layer.extent.world)
    inner = role(viewer, "inner")
    # Voxel (2, 3, 4) of the case is (19 - 2, 3, 4) of the layer, whose z runs the other way.
    assert inner.data_to_world((0, 0, 0)) == pytest.approx(layer.data_to_world((17, 3, 4)))
    assert viewer.layers.extent.units is not None


def test_scans_opened_one_by_one_become_the_channels_that_their_names_say(viewer: ViewerModel, tmp_path: Path) -> None:
    save_tiny(tmp_path / "two.safetensors", replace(tiny_card(channels=2), channels=("T1", "FLAIR")))
    session = sync.attach(viewer)
    session.inline = True
    commands.choose_model(session, tmp_path / "two.safetensors")
    for name in ("a_t2.nii", "a_flair.nii", "a_t1.nii"):
        viewer.add_layer(Layer.create(*reader.read(str(scan_file(tmp_path / name)))[0]))
    assert session.case is not None and session.case.channels == ("a_t1", "a_flair")
    assert not session.blockers("play") and roles(viewer) == ["scan"] * 3


def test_changing_a_channel_keeps_the_readers_and_knows_the_files(viewer: ViewerModel, tmp_path: Path) -> None:
    save_tiny(tmp_path / "two.safetensors", replace(tiny_card(channels=2), channels=("T1", "FLAIR")))
    session = sync.attach(viewer)
    session.inline = True
    commands.choose_model(session, tmp_path / "two.safetensors")
    paths = {name: scan_file(tmp_path / f"a_{name}.nii") for name in ("flair", "t1", "t2")}
    labels = np.ones((20, 24, 18), np.uint8)
    anna = save_nifti(tmp_path / "anna.nii", labels, np.diag([-1.0, -1.0, -1.0, 1.0]))
    opening.open_any(session, [*paths.values(), anna])
    layers = {layer.name: layer for layer in viewer.layers}
    assert session.files == (paths["t1"], paths["flair"]) and not layers["a_t2"].visible
    commands.use_layers(session, [layers["a_t1"], layers["a_t2"]])
    assert session.case is not None and session.case.channels == ("a_t1", "a_t2")
    assert session.files == (paths["t1"], paths["t2"]) and session.rater_files == (anna,)
    assert list(session.raters) == ["anna"] and roles(viewer).count("rater") == 1
    assert own(role(viewer, "rater"))["case"] is session.case


def test_a_volume_opened_after_a_slice_is_looked_at_in_its_middle(
    viewer: ViewerModel, model: Path, tmp_path: Path
) -> None:
    session = sync.attach(viewer)
    session.inline = True
    commands.open_files(session, [scan_file(tmp_path / "flat.nii", (30, 32, 1))])
    commands.choose_model(session, model)
    commands.open_files(session, [scan_file(tmp_path / "T1.nii", (36, 40, 44))])
    assert viewer.dims.current_step[-3:] == (21, 19, 17) and session.roi == Box((14, 12, 10), (30, 28, 26))
    assert [layer.visible for layer in viewer.layers] == [False, True]


def test_two_scans_become_the_channels_of_one_case_without_being_shown_twice(
    viewer: ViewerModel, tmp_path: Path
) -> None:
    save_tiny(tmp_path / "two.safetensors", tiny_card(channels=2))
    session = sync.attach(viewer)
    session.inline = True
    commands.choose_model(session, tmp_path / "two.safetensors")
    for name in ("flair.nii", "t1.nii"):
        viewer.add_layer(Layer.create(*reader.read(str(scan_file(tmp_path / name)))[0]))
    assert session.blockers("play")[0].startswith("Tiny expects 2 channels")
    assert commands.use_layers(session, list(viewer.layers)) and session.blockers("play") == []
    assert roles(viewer) == ["scan", "scan"] and session.files == (tmp_path / "flair.nii", tmp_path / "t1.nii")
    commands.play(session)
    assert roles(viewer) == ["scan", "scan", "x", "x0", "inner", "outer"]
    viewer.layers.remove(viewer.layers[0])
    assert session.case is not None
    viewer.layers.remove(viewer.layers[0])
    assert session.case is None and len(viewer.layers) == 0


def test_flat_scans_go_the_whole_way_too(viewer: ViewerModel, tmp_path: Path) -> None:
    save_tiny(tmp_path / "flat.safetensors", tiny_card(spatial=2))
    session = sync.attach(viewer)
    session.inline = True
    commands.choose_model(session, tmp_path / "flat.safetensors")
    commands.open_files(session, [save_nifti(tmp_path / "slice.nii", gradient((60, 50, 1)))])
    assert session.roi == Box((17, 22), (33, 38))
    commands.show_region_box(session, True)
    drag(role(viewer, "region"), lambda corners: corners + (4, -3))
    assert session.roi == Box((21, 19), (37, 35))
    commands.show_region_box(session, False)
    commands.play(session)
    commands.set_plane(session, "coronal")
    assert viewer.dims.ndim == 3 and viewer.dims.order == (0, 1, 2) and viewer.dims.current_step[0] == 3
    commands.grow_ensemble(session, 2)
    commands.promote(session, "mode:1")
    commands.save_mask(session, tmp_path / "mask.nii.gz")
    saved = reader.read(str(tmp_path / "mask.nii.gz"))[0][0]
    assert session.mask is not None and saved.any() and (saved == session.mask.labels).all()


# ---- coming and going ----


def callbacks(viewer: Any) -> int:
    emitters = [viewer.dims.events.order, viewer.dims.events.ndisplay, viewer.dims.events.current_step]
    emitters += [viewer.layers.events.inserted, viewer.layers.events.removed]
    for layer in viewer.layers:
        emitters += [layer.events.data, layer.events.visible, layer.events.set_data]
        if isinstance(layer, Labels):
            emitters += [layer.events.paint, layer.events.selected_label]
    return sum(len(emitter.callbacks) for emitter in emitters)


def test_closing_the_dock_leaves_layers_and_no_callback(viewer: ViewerModel, model: Path, tmp_path: Path) -> None:
    plain = ViewerModel()
    session = prepared(viewer, model, tmp_path)
    commands.grow_ensemble(session, 2)
    commands.play(session)
    commands.promote(session, "mean")
    commands.show_region_box(session, True)
    commands.shutdown(session)
    for layer in viewer.layers:
        plain.add_layer(Layer.create(*layer.as_layer_data_tuple()))
    assert callbacks(viewer) == callbacks(plain)
    assert {"scan", "x", "x0", "inner", "outer", "mask", "region", "members"} == set(roles(viewer))
    session.step = 1
    viewer.layers.clear()
    assert session.case is not None, "nobody listens any more"


def test_a_dock_that_is_opened_again_takes_up_the_layers_it_left(
    viewer: ViewerModel, model: Path, tmp_path: Path
) -> None:
    session = prepared(viewer, model, tmp_path)
    commands.grow_ensemble(session, 2)
    commands.play(session)
    commands.promote(session, "mean")
    before = list(viewer.layers)
    commands.shutdown(session)
    assert sync.attach(viewer) is session
    assert list(viewer.layers) == before
    before[-1].data_setitem(voxel(0, 0, 0), 1)
    assert session.mask is not None and session.mask.edited
    commands.grow_ensemble(session, 3)
    assert roles(viewer) == roles_of(before)


def roles_of(layers: list[Any]) -> list[str]:
    return [own(layer)["role"] for layer in layers]


def test_several_panels_share_one_sync_and_the_last_one_closes_it(viewer: ViewerModel) -> None:
    session = sync.attach(viewer)
    before = callbacks(viewer)
    assert sync.attach(PublicOnlyProxy(viewer)) is session and callbacks(viewer) == before
    commands.shutdown(session)
    assert session.view is not None
    commands.shutdown(session)
    assert session.view is None and callbacks(viewer) < before


def test_two_viewers_know_nothing_of_each_other(model: Path, tmp_path: Path) -> None:
    first, second = ViewerModel(), ViewerModel()
    one, two = prepared(first, model, tmp_path), prepared(second, model, tmp_path)
    commands.grow_ensemble(one, 2)
    assert one is not two and two.snapshot is None and roles(second) == ["scan"]


def test_viewer_and_session_can_be_forgotten(model: Path, tmp_path: Path) -> None:
    viewer = ViewerModel()
    session = prepared(viewer, model, tmp_path)
    commands.play(session)
    commands.promote(session, "mean")
    refs = [weakref.ref(viewer), weakref.ref(session), weakref.ref(viewer.layers[1])]
    commands.shutdown(session)
    del viewer, session
    gc.collect()
    assert [ref() for ref in refs] == [None] * len(refs)


# ---- in a real window, with threads ----


def test_a_whole_run_in_a_window_stays_on_the_gui_thread_and_shows_what_was_drawn(
    make_napari_viewer: Any, qtbot: QtBot, model: Path, tmp_path: Path
) -> None:
    viewer = make_napari_viewer()
    session = prepared(viewer, model, tmp_path, inline=False)
    commands.set_settings(session, steps=6)
    commands.step_once(session)
    qtbot.waitUntil(lambda: session.job.state == "paused" and not session.view.waiting, timeout=30_000)
    assert session.trajectory is not None and session.trajectory.done == 1
    viewer.layers.remove(role(viewer, "x"))
    commands.resume(session)
    settled(qtbot, session)
    assert session.trajectory.done == 6 and session.step == 6 and role(viewer, "x") is None
    commands.grow_ensemble(session, 4)
    settled(qtbot, session)
    assert session.snapshot is not None and len(session.snapshot) == 4
    assert (role(viewer, "inner").data == session.maps.inner).all()  # type: ignore[union-attr]
    commands.promote(session, "mode:1")
    commands.save_mask(session, tmp_path / "m.nii.gz")
    qtbot.waitUntil(lambda: live(session).saving is None, timeout=30_000)
    assert session.mask is not None and not session.mask.dirty and (tmp_path / "m.plan.json").is_file()
    commands.shutdown(session)


def test_closing_the_viewer_in_the_middle_of_a_run_stops_it_within_a_step(
    make_napari_viewer: Any, qtbot: QtBot, model: Path, tmp_path: Path
) -> None:
    viewer = make_napari_viewer()
    session = prepared(viewer, model, tmp_path, inline=False)
    commands.set_settings(session, members=1000)
    commands.grow_ensemble(session)
    qtbot.waitUntil(lambda: session.snapshot is not None, timeout=30_000)
    job = live(session).job
    assert job is not None and job._thread is not None
    viewer.close()
    commands.shutdown(session)
    assert job.over and not job._thread.is_alive() and session.job.state == "idle"
    assert live(session).opened is None and session_for(viewer) is session


def test_closing_does_not_wait_for_a_step_that_takes_long_but_frees_the_device_after_it(
    qtbot: QtBot, viewer: ViewerModel, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = prepared(viewer, model, tmp_path, inline=False)
    reached, go_on = threading.Event(), threading.Event()
    forward = UNet.forward

    def slow(network: UNet, *args: torch.Tensor) -> torch.Tensor:
        reached.set()
        assert go_on.wait(60)
        return forward(network, *args)

    monkeypatch.setattr(UNet, "forward", slow)
    monkeypatch.setattr(runs, "CLOSING_S", 0.05)
    commands.play(session)
    qtbot.waitUntil(reached.is_set, timeout=60_000)
    opened = live(session).opened
    commands.shutdown(session)
    assert session.view is None and session.job.state == "cancelling"
    go_on.set()
    qtbot.waitUntil(lambda: session.job.state == "idle", timeout=60_000)
    assert live(session).opened is None and session.checkpoint is None
    assert opened is None or opened.run._denoiser is None


def test_pictures_show_the_mask_in_the_models_colours(make_napari_viewer: Any, model: Path, tmp_path: Path) -> None:
    viewer = make_napari_viewer(show=True)
    session = prepared(viewer, model, tmp_path)
    commands.promote(session, "empty")
    mask = role(viewer, "mask")
    mask.data_setitem(tuple(np.indices(mask.data.shape).reshape(3, -1)), 1)
    mask.opacity = 1
    middle = viewer.screenshot(canvas_only=True, flash=False)
    height, width = middle.shape[:2]
    assert middle[height // 2, width // 2, :3] == pytest.approx((0xE6, 0x9F, 0x00), abs=3)
    commands.shutdown(session)


def test_images_that_are_no_scan_of_ours_are_not_taken_up_unasked(viewer: ViewerModel) -> None:
    session = sync.attach(viewer)
    viewer.add_layer(Image(gradient((8, 9, 10)), name="theirs"))
    assert session.case is None
    assert layerdata.own(viewer.layers[0]) == {}
