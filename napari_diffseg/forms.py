"""Frozen dataclass of knobs -> magicgui form: range, unit, step, help and default come from the dataclass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSpinBox, LineEdit, SpinBox
from magicgui.widgets.bases import ValueWidget

from diffseg.registry import Knob

# Decimals of a number without a step of its own.
FLOAT_STEP = 0.1
# Wide enough for any count, and what a Qt spin box can hold.
LARGEST = 2**31 - 1


def form(
    kind: type, values: Mapping[str, Any] | None = None, only: tuple[str, ...] | None = None
) -> Container[ValueWidget]:
    """A form with a widget for every knob of the dataclass ``kind`` (or those named in ``only``).

    Shown are ``values`` where given, else the defaults. A dataclass without knobs gives an empty form.

    Raises:
        TypeError: a knob that is no truth value, number, text or choice of words.
    """
    hints = get_type_hints(kind)
    wanted = [f for f in fields(kind) if "knob" in f.metadata and (only is None or f.name in only)]
    given = values or {}
    widgets = [_widget(f, hints[f.name], given.get(f.name, _default(f))) for f in wanted]
    return Container(widgets=widgets, labels=True)


def read(made: Container[ValueWidget]) -> dict[str, Any]:
    """Name to value of every widget of a form."""
    return {widget.name: widget.value for widget in made if isinstance(widget, ValueWidget)}


def show(made: Container[ValueWidget], values: Mapping[str, Any]) -> None:
    """Show ``values`` without telling anybody; names that the form lacks are passed over."""
    with made.changed.blocked():
        for widget in made:
            if isinstance(widget, ValueWidget) and widget.name in values and widget.value != values[widget.name]:
                with widget.changed.blocked():
                    widget.value = values[widget.name]


def enable(made: Container[ValueWidget], on: bool) -> None:
    """Grey out all widgets of a form or bring them back, wherever they were laid out."""
    for widget in made:
        widget.enabled = on


def on_change(made: Container[ValueWidget], act: Callable[[str, Any], object]) -> None:
    """Call ``act(name, value)`` whenever the person changes a widget."""
    for widget in made:
        if isinstance(widget, ValueWidget):
            widget.changed.connect(lambda value, name=widget.name: act(name, value))


def defaults(kind: type) -> dict[str, Any]:
    """Name to default of every knob of the dataclass ``kind`` that has one."""
    return {f.name: f.default for f in fields(kind) if "knob" in f.metadata and f.default is not MISSING}


def words(name: str) -> str:
    """A field's name as a label: ``input_scale`` becomes ``Input scale``."""
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def _default(f: Field) -> Any:
    return None if f.default is MISSING else f.default


def _widget(f: Field, hint: Any, value: Any) -> ValueWidget:
    k: Knob = f.metadata["knob"]
    shared: dict[str, Any] = {"name": f.name, "label": _label(f.name, k), "tooltip": k.help}
    if value is not None:
        shared["value"] = value
    if hint is bool:
        widget: ValueWidget = CheckBox(**shared, text="")
    elif hint is int:
        low, high = int(_or(k.low, -LARGEST)), int(_or(k.high, LARGEST))
        widget = SpinBox(**shared, min=low, max=high, step=int(k.step or 1))
    elif hint is float:
        bottom, top = _or(k.low, -LARGEST), _or(k.high, LARGEST)
        widget = FloatSpinBox(**shared, min=bottom, max=top, step=k.step or FLOAT_STEP)
    elif hint is str:
        widget = LineEdit(**shared)
    elif get_origin(hint) is Literal:
        widget = ComboBox(**shared, choices=get_args(hint))
    else:
        raise TypeError(f"no form for the setting {f.name}: {hint}")
    widget.native.setAccessibleName(shared["label"])
    return widget


def _or(bound: float | None, open_end: float) -> float:
    return open_end if bound is None else bound


def _label(name: str, k: Knob) -> str:
    return f"{words(name)} ({k.unit})" if k.unit else words(name)
