"""Settings from dictionaries: a misspelt name never runs with the default in silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from diffseg.codec import CODECS
from diffseg.denoise import HEADS
from diffseg.errors import PlanError
from diffseg.losses import WEIGHTINGS
from diffseg.noise import SCHEDULES
from diffseg.records import from_dict
from diffseg.registry import Registry
from diffseg.sample import DDIM, SAMPLERS

FAMILIES: tuple[Registry[Any], ...] = (SAMPLERS, SCHEDULES, HEADS, CODECS, WEIGHTINGS)


def parts() -> Iterator[Any]:
    for family in FAMILIES:
        for name in family:
            yield pytest.param(family[name], id=f"{family.kind}-{name}")


@pytest.mark.parametrize("kind", list(parts()))
def test_a_setting_that_a_part_does_not_have_is_refused_by_name(kind: type) -> None:
    required = {"classes": 2} if "classes" in getattr(kind, "__dataclass_fields__", {}) else {}
    from_dict(kind, required, "The part", PlanError)
    with pytest.raises(PlanError, match="The part cannot be used.*mispelt"):
        from_dict(kind, required | {"mispelt": 1}, "The part", PlanError)


def test_the_refusal_names_the_settings_that_exist() -> None:
    with pytest.raises(PlanError, match="no setting 'etta'; the settings are: eta"):
        from_dict(DDIM, {"etta": 0.5}, "The sampler", PlanError)
