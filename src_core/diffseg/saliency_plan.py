"""What an explanation is: a frozen plan in plain values, like ``SamplePlan`` of a sampling run. Free of torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from diffseg.card import Card
from diffseg.errors import PlanError
from diffseg.grid import Box
from diffseg.plan import InputFile, input_file, versions
from diffseg.records import from_json, to_json

Component = Literal["all", "largest"]


@dataclass(frozen=True)
class ExplainPlan:
    """Everything that decides a saliency map and its mask.

    ``settings`` are knobs of ``method``; those left out have their defaults. Class ``target`` is
    looked for against ``background``; both are places among the model's labels. ``threshold`` and ``component`` (all
    or only the largest of each slice) make the mask. ``roi`` is a box on the scan in display order. ``classifier``
    is the second model of methods that are guided. ``device`` is what was asked for and ``ran`` the one that made the
    map, which is another one when memory ran out there; None where that is not known.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    model: str
    model_sha256: str
    inputs: tuple[InputFile, ...]
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    draws: int = 1
    seed: int = 0
    target: int = 1
    background: int = 0
    threshold: str = "otsu-average"
    component: Component = "all"
    classifier: str | None = None
    classifier_sha256: str | None = None
    roi: str | None = None
    device: str = "auto"
    ran: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    kind: Literal["saliency"] = "saliency"

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise PlanError(f"{self.draws} draws of noise were asked for, but at least 1 is needed; change --draws.")
        if self.seed < 0:
            raise PlanError(f"The seed is {self.seed}, but must be 0 or more; change --seed.")

    @property
    def box(self) -> Box | None:
        """``roi`` as a box."""
        return None if self.roi is None else Box.parse(self.roi)


def recommended(card: Card, method: str) -> tuple[dict[str, Any], int]:
    """The knobs of a method and the number of draws that the card recommends; none and 1 where it says nothing."""
    settings = dict(card.saliency.get(method, {}))
    draws = int(settings.pop("draws", 1))
    return settings, draws


def explain_plan(
    model: tuple[str, str],
    images: tuple[Path, ...],
    method: str,
    settings: Mapping[str, Any],
    classifier: tuple[str, str] | None = None,
    **choices: Any,
) -> ExplainPlan:
    """A plan with the inputs' hashes; ``model`` and ``classifier`` are names with the SHA-256 of their files."""
    return ExplainPlan(
        model=model[0],
        model_sha256=model[1],
        inputs=tuple(input_file(p) for p in images),
        method=method,
        settings=dict(settings),
        classifier=None if classifier is None else classifier[0],
        classifier_sha256=None if classifier is None else classifier[1],
        versions=versions(),
        **choices,
    )


def explain_plan_to_json(plan: ExplainPlan, folder: Path) -> str:
    """The plan as JSON for a file in ``folder``: input paths become relative to it."""
    files = (replace(f, path=os.path.relpath(f.path, folder.resolve())) for f in plan.inputs)
    return to_json(replace(plan, inputs=tuple(files)))


def read_explain_plan(path: Path) -> ExplainPlan:
    """The plan in a JSON file, with input paths made absolute.

    Raises:
        PlanError: no such file, or no plan of an explanation.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise PlanError(f"There is no readable plan at {path}; give a plan.json written by diffseg.") from None
    plan = from_json(ExplainPlan, text, str(path), PlanError)
    home = path.resolve().parent
    files = (replace(f, path=os.path.normpath(home / f.path)) for f in plan.inputs)
    return replace(plan, inputs=tuple(files))
