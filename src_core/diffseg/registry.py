"""Tables of interchangeable parts, and the settings ("knobs") that describe them.

A family (samplers, schedules, metrics, ...) is one ``Registry``. Adding an entry makes it appear wherever
the family is listed: forms, command line, plans and the family's contract tests.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from diffseg.errors import PlanError

T = TypeVar("T")

# A damaged file may name something with thousands of letters.
_words = reprlib.Repr()
_words.maxstring = 60


@dataclass(frozen=True)
class Knob:
    """Range, unit and help of one setting; the single source for forms, command line and documentation."""

    low: float | None = None
    high: float | None = None
    unit: str = ""
    help: str = ""
    step: float | None = None


def knob(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    help: str = "",  # noqa: A002  (the field's name in forms and parsers)
    step: float | None = None,
) -> Any:
    """A dataclass field with a default and a ``Knob`` in its metadata."""
    return dataclasses.field(default=default, metadata={"knob": Knob(low, high, unit, help, step)})


def knobs(part: Any) -> dict[str, Knob]:
    """Name to ``Knob`` for every field of a dataclass (class or instance) declared with ``knob``."""
    return {f.name: f.metadata["knob"] for f in dataclasses.fields(part) if "knob" in f.metadata}


def check_knobs(part: Any) -> None:
    """Refuse values outside the declared range.

    Raises:
        PlanError: naming the setting, the value given and the range expected.
    """
    for name, k in knobs(part).items():
        value = getattr(part, name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if (k.low is not None and value < k.low) or (k.high is not None and value > k.high):
            raise PlanError(f"{name} is {value}, but must lie between {k.low} and {k.high}; change it and try again.")


class Registry(Generic[T]):
    """Name to part, in order of registration, each with one line of help."""

    def __init__(self, kind: str) -> None:
        """``kind`` is the family's noun in the singular, used in messages."""
        self.kind = kind
        self._parts: dict[str, T] = {}
        self._help: dict[str, str] = {}

    def add(self, name: str, help: str) -> Callable[[T], T]:  # noqa: A002
        """A decorator that enters its target under ``name``.

        Raises:
            ValueError: if the name is taken.
        """

        def enter(part: T) -> T:
            if name in self._parts:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._parts[name] = part
            self._help[name] = help
            return part

        return enter

    def __getitem__(self, name: str) -> T:
        """The part called ``name``.

        Raises:
            PlanError: for an unknown name, listing the known ones.
        """
        if name not in self._parts:
            known = ", ".join(self._parts) or "none"
            raise PlanError(f"There is no {self.kind} called {_words.repr(name)}; choose one of: {known}.")
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def names(self) -> tuple[str, ...]:
        """All names, in order of registration."""
        return tuple(self._parts)

    def help(self, name: str) -> str:
        """The line of help given with ``name``; raises ``PlanError`` for an unknown name."""
        self[name]
        return self._help[name]
