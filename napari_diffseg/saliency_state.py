"""What a Session holds of saliency: the models asked, how, and what they showed. Frozen, no torch, no Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffseg.registry import knob

if TYPE_CHECKING:
    from diffseg.card import Card
    from diffseg.case import Case
    from diffseg.grid import Box
    from diffseg.saliency_plan import ExplainPlan


# What the classifier of a model is called after it.
GUIDE = "-classifier"


@dataclass(frozen=True, eq=False)
class HintModel:
    """A model that knows image-level labels only, and the classifier beside it.

    ``card`` may be a classifier's own, which is all that activation maps need; ``classifier`` is then None.
    """

    path: Path
    card: Card
    classifier: Path | None = None
    classifier_card: Card | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that can be looked for, in the order of the network."""
        return self.card.labels or (self.classifier_card.labels if self.classifier_card is not None else ())

    @property
    def has(self) -> frozenset[str]:
        """Which needs of a method it meets: "denoiser", "classifier"."""
        own = "classifier" if self.card.task == "classifier" else "denoiser"
        return frozenset({own} | ({"classifier"} if self.classifier is not None else set()))

    def unmet(self, method: str) -> str:
        """Why these models cannot run a method, or an empty string."""
        from diffseg.saliency import SALIENCY  # imports torch, which a run needs anyway

        missing = set(SALIENCY[method].needs) - self.has
        if "denoiser" in missing:
            return f"{method} needs an image diffusion model, and {self.card.title} is a classifier: choose a CAM."
        if missing:
            return f"{method} needs a classifier, and there is no {self.path.stem}{GUIDE} beside the model: choose cdm."
        return ""


@dataclass(frozen=True)
class HintSettings:
    """What a person sets before a saliency map and for its threshold; ``knobs`` are those of ``method``.

    ``target`` and ``background`` are places among the model's labels; ``largest`` keeps one part of each slice.
    """

    method: str = "cg-cdm"
    knobs: Mapping[str, Any] = field(default_factory=dict)
    draws: int = knob(1, low=1, high=100, help="Draws of noise that are averaged; more are steadier and take longer")
    seed: int = knob(0, low=0, high=2**31 - 1, help="The same seed gives the same map")
    target: int = 1
    background: int = 0
    threshold: str = "otsu-average"
    largest: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class HintRequest:
    """Everything that decides a saliency map, frozen when the person asked for it."""

    case: Case
    model: HintModel
    settings: HintSettings
    roi: Box | None
    device: str
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class SaliencyView:
    """A map as far as it has come, on the box ``roi`` of the case.

    ``map`` and ``first`` (that of the first draw) are float32 ``(*roi)`` in the method's own units, ``shown`` is
    ``map`` stretched to [0, 1] from ``low`` to ``high``. ``counts (B,)`` is the histogram of ``shown`` over [0, 1].
    ``seconds`` were spent computing, on ``device``, for ``passes`` forward passes of a network.
    """

    run_id: int
    plan: ExplainPlan
    roi: Box
    done: int
    total: int
    map: np.ndarray
    first: np.ndarray
    shown: np.ndarray
    low: float
    high: float
    counts: np.ndarray
    passes: int
    seconds: float
    device: str
    unit: str
    labels: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether the map is final."""
        return self.done >= self.total

    def to_unit(self, value: float) -> float:
        """A value of ``map`` on the scale of ``shown``."""
        return (value - self.low) / (self.high - self.low) if self.high > self.low else 0.0

    def from_unit(self, value: float) -> float:
        """A value of ``shown`` on the scale of ``map``."""
        return self.low + value * (self.high - self.low)


@dataclass(frozen=True, eq=False)
class SaliencyCut:
    """The voxels of ``view`` above a threshold: ``mask (*roi)`` uint8.

    ``thresholds`` has one entry per slice, on the scale [0, 1] of ``view.shown``; ``own`` is True when the person
    set it. ``rule``, ``threshold`` (of a person, in units of the map) and ``largest`` are what it was made with.
    ``dice`` compares with readers and with the mask being edited, by name.
    """

    view: SaliencyView
    mask: np.ndarray
    thresholds: np.ndarray
    own: bool
    volume_ml: float
    rule: str
    threshold: float | None
    largest: bool
    dice: tuple[tuple[str, float], ...] = ()

    @property
    def line(self) -> float:
        """Where the threshold line stands: the middle one of the slices."""
        return float(np.median(self.thresholds))
