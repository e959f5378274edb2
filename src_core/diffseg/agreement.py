"""How a set of sampled masks agrees with a set of people's masks: every figure in one record. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import CaseError
from diffseg.metrics.distribution import ged_of, ged_per_slice, matched_iou, mean_dice, mean_iou
from diffseg.metrics.insight import READINGS, collective_insight
from diffseg.metrics.overlap import dice
from diffseg.metrics.packed import pair_counts
from diffseg.metrics.surface import hd95

EMPTY_RULE = "IoU and Dice of two empty masks count as 1, of one empty mask as 0"
DISTANCE = "1 - IoU, averaged over the foreground classes"


def agreement(
    samples: Sequence[NDArray[Any]],
    raters: Sequence[NDArray[Any]],
    spacing_mm: Sequence[float],
    names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """All figures of two sets of label maps ``(*S)`` on one grid, in plain values (NaN where undefined).

    ``names`` are those of the foreground classes 1, 2, ...; without them every label that occurs is a class, named by
    its number (so masks stored as 0 and 255 have one). ``pairs`` holds per class the mean Dice and HD95
    in mm over every pair of a sample and a rater; pairs where a figure is undefined or infinite are counted apart.

    Raises:
        CaseError: no masks, different shapes, or a label beyond the named classes.
    """
    if not samples or not raters:
        raise CaseError("At least one sampled mask and one rater's mask are needed; give --sample and --rater files.")
    if names is None:
        present = np.unique(np.concatenate([np.unique(m) for m in (*samples, *raters)]))
        present = present[present > 0]
        names = [str(k) for k in present] or ["1"]
        samples, raters = ([renumbered(m, present) for m in masks] for masks in (samples, raters))
    top = max(int(m.max(initial=0)) for m in (*samples, *raters))
    if top > len(names):
        raise CaseError(f"A mask holds the label {top}, but the classes are {', '.join(names)}; use masks of one task.")
    counts = pair_counts(samples, raters, len(names) + 1)
    papers, unbiased = ged_per_slice(counts)
    return {
        "samples": len(samples),
        "raters": len(raters),
        "distance": DISTANCE,
        "empty_rule": EMPTY_RULE,
        "ged": asdict(ged_of(counts)),
        "ged_per_slice": {"papers": papers.tolist(), "unbiased": unbiased.tolist()},
        "mean_iou": mean_iou(counts),
        "mean_dice": mean_dice(counts),
        "matched_iou": matched_iou(counts),
        "collective_insight": {
            name: {r: asdict(collective_insight(counts, r, k)) for r in READINGS} for k, name in enumerate(names, 1)
        },
        "pairs": {name: pair_figures(samples, raters, k, spacing_mm) for k, name in enumerate(names, 1)},
    }


def renumbered(labels: NDArray[Any], present: NDArray[Any]) -> NDArray[np.uint8]:
    """Labels with the k-th of the ``present`` ones (from 1) in place of its number; 0 stays."""
    return np.where(labels > 0, np.searchsorted(present, labels) + 1, 0).astype(np.uint8)


def pair_figures(
    samples: Sequence[NDArray[Any]], raters: Sequence[NDArray[Any]], label: int, spacing_mm: Sequence[float]
) -> dict[str, Any]:
    """Mean Dice and HD95 (mm) of one class over all pairs, with the number of pairs left out of each."""
    pairs = [(s == label, r == label) for s in samples for r in raters]
    figures: dict[str, Any] = {}
    values = {"dice": [dice(a, b) for a, b in pairs], "hd95_mm": [hd95(a, b, spacing_mm) for a, b in pairs]}
    for name, row in values.items():
        good = np.array(row)[np.isfinite(row)]
        figures[name] = {"mean": float(good.mean()) if good.size else float("nan"), "left_out": len(row) - good.size}
    return figures


def table(record: dict[str, Any]) -> str:
    """The record as aligned text."""
    ged, n = record["ged"], record["samples"]
    lines = [
        f"{n} sampled masks, {record['raters']} raters",
        f"GED (papers, self-pairs kept), N = {n:<4} {ged['papers']:8.4f}",
        f"GED (self-pairs left out),    N = {n:<4} {shown(ged['unbiased'], 4)}",
        f"  distance {record['distance']}; {record['empty_rule']}",
        f"mean IoU of all pairs                  {record['mean_iou']:8.4f}",
        f"mean Dice of all pairs                 {record['mean_dice']:8.4f}",
        f"matched IoU (Hungarian)                {record['matched_iou']:8.4f}",
    ]
    for name, readings in record["collective_insight"].items():
        lines.append(f"Collective Insight (paper), {name:10} {readings['paper']['score']:8.4f}")
    lines.append(f"{'class':16} {'Dice':>8} {'HD95 (mm)':>10}")
    for name, row in record["pairs"].items():
        left = f"  ({row['hd95_mm']['left_out']} pairs left out)" if row["hd95_mm"]["left_out"] else ""
        lines.append(f"{name:16} {shown(row['dice']['mean'], 4)} {shown(row['hd95_mm']['mean'], 3):>10}{left}")
    return "\n".join(lines)


def shown(value: float, digits: int) -> str:
    """A figure for the table; "undefined" where it is NaN."""
    return f"{value:8.{digits}f}" if np.isfinite(value) else "undefined"
