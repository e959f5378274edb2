"""Quality of a mask model on labelled cases: Dice and HD95 by class, and sets of masks against sets of raters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.agreement import DISTANCE, EMPTY_RULE
from diffseg.card import Card
from diffseg.case import Case
from diffseg.checkpoint import Checkpoint
from diffseg.errors import PlanError
from diffseg.io import read_case
from diffseg.layouts import find_layout
from diffseg.metrics.catalogue import MaskSets
from diffseg.metrics.distribution import matched_iou, mean_dice
from diffseg.metrics.insight import collective_insight
from diffseg.metrics.overlap import dice
from diffseg.metrics.surface import hd95
from diffseg.plan import plan_for
from diffseg.run import Run
from diffseg.splits import read_names

INSIGHT = ("score", "combined_sensitivity", "d_max", "diversity_agreement")
# Figures of a set of masks against a set of raters, and how the table calls them; N is the number of members.
SET_FIGURES = {
    "ged": "GED({N}), papers' estimator",
    "ged_unbiased": "GED({N}), self-pairs left out",
    "mean_dice": "mean Dice of all pairs",
    "matched_iou": "matched IoU",
    "insight_score": "Collective Insight (paper)",
    "insight_combined_sensitivity": "  combined sensitivity",
    "insight_d_max": "  D_max",
    "insight_diversity_agreement": "  diversity agreement",
    "empty_members": "empty masks, model (%)",
    "empty_raters": "empty masks, raters (%)",
}


@dataclass(frozen=True)
class CaseScore:
    """One case with ``members`` masks and ``raters`` raters.

    Dice and HD95 (mm) of the members' majority against the raters, of each foreground class, NaN where a class is
    missing from both or one mask. ``sets`` holds the ``SET_FIGURES``, unless there is one mask and one rater.
    """

    name: str
    dice: tuple[float, ...]
    hd95_mm: tuple[float, ...]
    members: int = 1
    raters: int = 1
    sets: dict[str, float] = field(default_factory=dict)


def case_names(folder: Path, split: Path | None, limit: int | None = None) -> list[str]:
    """The names in the split's list ``validation``, or every labelled case in the folder; at most ``limit`` of them,
    spread evenly.

    Raises:
        CaseError: no labelled case; PlanError: an unusable split, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise PlanError(f"--limit is {limit}, but at least 1 case is needed; change it.")
    names = find_layout(folder).names() if split is None else read_names(split)["validation"]
    if limit is None or limit >= len(names):
        return names
    return [names[i] for i in np.linspace(0, len(names) - 1, limit).round().astype(int)]


def evaluate(
    checkpoint: Checkpoint, folder: Path, names: Sequence[str], members: int = 1, **choices: Any
) -> Iterator[CaseScore]:
    """Scores case by case, of ``members`` masks each. ``choices`` go to ``plan_for``."""
    layout, card = find_layout(folder), checkpoint.card
    for name in names:
        images, raters = layout.images(name, card.channels), layout.raters(name)
        case = read_case(images, raters, card.channels)
        plan = plan_for(card, checkpoint.sha256, images, raters, members=members, **choices)
        job = Run(plan, case, checkpoint)
        ensemble = job.ensemble()
        for _ in job.grow(ensemble, members):
            pass
        snapshot = ensemble.snapshot()
        masks = [snapshot.member(i) for i in range(len(snapshot))]
        yield score(name, snapshot.consensus(0.5), masks, case, len(card.classes))


def score(name: str, majority: NDArray[Any], masks: Sequence[NDArray[Any]], case: Case, classes: int) -> CaseScore:
    """Masks on the region of the whole case, and their majority, against its raters.

    Dice and HD95 are averaged over the raters for whom they are defined.
    """
    rows = []
    for k in range(1, classes):
        truths = [truth == k for truth in case.raters.values()]
        overlap = [dice(majority == k, truth) for truth in truths]
        distance = [hd95(majority == k, truth, case.spacing_mm) for truth in truths]
        rows.append((finite_mean(overlap), finite_mean(distance)))
    raters = list(case.raters.values())
    sets = set_figures(masks, raters, classes) if len(masks) > 1 or len(raters) > 1 else {}
    return CaseScore(name, tuple(r[0] for r in rows), tuple(r[1] for r in rows), len(masks), len(raters), sets)


