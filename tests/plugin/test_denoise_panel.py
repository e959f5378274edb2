"""The page Denoise, with a Session and nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from napari_diffseg import commands
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
    assert not panel.forward.isEnabled() and panel.back.isEnabled()
    panel.first.click()
    assert session.step == 0 and panel.timeline.value() == 0
    assert panel.forward.isEnabled() and not panel.back.isEnabled()
    panel.forward.click()
    assert session.step == 1
    panel.back.click()
    panel.last.click()
    assert session.step == 1


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
    expected = [np.abs(view.x0[k].astype(float) - view.x0[k - 1]).mean() for k in (2, 3)]
    # The foreground field is stored as float16: eleven bits.
    np.testing.assert_allclose(values, expected, rtol=0.05)
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


def test_playing_back_runs_to_the_newest_step_and_stops(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    panel = panel_of(qtbot, session)
    panel.play.click()
    panel.playback.setInterval(1)
    panel.replay.click()
    assert session.step == 0
    qtbot.waitUntil(lambda: not panel.playback.isActive(), timeout=5000)
    assert session.step == 3


@pytest.mark.parametrize("field", ["settings", "trajectory", "step", "follow", "job"])
def test_after_shutdown_the_page_listens_to_nothing(qtbot: QtBot, field: str) -> None:
    session = Session()
    panel = panel_of(qtbot, session)
    panel.shutdown()
    assert len(getattr(session.events, field)) == 0
