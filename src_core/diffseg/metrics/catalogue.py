"""The named figures, with unit, range and direction: what tables, command line and JSON list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from diffseg.metrics.distribution import Ged, ged_of, matched_iou, mean_dice, mean_iou
from diffseg.metrics.insight import collective_insight
from diffseg.metrics.maps import ncc
from diffseg.metrics.overlap import dice, iou
from diffseg.metrics.packed import PackedLabels, PairCounts, packed_sets, pair_counts
from diffseg.metrics.surface import SurfaceDistances, surface_distances
from diffseg.registry import Registry

SURFACE_DICE_TOLERANCE_MM = 1.0


class MaskPair:
    """Two masks (*S) with their spacing; the surfaces are measured once, on first use."""

    def __init__(self, a: NDArray[Any], b: NDArray[Any], spacing_mm: Sequence[float]) -> None:
        self.a, self.b, self.spacing_mm = a, b, tuple(spacing_mm)

    @cached_property
    def surface(self) -> SurfaceDistances:
        """Distances between the surfaces of the two, in mm."""
        return surface_distances(self.a, self.b, self.spacing_mm)


class MaskSets:
    """Samples and raters, label arrays (*S) or packed; pairs are counted once, on first use."""

    def __init__(
        self,
        samples: PackedLabels | Iterable[NDArray[Any]],
        raters: PackedLabels | Iterable[NDArray[Any]],
        classes: int = 2,
    ) -> None:
        self.samples, self.raters = packed_sets(samples, raters, classes)

    @cached_property
    def counts(self) -> PairCounts:
        """What every pair of masks shares."""
        return pair_counts(self.samples, self.raters)

    @cached_property
    def ged(self) -> Ged:
        """Both estimators of the generalised energy distance."""
        return ged_of(self.counts)


Of = TypeVar("Of", MaskPair, MaskSets)


@dataclass(frozen=True)
class Metric(Generic[Of]):
    """A figure: how to compute it, its unit ("" for none), its range and which end of it is better."""

    compute: Callable[[Of], float]
    better: Literal["higher", "lower"]
    unit: str = ""
    low: float = 0.0
    high: float = 1.0


METRICS: Registry[Metric[MaskPair]] = Registry("metric")
SET_METRICS: Registry[Metric[MaskSets]] = Registry("metric of mask sets")


def _insight(reading: str) -> Callable[[MaskSets], float]:
    def compute(sets: MaskSets) -> float:
        labels = range(1, sets.counts.classes)
        return float(np.mean([collective_insight(sets.counts, reading, label).score for label in labels]))

    return compute


METRICS.add("dice", "Dice overlap")(Metric(lambda pair: dice(pair.a, pair.b), "higher"))
METRICS.add("iou", "intersection over union")(Metric(lambda pair: iou(pair.a, pair.b), "higher"))
METRICS.add("hd95", "Hausdorff distance, larger of the two directed 95th percentiles")(
    Metric(lambda pair: pair.surface.percentile(95), "lower", "mm", high=float("inf"))
)
METRICS.add("hd", "Hausdorff distance")(
    Metric(lambda pair: pair.surface.percentile(100), "lower", "mm", high=float("inf"))
)
METRICS.add("assd", "average symmetric surface distance")(
    Metric(lambda pair: pair.surface.mean(), "lower", "mm", high=float("inf"))
)
METRICS.add("surface_dice", f"share of the surfaces within {SURFACE_DICE_TOLERANCE_MM:g} mm of each other")(
    Metric(lambda pair: pair.surface.within(SURFACE_DICE_TOLERANCE_MM), "higher")
)

SET_METRICS.add("ged", "generalised energy distance, 1 - IoU, zero pairs kept as in the papers")(
    Metric(lambda sets: sets.ged.papers, "lower", high=2.0)
)
SET_METRICS.add("ged_unbiased", "generalised energy distance, 1 - IoU, without the zero pairs")(
    Metric(lambda sets: sets.ged.unbiased, "lower", low=-2.0, high=2.0)
)
SET_METRICS.add("matched_iou", "Hungarian-matched IoU, both sets repeated to equal numbers")(
    Metric(lambda sets: matched_iou(sets.counts), "higher")
)
SET_METRICS.add("mean_dice", "mean Dice over all pairs of a sample and a rater, both empty 1")(
    Metric(lambda sets: mean_dice(sets.counts), "higher")
)
SET_METRICS.add("mean_iou", "mean IoU over all pairs of a sample and a rater, both empty 1")(
    Metric(lambda sets: mean_iou(sets.counts), "higher")
)
SET_METRICS.add("collective_insight", "Collective Insight as in the paper, mean over classes")(
    Metric(_insight("paper"), "higher")
)
SET_METRICS.add("collective_insight_ambdiffseg", "Collective Insight as AmbDiffSeg's code computes it")(
    Metric(_insight("ambdiffseg"), "higher")
)
SET_METRICS.add("collective_insight_dice", "Collective Insight with 1 - Dice as variety")(
    Metric(_insight("dice"), "higher")
)
SET_METRICS.add("ncc", "correlation of the samples' variability with their errors")(
    Metric(lambda sets: ncc(sets.samples, sets.raters), "higher", low=-1.0)
)
