"""Quality and cost of saliency methods on slices whose lesions are known, all judged by the same rules.

Maps become masks by one threshold rule and one rule for components, whatever the method. Masks are compared slice by
slice on the scan's own grid; slices without a lesion have no Dice, but count in that of the volume.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.card import Card
from diffseg.case import Case
from diffseg.checkpoint import Checkpoint
from diffseg.errors import CaseError
from diffseg.io import read_case
from diffseg.layouts import find_layout
from diffseg.metrics.overlap import dice, iou
from diffseg.metrics.surface import hd95
from diffseg.saliency import SALIENCY
from diffseg.saliency.run import SaliencyRun
from diffseg.saliency_plan import explain_plan, recommended

# The methods as their papers have them; entries that end in "-code" repeat published code instead.
METHODS = tuple(name for name in SALIENCY if not name.endswith("-code"))
MEASURES = ("dice", "iou", "hd95_mm", "seconds", "passes")
CAMS = ("grad-cam", "grad-cam++", "score-cam", "layer-cam")
OURS, SLOW = "cg-cdm", "cg-diff"


@dataclass(frozen=True)
class SaliencyScore:
    """One method on one slice.

    ``dice``, ``iou`` and ``hd95_mm`` are NaN where the slice has no lesion; HD95 is infinite for an empty mask of one
    that has. ``shared``, ``found`` and ``true`` count pixels in both masks, in the method's and in the true one.
    ``seconds`` and ``passes`` (forward passes of a network) are the case's, shared equally by its slices.
    """

    case: str
    slice: int
    method: str
    dice: float
    iou: float
    hd95_mm: float
    shared: int
    found: int
    true: int
    seconds: float
    passes: float


def evaluate_saliency(
    checkpoint: Checkpoint,
    classifier_checkpoint: Checkpoint | None,
    folder: Path,
    names: Sequence[str],
    methods: Sequence[str] = METHODS,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    **choices: Any,
) -> Iterator[SaliencyScore]:
    """Scores slice by slice, of each case by each method.

    ``settings`` are knobs by method, over those that the card recommends. ``choices`` are fields of ``ExplainPlan``
    for all methods alike: ``threshold``, ``component``, ``seed``, ``device``, ``draws`` (by default the card's).

    Raises:
        CaseError, PlanError, CheckpointError: a case without a mask, or what ``SaliencyRun`` raises.
    """
    layout, card = find_layout(folder), checkpoint.card
    for name in names:
        images, raters = layout.images(name, card.channels), layout.raters(name)
        case = read_case(images, raters, card.channels)
        for method in methods:
            knobs, draws = recommended(card, method)
            plan = explain_plan(
                (card.name, checkpoint.sha256),
                images,
                method,
                knobs | dict((settings or {}).get(method, {})),
                **{"draws": draws} | choices,
            )
            yield from scores(name, case, SaliencyRun(plan, case, checkpoint, classifier_checkpoint))


def scores(name: str, case: Case, job: SaliencyRun) -> list[SaliencyScore]:
    """The scores of all slices of a case, from a run that is carried out here."""
    *_, last = job.explain()
    found = job.explanation(last).mask > 0
    true = majority(case)[job.prepared.roi.slices]
    if case.ndim == 2:
        found, true = found[None], true[None]
    cost = (last.seconds / len(true), last.passes / len(true))
    rows = zip(job.numbers, found, true, strict=True)
    return [slice_score((name, number, job.plan.method), f, t, case.spacing_mm[-2:], cost) for number, f, t in rows]


def slice_score(
    who: tuple[str, int, str],
    found: NDArray[np.bool_],
    true: NDArray[np.bool_],
    spacing_mm: Sequence[float],
    cost: tuple[float, float],
) -> SaliencyScore:
    """The score of one slice; see ``SaliencyScore``."""
    measures = (dice(found, true), iou(found, true), hd95(found, true, spacing_mm)) if true.any() else (np.nan,) * 3
    counts = (int((found & true).sum()), int(found.sum()), int(true.sum()))
    return SaliencyScore(*who, *measures, *counts, *cost)


def majority(case: Case) -> NDArray[np.bool_]:
    """Voxels that at least half of the raters mark; raises ``CaseError`` if there are no raters."""
    if not case.raters:
        raise CaseError("Saliency is scored against masks, but this case has none; add them to labels/.")
    return np.mean([labels > 0 for labels in case.raters.values()], axis=0) >= 0.5


def summary(scores: Sequence[SaliencyScore], card: Card) -> dict[str, Any]:
    """For each method mean and standard deviation over the slices with a lesion, and the Dice of all slices together.

    HD95 leaves out slices where the method finds nothing; ``left_out`` counts them. ``cg_cdm`` compares CG-CDM: its
    Dice as a multiple of the best activation map's, and how many times faster than CG-Diff it is; None where a method
    for that is missing.
    """
    slices = {(s.case, s.slice): s.true > 0 for s in scores}
    result: dict[str, Any] = {"model": card.name, "slices": len(slices), "with_lesion": sum(slices.values())}
    result["methods"] = {
        method: method_summary([s for s in scores if s.method == method])
        for method in dict.fromkeys(s.method for s in scores)
    }
    return result | {"cg_cdm": comparison(result["methods"])}


def method_summary(scores: Sequence[SaliencyScore]) -> dict[str, Any]:
    """The row of one method; see ``summary``."""
    row: dict[str, Any] = {}
    for measure in MEASURES:
        values = np.array([getattr(s, measure) for s in scores if s.true], dtype=float)
        good = values[np.isfinite(values)]
        mean, std = (float(good.mean()), float(good.std())) if len(good) else (float("nan"), float("nan"))
        row[measure] = {"mean": mean, "std": std, "left_out": len(values) - len(good)}
    shared, found, true = (sum(getattr(s, part) for s in scores) for part in ("shared", "found", "true"))
    return row | {"volume_dice": 2 * shared / (found + true) if found + true else float("nan")}


def comparison(methods: Mapping[str, Any]) -> dict[str, Any]:
    """CG-CDM against the best activation map and against CG-Diff; see ``summary``."""
    best = max((c for c in CAMS if c in methods), key=lambda c: methods[c]["dice"]["mean"], default=None)
    ours, slow = methods.get(OURS), methods.get(SLOW)
    return {
        "best_cam": best,
        "dice_over_best_cam": ours["dice"]["mean"] / methods[best]["dice"]["mean"] if ours and best else None,
        "times_faster_than_cg_diff": slow["seconds"]["mean"] / ours["seconds"]["mean"] if ours and slow else None,
    }


def table(result: Mapping[str, Any]) -> str:
    """The summary as aligned text."""
    head = ("Dice", "IoU", "HD95 (mm)", "Dice, all slices", "s per slice", "passes")
    lines = [
        f"{result['model']}, {result['with_lesion']} slices with a lesion of {result['slices']}",
        f"{'method':12}" + "".join(f"{word:>18}" for word in head),
    ]
    for method, row in result["methods"].items():
        cells = [f"{row[m]['mean']:.3f} ± {row[m]['std']:.3f}" for m in ("dice", "iou")]
        cells += [f"{row['hd95_mm']['mean']:.1f} ± {row['hd95_mm']['std']:.1f}", f"{row['volume_dice']:.3f}"]
        cells += [f"{row['seconds']['mean']:.3f}", f"{row['passes']['mean']:.0f}"]
        left = row["hd95_mm"]["left_out"]
        lines.append(f"{method:12}" + "".join(f"{c:>18}" for c in cells) + (f"  ({left} empty)" if left else ""))
    compared = result["cg_cdm"]
    if compared["dice_over_best_cam"] is not None:
        lines.append(f"CG-CDM has {compared['dice_over_best_cam']:.2f} times the Dice of {compared['best_cam']}.")
    if compared["times_faster_than_cg_diff"] is not None:
        lines.append(f"CG-CDM is {compared['times_faster_than_cg_diff']:.1f} times faster than CG-Diff.")
    return "\n".join(lines)
