"""Every array of a case lies in the viewer exactly where the case says, in millimetres."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from napari.layers import Layer

from diffseg.case import Case, origin_of
from diffseg.ensemble import Ensemble
from diffseg.grid import Box
from diffseg.modes import find_modes
from diffseg.plan import plan_for
from napari_diffseg import layerdata
from napari_diffseg.layerdata import Frame, frame_of
from napari_diffseg.sampling import maps_of
from napari_diffseg.state import MAP_NAMES, MaskState, TrajectoryView
from oracle import tiny_card
from plugin_cases import case_of
from scans import affine_of, rotation

CLASSES = tiny_card().classes


def made(data: layerdata.LayerData) -> Layer:
    values, look, kind = data
    look.pop("contour", None)
    return Layer.create(values, look, kind)


def trajectory(shape: tuple[int, ...], offset: tuple[float, ...], step: tuple[float, ...]) -> TrajectoryView:
    x = np.zeros((4, *shape), np.float16)
    return TrajectoryView(7, x, x.copy(), 1, 3, offset, step, (1.0, 0.5, 0.2, 0.0), (), (), 0, 42)


def test_scan_and_raters_lie_on_the_grid_in_millimetres() -> None:
    rater = np.zeros((5, 6, 7), np.uint8)
    rater[2, 3, 4] = 2
    case = case_of((5, 6, 7), (3.0, 1.25, 0.5), channels=2, R1=rater)
    first, second, third = (made(d) for d in layerdata.scan_layers(case))
    assert [first.name, second.name, third.name] == ["C0", "C1", "scan · R1"]
    for layer in (first, second, third):
        assert tuple(layer.scale) == (3.0, 1.25, 0.5) and tuple(layer.translate) == (0, 0, 0)
        assert [str(u) for u in layer.units] == ["millimeter"] * 3 and layer.axis_labels == ("z", "y", "x")
    assert np.shares_memory(second.data, case.image)
    assert not np.shares_memory(third.data, rater), "painting on a reader's mask must not change the case"


def test_the_trajectory_lies_where_its_window_was_cut_and_its_steps_have_no_length() -> None:
    case = case_of((40, 40, 40), (2.0, 1.0, 0.5))
    view = trajectory((4, 5, 6), offset=(10.5, 3.0, -2.0), step=(0.5, 1.0, 2.0))
    layer = made(layerdata.trajectory_layer(view, "x0", case, frame_of(case)))
    index = np.array([2, 3, 4, 5])
    case_voxel = np.array(view.offset) + np.array(view.step) * index[1:]
    assert layer.data_to_world(index) == (2.0, *(case_voxel * case.spacing_mm))
    assert tuple(layer.contrast_limits) == (-1, 1) and layer.name == "C0 · x̂0"
    assert [str(u) for u in layer.units] == ["pixel"] + ["millimeter"] * 3
    assert layer.data is view.x0, "the worker's buffer, not a copy"


def test_a_tilted_frame_places_results_like_the_scan_they_belong_to(rng: np.random.Generator) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(rng) @ np.diag([2.0, 1.0, 0.5])
    matrix[:3, 3] = (5, -3, 8)
    frame = Frame(matrix, ("mm",) * 3, ("z", "y", "x"))
    case = case_of((20, 20, 20))
    view = trajectory((4, 5, 6), offset=(3.0, 4.0, 5.0), step=(2.0, 1.0, 1.5))
    layer = made(layerdata.trajectory_layer(view, "x", case, frame))
    voxel = np.array(view.offset) + np.array(view.step) * (1, 2, 3)
    expected = matrix[:3, :3] @ voxel + matrix[:3, 3]
    # 1e-6: napari splits the matrix into rotation, scale and shear and multiplies them again.
    assert layer.data_to_world((3, 1, 2, 3)) == pytest.approx((3.0, *expected), abs=1e-6)


def test_oblique_scans_are_shown_straight_and_keep_their_own_geometry(rng: np.random.Generator) -> None:
    origin = origin_of((6, 7, 8), affine_of(rotation(rng)))
    grid = origin.display_grid()
    case = Case(np.zeros((1, *grid.shape), np.float32), grid, ("T1",), {}, origin, "s")
    (layer,) = (made(d) for d in layerdata.scan_layers(case))
    assert np.allclose(layer.affine.affine_matrix, np.eye(4))
    assert tuple(layer.scale) == pytest.approx(grid.spacing_mm)
    assert layerdata.own(layer)["case"].origin is origin


def snapshot_of(shape: tuple[int, ...], members: int, rng: np.random.Generator) -> Ensemble:
    ensemble = Ensemble(3, shape)
    for m in range(members):
        ensemble.add(rng.integers(0, 3, shape, dtype=np.uint8), m)
    return ensemble


def test_maps_have_fixed_scales_and_lie_at_the_region(rng: np.random.Generator) -> None:
    case = case_of((30, 30, 30), (2.0, 1.0, 1.0))
    box = Box((4, 5, 6), (10, 12, 13))
    maps = maps_of(snapshot_of(box.shape, 4, rng).snapshot(), box, plan_for(tiny_card(), "0" * 64, ()))
    layers = {n: made(layerdata.map_layer(n, maps, CLASSES, case, frame_of(case))) for n in MAP_NAMES}
    assert [la.name for la in layers.values()] == [
        "C0 · 95 % inner", "C0 · 5 % outer", "C0 · variance", "C0 · entropy", "C0 · mean",
    ]  # fmt: skip
    limits = {n: layers[n].contrast_limits for n in ("variance", "entropy", "mean")}
    assert limits == {"variance": [0, 0.25], "entropy": [0, pytest.approx(np.log(3))], "mean": [0, 1]}
    for name, layer in layers.items():
        assert layer.data.shape == box.shape and tuple(layer.translate) == (8.0, 5.0, 6.0)
        assert not np.shares_memory(layer.data, getattr(maps, name)), "refreshed in place, so it must be its own"
    assert layers["entropy"].colormap.map(0.0).ravel()[3] == 0, "see-through where all members agree"
    assert layers["entropy"].colormap.map(0.5).ravel()[3] == 1
    for name in ("variance", "mean"):
        assert layers[name].blending == "additive" and np.allclose(
            layers[name].colormap.map(0.0).ravel()[:3], 0, atol=0.02
        )


def test_class_colours_are_the_models_and_the_outer_contour_is_a_lighter_hue(
    rng: np.random.Generator,
) -> None:
    case, box = case_of((6, 6, 6)), Box.whole((6, 6, 6))
    maps = maps_of(snapshot_of(box.shape, 2, rng).snapshot(), box, plan_for(tiny_card(), "0" * 64, ()))
    inner, outer = (made(layerdata.map_layer(n, maps, CLASSES, case, frame_of(case))) for n in ("inner", "outer"))
    orange = np.array([0xE6, 0x9F, 0x00]) / 255
    assert inner.get_color(1)[:3] == pytest.approx(orange, abs=1e-3)
    hls = [colorsys.rgb_to_hls(*layer.get_color(1)[:3]) for layer in (inner, outer)]
    # 0.01: colours are rounded to eight bits.
    assert hls[0][0] == pytest.approx(hls[1][0], abs=0.01) and hls[1][1] > hls[0][1]
    assert (inner.colormap.map(np.array([0, 9]))[:, 3] == 0).all()
    assert list(inner.features["class"]) == ["background", "anterior", "posterior"]


def test_modes_are_named_by_their_count_and_never_share_a_colour_with_people(
    rng: np.random.Generator,
) -> None:
    case, box = case_of((6, 6, 6)), Box((1, 1, 1), (5, 5, 5))
    ensemble = snapshot_of(box.shape, 5, rng)
    snapshot = ensemble.snapshot()
    modes = find_modes(snapshot, 1.0)
    maps = maps_of(snapshot, box, plan_for(tiny_card(), "0" * 64, ()))
    layer = made(layerdata.mode_layer(modes[0], snapshot, maps, CLASSES, case, frame_of(case)))
    assert layer.name == f"C0 · mode 1 ({len(modes[0].members)}/5)"
    assert (layer.data == snapshot.member(modes[0].medoid)).all()
    assert not set(layerdata.MODE_COLORS) & set(layerdata.RATER_GREYS)
    assert layerdata.mode_color(1) != layerdata.mode_color(2) and layerdata.mode_color(8) == layerdata.mode_color(1)


def test_the_mask_covers_the_whole_scan_and_is_painted_in_place() -> None:
    case = case_of((8, 9, 10), (2.0, 1.0, 1.0))
    labels = np.zeros((8, 9, 10), np.uint8)
    mask = MaskState(labels, "mode 1 (2/3)", "C0 · mask", case, CLASSES)
    layer = made(layerdata.mask_layer(mask, frame_of(case)))
    layer.data_setitem((np.array([3]), np.array([4]), np.array([5])), 2)
    assert labels[3, 4, 5] == 2, "session.mask.labels is the array that is saved"


def test_two_dimensional_scans_use_the_same_code() -> None:
    case = case_of((12, 14), (0.5, 0.25))
    (layer,) = (made(d) for d in layerdata.scan_layers(case))
    assert layer.axis_labels == ("y", "x") and tuple(layer.scale) == (0.5, 0.25)
    view = trajectory((4, 4), offset=(2.0, 3.0), step=(1.0, 1.0))
    steps = made(layerdata.trajectory_layer(view, "x", case, frame_of(case)))
    assert steps.data_to_world((1, 1, 1)) == (1.0, 1.5, 1.0)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.full((4, 4), 7.0), np.r_[np.zeros(399), 1].reshape(20, 20)])
def test_the_display_range_is_never_empty(image: np.ndarray) -> None:
    low, high = layerdata.display_limits(image)
    assert low < high
