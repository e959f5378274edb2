"""The page Denoise, with a Session and nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QFileDialog

from diffseg.sample import SAMPLERS
from diffseg.trajectory import read_field
from napari_diffseg import commands
from napari_diffseg.layerdata import line_color
from napari_diffseg.session import Session
from napari_diffseg.state import JobState
from napari_diffseg.widgets.denoise_panel import DenoisePanel
from tiny_session import open_session


def panel_of(qtbot: QtBot, session: Session) -> DenoisePanel:
    panel = DenoisePanel(session)
    qtbot.addWidget(panel)
    panel.show()
    return panel


def test_without_a_scan_the_buttons_say_so_in_tooltip_and_beneath(qtbot: QtBot) -> None:
    panel = panel_of(qtbot, Session())
    assert not panel.play.isEnabled() and not panel.step.isEnabled() and not panel.reset.isEnabled()
    assert "Open a scan" in panel.play.toolTip()
    assert panel.hint.isVisible() and "Open a scan" in panel.hint.text()


def test_a_page_that_nobody_has_seen_shows_nothing_and_then_what_there_is(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = DenoisePanel(session, awake=False)
    qtbot.addWidget(panel)
    assert panel.sampler.count() == 0 and panel.own is None
    commands.set_settings(session, sampler="ddpm")
    panel.wake()
    names = [panel.sampler.itemData(number) for number in range(panel.sampler.count())]
    assert names == list(SAMPLERS) and panel.sampler.currentData() == "ddpm" and panel.own is not None
    panel.sleep()
    panel.wake()
    assert panel.sampler.count() == len(names)


def test_stepping_goes_one_step_at_a_time_and_the_timeline_follows(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    for k in (1, 2, 3):
        panel.step.click()
        assert session.trajectory is not None and session.trajectory.done == k
        assert panel.timeline.value() == k and panel.timeline.maximum() == 3
        assert panel.where.text().startswith(f"Step {k}/3 · t = ")
    assert session.job.state == "idle" and panel.finished()


def test_the_timeline_cannot_leave_what_is_computed(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    panel.step.click()
    panel.timeline.setValue(3)
    assert session.step == 1 and panel.timeline.value() == 1
    assert not panel.bar.last.isEnabled() and panel.back.isEnabled()
    panel.bar.first.click()
    assert session.step == 0 and panel.timeline.value() == 0
    assert panel.step.isEnabled() and not panel.back.isEnabled()
    assert "starting noise" in panel.back.toolTip()
    panel.step.click()
    assert session.step == 1 and session.trajectory is not None and session.trajectory.done == 1, "shown, not computed"
    panel.back.click()
    panel.bar.last.click()
    assert session.step == 1
    commands.resume(session)
    assert not panel.step.isEnabled() and "finished mask" in panel.step.toolTip()


def test_play_turns_into_pause_and_resume(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    assert "Play" in panel.play.text()
    session.job = JobState(name="First mask", state="running")
    assert "Pause" in panel.play.text() and panel.play.isEnabled() and not panel.step.isEnabled()
    assert not panel.sampler.isEnabled() and not panel.common["steps"].enabled
    session.job = JobState(name="First mask", state="paused")
    assert "Resume" in panel.play.text() and panel.play.isEnabled() and panel.step.isEnabled()
    session.job = JobState(name="First mask", state="cancelling")
    assert not panel.play.isEnabled() and "First mask" in panel.play.toolTip()


def test_reset_drops_the_trajectory_and_the_curves(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    panel.play.click()
    assert panel.snr._mark.isVisible() and not panel.snr.getPlotItem().ctrlMenu.isVisible()
    panel.reset.click()
    assert session.trajectory is None
    assert not panel.snr._mark.isVisible() and panel.snr._line.getData()[0] is None


def test_curves_show_the_finite_levels_of_the_run_and_mark_the_step_on_display(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    panel.play.click()
    view = session.trajectory
    assert view is not None and math.isinf(view.log_snr[-1])
    steps, values = panel.snr._line.getData()
    np.testing.assert_array_equal(steps, [0, 1, 2])
    np.testing.assert_allclose(values, view.log_snr[:-1])
    assert np.all(np.diff(values) > 0)
    steps, values = panel.change._line.getData()
    np.testing.assert_array_equal(steps, [2, 3])
    assert session.case is not None
    certain = [read_field(view.x0[k], 3)[1].astype(float) for k in range(4)]
    least = [np.abs(certain[k] - certain[k - 1]).sum() * session.case.grid.voxel_ml for k in (2, 3)]
    # The voxels whose certainty changed are a part of those whose class changed; fields are stored as float16.
    assert np.all(np.array(values) > 0.95 * np.array(least)) and np.all(np.array(values) < 100 * np.array(least))
    panel.back.click()
    assert panel.snr._mark.value() == 2 and panel.change._mark.value() == 2


def test_another_sampler_brings_its_own_knobs_and_they_reach_the_settings(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    panel.sampler.setCurrentIndex(panel.sampler.findData("ddim"))
    panel.sampler.activated.emit(panel.sampler.currentIndex())
    assert session.settings.sampler == "ddim" and panel.own is not None
    panel.own["eta"].value = 0.5
    assert dict(session.settings.sampler_settings) == {"eta": 0.5}
    panel.common["steps"].value = 4
    panel.common["seed"].value = 7
    assert (session.settings.steps, session.settings.seed) == (4, 7)
    assert dict(session.settings.sampler_settings) == {"eta": 0.5}


def test_settings_changed_elsewhere_are_shown(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    commands.set_settings(session, sampler="ddim", sampler_settings={"eta": 0.3}, steps=9, device="cpu")
    assert panel.sampler.currentData() == "ddim" and panel.device.currentData() == "cpu"
    assert panel.common["steps"].value == 9 and panel.own is not None and panel.own["eta"].value == 0.3


def test_play_plays_back_what_is_finished_and_computes_again_after_a_change(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    panel.play.click()
    first = session.trajectory
    panel.bar.playback.setInterval(1)
    panel.play.click()
    assert session.step == 0 and panel.play.text() == "❚❚ Pause"
    qtbot.waitUntil(lambda: not panel.bar.playback.isActive(), timeout=5000)
    assert session.step == 3 and session.trajectory is first and panel.play.text() == "▶ Play"
    panel.play.click()
    panel.play.click()
    assert not panel.bar.playback.isActive() and session.step == 0, "the same button pauses"
    commands.set_settings(session, seed=8)
    panel.play.click()
    assert session.trajectory is not None and session.trajectory.seed == 8


def test_a_branch_is_listed_with_its_seed_and_step_drawn_in_its_colour_and_removed(
    qtbot: QtBot, tmp_path: Path
) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    panel.play.click()
    assert not panel.branch.isEnabled() and not panel.branches.isVisible()
    assert "go back to step 1 or before" in panel.branch.toolTip() and "go back" in panel.why.text()
    panel.timeline.setValue(1)
    panel.branch.click()
    words = panel.branches.words
    assert list(words) == ["A", "B"] and words["B"].startswith(f"B · seed {session.settings.seed + 1} from step 1 · ")
    assert words["A"].endswith(" ml") and words["B"].endswith(" ml") and panel.branches.isVisible()
    (other,) = panel.change._others
    steps, _ = other.getData()
    np.testing.assert_array_equal(steps, [2, 3])
    assert other.opts["pen"].color().name() == line_color("B")
    panel.branches.cross("B").click()
    assert session.branches == () and not panel.branches.isVisible() and panel.change._others == []


def test_the_lock_is_shown_and_keeps_or_frees_the_seed(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    assert panel.lock.isChecked()
    panel.lock.click()
    assert session.seed_locked is False
    panel.play.click()
    panel.reset.click()
    panel.play.click()
    assert panel.common["seed"].value == 43 == session.settings.seed


def test_export_asks_for_a_file_and_writes_it(qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    assert not panel.export.isEnabled() and "no trajectory" in panel.export.toolTip()
    panel.play.click()
    asked: list[str] = []

    def choose(parent: object, title: str, name: str, kind: str) -> tuple[str, str]:
        asked.append(name)
        return str(tmp_path / "strip"), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    png = next(action for action in panel.formats.actions() if action.data() == ".png")
    png.trigger()
    assert asked == ["tiny-seed-42.png"] and (tmp_path / "strip.png").is_file()


@pytest.mark.parametrize("field", ["settings", "trajectory", "step", "follow", "job"])
def test_after_shutdown_the_page_listens_to_nothing(qtbot: QtBot, field: str) -> None:
    session = Session()
    panel = panel_of(qtbot, session)
    panel.shutdown()
    assert len(getattr(session.events, field)) == 0
