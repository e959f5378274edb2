"""The page Case, with a Session and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QFrame, QLabel

from dicom_files import write_series
from diffseg.grid import Box
from diffseg.io import read_case
from diffseg.preprocess import ImageRule
from image_models import save_pair
from napari_diffseg import commands, raters, region_cost, runs, whole_scan
from napari_diffseg.pace import Paces
from napari_diffseg.session import Session
from napari_diffseg.state import JobState
from napari_diffseg.widgets.case_panel import CasePanel, card_words
from oracle import save_tiny, tiny_card
from plugin_cases import scan_file
from scans import save_nifti
from tiny_session import ODD_AFFINE, SHAPE, open_session, write_scan


@pytest.fixture(autouse=True)
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paces:
    """A machine on which nothing has run yet."""
    fresh = Paces(tmp_path / "cache" / "pace.json")
    for module in (region_cost, whole_scan, runs):
        monkeypatch.setattr(module, "paces", fresh)
    return fresh


def panel_of(qtbot: QtBot, session: Session) -> CasePanel:
    panel = CasePanel(session)
    qtbot.addWidget(panel)
    panel.show()
    return panel


def test_with_nothing_open_the_page_offers_samples_and_no_controls(qtbot: QtBot) -> None:
    panel = panel_of(qtbot, Session())
    assert panel.empty.isVisible() and not panel.filled.isVisible()
    assert panel.samples and all(made.isEnabled() for made in panel.samples)


def drop(panel: CasePanel, paths: list[Path]) -> None:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    actions, buttons = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    panel.dropEvent(QDropEvent(QPointF(5, 5), actions, data, buttons, Qt.KeyboardModifier.NoModifier))


def write_mask(path: Path) -> Path:
    """A mask on the grid of ``write_scan``."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:9, 3:8, 10:15] = 1
    return save_nifti(path, labels, ODD_AFFINE)


def test_a_dropped_file_becomes_the_case(qtbot: QtBot, tmp_path: Path) -> None:
    session = Session(inline=True)
    panel = panel_of(qtbot, session)
    drop(panel, [write_scan(tmp_path / "scan.nii.gz")])
    assert session.case is not None and session.case.name == "scan"
    # File axes (P, I, R) of 18 x 14 x 22 voxels are shown as (I, P, L).
    assert panel.extent.text() == "14 × 18 × 22 voxels · 2 × 1.2 × 0.9 mm"
    assert panel.filled.isVisible() and not panel.empty.isVisible()


def test_a_dropped_folder_of_slices_becomes_the_case_with_every_slice_in_the_plan(
    qtbot: QtBot, tmp_path: Path
) -> None:
    session = Session(inline=True)
    panel = panel_of(qtbot, session)
    paths = write_series(tmp_path / "series", np.arange(120).reshape(4, 5, 6))
    drop(panel, [tmp_path / "series"])
    assert session.case is not None and session.case.grid.shape == (4, 5, 6) and session.files == tuple(paths)
    drop(panel, [paths[2]])
    assert session.files == tuple(paths)


def test_a_dropped_folder_of_a_scan_and_its_mask_is_both(qtbot: QtBot, tmp_path: Path) -> None:
    session = Session(inline=True)
    panel = panel_of(qtbot, session)
    scan_file(tmp_path / "ct.nii", (5, 6, 7))
    save_nifti(tmp_path / "spleen_mask.nii", np.ones((5, 6, 7), np.uint8), np.diag([-1.0, -1.0, -1.0, 1.0]))
    drop(panel, [tmp_path])
    assert session.case is not None and session.case.name == "ct" and list(session.raters) == ["spleen_mask"]
    assert session.model is None and "No shipped model" in panel.hint.text()


def test_a_model_chosen_for_a_scan_of_another_contrast_is_doubted(qtbot: QtBot, tmp_path: Path) -> None:
    session = Session(inline=True)
    panel = panel_of(qtbot, session)
    drop(panel, [scan_file(tmp_path / "ct.nii", (20, 21, 22))])
    commands.choose_model(session, "hippocampus-3d")
    assert "learned from T1" in panel.hint.text() and not session.blockers("play")


