"""Layers put into a real viewer in turns: whole in the end, and nothing of the person's moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QTimer

from napari_diffseg import commands, layerdata
from napari_diffseg.layerdata import KEY, own
from napari_diffseg.session import Session
from napari_diffseg.shelf import Shelf, made
from napari_diffseg.sync import attach
from napari_diffseg.turns import Turns
from oracle import save_tiny
from plugin_cases import scan_file


@pytest.fixture
def opened(make_napari_viewer: Callable[..., Any], qtbot: QtBot, tmp_path: Path) -> tuple[Any, Session]:
    """A viewer whose session has threads and turns, with a scan and a model."""
    viewer = make_napari_viewer()
    session = attach(viewer)
    save_tiny(tmp_path / "tiny.safetensors")
    commands.choose_model(session, tmp_path / "tiny.safetensors")
    commands.open_files(session, [scan_file(tmp_path / "T1.nii.gz", (36, 40, 44))])
    commands.set_settings(session, device="cpu", steps=3)
    settle(qtbot, session)
    return viewer, session


def settle(qtbot: QtBot, session: Session) -> None:
    qtbot.waitUntil(lambda: session.job.state == "idle" and not session.view.waiting, timeout=60_000)  # type: ignore[union-attr]


def test_a_scan_and_a_run_come_axis_by_axis_and_are_whole_and_in_mm(opened: Any, qtbot: QtBot) -> None:
    viewer, session = opened
    (scan,) = viewer.layers
    assert scan.data is session.case.image[0] or np.shares_memory(scan.data, session.case.image)
    assert [str(unit) for unit in scan.units] == ["millimeter"] * 3 and scan.axis_labels == ("z", "y", "x")
    assert viewer.dims.current_step == (21, 19, 17) and viewer.layers.selection.active is scan
    assert viewer.canvas.overlays.scale_bar.visible and viewer.canvas.overlays.scale_bar.opacity == 1
    commands.play(session)
    settle(qtbot, session)
    noisy = next(layer for layer in viewer.layers if own(layer)["role"] == "x")
    assert noisy.data is session.trajectory.x and viewer.dims.axis_labels == ("step", "z", "y", "x")
    assert [str(unit) for unit in noisy.units] == ["pixel", *["millimeter"] * 3]
    assert session.step == 3 == viewer.dims.current_step[0] and session.follow
    assert viewer.layers.selection.active is scan
    commands.shutdown(session)


def test_a_layer_dropped_before_it_came_never_comes_and_one_dropped_later_goes(opened: Any, qtbot: QtBot) -> None:
    viewer, session = opened
    stage, frame, case = session.view, session.view.frame, session.case
    never, soon = (stage.add(layerdata.rater_layer(name, np.ones(case.grid.shape, np.uint8), 0, case)) for name in "ab")
    assert never in stage.layers and never not in viewer.layers and frame is not None
    stage.drop(never)
    settle(qtbot, session)
    assert never not in viewer.layers and soon in viewer.layers
    stage.drop(soon)
    assert soon not in stage.layers and soon in viewer.layers, "gone for us at once, on the screen in its turn"
    settle(qtbot, session)
    assert soon not in viewer.layers
    commands.shutdown(session)


def test_labels_get_the_tools_for_drawing_with_the_right_to_draw(opened: Any) -> None:
    _, session = opened
    layer = made(layerdata.rater_layer("R", np.ones(session.case.grid.shape, np.uint8), 0, session.case))
    tools = [layer._overlays[name] for name in ("polygon", "brush_stroke")]
    assert not layer.editable and not any(tool.visible for tool in tools)
    layer.editable = True
    assert all(tool.visible for tool in tools)
    commands.shutdown(session)


def test_a_session_that_closes_leaves_neither_layers_behind_nor_a_canvas_that_is_not_drawn(
    opened: Any, qtbot: QtBot
) -> None:
    viewer, session = opened
    drawn: list[bool] = []

    def draw(on: bool) -> None:
        drawn.append(on)
        if not on:
            QTimer.singleShot(0, lambda: commands.shutdown(session))

    session.view.draw_by(draw)
    for name in "ab":
        session.view.add(layerdata.rater_layer(name, np.ones(session.case.grid.shape, np.uint8), 0, session.case))
    qtbot.waitUntil(lambda: session.view is None, timeout=5000)
    qtbot.wait(50)
    assert drawn == [False, True] and [own(layer).get("rater") for layer in viewer.layers] == [None, "a"]


TILTED = np.array([[1, 0, 0, 0, 0], [0, 4.8, -0.3, 0, 9], [0, 1.5, 0.74, 0, -7], [0, 0, 0, 0.8, 3], [0, 0, 0, 0, 1.0]])


@pytest.mark.parametrize("visible", [True, False])
@pytest.mark.parametrize(
    "place", [{"scale": (1, 5, 0.8, 0.7), "translate": (0, 10, -4, 3)}, {"affine": TILTED}], ids=["straight", "tilted"]
)
def test_an_axis_of_steps_that_comes_later_leaves_a_layer_as_it_was_made(
    make_napari_viewer: Callable[..., Any], qtbot: QtBot, place: dict[str, Any], visible: bool
) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((6, 7, 8), np.float32), scale=(5, 0.8, 0.7), units=("mm",) * 3)
    values = np.random.default_rng(0).normal(size=(4, 6, 7, 8)).astype(np.float32)
    look = {
        "name": "x_t",
        "contrast_limits": (-1.0, 1.0),
        "colormap": "gray",
        "blending": "additive",
        "visible": visible,
        "axis_labels": ("step", "z", "y", "x"),
        "units": ("pixel", "mm", "mm", "mm"),
        "metadata": {KEY: {"role": "x"}},
        **place,
    }
    shown: list[int] = []
    turns = Turns(lambda: False)
    turns.draw = lambda on: shown.append(viewer.layers[-1].ndim) if on else None
    layer = Shelf(lambda: viewer, turns).put((values, dict(look), "image"))
    qtbot.waitUntil(lambda: not turns.waiting, timeout=10_000)
    assert shown[0] == 3 and viewer.dims.ndim == 4, "it came in two turns"
    assert layer.data is values and layer in viewer.layers
    data, found, _ = layer.as_layer_data_tuple()
    _, expected, _ = made((values, dict(look), "image")).as_layer_data_tuple()
    assert data is values and found.keys() == expected.keys()
    for name, value in expected.items():
        assert str(found[name]) == str(value), name
    node = viewer.window._qt_viewer.canvas.layer_to_visual[layer].node
    assert node.visible is visible, "the canvas draws what the eye says"


def test_a_scan_never_loses_an_axis_even_for_a_moment(make_napari_viewer: Callable[..., Any], qtbot: QtBot) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((7, 8), np.float32))
    shown: list[tuple[Any, ...]] = []
    turns = Turns(lambda: False)
    turns.draw = lambda on: shown.append(tuple(viewer.layers[-1].scale)) if on else None
    look = {"scale": (5, 0.8, 0.7), "metadata": {KEY: {"role": "scan"}}}
    Shelf(lambda: viewer, turns).put((np.zeros((6, 7, 8), np.float32), look, "image"))
    qtbot.waitUntil(lambda: not turns.waiting, timeout=10_000)
    assert set(shown) == {(5, 0.8, 0.7)}


def test_a_flat_scan_after_a_volume_is_looked_at_as_a_whole_and_chosen(opened: Any, qtbot: QtBot) -> None:
    viewer, session = opened
    volume = viewer.layers[0]
    commands.open_sample(session, "lung-nodule")
    settle(qtbot, session)
    scan = next(layer for layer in viewer.layers if own(layer).get("case") is session.case)
    assert scan.ndim == 2 and not volume.visible and viewer.layers.selection.active is scan
    low, high = scan.extent.world
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], (low + high) / 2)
    filled = viewer.scene.camera.zoom * (high - low) / viewer.canvas.viewbox_size(viewer.layers)
    assert filled.max() == pytest.approx(0.95)
    commands.shutdown(session)
