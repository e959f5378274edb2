"""The Collective Insight score of CIMD (Rahman et al., CVPR 2023) in its published readings.

The paper gives no code, and the public re-implementations differ in four points, which change the number:

* combined sensitivity: the share of the annotation union that the prediction union covers; for an empty
  annotation union 1 only when the predictions are empty too, else 0 ("both"), or 1 always ("annotations").
  The code of AmbDiffSeg has the two unions the wrong way round and divides by the prediction union
  ("swapped"; 1 when that is empty), which rewards small masks; its published numbers depend on it;
* D_max: for each annotation the best Dice among the predictions, averaged ("annotations"), or for each
  prediction the best among the annotations ("predictions");
* the variety of a set: the variance over voxels of the difference of two of its masks, a mask with itself
  included ("variance"), or 1 - Dice of two different masks ("dice"); its largest and smallest value enter;
* the mean of the three parts: 3abc / (a + b + c) as printed and coded ("published"), which for three equal
  parts x gives x squared, or their harmonic mean ("harmonic").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import PlanError
from diffseg.metrics.packed import PairCounts, overlap_ratio


@dataclass(frozen=True)
class Reading:
    """One way to read the definition; the choices are those of the module's text."""

    sensitivity: Literal["both", "annotations", "swapped"]
    best: Literal["annotations", "predictions"]
    variety: Literal["variance", "dice"]
    mean: Literal["published", "harmonic"] = "published"


READINGS = {
    "paper": Reading("both", "annotations", "variance"),
    "paper_empty_1": Reading("annotations", "annotations", "variance"),
    "paper_harmonic": Reading("both", "annotations", "variance", "harmonic"),
    "ambdiffseg": Reading("swapped", "annotations", "variance"),
    "dice": Reading("both", "annotations", "dice"),
    "dice_predictions": Reading("both", "predictions", "dice"),
    "dice_harmonic": Reading("both", "annotations", "dice", "harmonic"),
}


@dataclass(frozen=True)
class CollectiveInsight:
    """The score and its three parts, each in [0, 1], and the name of the reading."""

    score: float
    combined_sensitivity: float
    d_max: float
    diversity_agreement: float
    reading: str


def collective_insight(counts: PairCounts, reading: str = "paper", label: int = 1) -> CollectiveInsight:
    """Collective Insight of the masks of one foreground label.

    A pair of empty masks has Dice 1, and a set of one mask the variety 0; a score with a part 0 is 0.
    Raises PlanError for an unknown reading.
    """
    if reading not in READINGS:
        raise PlanError(f"There is no reading {reading!r}; choose one of: {', '.join(READINGS)}.")
    how = READINGS[reading]
    sensitivity = _combined_sensitivity(counts.unions[label - 1], how)
    shared = counts.shared[label - 1].sum(axis=0)
    best = _best_dice(shared, counts.n_samples, how)
    agreement = _diversity_agreement(shared, counts, how)
    parts = np.array([sensitivity, best, agreement])
    if parts.min() <= 0:
        score = 0.0
    elif how.mean == "published":
        score = float(3 * parts.prod() / parts.sum())
    else:
        score = float(3 / (1 / parts).sum())
    return CollectiveInsight(score, sensitivity, best, agreement, reading)


def _combined_sensitivity(unions: NDArray[np.int64], how: Reading) -> float:
    samples, raters, both = (int(count) for count in unions)
    whole = samples if how.sensitivity == "swapped" else raters
    if whole > 0:
        return both / whole
    return 0.0 if how.sensitivity == "both" and samples > 0 else 1.0


def _best_dice(shared: NDArray[np.int64], n: int, how: Reading) -> float:
    across = overlap_ratio(shared, "dice")[:n, n:]
    return float(across.max(axis=0 if how.best == "annotations" else 1).mean())


def _diversity_agreement(shared: NDArray[np.int64], counts: PairCounts, how: Reading) -> float:
    n = counts.n_samples
    spread = _variety(shared, counts.voxels, how)
    samples, raters = _range(spread[:n, :n], how), _range(spread[n:, n:], how)
    return 1 - (abs(samples[1] - raters[1]) + abs(samples[0] - raters[0])) / 2


def _variety(shared: NDArray[np.int64], voxels: int, how: Reading) -> NDArray[np.float64]:
    """Variety of every pair (T, T)."""
    if how.variety == "dice":
        return 1 - overlap_ratio(shared, "dice")
    sizes = np.diagonal(shared)
    # The difference is 1 or -1 where exactly one mask is set, so its square counts those voxels.
    square = (sizes[:, None] + sizes[None, :] - 2 * shared) / voxels
    mean = (sizes[:, None] - sizes[None, :]) / voxels
    return square - mean**2


def _range(spread: NDArray[np.float64], how: Reading) -> tuple[float, float]:
    """Smallest and largest variety within a set."""
    values = spread.ravel() if how.variety == "variance" else spread[np.triu_indices(len(spread), 1)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
