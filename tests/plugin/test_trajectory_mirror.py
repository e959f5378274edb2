"""The trajectory and its branches as layers, beside each other and on the scan; without a window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from diffseg.grid import Box
from napari_diffseg import commands
from napari_diffseg.layerdata import line_color, line_shades, own
from napari_diffseg.session import Session
from napari_diffseg.sync import attach
from oracle import save_tiny
from plugin_cases import scan_file


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def session(viewer: ViewerModel, tmp_path: Path) -> Iterator[Session]:
    made = attach(viewer)
    made.inline = True
    save_tiny(tmp_path / "tiny.safetensors")
    commands.choose_model(made, tmp_path / "tiny.safetensors")
    commands.open_files(made, [scan_file(tmp_path / "T1.nii", (20, 24, 18))])
    commands.place_region(made, Box((1, 2, 1), (17, 18, 17)))
    yield made
    commands.shutdown(made)


def role(viewer: ViewerModel, name: str) -> Any:
    found = [la for la in viewer.layers if own(la).get("role") == name]
    assert len(found) <= 1
    return found[0] if found else None


def visible(viewer: ViewerModel) -> list[str]:
    return [own(la)["role"] for la in viewer.layers if la.visible]


def branched(session: Session, step: int = 1) -> None:
    commands.show_step(session, step)
    assert commands.branch_here(session)


def test_layers_have_fixed_limits_and_show_classes_in_their_colours(viewer: ViewerModel, session: Session) -> None:
    commands.step_once(session)
    for name in ("x", "x0"):
        assert tuple(role(viewer, name).contrast_limits) == (-1, 1)
    assert session.model is not None
    shades = line_shades("A", session.model.classes)
    assert shades == [info.color for info in session.model.classes[1:]]
    # Certain background, anterior, posterior.
    colors = role(viewer, "x0").colormap.map(np.array([0.0, 0.5 - 1e-3, 1.0]))
    assert colors[0, 3] == 0
    for color, shade in zip(colors[1:], shades, strict=True):
        expected = [int(shade[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        np.testing.assert_allclose(color, [*expected, 1], atol=0.01)


def test_a_branch_is_one_more_mask_beside_the_first(viewer: ViewerModel, session: Session) -> None:
    commands.play(session)
    assert visible(viewer) == ["scan", "x0", "inner", "outer"] and not viewer.canvas.grid.enabled
    branched(session)
    assert session.side_by_side and viewer.canvas.grid.enabled
    assert visible(viewer) == ["scan", "x", "x0", "branch x0"], "other layers wait"
    mask, noisy = role(viewer, "branch x0"), role(viewer, "branch x")
    assert mask.data is session.branches[0].view.x0 and noisy.data is session.branches[0].view.x
    assert mask.name.endswith("x̂0 B") and tuple(mask.contrast_limits) == (-1, 1)
    hue = [int(line_color("B")[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    np.testing.assert_allclose(mask.colormap.map(np.array([0.5 - 1e-3]))[0, :3], hue, atol=0.01)
    assert mask.ndim == 4 and viewer.dims.current_step[0] == 3
    commands.set_side_by_side(session, False)
    assert not viewer.canvas.grid.enabled
    assert visible(viewer) == ["scan", "x0", "inner", "outer", "branch x0"], "they are back"
    assert role(viewer, "x0").opacity < 1 and mask.opacity < 1, "the anatomy shines through"


def test_removing_a_branch_takes_its_layers_and_one_removed_by_hand_stays_away(
    viewer: ViewerModel, session: Session
) -> None:
    commands.play(session)
    branched(session)
    viewer.layers.remove(role(viewer, "branch x0"))
    branched(session, 0)
    letters = [own(la)["letter"] for la in viewer.layers if str(own(la).get("role")).startswith("branch")]
    assert sorted(letters) == ["B", "C", "C"]
    commands.remove_branch(session, "C")
    commands.remove_branch(session, "B")
    assert role(viewer, "branch x") is None and role(viewer, "branch x0") is None


def test_napari_s_slider_reaches_what_a_branch_has_computed(viewer: ViewerModel, session: Session) -> None:
    commands.step_once(session)
    commands.branch_here(session)
    assert session.trajectory is not None and session.trajectory.done == 1
    assert viewer.dims.current_step[0] == 3 == session.step
    viewer.dims.set_current_step(0, 2)
    assert session.step == 2


def test_a_grid_of_the_person_is_not_taken_away_by_a_branch(viewer: ViewerModel, session: Session) -> None:
    commands.play(session)
    viewer.canvas.grid.enabled = True
    branched(session)
    assert "inner" in visible(viewer)
    commands.set_side_by_side(session, False)
    assert viewer.canvas.grid.enabled


def test_a_new_dock_takes_up_the_layers_of_the_branches(viewer: ViewerModel, session: Session) -> None:
    commands.play(session)
    branched(session)
    layer = role(viewer, "branch x0")
    commands.shutdown(session)
    attach(viewer)
    assert role(viewer, "branch x0") is layer
    commands.remove_branch(session, "B")
    assert role(viewer, "branch x0") is None


def test_reset_takes_all_layers_of_the_trajectory_and_brings_the_others_back(
    viewer: ViewerModel, session: Session
) -> None:
    commands.play(session)
    branched(session)
    commands.reset(session)
    assert not viewer.canvas.grid.enabled and visible(viewer) == ["scan", "inner", "outer"]
