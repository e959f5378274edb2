"""How a set of sampled masks agrees with a set of raters' masks, in single numbers.

The functions take `PairCounts`, so that many figures cost one pass over the voxels. Over several classes the
distance of two label arrays is 1 minus the mean IoU of the foreground classes, a class absent from both
counting 1, as in Stochastic Segmentation Networks and CCDM.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment, linprog
from scipy.sparse import csr_array, kron
from scipy.sparse import eye_array as identity

from diffseg.metrics.packed import PackedLabels, PairCounts, overlap_ratio, pair_counts


@dataclass(frozen=True)
class Ged:
    """Generalised energy distance, squared: 2 E[d(s, y)] - E[d(s, s')] - E[d(y, y')], with d = 1 - IoU.

    `papers` keeps the zero distance of every mask to itself in both inner means, as every published code
    does; it falls as 1/N with the number of samples for that reason alone. `unbiased` leaves those pairs out:
    it may be slightly negative, and is NaN where a set has a single mask. `cross`, `within_samples` and
    `within_raters` are the three means of `papers`.
    """

    papers: float
    unbiased: float
    cross: float
    within_samples: float
    within_raters: float
    n_samples: int
    n_raters: int
    distance: str = "1 - IoU"
    both_empty: str = "IoU 1"

    @property
    def each_pair_once(self) -> float:
        """The option `skip_same` of AmbDiffSeg: unordered pairs once, a mask with itself included."""
        samples = self.within_samples * self.n_samples / (self.n_samples + 1)
        raters = self.within_raters * self.n_raters / (self.n_raters + 1)
        return 2 * self.cross - samples - raters


def ged(
    samples: PackedLabels | Iterable[NDArray[Any]],
    raters: PackedLabels | Iterable[NDArray[Any]],
    classes: int = 2,
) -> Ged:
    """GED of label arrays (*S); CaseError as `pack`. For more figures of the same masks use `ged_of`."""
    return ged_of(pair_counts(samples, raters, classes))


def ged_of(counts: PairCounts) -> Ged:
    """GED from pair counts."""
    n, m = counts.n_samples, counts.n_raters
    cross, samples, raters = (float(term) for term in _terms(1 - counts.iou(), n))
    papers, unbiased = _estimates(cross, samples, raters, n, m)
    return Ged(papers, unbiased, cross, samples, raters, n, m)


def ged_per_slice(counts: PairCounts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """GED within each plane z, (Z,): the papers' estimator and the unbiased one. Empty planes have GED 0."""
    distance = 1 - overlap_ratio(counts.shared, "iou").mean(axis=0)
    cross, samples, raters = _terms(distance, counts.n_samples)
    papers, unbiased = _estimates(cross, samples, raters, counts.n_samples, counts.n_raters)
    return np.asarray(papers), np.asarray(unbiased)


def mean_iou(counts: PairCounts) -> float:
    """Mean IoU over all pairs of a sample and a rater; both empty: 1."""
    return float(counts.iou()[: counts.n_samples, counts.n_samples :].mean())


def mean_dice(counts: PairCounts) -> float:
    """Mean Dice over all pairs of a sample and a rater; both empty: 1. "Dice" of Christensen et al. 2025."""
    return float(counts.dice()[: counts.n_samples, counts.n_samples :].mean())


def matched_iou(counts: PairCounts, unequal: Literal["repeat", "subset"] = "repeat") -> float:
    """Hungarian-matched IoU: mean IoU of samples and raters, matched one to one so that it is largest.

    The rule for sets of different size: "repeat" repeats both sets until they have their least common
    multiple of masks, so every mask counts equally; "subset" matches the smaller set to the best part of the
    larger, which is what CCDM's code does and which ignores the masks left over.
    """
    similarity = counts.iou()[: counts.n_samples, counts.n_samples :]
    if unequal == "subset" or counts.n_samples == counts.n_raters:
        rows, columns = linear_sum_assignment(-similarity)
        return float(similarity[rows, columns].mean())
    return _transport(similarity)


def _transport(similarity: NDArray[np.float64]) -> float:
    """Best mean similarity of two sets of equal total weight.

    Equals the assignment of the repeated sets (Birkhoff), without their size: an optimal plan of the repeated
    problem, summed over repetitions, is a plan here, and the reverse.
    """
    n, m = similarity.shape
    rows = kron(identity(n), np.ones((1, m)))
    columns = kron(np.ones((1, n)), identity(m))
    weights = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    constraints = csr_array(np.vstack([rows.toarray(), columns.toarray()]))
    plan = linprog(-similarity.ravel(), A_eq=constraints, b_eq=weights, method="highs-ds")
    return float(similarity.ravel() @ plan.x)


def _terms(distance: NDArray[np.float64], n: int) -> tuple[Any, Any, Any]:
    """Means of (..., T, T) distances across the sets, within the first n and within the others."""
    blocks = distance[..., :n, n:], distance[..., :n, :n], distance[..., n:, n:]
    cross, samples, raters = (block.mean(axis=(-2, -1)) for block in blocks)
    return cross, samples, raters


def _estimates(cross: Any, samples: Any, raters: Any, n: int, m: int) -> tuple[Any, Any]:
    """The papers' and the unbiased GED from the three means."""
    papers = 2 * cross - samples - raters
    if n < 2 or m < 2:
        return papers, papers * float("nan")
    return papers, 2 * cross - samples * n / (n - 1) - raters * m / (m - 1)
