"""The page Mask, with a Session and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QFileDialog

from napari_diffseg import commands
from napari_diffseg.session import Session
from napari_diffseg.widgets.mask_panel import MaskPanel
from tiny_session import ODD_AFFINE, SHAPE, open_session


def panel_of(qtbot: QtBot, session: Session) -> MaskPanel:
    panel = MaskPanel(session)
    qtbot.addWidget(panel)
    panel.show()
    return panel


def keys(panel: MaskPanel) -> list[str]:
    return [panel.sources.itemData(i) for i in range(panel.sources.count())]


def test_without_a_scan_there_is_nothing_to_start_from_and_the_page_says_so(qtbot: QtBot) -> None:
    panel = panel_of(qtbot, Session())
    assert not panel.edit.isEnabled() and not panel.save.isEnabled()
    assert "Open a scan" in panel.hint.text() and "Open a scan" in panel.edit.toolTip()
    assert panel.sources.count() == 0


def test_what_there_is_to_start_from_grows_with_the_results(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    assert keys(panel) == ["empty"]
    commands.grow_ensemble(session, 2)
    assert keys(panel)[0] == "mode:1" and {"mean", "inner", "outer", "member:0", "empty"} <= set(keys(panel))
    assert panel.sources.currentData() == "mode:1"


def test_a_choice_of_the_person_outlives_a_growing_ensemble(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    commands.grow_ensemble(session, 2)
    panel.sources.setCurrentIndex(panel.sources.findData("mean"))
    panel.sources.activated.emit(panel.sources.currentIndex())
    commands.grow_ensemble(session, 4)
    assert panel.sources.currentData() == "mean"


def test_make_editable_starts_from_the_chosen_answer(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    commands.grow_ensemble(session, 3)
    panel.sources.setCurrentIndex(panel.sources.findData("member:2"))
    panel.edit.click()
    assert session.mask is not None and session.snapshot is not None
    np.testing.assert_array_equal(session.mask.labels, session.snapshot.member(2))
    assert panel.save.isEnabled() and panel.saved.text().startswith("Not saved yet")


def test_the_class_picker_names_the_models_classes_and_follows_the_mask(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    assert not panel.classes.isVisible()
    panel.edit.click()
    assert [panel.classes.itemText(i) for i in range(panel.classes.count())] == ["anterior", "posterior"]
    color = panel.classes.itemIcon(1).pixmap(8, 8).toImage().pixelColor(4, 4).name()
    assert color == "#56b4e9"
    panel.classes.setCurrentIndex(1)
    panel.classes.activated.emit(1)
    assert session.mask is not None and session.mask.selected == 2
    session.mask = replace(session.mask, selected=1)
    assert panel.classes.currentData() == 1


def test_saving_writes_the_file_and_the_page_tells_when(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    panel.edit.click()
    panel.choose_and_save(tmp_path / "out.nii.gz")
    written = nib.load(tmp_path / "out.nii.gz")
    assert written.shape == SHAPE
    np.testing.assert_allclose(written.affine, ODD_AFFINE, atol=1e-6)  # float32 in the header
    assert (tmp_path / "out.plan.json").is_file()
    assert session.mask is not None and session.mask.saved_at is not None
    assert panel.saved.text().startswith(f"Saved {session.mask.saved_at:%H:%M} as out.nii.gz. Made from")
    assert panel.finished()
    session.mask = replace(session.mask, dirty=True)
    assert "changed since" in panel.saved.text() and not panel.finished()


def test_the_dialog_proposes_a_name_beside_the_scan_and_cancelling_it_saves_nothing(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    panel.edit.click()
    asked: list[str] = []

    def dialog(parent: object, title: str, proposal: str, files: str) -> tuple[str, str]:
        asked.append(proposal)
        return "", ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", dialog)
    panel.save.click()
    assert asked == [str(tmp_path / "scan_mask.nii.gz")]
    assert session.mask is not None and session.mask.path is None


def test_saving_over_the_scan_is_refused_in_one_sentence(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    before = (tmp_path / "scan.nii.gz").read_bytes()
    panel = panel_of(qtbot, session)
    panel.edit.click()
    panel.choose_and_save(tmp_path / "scan.nii.gz")
    assert (tmp_path / "scan.nii.gz").read_bytes() == before
    assert session.message is not None and session.message.kind == "error"
    assert panel.saved.text().startswith("Not saved yet")


def test_a_start_that_would_lose_edits_is_asked_about_on_the_page(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    panel.edit.click()
    assert session.mask is not None and not panel.question.isVisible()
    first = session.mask = replace(session.mask, edited=True)
    panel.edit.click()
    assert session.mask is first and panel.question.isVisible() and "an empty mask" in panel.question.words.text()
    panel.question.no.click()
    assert session.mask is first and not panel.question.isVisible()
    panel.edit.click()
    panel.question.yes.click()
    assert session.mask is not first and not panel.question.isVisible()


def test_the_tools_work_on_the_chosen_class_as_they_are_set(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    assert not panel.tools.isVisible()
    panel.edit.click()
    assert session.mask is not None and panel.tools.between.isVisible() and panel.tools.protect.isVisible()
    session.mask.labels[4:8, 4:8, 4:8] = 2
    session.mask.labels[4:8, 4:8, 9] = 1
    commands.select_class(session, 2)
    panel.tools.mm.setValue(2.0)
    assert session.tools.mm == 2.0
    panel.tools.grow.click()
    assert (session.mask.labels == 2).sum() > 64 and (session.mask.labels[4:8, 4:8, 9] == 1).all()
    panel.tools.protect.click()
    panel.tools.grow.click()
    assert not (session.mask.labels[4:8, 4:8, 9] == 1).any()
    panel.tools.shrink.click()
    panel.tools.origin.click()
    assert session.origin_shown and "voxels changed" in session.message.text  # type: ignore[union-attr]


def test_places_to_check_are_told_with_their_size_and_how_many_are_left(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    qtbot.waitUntil(lambda: "grow an ensemble" in panel.check.where.text())
    assert not panel.check.next.isEnabled()
    commands.grow_ensemble(session, 4)
    qtbot.waitUntil(lambda: panel.check.where.text().startswith("first: slice"))
    assert session.queue is not None and session.place is None and not panel.check.done.isEnabled()
    panel.check.next.click()
    number = session.queue.places[0].number
    qtbot.waitUntil(lambda: panel.check.where.text().startswith(f"slice {number} · "))
    left = len(session.queue.places)
    assert panel.check.where.text().endswith(f"mm³ · {left} left")
    panel.check.done.click()
    qtbot.waitUntil(lambda: panel.check.where.text().endswith(f"· {left - 1} left"))
    panel.check.by.setCurrentIndex(1)
    panel.check.by.activated.emit(1)
    qtbot.waitUntil(lambda: "region 1" in panel.check.where.text())


def test_a_blind_reading_is_begun_and_revealed_on_the_page_and_saved_beside_the_mask(
    qtbot: QtBot, tmp_path: Path
) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    commands.grow_ensemble(session, 2)
    panel.blind.begin.click()
    assert keys(panel) == ["empty"] and not panel.edit.isEnabled() and panel.blind.reveal.isVisible()
    assert session.mask is not None
    session.mask.labels[3, 4, 5:9] = 1
    panel.blind.reveal.click()
    session.mask.labels[3, 4, 5] = 2
    assert "rater:blind reading" in keys(panel) and "reader 'blind reading'" in panel.blind.state.text()
    panel.choose_and_save(tmp_path / "out.nii.gz")
    blind, mask = (np.asarray(nib.load(tmp_path / name).dataobj) for name in ("out.blind.nii.gz", "out.nii.gz"))
    assert (np.count_nonzero(blind == 1), np.count_nonzero(mask == 1), np.count_nonzero(mask == 2)) == (4, 3, 1)
    assert (tmp_path / "out.blind.plan.json").is_file()
