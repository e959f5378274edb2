"""Drawing until settled, going on later, readers, tables and their layers, in a viewer without windows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from diffseg.raters import bench, board
from napari_diffseg import commands, ensemble_commands
from napari_diffseg.layerdata import own
from napari_diffseg.session import Session, session_for
from napari_diffseg.sync import attach
from readers_cases import Drawer, block, open_with_readers
from tiny_session import SHAPE


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def session(viewer: ViewerModel, tmp_path: Path) -> Iterator[Session]:
    made = attach(viewer)
    made.inline = True
    open_with_readers(made, tmp_path)
    assert len(made.raters) == 2
    yield made
    commands.shutdown(made)


def role(viewer: ViewerModel, name: str) -> Any:
    found = [layer for layer in viewer.layers if own(layer).get("role") == name]
    assert len(found) == 1, [own(layer).get("role") for layer in viewer.layers]
    return found[0]


def text(session: Session) -> str:
    return session.message.text if session.message is not None else ""


def test_drawing_stops_when_settled_and_goes_on_when_asked_to(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawer = Drawer(monkeypatch, lambda k, shape: block(6, shape))
    commands.grow_ensemble(session, 20)
    assert session.snapshot is not None and session.findings is not None
    # Masks that all agree settle with 13.
    assert len(session.snapshot) == drawer.drawn == 13 and session.findings.stopped
    assert "Settled, so no more were drawn." in text(session) and session.job.state == "idle"
    commands.grow_ensemble(session)
    assert drawer.drawn == 13 and "untick" in text(session)
    ensemble_commands.set_stop_early(session, False)
    commands.grow_ensemble(session)
    assert len(session.snapshot) == drawer.drawn == 20 and not session.findings.stopped


def test_members_drawn_before_the_dock_was_closed_are_not_drawn_again(
    viewer: ViewerModel, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawer = Drawer(monkeypatch, lambda k, shape: block(3 + k, shape))
    commands.grow_ensemble(session, 3)
    before = session.snapshot
    commands.shutdown(session)
    assert session.live.opened is None
    assert attach(viewer) is session
    commands.grow_ensemble(session, 5)
    assert drawer.drawn == 5 and before is not None and session.snapshot is not None
    assert all(a is b for a, b in zip(before.members, session.snapshot.members, strict=False))
    assert len(session.findings.measures) == 5


def test_the_layer_of_masks_has_a_row_per_mask_and_a_row_picked_shows_it(
    viewer: ViewerModel, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    Drawer(monkeypatch, lambda k, shape: block((8, 8, 3, 0, 8)[k], shape))
    commands.grow_ensemble(session, 4)
    layer = role(viewer, "members")
    assert not layer.visible and layer.ndim == 3
    assert list(layer.features["mask"]) == [1, 2, 3, 4] and list(layer.features["mode"]) == [1, 1, 2, 3]
    voxel_ml = 1.2 * 2 * 0.9 / 1000
    np.testing.assert_allclose(layer.features["volume (ml)"], np.array([160, 160, 60, 0]) * voxel_ml)
    layer.selected_data = {2}
    assert session.member == 2
    shown = role(viewer, "member")
    assert shown.name.endswith("mask 3") and np.count_nonzero(shown.data) == 60
    commands.grow_ensemble(session, 5)
    assert role(viewer, "members") is layer and len(layer.features) == len(layer.data) == 5
    viewer.layers.remove(shown)
    assert session.member is None
    viewer.layers.remove(layer)
    commands.show_map(session, "mean", True)
    assert [own(la).get("role") for la in viewer.layers].count("members") == 0


def test_the_comparison_is_that_of_the_core_and_its_maps_have_fixed_limits(
    viewer: ViewerModel, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    Drawer(monkeypatch, lambda k, shape: block((8, 8, 0)[k], shape))
    assert "press Grow" in session.blockers("compare")[0]
    commands.grow_ensemble(session, 3)
    ensemble_commands.compare_readers(session)
    found, case = session.readers, session.case
    assert found is not None and case is not None and session.snapshot is not None and session.maps is not None
    at = bench(session.snapshot, session.maps.roi, session.raters, ("anterior",), case.spacing_mm, case.grid.voxel_ml)
    assert found.board == board(at, session.modes) and found.figures.members == 3
    assert found.board.iou[0][0] == 1 and found.board.iou[1][0] == pytest.approx(3 / 8)
    assert found.board.raters_alone() == ("R2",) and found.board.modes_alone() == (2,)
    assert "no mode matches R2" in text(session)
    assert "local_ged" not in found.maps

    ensemble_commands.show_reader_map(session, "ged", True)
    ensemble_commands.show_reader_map(session, "local_ged", True)
    for name in ("ged", "local_ged"):
        layer = role(viewer, name)
        assert tuple(layer.contrast_limits) == (0, 2) and layer.blending == "additive"
        assert tuple(layer.translate) == tuple(np.array(found.box.start) * case.spacing_mm)
    # Two of three masks where both readers drew, and where one of them did: 2 (p - q)^2.
    values = np.unique(role(viewer, "ged").data)
    np.testing.assert_allclose(values, [0, 2 * (2 / 3 - 1 / 2) ** 2, 2 * (2 / 3 - 1) ** 2], atol=1e-6)
    viewer.layers.remove(role(viewer, "ged"))
    assert "ged" not in session.shown and "local_ged" in session.shown
    role(viewer, "local_ged").visible = False
    assert "local_ged" not in session.shown


def test_without_readers_a_sentence_says_so(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Drawer(monkeypatch, lambda k, shape: block(4, shape))
    commands.open_files(session, [tmp_path / "scan.nii.gz"])
    commands.grow_ensemble(session, 2)
    assert not ensemble_commands.compare_readers(session)
    assert "no masks of readers" in text(session)


def test_a_click_on_the_curve_turns_to_that_axial_slice(viewer: ViewerModel, session: Session) -> None:
    commands.set_plane(session, "coronal")
    assert session.looked_at is None, "the axial axis is displayed"
    ensemble_commands.look_at_slice(session, 7)
    assert session.plane == "axial" and session.looked_at == 7
    viewer.dims.set_current_step(0, 3)
    assert session.looked_at == 3
    ensemble_commands.look_at_slice(session, 10_000)
    assert session.looked_at == session.case.grid.shape[0] - 1 and sorted(session.case.grid.shape) == sorted(SHAPE)


def test_results_go_with_their_scan(viewer: ViewerModel, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    Drawer(monkeypatch, lambda k, shape: block(4, shape))
    commands.grow_ensemble(session, 2)
    ensemble_commands.compare_readers(session)
    ensemble_commands.show_reader_map(session, "ged", True)
    ensemble_commands.show_member(session, 1)
    session.model = None
    assert session.findings is None and session.readers is None and session.member is None
    left = {own(layer).get("role") for layer in viewer.layers}
    assert not left & {"members", "member", "ged"}
    assert ensemble_commands.csv_of(session, "members") == "" == ensemble_commands.csv_of(session, "readers")
    assert session_for(viewer) is session
