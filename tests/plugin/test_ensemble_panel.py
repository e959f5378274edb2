"""The page Ensemble, with a Session and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt

from diffseg.modes import Mode
from napari_diffseg import commands
from napari_diffseg.session import Session
from napari_diffseg.state import JobState
from napari_diffseg.widgets.ensemble_panel import EnsemblePanel, mode_line
from tiny_session import open_session

LEFT = Qt.MouseButton.LeftButton


def panel_of(qtbot: QtBot, session: Session) -> EnsemblePanel:
    panel = EnsemblePanel(session)
    qtbot.addWidget(panel)
    panel.show()
    return panel


def grown(qtbot: QtBot, folder: Path, members: int = 4) -> EnsemblePanel:
    session = open_session(folder)
    commands.set_settings(session, members=members)
    panel = panel_of(qtbot, session)
    panel.grow.click()
    return panel


def test_without_a_model_grow_says_why(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    session.model = None
    panel = panel_of(qtbot, session)
    assert not panel.grow.isEnabled() and not panel.stop.isEnabled()
    assert "model" in panel.grow.toolTip() and "model" in panel.hint.text()
    assert not any(box.isEnabled() for box in panel.maps.values())


def test_growing_lists_every_mode_with_frequency_and_volume(qtbot: QtBot, tmp_path: Path) -> None:
    panel = grown(qtbot, tmp_path)
    session = panel.session
    assert session.snapshot is not None and len(session.snapshot) == 4
    assert panel.summary.text().startswith("4 masks in ")
    assert panel.modes.count() == len(session.modes) > 0
    shares = [round(m.frequency * 4) for m in session.modes]
    assert sum(shares) == 4
    for number, (mode, share) in enumerate(zip(session.modes, shares, strict=True)):
        item = panel.modes.item(number)
        assert item is not None and f"{share}/4" in item.text() and "ml" in item.text()
        voxels = np.count_nonzero(session.snapshot.member(mode.medoid))
        assert np.isclose(mode.volume_ml, voxels * 2 * 1.2 * 0.9 / 1000)


def test_an_empty_answer_is_a_mode_and_is_named_so() -> None:
    assert mode_line(Mode(3, (5, 6), 2 / 32, 5, 0.0, (0.0,)), 32) == "Mode 3   2/32   0 ml (nothing found)"


def test_members_typed_in_are_those_that_grow_draws(qtbot: QtBot, tmp_path: Path) -> None:
    panel = panel_of(qtbot, open_session(tmp_path))
    panel.members["members"].value = 2
    panel.grow.click()
    assert panel.session.snapshot is not None and len(panel.session.snapshot) == 2
    panel.members["members"].value = 3
    panel.grow.click()
    assert len(panel.session.snapshot) == 3


def test_a_click_shows_a_mode_and_a_second_one_hides_it(qtbot: QtBot, tmp_path: Path) -> None:
    panel = grown(qtbot, tmp_path)
    item = panel.modes.item(0)
    assert item is not None
    panel.modes.itemClicked.emit(item)
    assert panel.session.mode == 1 and item.isSelected()
    panel.modes.itemClicked.emit(item)
    assert panel.session.mode is None and not item.isSelected()


def test_a_double_click_with_the_mouse_makes_the_mode_editable_and_keeps_it_shown(qtbot: QtBot, tmp_path: Path) -> None:
    panel = grown(qtbot, tmp_path)
    session, view = panel.session, panel.modes.viewport()
    spot = panel.modes.visualItemRect(panel.modes.item(0)).center()
    # A real double click comes as press, release, double-click, release.
    qtbot.mouseClick(view, LEFT, pos=spot)
    qtbot.mouseDClick(view, LEFT, pos=spot)
    qtbot.mouseRelease(view, LEFT, pos=spot)
    assert session.mask is not None and session.snapshot is not None
    medoid = session.snapshot.member(session.modes[0].medoid)
    np.testing.assert_array_equal(session.mask.labels, medoid)
    assert session.mode == 1


def test_switches_ask_for_layers_and_show_what_is_on(qtbot: QtBot, tmp_path: Path) -> None:
    panel = grown(qtbot, tmp_path)
    assert panel.maps["inner"].isChecked() and not panel.maps["variance"].isChecked()
    panel.maps["variance"].click()
    panel.maps["inner"].click()
    assert panel.session.shown == {"outer", "variance"}
    commands.show_map(panel.session, "variance", False)
    assert not panel.maps["variance"].isChecked()


def test_stop_is_there_only_while_something_runs(qtbot: QtBot, tmp_path: Path) -> None:
    panel = panel_of(qtbot, open_session(tmp_path))
    panel.session.job = JobState(name="Ensemble", state="running")
    assert panel.stop.isEnabled() and not panel.grow.isEnabled() and not panel.members["members"].enabled
    assert "Ensemble" in panel.grow.toolTip()
    panel.session.job = JobState()
    assert not panel.stop.isEnabled() and panel.grow.isEnabled()


def test_choosing_another_scan_empties_the_page(qtbot: QtBot, tmp_path: Path) -> None:
    panel = grown(qtbot, tmp_path)
    panel.session.case = None
    assert panel.modes.count() == 0 and panel.summary.text().startswith("No masks yet")
    assert not panel.finished()
