"""Saliency methods with settings that suit the exact models, and the questions put to them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from diffseg.saliency import SALIENCY, Models, Question, SaliencyMethod, SaliencyStep
from diffseg.saliency.cam import ActivationMap
from diffseg.saliency.cdm import LabelDifference
from diffseg.sample import Noise
from saliency_oracle import SIDE, TIMES, BrightSpots, PlantedClassifier, PlantedDenoiser, lesion_image

# Settings that make a method quick, or fit the exact models, whose classes differ by more than real ones.
QUICK: dict[str, dict[str, Any]] = {
    "cdm": {"q": 300},
    "cg-cdm": {"q": 300, "scale": 0.1},
    "cdm-code": {"q": 300},
    "cg-cdm-code": {"q": 300, "scale": 0.01},
    "cg-diff": {"q": 400, "steps": 40, "scale": 3.0},
    "cg-diff-code": {"q": 400, "stride": 10, "scale": 3.0},
}
PLACES = (0, 4, 7)


def made(name: str, **settings: Any) -> SaliencyMethod:
    if issubclass(SALIENCY[name], ActivationMap) and find_spec("pytorch_grad_cam") is None:
        pytest.skip("class activation maps need the extra cam")
    return SALIENCY[name](**(QUICK.get(name, {}) | settings))


def rounding(method: SaliencyMethod, scale: Tensor) -> float:
    """By how much a map may change when sums run in another order.

    States near 3 carry 2e-7 each; ten differences of them are added and multiplied by the gain.
    """
    return 1e-5 * method.gain if isinstance(method, LabelDifference) else 1e-4 * float(scale.abs().max())


def planted(method: SaliencyMethod) -> Models:
    network = BrightSpots() if isinstance(method, ActivationMap) else PlantedClassifier()
    return Models(TIMES, PlantedDenoiser(), network.eval())


def question(places: tuple[int, ...] = PLACES, start: int = 0) -> Question:
    return Question(torch.stack([lesion_image(p) for p in places]), tuple(range(start, start + len(places))))


def final(steps: Iterable[SaliencyStep]) -> SaliencyStep:
    *_, last = steps
    return last


def drawn(draw: int, asked: Question) -> Tensor:
    """The noise of one draw, by the rule that it hangs on seed, draw and slice alone."""
    return torch.cat([Noise(0, (draw,)).draw(n, (1, SIDE, SIDE)) for n in asked.numbers])