def set_figures(masks: Sequence[NDArray[Any]], raters: Sequence[NDArray[Any]], classes: int) -> dict[str, float]:
    """The ``SET_FIGURES`` of one case; Collective Insight is the mean over the foreground classes.

    Raises:
        CaseError: masks of other shapes, or labels beyond the classes.
    """
    sets = MaskSets(masks, raters, classes)
    counts = sets.counts
    figures = {
        "ged": sets.ged.papers,
        "ged_unbiased": sets.ged.unbiased,
        "mean_dice": mean_dice(counts),
        "matched_iou": matched_iou(counts),
    }
    insights = [asdict(collective_insight(counts, "paper", k)) for k in range(1, classes)]
    figures |= {f"insight_{part}": float(np.mean([i[part] for i in insights])) for part in INSIGHT}
    figures["empty_members"] = 100 * float(np.mean([not m.any() for m in masks]))
    figures["empty_raters"] = 100 * float(np.mean([not m.any() for m in raters]))
    return figures


def finite_mean(values: Sequence[float]) -> float:
    """Mean of the finite values; NaN where there is none."""
    good = [v for v in values if np.isfinite(v)]
    return float(np.mean(good)) if good else float("nan")


def over_cases(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation of the finite values, NaN where there is none, and how many others there are."""
    good = [v for v in values if np.isfinite(v)]
    std = float(np.std(good)) if good else float("nan")
    return {"mean": finite_mean(good), "std": std, "left_out": len(values) - len(good)}


def summary(scores: Sequence[CaseScore], card: Card) -> dict[str, Any]:
    """Mean and standard deviation over the cases for each class, and over classes and cases together.

    NaN and infinite values (a class missing from one of the masks) are left out of the means and counted. ``sets`` has
    the ``SET_FIGURES``, over the cases that have them, and how they were measured; ``by_case`` repeats the scores.
    """
    result: dict[str, Any] = {"model": card.name, "cases": len(scores), "classes": {}}
    for k, info in enumerate(card.classes[1:]):
        result["classes"][info.name] = {m: over_cases([getattr(s, m)[k] for s in scores]) for m in ("dice", "hd95_mm")}
    for measure in ("dice", "hd95_mm"):
        result[measure] = finite_mean([value for s in scores for value in getattr(s, measure)])
    with_sets = [s for s in scores if s.sets]
    if with_sets:
        result["members"] = with_sets[0].members
        result["raters"] = sorted({s.raters for s in scores})
        result["distance"], result["empty_rule"] = DISTANCE, EMPTY_RULE
        result["sets"] = {name: over_cases([s.sets[name] for s in with_sets]) for name in SET_FIGURES}
    return result | {"by_case": [asdict(s) for s in scores]}


def table(result: dict[str, Any]) -> str:
    """The summary as aligned text."""
    lines = [f"{result['model']}, {result['cases']} cases", f"{'class':16} {'Dice':>15} {'HD95 (mm)':>15}"]
    for name, row in result["classes"].items():
        cells = [f"{row[m]['mean']:.3f} ± {row[m]['std']:.3f}" for m in ("dice", "hd95_mm")]
        left = row["hd95_mm"]["left_out"]
        lines.append(f"{name:16} {cells[0]:>15} {cells[1]:>15}" + (f"  ({left} left out)" if left else ""))
    lines.append(f"{'mean':16} {result['dice']:>15.3f} {result['hd95_mm']:>15.3f}")
    return "\n".join(lines + set_lines(result))


def set_lines(result: dict[str, Any]) -> list[str]:
    """The lines on sets of masks; none where every case has one mask and one rater."""
    if "sets" not in result:
        return []
    n, numbers = result["members"], result["raters"]
    raters = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    lines = [f"{n} masks a case, {raters} rater(s) (above: the majority of the masks)"]
    for name, title in SET_FIGURES.items():
        row = result["sets"][name]
        digits = 1 if name.startswith("empty") else 3
        value = f"{row['mean']:.{digits}f} ± {row['std']:.{digits}f}" if np.isfinite(row["mean"]) else "undefined"
        left = f"  ({row['left_out']} left out)" if row["left_out"] else ""
        lines.append(f"{title.format(N=n):32} {value:>15}{left}")
    return [*lines, f"GED: d = {result['distance']}.", f"{result['empty_rule']}. Mean ± standard deviation over cases."]
