"""What a saliency map will cost, told before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from diffseg.card import Card
from diffseg.case import Case
from diffseg.checkpoint import build_network, build_schedule
from diffseg.grid import Box
from diffseg.preprocess import window_shape
from diffseg.saliency.method import Models, SaliencyMethod
from diffseg.saliency.run import times_of


@dataclass(frozen=True)
class HintCost:
    """``passes`` forward passes of a network, each for one slice of ``pixels`` on the model's grid."""

    passes: int
    slices: int
    pixels: int


def hint_cost(
    method: SaliencyMethod, case: Case, roi: Box | None, card: Card, classifier: Card | None = None, draws: int = 1
) -> HintCost:
    """The cost of a map of this region; ``card`` and ``classifier`` are the models', whose weights are not read.

    Raises:
        PlanError, CaseError, CheckpointError: settings or a region that do not fit the models.
    """
    box = (roi or Box.whole(case.grid.shape)).clipped(case.grid.shape)
    shape = window_shape(box, case.spacing_mm, card.rule, card.spatial)
    slices = shape[0] if case.ndim > card.spatial else 1
    per_image = method.passes(_skeletons(method, card, classifier))
    return HintCost(per_image * slices * (draws if method.random else 1), slices, int(np.prod(shape[-card.spatial :])))


def _skeletons(method: SaliencyMethod, card: Card, classifier: Card | None) -> Models:
    """Models without weights, as far as the method counts its passes by them."""
    network = None
    if method.needs == ("classifier",):
        with torch.device("meta"):
            network = build_network(classifier or card)
    return Models(times_of(build_schedule(card)), None, network)
