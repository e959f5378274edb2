"""The page Ensemble, with a Session and nothing else."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog

from diffseg.ensemble import Ensemble
from diffseg.modes import Mode
from napari_diffseg import commands, ensemble_commands
from napari_diffseg.session import Session
from napari_diffseg.state import JobState
from napari_diffseg.widgets.ensemble_panel import EnsemblePanel, ends, mode_words, number_words, size_words, spoken
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


def test_growing_shows_a_picture_of_every_mode_with_frequency_volume_and_mask(qtbot: QtBot, tmp_path: Path) -> None:
    panel = grown(qtbot, tmp_path)
    session = panel.session
    assert session.snapshot is not None and len(session.snapshot) == 4 and session.findings is not None
    assert panel.summary.text().startswith("4 masks in ")
    assert panel.modes.count() == len(session.modes) == len(session.findings.thumbnails) > 0
    assert sum(len(mode.members) for mode in session.modes) == 4
    for number, mode in enumerate(session.modes):
        item = panel.modes.item(number)
        assert item is not None and not item.icon().isNull()
        assert item.text() == mode_words(mode, session.snapshot)
        voxels = np.count_nonzero(session.snapshot.member(mode.medoid))
        assert np.isclose(mode.volume_ml, voxels * 2 * 1.2 * 0.9 / 1000)


def test_a_mode_says_how_often_and_how_large_and_an_empty_one_is_named_so() -> None:
    deep, flat = (Ensemble(2, shape) for shape in ((2, 2, 2), (2, 2)))
    for ensemble in (deep, flat):
        for i in range(32):
            ensemble.add(np.zeros(ensemble.shape, np.uint8), i)
    full = Mode(1, tuple(range(11)), 11 / 32, 4, 2.41, (2.41,))
    assert mode_words(full, deep.snapshot()) == "11 of 32\n2.4 ml\nmask 5"
    assert mode_words(full, flat.snapshot()) == "11 of 32\n2400 mm²\nmask 5"
    assert "34 ± 16 %" in spoken(full, deep.snapshot())
    empty = Mode(3, (11, 12), 2 / 32, 11, 0.0, (0.0,))
    assert mode_words(empty, deep.snapshot()) == "2 of 32\nnothing found\nmask 12"


def test_sizes_are_told_with_interval_number_and_the_word_uncalibrated(qtbot: QtBot, tmp_path: Path) -> None:
    panel = grown(qtbot, tmp_path)
    found = panel.session.findings
    assert found is not None and panel.volume.isVisibleTo(panel) and panel.diameter.isVisibleTo(panel)
    words = panel.number.text()
    assert "N = 4" in words and "uncalibrated" in words and "95 % interval takes 39 masks" in words
    assert "Volume" in panel.volume_words.text() and " mm" in panel.diameter_words.text()
    enough = replace(found.volume, coverage=0.95, low=1.6, high=2.5, median=1.84)
    assert size_words("Volume", enough, "ml") == "Volume <b>1.8 ml</b>, 95 %: 1.6\u00a0–\u00a02.5\u00a0ml"
    assert number_words(enough) == "95 % intervals, N = 4, <i>uncalibrated</i>"


def test_ends_of_an_interval_are_told_apart() -> None:
    assert (ends(1.6, 2.5), ends(4.361, 4.374), ends(0, 1234.4)) == ("1.6 – 2.5", "4.36 – 4.37", "0 – 1234")
    assert ends(2.0, 2.0) == "2"


def test_a_click_on_a_dot_shows_its_mask(qtbot: QtBot, tmp_path: Path) -> None:
    panel = grown(qtbot, tmp_path)
    panel.volume.picked.emit(2)
    assert panel.session.member == 2
    panel.diameter.picked.emit(2)
    assert panel.session.member is None


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


def test_the_gallery_works_by_keyboard(qtbot: QtBot, tmp_path: Path) -> None:
    panel = grown(qtbot, tmp_path)
    panel.modes.setCurrentRow(0)
    qtbot.keyClick(panel.modes, Qt.Key.Key_Space)
    assert panel.session.mode == 1 and panel.session.mask is None
    qtbot.keyClick(panel.modes, Qt.Key.Key_Space)
    assert panel.session.mode is None
    qtbot.keyClick(panel.modes, Qt.Key.Key_Return)
    assert panel.session.mask is not None


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


def test_the_table_has_a_row_per_mask_and_sorts_numbers_as_numbers(qtbot: QtBot, tmp_path: Path) -> None:
    panel = grown(qtbot, tmp_path, 12)
    assert panel.list.rowCount() == 0, "nothing is filled while it is folded"
    panel.table.unfold()
    found = panel.session.findings
    assert found is not None and panel.list.rowCount() == 12
    volume = [panel.list.horizontalHeaderItem(c).text() for c in range(panel.list.columnCount())].index("volume\n(ml)")
    panel.list.sortItems(volume)
    order = [int(panel.list.item(row, 0).text()) - 1 for row in range(12)]
    assert [found.measures[i].volume_ml for i in order] == sorted(m.volume_ml for m in found.measures)
    panel.list.cellClicked.emit(3, 0)
    assert panel.session.member == order[3]


def test_the_table_is_copied_and_exported_as_csv(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = grown(qtbot, tmp_path)
    panel.buttons.copy.click()
    board = QGuiApplication.clipboard()
    assert board is not None and panel.session.findings is not None
    rows = list(csv.DictReader(io.StringIO(board.text())))
    assert [float(row["volume (ml)"]) for row in rows] == [m.volume_ml for m in panel.session.findings.measures]
    assert {"mask", "mode", "largest diameter (mm)", "mean IoU", "seed", "anterior (ml)"} <= set(rows[0])
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(tmp_path / "out"), ""))
    panel.buttons.export.click()
    assert (tmp_path / "out.csv").read_text() == board.text()
    ensemble_commands.export_csv(panel.session, "members", tmp_path / "nowhere" / "out.csv")
    assert panel.session.message is not None and "no folder" in panel.session.message.text


def test_small_masks_are_dropped_and_come_back(qtbot: QtBot, tmp_path: Path) -> None:
    panel = grown(qtbot, tmp_path)
    session, held = panel.session, panel.session.live.opened
    # The tiny model's masks are of one size, so one of them is made small behind its back.
    small = np.zeros(session.snapshot.shape, np.uint8)
    small[0, 0, :3] = 1
    held.ensemble.add(small, 9)
    before = session.snapshot
    panel.area.click()
    assert session.ensemble.relative_area and session.findings.emptied == 1
    assert not session.snapshot.member(4).any() and session.findings.measures[4].empty
    assert any(mode.empty for mode in session.modes) and "1 too small" in panel.summary.text()
    panel.area.click()
    assert session.findings.emptied == 0 and (session.snapshot.member(4) == small).all()
    assert (session.snapshot.votes - before.votes).sum() == 3


def test_stop_is_there_only_while_something_runs(qtbot: QtBot, tmp_path: Path) -> None:
    panel = panel_of(qtbot, open_session(tmp_path))
    panel.session.job = JobState(name="Ensemble", state="running")
    assert panel.stop.isEnabled() and not panel.grow.isEnabled() and not panel.members["members"].enabled
    assert "Ensemble" in panel.grow.toolTip() and not panel.area.isEnabled() and panel.settled.isEnabled()
    panel.session.job = JobState()
    assert not panel.stop.isEnabled() and panel.grow.isEnabled() and panel.area.isEnabled()


def test_choosing_another_scan_empties_the_page(qtbot: QtBot, tmp_path: Path) -> None:
    panel = grown(qtbot, tmp_path)
    panel.session.case = None
    assert panel.modes.count() == 0 and panel.summary.text().startswith("No masks yet")
    assert not panel.finished() and not panel.volume.isVisibleTo(panel)
