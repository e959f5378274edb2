"""Quality of a model on labelled cases: per-class Dice and HD95."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.card import Card
from diffseg.case import Case
from diffseg.checkpoint import Checkpoint
from diffseg.io import read_case
from diffseg.layouts import find_layout
from diffseg.metrics.overlap import dice
from diffseg.metrics.surface import hd95
from diffseg.plan import plan_for
from diffseg.run import Run
from diffseg.splits import read_names


@dataclass(frozen=True)
class CaseScore:
    """One case: Dice and HD95 (mm) of each foreground class, NaN where a class is missing from both or one mask."""

    name: str
    dice: tuple[float, ...]
    hd95_mm: tuple[float, ...]


def case_names(folder: Path, split: Path | None) -> list[str]:
    """The names in the split's list ``validation``, or every labelled case in the folder.

    Raises:
        CaseError: no labelled case; PlanError: an unusable split.
    """
    if split is not None:
        return read_names(split)["validation"]
    return find_layout(folder).names()


def evaluate(
    checkpoint: Checkpoint, folder: Path, names: Sequence[str], members: int = 1, **choices: Any
) -> Iterator[CaseScore]:
    """Scores case by case. With several members their majority is scored. ``choices`` go to ``plan_for``."""
    layout = find_layout(folder)
    for name in names:
        images, raters = layout.images(name, checkpoint.card.channels), layout.raters(name)
        case = read_case(images, raters, checkpoint.card.channels)
        plan = plan_for(checkpoint.card, checkpoint.sha256, images, raters, members=members, **choices)
        job = Run(plan, case, checkpoint)
        ensemble = job.ensemble()
        for _ in job.grow(ensemble, members):
            pass
        yield score(name, ensemble.snapshot().consensus(0.5), case, len(checkpoint.card.classes))


def score(name: str, labels: NDArray[Any], case: Case, classes: int) -> CaseScore:
    """One mask on the region of the whole case against its raters, averaged over those where a figure is defined."""
    rows = []
    for k in range(1, classes):
        truths = [truth == k for truth in case.raters.values()]
        overlap = [dice(labels == k, truth) for truth in truths]
        distance = [hd95(labels == k, truth, case.spacing_mm) for truth in truths]
        rows.append((finite_mean(overlap), finite_mean(distance)))
    return CaseScore(name, tuple(r[0] for r in rows), tuple(r[1] for r in rows))


def finite_mean(values: Sequence[float]) -> float:
    """Mean of the finite values; NaN where there is none."""
    good = [v for v in values if np.isfinite(v)]
    return float(np.mean(good)) if good else float("nan")


def summary(scores: Sequence[CaseScore], card: Card) -> dict[str, Any]:
    """Mean and standard deviation over the cases for each class, and over classes and cases together.

    NaN and infinite values (a class missing from one of the masks) are left out of the means and counted.
    """
    result: dict[str, Any] = {"model": card.name, "cases": len(scores), "classes": {}}
    for measure in ("dice", "hd95_mm"):
        values = np.array([getattr(s, measure) for s in scores], dtype=float)
        values[~np.isfinite(values)] = np.nan
        for k, info in enumerate(card.classes[1:]):
            row = result["classes"].setdefault(info.name, {})
            row[measure] = {
                "mean": float(np.nanmean(values[:, k])),
                "std": float(np.nanstd(values[:, k])),
                "left_out": int(np.isnan(values[:, k]).sum()),
            }
        result[measure] = float(np.nanmean(values))
    return result


def table(result: dict[str, Any]) -> str:
    """The summary as aligned text."""
    lines = [f"{result['model']}, {result['cases']} cases", f"{'class':16} {'Dice':>15} {'HD95 (mm)':>15}"]
    for name, row in result["classes"].items():
        cells = [f"{row[m]['mean']:.3f} ± {row[m]['std']:.3f}" for m in ("dice", "hd95_mm")]
        left = row["hd95_mm"]["left_out"]
        lines.append(f"{name:16} {cells[0]:>15} {cells[1]:>15}" + (f"  ({left} left out)" if left else ""))
    lines.append(f"{'mean':16} {result['dice']:>15.3f} {result['hd95_mm']:>15.3f}")
    return "\n".join(lines)
