"""Registries and knobs."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from diffseg.errors import PlanError
from diffseg.registry import Registry, check_knobs, knob, knobs


@dataclass(frozen=True)
class Part:
    size: float = knob(1.0, low=0.0, high=2.0, unit="mm", help="How large")
    name: str = "x"


def test_parts_are_found_by_name_and_unknown_names_list_the_known_ones() -> None:
    table: Registry[type] = Registry("part")
    table.add("a", "The first")(Part)
    assert table["a"] is Part and table.help("a") == "The first" and list(table) == ["a"]
    with pytest.raises(PlanError, match="no part called 'b'; choose one of: a"):
        table["b"]
    with pytest.raises(ValueError, match="twice"):
        table.add("a", "Again")(Part)


def test_knobs_carry_range_unit_and_help_and_refuse_values_outside() -> None:
    assert set(knobs(Part)) == {"size"}
    assert (knobs(Part)["size"].unit, knobs(Part)["size"].high) == ("mm", 2.0)
    check_knobs(Part(2.0))
    with pytest.raises(PlanError, match="size is 2.5"):
        check_knobs(Part(2.5))
