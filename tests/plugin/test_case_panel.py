"""The page Case, with a Session and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QFrame, QLabel

from diffseg.grid import Box
from napari_diffseg import commands
from napari_diffseg.session import Session
from napari_diffseg.state import JobState
from napari_diffseg.widgets.case_panel import CasePanel, card_words
from oracle import tiny_card
from tiny_session import open_session, write_scan


def panel_of(qtbot: QtBot, session: Session) -> CasePanel:
    panel = CasePanel(session)
    qtbot.addWidget(panel)
    panel.show()
    return panel


def test_with_nothing_open_the_page_offers_samples_and_no_controls(qtbot: QtBot) -> None:
    panel = panel_of(qtbot, Session())
    assert panel.empty.isVisible() and not panel.filled.isVisible()
    assert panel.samples and all(made.isEnabled() for made in panel.samples)


def test_a_dropped_file_becomes_the_case(qtbot: QtBot, tmp_path: Path) -> None:
    session = Session(inline=True)
    panel = panel_of(qtbot, session)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(write_scan(tmp_path / "scan.nii.gz")))])
    actions, buttons = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    panel.dropEvent(QDropEvent(QPointF(5, 5), actions, data, buttons, Qt.KeyboardModifier.NoModifier))
    assert session.case is not None and session.case.name == "scan"
    # File axes (P, I, R) of 18 x 14 x 22 voxels are shown as (I, P, L).
    assert panel.extent.text() == "14 × 18 × 22 voxels · 2 × 1.2 × 0.9 mm"
    assert panel.filled.isVisible() and not panel.empty.isVisible()


def test_typing_a_region_places_it_and_a_turned_round_one_is_straightened(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    commands.place_region(session, Box((2, 3, 4), (8, 9, 10)))
    panel = panel_of(qtbot, session)
    assert [spin.value() for spin in panel.region.first] == [2, 3, 4]
    assert [spin.value() for spin in panel.region.last] == [7, 8, 9]
    panel.region.last[0].setValue(11)
    assert session.roi == Box((2, 3, 4), (12, 9, 10))
    panel.region.first[1].setValue(15)
    assert session.roi == Box((2, 8, 4), (12, 16, 10))


def test_centre_takes_the_models_window_and_whole_scan_drops_the_region(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    panel.region.centre.click()
    # 16 voxels of the model's grid, which is the scan's own, cut to a scan of 14 x 18 x 22.
    assert session.roi is not None and session.roi.shape == (14, 16, 16)
    assert panel.region.words.text() == "Region: box of 28 × 19.2 × 14.4 mm"
    panel.region.whole.click()
    assert session.roi is None
    assert panel.region.words.text().startswith("Region: whole scan, 28 × 21.6 × 19.8")


def test_a_model_of_other_channels_is_explained_beneath(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    session.model = tiny_card(channels=2)
    panel = panel_of(qtbot, session)
    assert panel.hint.isVisible() and "C0, C1" in panel.hint.text()
    assert [label.text() for label in panel.inputs._names] == ["C0", "C1"]


def test_while_a_run_goes_on_scan_model_and_region_wait_and_say_why(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    session.job = JobState(name="Ensemble", state="running")
    assert not panel.region.centre.isEnabled() and not panel.models.isEnabled()
    assert "Ensemble" in panel.region.centre.toolTip() and "Ensemble" in panel.hint.text()
    session.job = JobState()
    assert panel.region.centre.isEnabled() and panel.models.isEnabled()
    assert "window" in panel.region.centre.toolTip()


def test_plane_buttons_ask_for_a_plane_and_show_the_one_in_view(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    panel.planes["coronal"].click()
    assert session.plane == "coronal"
    session.plane = "3d"
    assert panel.planes["3d"].isChecked() and not panel.planes["coronal"].isChecked()


def test_the_card_escapes_what_a_checkpoint_says_of_itself() -> None:
    card = replace(tiny_card(), title="<script>x</script>", quality={"Dice <2>": 0.8812})
    words = card_words(card)
    assert "<script>" not in words and "&lt;script&gt;" in words
    assert "Dice &lt;2&gt;: 0.881" in words


def test_the_card_pops_up_whole(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    session.model = replace(tiny_card(), training="A long note on the data. " * 12, citation="Some authors 2026")
    panel = panel_of(qtbot, session)
    panel.card.click()
    (popup,) = panel.findChildren(QFrame, "card")
    (text,) = [label for label in popup.findChildren(QLabel) if "Some authors 2026" in label.text()]
    assert text.height() >= text.heightForWidth(text.width())
    popup.close()


@pytest.mark.parametrize("field", ["case", "model", "roi", "job", "plane"])
def test_after_shutdown_the_page_listens_to_nothing(qtbot: QtBot, tmp_path: Path, field: str) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    assert len(getattr(session.events, field)) > 0
    panel.shutdown()
    panel.shutdown()
    assert len(getattr(session.events, field)) == 0
