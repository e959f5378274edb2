"""Forms made from dataclasses of knobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
from pytestqt.qtbot import QtBot

from diffseg.registry import knob, knobs
from diffseg.sample import SAMPLERS
from napari_diffseg import forms
from napari_diffseg.state import SampleSettings


@dataclass(frozen=True)
class Knobs:
    """One of each kind, and a field that is none."""

    plain: str = "not a knob"
    count: int = knob(3, low=1, high=9, help="How many")
    share: float = knob(0.25, low=0.0, high=1.0, step=0.05, unit="mm")
    very_sure: bool = knob(False)


def test_range_step_help_unit_and_default_come_from_the_dataclass(qtbot: QtBot) -> None:
    made = forms.form(Knobs)
    count, share = made["count"], made["share"]
    assert [w.name for w in made] == ["count", "share", "very_sure"]
    assert (count.value, count.min, count.max, count.tooltip) == (3, 1, 9, "How many")
    assert (share.value, share.min, share.max, share.step) == (0.25, 0.0, 1.0, 0.05)
    assert share.label == "Share (mm)"
    assert made["very_sure"].label == "Very sure"


def test_every_widget_has_a_name_for_screen_readers(qtbot: QtBot) -> None:
    assert [w.native.accessibleName() for w in forms.form(Knobs)] == ["Count", "Share (mm)", "Very sure"]


def test_read_gives_what_was_shown(qtbot: QtBot) -> None:
    made = forms.form(Knobs, {"count": 7})
    forms.show(made, {"share": 0.5, "very_sure": True, "unknown": 1})
    assert forms.read(made) == {"count": 7, "share": 0.5, "very_sure": True}


def test_showing_tells_nobody_but_a_change_by_the_person_does(qtbot: QtBot) -> None:
    made = forms.form(Knobs)
    heard: list[tuple[str, object]] = []
    forms.on_change(made, lambda name, value: heard.append((name, value)))
    forms.show(made, {"count": 5})
    assert heard == []
    made["count"].value = 6
    assert heard == [("count", 6)]


def test_a_kind_of_setting_without_a_widget_is_refused(qtbot: QtBot) -> None:
    @dataclass(frozen=True)
    class Odd:
        parts: bytes = knob(b"a")

    with pytest.raises(TypeError, match="parts"):
        forms.form(Odd)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_each_sampler_can_be_made_from_its_own_form(qtbot: QtBot, name: str) -> None:
    kind = SAMPLERS[name]
    made = forms.form(kind)
    assert set(forms.read(made)) == set(knobs(kind))
    assert kind(**forms.read(made)) == kind()


def test_only_the_named_knobs_are_in_the_form(qtbot: QtBot) -> None:
    assert list(forms.read(forms.form(SampleSettings, only=("steps", "seed")))) == ["steps", "seed"]


def test_a_choice_of_words_becomes_a_list_and_is_read_back(qtbot: QtBot) -> None:
    @dataclass(frozen=True)
    class Choosing:
        variance: Literal["small", "large"] = knob("small", help="How much")

    made = forms.form(Choosing, {"variance": "large"})
    assert forms.read(made) == {"variance": "large"}
    assert list(made["variance"].choices) == ["small", "large"]
