"""An ensemble against the people who outlined the same scan: figures, maps, and who matches whom. No torch.

Everything is computed on the smallest box that holds the region that was sampled and all of the people's masks;
outside it every mask is empty, which is taken into account, so that the figures are those of the whole scan.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.ensemble import Labels, Snapshot, class_iou, pack
from diffseg.errors import CaseError
from diffseg.grid import Box
from diffseg.metrics.distribution import Ged, ged_of, ged_per_slice, matched_iou, mean_dice, mean_iou
from diffseg.metrics.insight import CollectiveInsight, collective_insight
from diffseg.metrics.maps import ged_map, local_ged_map
from diffseg.metrics.overlap import dice
from diffseg.metrics.packed import PairCounts, pair_counts
from diffseg.metrics.surface import hd95
from diffseg.modes import MODE_DISTANCE, Mode

# A rater and a mode match from this IoU on: the rater's mask could be a member of the mode.
MATCH_IOU = 1 - MODE_DISTANCE
# The window of the local map reaches so far to every side.
LOCAL_REACH_MM = 5.0


@dataclass(frozen=True)
class RaterBoard:
    """Who matches whom. ``iou[r][m]`` is the IoU, in [0, 1], of rater ``raters[r]`` and the representative mask of the
    mode with index ``modes[m]``: the mean over the foreground classes, 1 for a class that both lack.
    """

    raters: tuple[str, ...]
    modes: tuple[int, ...]
    iou: tuple[tuple[float, ...], ...]

    def raters_alone(self, threshold: float = MATCH_IOU) -> tuple[str, ...]:
        """Raters whom no mode matches."""
        return tuple(name for name, row in zip(self.raters, self.iou, strict=True) if max(row) < threshold)

    def modes_alone(self, threshold: float = MATCH_IOU) -> tuple[int, ...]:
        """Modes that match no rater."""
        return tuple(m for j, m in enumerate(self.modes) if max(row[j] for row in self.iou) < threshold)


@dataclass(frozen=True)
class RaterScore:
    """One rater against all members: means over the members for which a figure is defined and finite, NaN where there
    is none, and how many are left out. ``volume_ml`` is the foreground of the rater's own mask.
    """

    name: str
    volume_ml: float
    dice: float
    dice_left_out: int
    hd95_mm: float
    hd95_left_out: int


@dataclass(frozen=True, eq=False)
class Figures:
    """All figures of ``members`` masks against the raters, for the foreground ``classes`` by name.

    ``slices_papers`` and ``slices_unbiased`` are GED in each slice of the scan (one for a 2D scan), from the first on.
    ``insight`` has an entry per class; ``matched_iou`` repeats both sets to equal numbers. ``scores`` are averaged over
    the classes. ``outside`` is the share of the raters' foreground that lies outside the region that was sampled.
    """

    members: int
    classes: tuple[str, ...]
    ged: Ged
    slices_papers: tuple[float, ...]
    slices_unbiased: tuple[float, ...]
    insight: tuple[CollectiveInsight, ...]
    matched_iou: float
    mean_iou: float
    mean_dice: float
    scores: tuple[RaterScore, ...]
    outside: float


@dataclass(frozen=True, eq=False)
class Bench:
    """Members and raters on one box of the scan, ready to be compared.

    ``samples`` and ``raters`` are labels ``(*box)`` uint8; ``spacing_mm`` and ``voxel_ml`` are those of the scan and
    ``scan`` its shape.
    """

    box: Box
    samples: tuple[Labels, ...]
    raters: Mapping[str, Labels]
    classes: tuple[str, ...]
    spacing_mm: tuple[float, ...]
    voxel_ml: float
    scan: tuple[int, ...]
    outside: float

    @property
    def labels(self) -> int:
        """Number of classes, background included."""
        return len(self.classes) + 1

    def ged_map(self) -> NDArray[np.floating[Any]]:
        """Voxelwise GED, ``(*box)`` float32 in [0, 2]; 0 outside the box."""
        return ged_map(self.samples, list(self.raters.values()), self.labels)

    def local_ged_map(self, reach_mm: float = LOCAL_REACH_MM) -> NDArray[np.floating[Any]]:
        """GED with 1 - IoU in a window of ``reach_mm`` to every side, ``(*box)`` float32 in [0, 2]."""
        half = [max(1, round(reach_mm / mm)) for mm in self.spacing_mm]
        return local_ged_map(self.samples, list(self.raters.values()), half, self.labels)


def bench(
    snapshot: Snapshot,
    roi: Box,
    raters: Mapping[str, NDArray[Any]],
    classes: Sequence[str],
    spacing_mm: Sequence[float],
    voxel_ml: float,
) -> Bench:
    """Members on ``roi`` and raters' label maps on the whole scan brought to one box.

    With one foreground class every label of a rater that is not 0 counts as it.

    Raises:
        CaseError: no raters, no members, or a label beyond the named classes.
    """
    if not raters or len(snapshot) == 0:
        raise CaseError(
            "There are no masks of people or no members to compare; open a scan with readers and press Grow."
        )
    shape = next(iter(raters.values())).shape
    box = _covering(roi, list(raters.values()))
    cut = {name: _fitting(name, labels[box.slices], classes) for name, labels in raters.items()}
    inside = tuple(slice(a - c, b - c) for a, b, c in zip(roi.start, roi.stop, box.start, strict=True))
    samples = []
    for i in range(len(snapshot)):
        sample = np.zeros(box.shape, np.uint8)
        sample[inside] = snapshot.member(i)
        samples.append(sample)
    whole = sum(int(np.count_nonzero(labels)) for labels in cut.values())
    seen = sum(int(np.count_nonzero(labels[inside])) for labels in cut.values())
    outside = 1 - seen / whole if whole else 0.0
    return Bench(box, tuple(samples), cut, tuple(classes), tuple(spacing_mm), voxel_ml, shape, outside)


def board(at: Bench, modes: Sequence[Mode]) -> RaterBoard:
    """IoU of every rater with the representative mask of every mode."""
    medoids = [pack(at.samples[mode.medoid], at.labels) for mode in modes]
    rows = [pack(labels, at.labels) for labels in at.raters.values()]
    iou = tuple(tuple(class_iou(row, medoid) for medoid in medoids) for row in rows)
    return RaterBoard(tuple(at.raters), tuple(mode.index for mode in modes), iou)


@dataclass(frozen=True, eq=False)
class Comparing:
    """Progress: ``done`` of ``total`` raters, and the ``figures`` at the end."""

    done: int
    total: int
    figures: Figures | None = None


def compare(at: Bench) -> Iterator[Comparing]:
    """The figures, rater by rater, since distances between surfaces take long."""
    total = len(at.raters)
    yield Comparing(0, total)
    counts = _on_scan(pair_counts(at.samples, at.raters.values(), at.labels), at)
    papers, unbiased = (_in_scan(row, at) for row in ged_per_slice(counts))
    scores: list[RaterScore] = []
    for name, labels in at.raters.items():
        scores.append(_score(name, labels, at))
        if len(scores) < total:
            yield Comparing(len(scores), total)
    yield Comparing(
        total,
        total,
        Figures(
            len(at.samples),
            at.classes,
            ged_of(counts),
            papers,
            unbiased,
            tuple(collective_insight(counts, label=k) for k in range(1, at.labels)),
            matched_iou(counts),
            mean_iou(counts),
            mean_dice(counts),
            tuple(scores),
            at.outside,
        ),
    )


def _covering(roi: Box, masks: Sequence[NDArray[Any]]) -> Box:
    """The smallest box around ``roi`` and everything that is not 0."""
    start, stop = list(roi.start), list(roi.stop)
    for mask in masks:
        for axis in range(mask.ndim):
            others = tuple(a for a in range(mask.ndim) if a != axis)
            found = np.flatnonzero(np.any(mask, axis=others))
            if found.size:
                start[axis] = min(start[axis], int(found[0]))
                stop[axis] = max(stop[axis], int(found[-1]) + 1)
    return Box(tuple(start), tuple(stop))


def _fitting(name: str, labels: NDArray[Any], classes: Sequence[str]) -> Labels:
    if len(classes) == 1:
        return (labels != 0).astype(np.uint8)
    top = int(labels.max(initial=0))
    if top > len(classes):
        raise CaseError(
            f"{name} holds the label {top}, but the classes are {', '.join(classes)}; use masks of the model's task."
        )
    return labels.astype(np.uint8)


def _on_scan(counts: PairCounts, at: Bench) -> PairCounts:
    """The variety in Collective Insight is a mean over all voxels of the scan."""
    return replace(counts, voxels=int(np.prod(at.scan)))


def _in_scan(values: NDArray[np.float64], at: Bench) -> tuple[float, ...]:
    """A value per slice of the scan; slices beyond the box are empty in all masks, so their GED is 0."""
    if len(at.scan) == 2:
        return tuple(map(float, values))
    # NaN where the estimator is undefined stays so everywhere.
    whole = np.full(at.scan[0], 0.0 if np.isfinite(values).all() else np.nan)
    whole[at.box.slices[0]] = values
    return tuple(map(float, whole))


def _score(name: str, labels: Labels, at: Bench) -> RaterScore:
    pairs = [(s == k, labels == k) for s in at.samples for k in range(1, at.labels)]
    overlap, dice_left = _finite([dice(a, b) for a, b in pairs])
    distance, hd_left = _finite([hd95(a, b, at.spacing_mm) for a, b in pairs])
    return RaterScore(name, float(np.count_nonzero(labels) * at.voxel_ml), overlap, dice_left, distance, hd_left)


def _finite(values: Sequence[float]) -> tuple[float, int]:
    good = [v for v in values if np.isfinite(v)]
    return (float(np.mean(good)) if good else float("nan")), len(values) - len(good)


# ---- tables ----


def figures_csv(figures: Figures, found: RaterBoard) -> str:
    """Every figure as a row ``figure, of, value, unit, note`` of comma-separated values, full precision; undefined
    ones are empty.
    """
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(("figure", "of", "value", "unit", "note"))
    for row in _rows(figures, found):
        write("" if isinstance(cell, float) and not np.isfinite(cell) else cell for cell in row)
    return out.getvalue()


def _rows(f: Figures, found: RaterBoard) -> Iterator[tuple[Any, ...]]:
    sets = f"{f.members} members, {len(f.scores)} raters"
    rule = f"d = {f.ged.distance}; both empty: {f.ged.both_empty}"
    yield "ged_papers", sets, f.ged.papers, "", f"self-pairs kept; {rule}"
    yield "ged_unbiased", sets, f.ged.unbiased, "", f"self-pairs left out; {rule}"
    yield "matched_iou", sets, f.matched_iou, "", "both sets repeated to equal numbers"
    yield "mean_iou", sets, f.mean_iou, "", "all pairs"
    yield "mean_dice", sets, f.mean_dice, "", "all pairs"
    for name, part in zip(f.classes, f.insight, strict=True):
        for key in ("score", "combined_sensitivity", "d_max", "diversity_agreement"):
            yield f"collective_insight_{key}", name, getattr(part, key), "", f"reading {part.reading}"
    for score in f.scores:
        yield "volume", score.name, score.volume_ml, "ml", ""
        yield "dice", score.name, score.dice, "", f"{score.dice_left_out} pairs left out"
        yield "hd95", score.name, score.hd95_mm, "mm", f"{score.hd95_left_out} pairs left out"
    for name, values in zip(found.raters, found.iou, strict=True):
        for mode, value in zip(found.modes, values, strict=True):
            yield "iou", f"{name}, mode {mode}", value, "", "representative mask of the mode"
    if len(f.slices_papers) > 1:
        for z, (papers, unbiased) in enumerate(zip(f.slices_papers, f.slices_unbiased, strict=True)):
            yield "ged_papers", f"slice {z}", papers, "", ""
            yield "ged_unbiased", f"slice {z}", unbiased, "", ""
