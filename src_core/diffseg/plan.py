"""What a sampling run is: a frozen plan in plain values, the argument of the run and its provenance at once.

Free of torch. Written as JSON beside every result; reading it back gives an equal plan.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from diffseg.card import Card, sha256
from diffseg.errors import PlanError
from diffseg.grid import Box
from diffseg.records import from_json, to_json
from diffseg.stages import Stage


@dataclass(frozen=True)
class InputFile:
    """A file that went into a run: its path, relative to the plan's own file once written, and its SHA-256."""

    path: str
    sha256: str


@dataclass(frozen=True)
class SamplePlan:
    """Everything that decides the result of a run.

    ``roi`` is a box on the scan in display order, ``z0:z1,y0:y1,x0:x1``; None is the whole scan. Members 0 to
    ``members - 1`` of ``seed`` are drawn. ``slice_correlation`` is that of the noise between neighbouring slices where
    a slice model runs on a volume. ``device`` is what was asked for; results on devices differ by rounding. ``ran``
    tells how members were really drawn, which may have changed when memory ran out: a run of a plan that has it draws
    those members that way again.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    model: str
    model_sha256: str
    inputs: tuple[InputFile, ...]
    steps: int
    sampler: str
    sampler_settings: dict[str, Any] = field(default_factory=dict)
    members: int = 16
    seed: int = 0
    roi: str | None = None
    slice_correlation: float = 0.5
    device: str = "auto"
    raters: tuple[InputFile, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    ran: tuple[Stage, ...] = ()
    kind: str = "sample"

    def __post_init__(self) -> None:
        if self.members < 1:
            raise PlanError(f"{self.members} members were asked for, but at least 1 is needed; change -n.")
        if self.steps < 1:
            raise PlanError(f"{self.steps} steps were asked for, but at least 1 is needed; change --steps.")
        if not 0 <= self.slice_correlation <= 1:
            raise PlanError(f"The correlation between slices must lie between 0 and 1, not {self.slice_correlation}.")
        if self.seed < 0:
            raise PlanError(f"The seed is {self.seed}, but must be 0 or more; change --seed.")

    @property
    def box(self) -> Box | None:
        """``roi`` as a box."""
        return None if self.roi is None else Box.parse(self.roi)


def plan_for(
    card: Card,
    model_sha256: str,
    images: tuple[Path, ...],
    raters: tuple[Path, ...] = (),
    sampler: str | None = None,
    sampler_settings: Mapping[str, Any] | None = None,
    steps: int | None = None,
    **choices: Any,
) -> SamplePlan:
    """A plan with the card's defaults where nothing else was chosen, and with the inputs' hashes."""
    same = sampler is None or sampler == card.sampler
    settings = dict(sampler_settings if sampler_settings is not None else card.sampler_settings if same else {})
    return SamplePlan(
        model=card.name,
        model_sha256=model_sha256,
        inputs=tuple(input_file(p) for p in images),
        raters=tuple(input_file(p) for p in raters),
        sampler=sampler or card.sampler,
        sampler_settings=settings,
        steps=card.steps if steps is None else steps,
        versions=versions(),
        **choices,
    )


def input_file(path: Path) -> InputFile:
    """The record of one input; ``path`` must exist."""
    return InputFile(str(path.resolve()), sha256(path))


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for name in ("napari-diffseg", "torch", "numpy", "scipy", "nibabel"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def plan_to_json(plan: SamplePlan, folder: Path) -> str:
    """The plan as JSON for a file in ``folder``: input paths become relative to it, so both can move together."""

    def relative(files: tuple[InputFile, ...]) -> tuple[InputFile, ...]:
        return tuple(replace(f, path=os.path.relpath(f.path, folder.resolve())) for f in files)

    return to_json(replace(plan, inputs=relative(plan.inputs), raters=relative(plan.raters)))


def read_plan(path: Path) -> SamplePlan:
    """The plan in a JSON file, with input paths made absolute.

    Raises:
        PlanError: no such file, or no plan.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise PlanError(f"There is no readable plan at {path}; give a plan.json written by diffseg.") from None
    plan = from_json(SamplePlan, text, str(path), PlanError)

    def absolute(files: tuple[InputFile, ...]) -> tuple[InputFile, ...]:
        return tuple(replace(f, path=os.path.normpath(path.resolve().parent / f.path)) for f in files)

    return replace(plan, inputs=absolute(plan.inputs), raters=absolute(plan.raters))