def test_a_picture_dropped_with_black_and_white_ones_has_readers(qtbot: QtBot, tmp_path: Path) -> None:
    session = Session(inline=True)
    panel = panel_of(qtbot, session)
    y, x = np.mgrid[:40, :50]
    Image.fromarray((y * 3 + x).astype(np.uint8)).save(tmp_path / "cell.png")
    paths = [tmp_path / "cell.png"]
    for number, radius in enumerate((5, 6)):
        disc = (y - 20) ** 2 + (x - 25) ** 2 < radius**2
        Image.fromarray(disc.astype(np.uint8) * 255).save(tmp_path / f"anna{number}.png")
        paths.append(tmp_path / f"anna{number}.png")
    drop(panel, paths)
    assert session.case is not None and session.case.channels == ("cell",)
    assert list(session.raters) == ["anna0", "anna1"] and session.raters["anna1"].max() == 1


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
    assert panel.region.box_words.text() == "28 × 19.2 × 14.4 mm, 1 window" and panel.region.box.isChecked()
    panel.region.whole.click()
    assert session.roi is None and panel.region.whole.isChecked() and not panel.region.numbers.isVisible()
    panel.region.box.click()
    assert session.roi is not None and panel.region.numbers.isVisible()


def test_the_whole_scan_tells_its_windows_and_after_a_run_its_time(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    session.model = replace(tiny_card(), window=(4, 8, 8), rule=ImageRule(None, (0, 100), "none", 2))
    # 14, 18 and 22 voxels by windows of 4, 8 and 8 that overlap by half: 6, 4 and 5 of them.
    assert panel.region.whole_words.text() == "120 windows"
    running = JobState("Ensemble", "running", done=2, total=6, seconds_left=8.0)
    region_cost.learn(replace(session.request(), roi=Box((0, 0, 0), (4, 8, 8))), session.model, running)
    session.settings = replace(session.settings, steps=5)
    # 2 s a window, 5 steps, 120 windows: 20 minutes.
    assert panel.region.whole_words.text() == "120 windows, ~20 min"


def test_choosing_the_whole_scan_times_one_window_once(qtbot: QtBot, tmp_path: Path, known: Paces) -> None:
    session = Session(inline=True)
    save_tiny(tmp_path / "small.safetensors", replace(tiny_card(), window=(8, 8, 8)))
    commands.choose_model(session, tmp_path / "small.safetensors")
    commands.open_files(session, [write_scan(tmp_path / "scan.nii.gz")])
    commands.set_settings(session, device="cpu")
    commands.centre_region(session)
    panel = panel_of(qtbot, session)
    panel.region.whole.click()
    assert session.roi is None and session.message is not None
    # 14, 18 and 22 voxels by windows of 8 that overlap by half.
    assert session.message.text.startswith("One mask of the whole scan takes 60 windows, ")
    assert panel.region.whole_words.text() in session.message.text
    assert known.path.is_file()
    session.message = None
    panel.region.box.click()
    panel.region.whole.click()
    assert session.message is None, "known by now"


def test_contrasts_dropped_together_become_channels_by_name_and_masks_become_readers(
    qtbot: QtBot, tmp_path: Path
) -> None:
    session = Session(inline=True)
    card = replace(tiny_card(channels=2), channels=("T1", "FLAIR"))
    save_tiny(tmp_path / "two.safetensors", card)
    paths = [write_scan(tmp_path / f"case_{name}.nii.gz", seed) for seed, name in enumerate(("flair", "t1", "t2"))]
    paths.append(write_mask(tmp_path / "anna.nii.gz"))
    panel = panel_of(qtbot, session)
    drop(panel, [tmp_path / "two.safetensors", *paths])
    case = session.case
    assert case is not None and case.channels == ("case_t1", "case_flair")
    np.testing.assert_array_equal(case.image[0], read_case([paths[1]]).image[0])
    assert session.files == (paths[1], paths[0]) and not session.blockers("play")
    assert panel.readers.text() == "anna"


def test_masks_dropped_on_an_open_scan_are_added_without_costing_results(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    commands.play(session)
    case, snapshot = session.case, session.snapshot
    panel = panel_of(qtbot, session)
    assert panel.readers.text() == "none"
    drop(panel, [write_mask(tmp_path / "seg_a.nii.gz"), write_mask(tmp_path / "seg_b.nii.gz")])
    raters.add_raters(session, [tmp_path / "seg_a.nii.gz"])
    assert session.case is case and session.snapshot is snapshot is not None
    assert list(session.raters) == ["seg_a", "seg_b", "seg_a (2)"] and panel.readers.text() == "seg_a, seg_b, seg_a (2)"
    assert session.request().rater_files[0] == tmp_path / "seg_a.nii.gz"
    other = save_nifti(tmp_path / "seg_other.nii.gz", np.zeros((3, 4, 5), np.uint8), np.eye(4))
    raters.add_raters(session, [other])
    assert session.message is not None and session.message.kind == "error" and len(session.raters) == 3


def test_a_model_of_images_goes_to_the_page_saliency(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    before = session.model
    model, _ = save_pair(tmp_path)
    drop(panel_of(qtbot, session), [model])
    assert session.model is before and session.hint_model is not None and session.hint_model.path == model


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
