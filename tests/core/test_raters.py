"""An ensemble on a region against raters on the whole scan: the figures of the whole scan, and the board by hand."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from diffseg.agreement import agreement
from diffseg.ensemble import Ensemble, Snapshot
from diffseg.errors import CaseError
from diffseg.grid import Box
from diffseg.metrics.maps import ged_map, local_ged_map
from diffseg.metrics.overlap import iou
from diffseg.modes import find_modes
from diffseg.raters import Bench, Figures, bench, board, compare, figures_csv

SCAN, ROI, SPACING = (12, 16, 14), Box((3, 4, 2), (9, 12, 11)), (2.0, 1.0, 0.5)


def members(rng: np.random.Generator, n: int = 5, classes: int = 3) -> Snapshot:
    ensemble = Ensemble(classes, ROI.shape)
    for i in range(n):
        # Blobs rather than noise, and one empty member.
        labels = np.zeros(ROI.shape, np.uint8)
        if i:
            a, b = sorted(rng.integers(0, 8, 2))
            labels[1:5, a : b + 1, 2:7] = 1
            labels[2:4, a : b + 1, 2:5] = classes - 1
        ensemble.add(labels, i)
    return ensemble.snapshot()


def people(rng: np.random.Generator, classes: int = 3) -> dict[str, np.ndarray]:
    masks = {}
    for i in range(3):
        labels = np.zeros(SCAN, np.uint8)
        if i < 2:
            a, b = sorted(rng.integers(2, 14, 2))
            labels[2 + i : 8, a : b + 1, 4:9] = 1
            labels[5:7, a : b + 1, 4:6] = classes - 1
        masks[f"R{i + 1}"] = labels
    return masks


def on_scan(snapshot: Snapshot) -> list[np.ndarray]:
    whole = []
    for i in range(len(snapshot)):
        labels = np.zeros(SCAN, np.uint8)
        labels[ROI.slices] = snapshot.member(i)
        whole.append(labels)
    return whole


def figures(at: Bench) -> Figures:
    last = list(compare(at))[-1]
    assert last.figures is not None and last.done == last.total == len(at.raters)
    return last.figures


def test_figures_on_a_region_are_those_of_the_whole_scan(rng: np.random.Generator) -> None:
    snapshot, raters = members(rng), people(rng)
    found = figures(bench(snapshot, ROI, raters, ("a", "b"), SPACING, 0.001))
    wanted = agreement(on_scan(snapshot), list(raters.values()), SPACING, ("a", "b"))
    assert found.ged.papers == pytest.approx(wanted["ged"]["papers"], abs=1e-12)
    assert found.ged.unbiased == pytest.approx(wanted["ged"]["unbiased"], abs=1e-12)
    assert found.slices_papers == pytest.approx(wanted["ged_per_slice"]["papers"], abs=1e-12)
    assert found.slices_unbiased == pytest.approx(wanted["ged_per_slice"]["unbiased"], abs=1e-12)
    assert found.matched_iou == pytest.approx(wanted["matched_iou"], abs=1e-9)
    assert (found.mean_dice, found.mean_iou) == pytest.approx((wanted["mean_dice"], wanted["mean_iou"]))
    for part, name in zip(found.insight, ("a", "b"), strict=True):
        insight = wanted["collective_insight"][name]["paper"]
        assert (part.score, part.diversity_agreement) == pytest.approx(
            (insight["score"], insight["diversity_agreement"])
        )
    # Means over pairs, put together again from the means over each rater's.
    for key, field in (("dice", "dice"), ("hd95_mm", "hd95_mm")):
        left = [getattr(s, f"{key.removesuffix('_mm')}_left_out") for s in found.scores]
        weights = [10 - n for n in left]
        each = [getattr(s, field) if w else 0.0 for s, w in zip(found.scores, weights, strict=True)]
        rows = [wanted["pairs"][name][key] for name in ("a", "b")]
        total = sum(row["mean"] * (15 - row["left_out"]) for row in rows)
        assert np.dot(weights, each) == pytest.approx(total)
        assert sum(left) == sum(row["left_out"] for row in rows)


def test_maps_on_the_box_are_those_of_the_scan_and_nothing_lies_outside(rng: np.random.Generator) -> None:
    snapshot, raters = members(rng), people(rng)
    at = bench(snapshot, ROI, raters, ("a", "b"), SPACING, 0.001)
    pairs = (
        (at.ged_map(), ged_map(on_scan(snapshot), list(raters.values()), 3)),
        (at.local_ged_map(2.0), local_ged_map(on_scan(snapshot), list(raters.values()), (1, 2, 4), 3)),
    )
    np.testing.assert_allclose(pairs[0][0], pairs[0][1][at.box.slices], atol=1e-6)
    outside = pairs[0][1].copy()
    outside[at.box.slices] = 0
    assert not outside.any()
    # The window of the local map is cut at the box where nothing lies beyond; its values there do not change.
    np.testing.assert_allclose(pairs[1][0], pairs[1][1][at.box.slices], atol=1e-6)


def test_the_board_holds_every_iou_and_names_who_stands_alone(rng: np.random.Generator) -> None:
    snapshot, raters = members(rng, classes=2), people(rng, classes=2)
    modes = find_modes(snapshot, 0.001)
    at = bench(snapshot, ROI, raters, ("a",), SPACING, 0.001)
    found = board(at, modes)
    whole = on_scan(snapshot)
    for name, row in zip(found.raters, found.iou, strict=True):
        for index, value in zip(found.modes, row, strict=True):
            expected = iou(whole[modes[index - 1].medoid], raters[name])
            assert value == pytest.approx(1.0 if np.isnan(expected) else expected)
    values = np.array(found.iou)
    for threshold in (0.3, 0.7, 1.0):
        match = values >= threshold
        assert found.raters_alone(threshold) == tuple(np.array(found.raters)[~match.any(axis=1)])
        assert found.modes_alone(threshold) == tuple(np.array(found.modes)[~match.any(axis=0)])
    # The third rater drew nothing, as the first member: they match, however strict one is.
    assert "R3" not in found.raters_alone(1.0)


def test_what_raters_drew_beyond_the_region_counts_and_is_told(rng: np.random.Generator) -> None:
    mask = np.zeros(SCAN, np.uint8)
    mask[4:6, 4:12, 0:4] = 1  # half of it left of the region
    at = bench(members(rng), ROI, {"R1": mask}, ("a", "b"), SPACING, 0.25)
    assert at.outside == pytest.approx(0.5) and at.box.start == (3, 4, 0)
    assert figures(at).scores[0].volume_ml == pytest.approx(64 * 0.25)


def test_a_flat_scan_has_one_slice_and_one_class_takes_every_label(rng: np.random.Generator) -> None:
    ensemble = Ensemble(2, (6, 6))
    mask = np.zeros((6, 6), np.uint8)
    mask[1:4, 1:4] = 1
    ensemble.add(mask, 0)
    at = bench(ensemble.snapshot(), Box((0, 0), (6, 6)), {"R1": mask * 255}, ("nodule",), (1.0, 1.0), 0.001)
    found = figures(at)
    assert found.ged.papers == 0 and found.slices_papers == (0.0,) and np.isnan(found.ged.unbiased)
    assert found.scores[0].dice == 1 and found.scores[0].hd95_mm == 0


def test_the_table_holds_every_figure_once(rng: np.random.Generator) -> None:
    snapshot, raters = members(rng), people(rng)
    at = bench(snapshot, ROI, raters, ("a", "b"), SPACING, 0.001)
    modes = find_modes(snapshot, 0.001)
    rows = list(csv.DictReader(io.StringIO(figures_csv(figures(at), board(at, modes)))))
    keys = [(row["figure"], row["of"]) for row in rows]
    assert len(set(keys)) == len(keys) == 5 + 8 + 9 + 3 * len(modes) + 2 * SCAN[0]
    assert float(rows[0]["value"]) == figures(at).ged.papers and "1 - IoU" in rows[0]["note"]
    empty = next(row for row in rows if row["figure"] == "hd95" and row["of"] == "R3")
    assert empty["value"] == "" and empty["note"] == "10 pairs left out"


def test_labels_beyond_the_classes_and_missing_raters_are_refused(rng: np.random.Generator) -> None:
    with pytest.raises(CaseError, match="R1 holds the label 7, but the classes are a, b"):
        bench(members(rng), ROI, {"R1": np.full(SCAN, 7)}, ("a", "b"), SPACING, 1.0)
    with pytest.raises(CaseError, match="no masks of people"):
        bench(members(rng), ROI, {}, ("a", "b"), SPACING, 1.0)
