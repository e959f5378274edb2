"""Work in turns: in order, one at a time, never drawn in the turn in which it was done."""

from __future__ import annotations

import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QTimer

from napari_diffseg.turns import Turns


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def turns(qtbot: QtBot, log: list[str]) -> Turns:
    made = Turns(lambda: False)
    made.draw = lambda on: log.append("draw" if on else "hide")
    return made


def test_each_piece_has_a_turn_and_is_drawn_in_another(qtbot: QtBot, turns: Turns, log: list[str]) -> None:
    beat = QTimer()
    beat.timeout.connect(lambda: log.append("beat") if log and log[-1] != "beat" else None)
    beat.start(0)
    for name in "ab":
        turns.soon(lambda name=name: log.append(name))
    assert log == [] and turns.waiting, "nothing at once"
    qtbot.waitUntil(lambda: not turns.waiting)
    beat.stop()
    assert [entry for entry in log if entry != "beat"] == ["hide", "a", "draw", "hide", "b", "draw"]
    assert "".join(log).count("beatdraw") == 2 and "beathideb" in "".join(log), "others are heard between them"


def test_what_is_asked_for_in_a_piece_comes_after_it_or_next(qtbot: QtBot, turns: Turns, log: list[str]) -> None:
    def first() -> None:
        log.append("1")
        turns.soon(lambda: log.append("3"))
        turns.soon(lambda: log.append("2"), first=True)

    turns.soon(first)
    qtbot.waitUntil(lambda: not turns.waiting)
    assert [entry for entry in log if entry.isdigit()] == ["1", "2", "3"]


def test_then_waits_only_for_what_waits(qtbot: QtBot, turns: Turns, log: list[str]) -> None:
    turns.then(lambda: log.append("now"))
    turns.soon(lambda: log.append("soon"))
    turns.then(lambda: log.append("after"))
    assert log == ["now"]
    qtbot.waitUntil(lambda: not turns.waiting)
    assert [entry for entry in log if entry not in ("hide", "draw")] == ["now", "soon", "after"]


def test_an_error_in_a_piece_stops_neither_the_next_one_nor_the_drawing(
    qtbot: QtBot, turns: Turns, log: list[str]
) -> None:
    def bad() -> None:
        raise ValueError("no")

    turns.soon(bad)
    turns.soon(lambda: log.append("next"))
    with qtbot.capture_exceptions() as raised:
        qtbot.waitUntil(lambda: not turns.waiting)
    assert len(raised) == 1
    assert log == ["hide", "draw", "hide", "next", "draw"]


def test_whoever_cannot_wait_has_it_at_once_and_what_is_cleared_never_comes(
    qtbot: QtBot, turns: Turns, log: list[str]
) -> None:
    at_once = Turns(lambda: True)
    at_once.soon(lambda: log.append("at once"))
    assert log == ["at once"]
    turns.soon(lambda: log.append("never"))
    turns.clear()
    qtbot.wait(30)
    assert log == ["at once"] and not turns.waiting
