"""The job bar and its one obvious next step, with a Session and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtGui import QGuiApplication

from napari_diffseg import commands
from napari_diffseg.session import Session
from napari_diffseg.state import JobState, Message
from napari_diffseg.widgets.job_bar import JobBar, state_words, time_words
from napari_diffseg.widgets.next_step import next_step
from tiny_session import open_session


def bar_of(qtbot: QtBot, session: Session) -> JobBar:
    bar = JobBar(session)
    qtbot.addWidget(bar)
    bar.show()
    return bar


def test_the_primary_button_leads_from_a_scan_to_a_saved_mask(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    commands.set_settings(session, members=3)
    bar = bar_of(qtbot, session)
    turned: list[str] = []
    asked: list[bool] = []
    bar.turned.connect(turned.append)
    bar.save_asked.connect(lambda: asked.append(True))
    words = []
    for _ in range(4):
        words.append(bar.primary.text())
        assert bar.primary.isEnabled()
        bar.primary.click()
    assert words == ["▶ First mask", "▶ Grow", "Make editable", "Save mask…"]
    assert turned == ["Denoise", "Ensemble", "Mask", "Mask"]
    assert asked == [True]
    assert session.mask is not None and session.mask.source.startswith("mode 1")


def test_with_nothing_open_the_next_step_is_a_sample(qtbot: QtBot) -> None:
    session = Session(inline=True)
    bar = bar_of(qtbot, session)
    assert bar.primary.text() == "Open a sample" and bar.primary.isEnabled()
    bar.primary.click()
    assert session.case is not None and session.roi is not None


def test_without_a_model_the_next_step_says_so_in_tooltip_and_beneath(qtbot: QtBot, tmp_path: Path) -> None:
    session = open_session(tmp_path)
    session.model = None
    bar = bar_of(qtbot, session)
    assert not bar.primary.isEnabled()
    assert "model" in bar.primary.toolTip() and bar.why.isVisible() and "model" in bar.why.text()


@pytest.mark.parametrize(("state", "words"), [("running", "❚❚ Pause"), ("paused", "▶ Resume")])
def test_while_a_run_goes_on_the_next_step_is_to_pause_or_resume_it(state: str, words: str) -> None:
    session = Session(job=JobState(name="Ensemble", state=state, done=1, total=2))  # type: ignore[arg-type]
    assert next_step(session).words == words and not next_step(session).blockers


def test_progress_time_left_and_stop_show_only_while_something_runs(qtbot: QtBot) -> None:
    session = Session()
    bar = bar_of(qtbot, session)
    assert not bar.progress.isVisible() and not bar.stop.isVisible()
    session.job = JobState("Ensemble", "running", 3, 5, 62.0, "CPU, 2 threads")
    assert bar.progress.isVisible() and bar.stop.isVisible() and bar.stop.isEnabled()
    assert (bar.progress.value(), bar.progress.maximum()) == (3, 5)
    assert bar.state.text() == "◐ CPU, 2 threads · Ensemble running · 1:02 left"
    session.job = JobState("Ensemble", "cancelling", 3, 5)
    assert "stopping" in bar.state.text() and not bar.stop.isEnabled()
    session.job = JobState()
    assert not bar.progress.isVisible() and bar.state.text() == "● Device automatic · ready"


def test_hours_are_told_as_hours() -> None:
    assert time_words(JobState(seconds_left=3 * 3600 + 125)) == "3:02:05"
    assert "left" not in state_words(Session(job=JobState("x", "running")))


def test_an_error_is_shown_with_a_sign_and_its_details_can_be_copied(qtbot: QtBot) -> None:
    session = Session()
    bar = bar_of(qtbot, session)
    assert not bar.message.isVisible() and not bar.copy.isVisible()
    session.message = Message("Memory ran out.", "error", "Traceback: ...")
    assert bar.message.isVisible() and bar.message.text() == "⚠ Memory ran out."
    assert bar.copy.isVisible()
    bar.copy.click()
    board = QGuiApplication.clipboard()
    assert board is not None and board.text() == "Traceback: ..."
    session.message = Message("All well.")
    assert bar.message.text() == "All well." and not bar.copy.isVisible()
