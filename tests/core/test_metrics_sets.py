"""Sets of samples against sets of raters."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations, product
from math import lcm

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from diffseg.errors import CaseError, PlanError
from diffseg.metrics.catalogue import SET_METRICS, MaskSets
from diffseg.metrics.distribution import Ged, ged, ged_of, ged_per_slice, matched_iou, mean_dice, mean_iou
from diffseg.metrics.insight import READINGS, collective_insight
from diffseg.metrics.maps import ged_map, local_ged_map, ncc
from diffseg.metrics.packed import pack, pair_counts
from diffseg.metrics.postprocess import relative_area

EXACT = {"rel": 1e-12, "abs": 1e-12}
Overlap = Callable[[np.ndarray, np.ndarray], float]


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    """IoU, both empty: 1."""
    union = np.sum(a | b)
    return float(np.sum(a & b) / union) if union else 1.0


def slow_dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice, both empty: 1."""
    total = np.sum(a) + np.sum(b)
    return float(2 * np.sum(a & b) / total) if total else 1.0


def slow_mean(overlap: Overlap, a: np.ndarray, b: np.ndarray, classes: int) -> float:
    """Mean over the foreground classes."""
    return float(np.mean([overlap(a == k, b == k) for k in range(1, classes)]))


def slow_ged(samples: list[np.ndarray], raters: list[np.ndarray], classes: int) -> tuple[float, float]:
    """GED by its definition, with and without the pairs of a mask with itself."""

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        return 1 - slow_mean(slow_iou, a, b, classes)

    def within(masks: list[np.ndarray], same: bool) -> float:
        pairs = [(a, b) for i, a in enumerate(masks) for j, b in enumerate(masks) if same or i != j]
        return float(np.mean([distance(a, b) for a, b in pairs])) if pairs else np.nan

    cross = float(np.mean([distance(a, b) for a in samples for b in raters]))
    return tuple(2 * cross - within(samples, same) - within(raters, same) for same in (True, False))  # type: ignore


def draw(rng: np.random.Generator, count: int, shape: tuple[int, ...], classes: int) -> list[np.ndarray]:
    """Related label arrays, some classes missing, now and then an empty one."""
    base = rng.integers(0, classes, shape)
    found = []
    for _ in range(count):
        labels = np.where(rng.random(shape) < 0.4, rng.integers(0, classes, shape), base)
        labels[labels == rng.integers(1, classes + 2)] = 0
        found.append((labels * (rng.random() > 0.2)).astype(np.uint8))
    return found


SETS = list(product([(1, 1), (3, 3), (5, 2), (2, 5)], [2, 4], [(3, 4, 5), (7, 11), (2, 8, 8)]))


@pytest.mark.parametrize(("numbers", "classes", "shape"), SETS)
def test_every_figure_equals_its_definition(
    numbers: tuple[int, int], classes: int, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    samples, raters = draw(rng, numbers[0], shape, classes), draw(rng, numbers[1], shape, classes)
    counts = pair_counts(samples, raters, classes)
    papers, unbiased = slow_ged(samples, raters, classes)
    found = ged_of(counts)
    assert (found.papers, found.unbiased) == pytest.approx((papers, unbiased), nan_ok=True, **EXACT)
    assert found == ged(samples, raters, classes) or min(numbers) == 1
    for function, overlap in ((mean_iou, slow_iou), (mean_dice, slow_dice)):
        values = [slow_mean(overlap, a, b, classes) for a in samples for b in raters]
        assert function(counts) == pytest.approx(np.mean(values), **EXACT)
    curves = ged_per_slice(counts)
    planes = shape[0] if len(shape) == 3 else 1
    for z in range(planes):
        cut = [[m[z] if len(shape) == 3 else m for m in masks] for masks in (samples, raters)]
        slow = slow_ged(*cut, classes)
        assert (curves[0][z], curves[1][z]) == pytest.approx(slow, nan_ok=True, **EXACT)


@pytest.mark.parametrize(("numbers", "classes", "shape"), SETS)
def test_both_ged_maps_equal_their_definitions(
    numbers: tuple[int, int], classes: int, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    samples, raters = draw(rng, numbers[0], shape, classes), draw(rng, numbers[1], shape, classes)
    hamming = np.zeros(shape)
    for first, second, sign in ((samples, raters, 2), (samples, samples, -1), (raters, raters, -1)):
        hamming += sign * np.mean([a != b for a in first for b in second], axis=0)
    assert ged_map(samples, raters, classes, np.float64) == pytest.approx(hamming, **EXACT)
    reach = (1, 2, 1)[-len(shape) :]
    local = local_ged_map(samples, raters, reach, classes, np.float64)
    for index in np.ndindex(shape):
        window = tuple(slice(max(i - r, 0), i + r + 1) for i, r in zip(index, reach, strict=True))
        cut = [[m[window] for m in masks] for masks in (samples, raters)]
        assert local[index] == pytest.approx(slow_ged(*cut, classes)[0], **EXACT)


def test_the_voxelwise_map_of_two_classes_is_twice_the_squared_gap(rng: np.random.Generator) -> None:
    samples, raters = rng.random((6, 5, 6, 7)) < 0.4, rng.random((3, 5, 6, 7)) < 0.6
    expected = 2 * (samples.mean(axis=0) - raters.mean(axis=0)) ** 2
    assert ged_map(samples, raters, dtype=np.float64) == pytest.approx(expected, **EXACT)


def test_a_local_map_with_a_window_over_everything_is_the_ged_everywhere(rng: np.random.Generator) -> None:
    samples, raters = draw(rng, 4, (5, 6, 7), 3), draw(rng, 3, (5, 6, 7), 3)
    local = local_ged_map(samples, raters, (5, 6, 7), 3, np.float64)
    assert local == pytest.approx(np.full((5, 6, 7), ged(samples, raters, 3).papers), **EXACT)


def test_the_local_map_is_the_same_in_slabs_and_whole(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, raters = draw(rng, 3, (12, 9, 8), 2), draw(rng, 2, (12, 9, 8), 2)
    whole = local_ged_map(samples, raters, (2, 1, 3))
    monkeypatch.setattr("diffseg.metrics.maps._SLAB_VOXELS", 1)
    np.testing.assert_array_equal(local_ged_map(samples, raters, (2, 1, 3)), whole)


def test_the_local_map_is_zero_away_from_all_masks() -> None:
    mask = np.zeros((20, 20, 20), bool)
    mask[8:11, 8:11, 8:11] = True
    local = local_ged_map([mask], [np.roll(mask, 1, axis=2)], (2, 2, 2))
    assert local[9, 9, 9] > 0 and local[:5].max() == 0 and local[..., 15:].max() == 0
    assert local_ged_map([mask & False], [mask & False], (2, 2, 2)).max() == 0


def test_ged_of_a_set_with_itself_is_zero_and_the_unbiased_one_corrects_the_diagonal(
    rng: np.random.Generator,
) -> None:
    masks = draw(rng, 6, (4, 5, 6), 2)
    found = ged(masks, masks)
    assert found.papers == pytest.approx(0, abs=1e-12)
    expected = 2 * found.cross - found.within_samples * 6 / 5 - found.within_raters * 6 / 5
    assert found.unbiased == pytest.approx(expected, **EXACT)


def test_ged_of_one_sample_has_no_unbiased_estimate(rng: np.random.Generator) -> None:
    found = ged(draw(rng, 1, (4, 5), 2), draw(rng, 4, (4, 5), 2))
    assert np.isnan(found.unbiased) and np.isfinite(found.papers)
    assert (found.n_samples, found.n_raters, found.distance, found.both_empty) == (1, 4, "1 - IoU", "IoU 1")


def test_only_the_unbiased_estimate_does_not_depend_on_the_number_of_samples(
    rng: np.random.Generator,
) -> None:
    # Samples are one of two disjoint masks, each half the time; so are the raters: the true GED is 0.
    pool = np.zeros((2, 1, 4), bool)
    pool[0, 0, 0] = pool[1, 0, 2] = True
    papers, unbiased = [], []
    for _ in range(400):
        found = ged(pool[rng.integers(0, 2, 4)], pool[rng.integers(0, 2, 4)])
        papers.append(found.papers)
        unbiased.append(found.unbiased)
    # E[papers] = 2 * 0.5 / 4 = 0.25; the standard error of 400 draws is below 0.02.
    assert np.mean(papers) == pytest.approx(0.25, abs=0.06)
    assert np.mean(unbiased) == pytest.approx(0, abs=0.06)


def slow_insight(samples: np.ndarray, raters: np.ndarray, name: str) -> tuple[float, float, float, float]:
    """Collective Insight by its definition."""
    how = READINGS[name]
    predicted, annotated = samples.any(axis=0), raters.any(axis=0)
    base = predicted if how.sensitivity == "swapped" else annotated
    if base.any():
        sensitivity = float((predicted & annotated).sum() / base.sum())
    else:
        sensitivity = 0.0 if how.sensitivity == "both" and predicted.any() else 1.0
    outer, inner = (raters, samples) if how.best == "annotations" else (samples, raters)
    best = float(np.mean([max(slow_dice(a, b) for b in inner) for a in outer]))

    def spread(masks: np.ndarray) -> tuple[float, float]:
        if how.variety == "variance":
            values = [float(np.var(a.astype(int) - b.astype(int))) for a in masks for b in masks]
        else:
            values = [1 - slow_dice(a, b) for i, a in enumerate(masks) for b in masks[:i]] or [0.0]
        return min(values), max(values)

    one, two = spread(samples), spread(raters)
    diversity = 1 - (abs(one[0] - two[0]) + abs(one[1] - two[1])) / 2
    parts = (sensitivity, best, diversity)
    if min(parts) <= 0:
        return 0.0, *parts
    if how.mean == "published":
        return 3 * sensitivity * best * diversity / sum(parts), *parts
    return 3 / sum(1 / part for part in parts), *parts


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("numbers", [(1, 1), (4, 4), (6, 3), (1, 4)])
def test_collective_insight_equals_its_definition_in_every_reading(
    reading: str, numbers: tuple[int, int], rng: np.random.Generator
) -> None:
    for density in (0.0, 0.1, 0.5):
        for other in (0.0, 0.3):
            samples = rng.random((numbers[0], 4, 5, 6)) < density
            raters = rng.random((numbers[1], 4, 5, 6)) < other
            found = collective_insight(pair_counts(samples, raters), reading)
            parts = (found.score, found.combined_sensitivity, found.d_max, found.diversity_agreement)
            assert parts == pytest.approx(slow_insight(samples, raters, reading), **EXACT)
            assert found.reading == reading


def test_an_unknown_reading_is_refused_with_the_known_names(rng: np.random.Generator) -> None:
    with pytest.raises(PlanError, match="ambdiffseg"):
        collective_insight(pair_counts(draw(rng, 2, (3, 4), 2), draw(rng, 2, (3, 4), 2)), "mine")


@pytest.mark.parametrize("numbers", [(1, 3), (3, 3), (4, 2), (2, 5), (6, 4), (16, 5)])
def test_matched_iou_is_the_best_assignment_of_the_repeated_sets(
    numbers: tuple[int, int], rng: np.random.Generator
) -> None:
    n, m = numbers
    samples, raters = draw(rng, n, (5, 6), 3), draw(rng, m, (5, 6), 3)
    counts = pair_counts(samples, raters, 3)
    table = np.array([[slow_mean(slow_iou, a, b, 3) for b in raters] for a in samples])
    repeated = np.repeat(np.repeat(table, lcm(n, m) // n, axis=0), lcm(n, m) // m, axis=1)
    rows, columns = linear_sum_assignment(-repeated)
    assert matched_iou(counts) == pytest.approx(repeated[rows, columns].mean(), **EXACT)
    if max(n, m) <= 6:
        short, long = (table, m) if n <= m else (table.T, n)
        picks = permutations(range(long), min(n, m))
        best = max(np.mean([short[i, j] for i, j in enumerate(pick)]) for pick in picks)
        assert matched_iou(counts, "subset") == pytest.approx(best, **EXACT)


def slow_ncc(samples: np.ndarray, raters: np.ndarray, classes: int) -> float:
    """PHiSeg's definition: cross-entropies of one-hot maps with a small constant inside the logarithm."""
    hot = [
        np.stack([masks == k for k in range(classes)], axis=-1).astype(float) for masks in (samples, raters)
    ]

    def cross_entropy(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
        return -np.sum(target * np.log(predicted + 1e-8), axis=-1)

    mean = hot[0].mean(axis=0)
    own = np.mean([cross_entropy(sample, mean) for sample in hot[0]], axis=0).ravel()
    errors = [np.mean([cross_entropy(s, rater) for s in hot[0]], axis=0).ravel() for rater in hot[1]]
    return float(np.mean([np.corrcoef(own, error)[0, 1] for error in errors]))


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("shape", [(4, 5, 6), (9, 8)])
def test_ncc_equals_phisegs_definition(
    classes: int, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    for _ in range(5):
        samples, raters = rng.integers(0, classes, (5, *shape)), rng.integers(0, classes, (3, *shape))
        # The definition's own constant 1e-8 and its logarithms cost about 1e-9.
        assert ncc(samples, raters, classes) == pytest.approx(slow_ncc(samples, raters, classes), abs=1e-8)


def test_ncc_of_samples_that_agree_is_undefined(rng: np.random.Generator) -> None:
    sample = rng.random((4, 5)) < 0.5
    assert np.isnan(ncc([sample, sample], draw(rng, 3, (4, 5), 2)))


@pytest.mark.parametrize(
    ("areas", "kept"), [((10, 5, 6), (1, 0, 1)), ((0, 0), (0, 0)), ((3,), (1,)), ((4, 0), (1, 0))]
)
def test_relative_area_empties_masks_up_to_half_the_largest(
    areas: tuple[int, ...], kept: tuple[int, ...]
) -> None:
    masks = [np.arange(20).reshape(4, 5) < area for area in areas]
    found = relative_area(masks)
    for before, after, stays in zip(masks, found, kept, strict=True):
        np.testing.assert_array_equal(after, before if stays else np.zeros_like(before))


def test_relative_area_of_the_text_keeps_a_mask_of_exactly_half() -> None:
    masks = [np.arange(20).reshape(4, 5) < area for area in (10, 5, 4)]
    assert [bool(m.any()) for m in relative_area(masks, keep_equal=True)] == [True, True, False]
    assert [bool(m.any()) for m in relative_area(masks, ratio=0.0)] == [True, True, True]
    with pytest.raises(PlanError):
        relative_area(masks, ratio=1.5)


EMPTY, DOT = np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4), np.uint8)
DOT[1, 1, 1] = 1
EXPECTED_OF_EMPTY = {
    "ged": (0.0, 2.0, 2.0),
    "ged_unbiased": (0.0, 2.0, 2.0),
    "matched_iou": (1.0, 0.0, 0.0),
    "mean_dice": (1.0, 0.0, 0.0),
    "mean_iou": (1.0, 0.0, 0.0),
    "collective_insight": (1.0, 0.0, 0.0),
    "collective_insight_ambdiffseg": (1.0, 0.0, 0.0),
    "collective_insight_dice": (1.0, 0.0, 0.0),
    "ncc": (np.nan, np.nan, np.nan),
}


@pytest.mark.parametrize("name", SET_METRICS.names())
def test_empty_masks_follow_the_table(name: str) -> None:
    sets = ([EMPTY, EMPTY], [EMPTY, EMPTY]), ([EMPTY, EMPTY], [DOT, DOT]), ([DOT, DOT], [EMPTY, EMPTY])
    found = [SET_METRICS[name].compute(MaskSets(*pair)) for pair in sets]
    assert found == pytest.approx(EXPECTED_OF_EMPTY[name], nan_ok=True)


@pytest.mark.parametrize(
    ("samples", "raters", "sensitivities"),
    [
        (EMPTY, EMPTY, (1.0, 1.0, 1.0)),
        (DOT, EMPTY, (0.0, 1.0, 0.0)),
        (EMPTY, DOT, (0.0, 0.0, 1.0)),
    ],
)
def test_the_sensitivity_of_empty_unions_follows_the_table(
    samples: np.ndarray, raters: np.ndarray, sensitivities: tuple[float, ...]
) -> None:
    counts = pair_counts([samples], [raters])
    found = [
        collective_insight(counts, r).combined_sensitivity for r in ("paper", "paper_empty_1", "ambdiffseg")
    ]
    assert tuple(found) == sensitivities


@pytest.mark.parametrize("name", SET_METRICS.names())
def test_every_set_figure_lies_in_its_range(name: str, rng: np.random.Generator) -> None:
    metric = SET_METRICS[name]
    for _ in range(10):
        value = metric.compute(MaskSets(draw(rng, 4, (5, 6, 7), 3), draw(rng, 3, (5, 6, 7), 3), 3))
        assert np.isnan(value) or metric.low <= value <= metric.high


def test_packing_keeps_every_voxel_and_takes_one_bit_each(rng: np.random.Generator) -> None:
    for shape in ((3, 5, 7), (2, 16, 16), (1, 1, 1), (9, 30)):
        labels = rng.integers(0, 4, (3, *shape)).astype(np.uint8)
        packed = pack(labels, 4)
        planes = labels.reshape(3, -1, *shape[-2:])
        for z in range(packed.planes):
            found = packed.plane(z)
            np.testing.assert_array_equal(sum(k * found[:, k - 1] for k in range(1, 4)), planes[:, z])
            np.testing.assert_array_equal(
                packed.votes(z), [(planes[:, z] == k).sum(axis=0) for k in range(4)]
            )
        words = -(-shape[-1] * shape[-2] // 64)
        assert packed.bits.nbytes == 3 * 3 * planes.shape[1] * words * 8


def test_masks_may_be_streamed_one_by_one(rng: np.random.Generator) -> None:
    samples, raters = draw(rng, 4, (5, 6, 7), 2), draw(rng, 3, (5, 6, 7), 2)
    streamed = ged((m for m in samples), (m for m in raters))
    assert isinstance(streamed, Ged) and streamed == ged(pack(samples), pack(raters))


def test_sets_that_do_not_fit_are_refused(rng: np.random.Generator) -> None:
    mask = np.zeros((3, 4, 5), np.uint8)
    for samples, raters, classes in (
        ([], [mask], 2),
        ([mask], [], 2),
        ([mask, mask[1:]], [mask], 2),
        ([mask], [mask[1:]], 2),
        ([mask + 2], [mask], 2),
        ([mask - 1], [mask], 2),
        (pack([mask], 3), [mask], 2),
        ([mask.ravel()], [mask.ravel()], 2),
    ):
        with pytest.raises(CaseError):
            ged(samples, raters, classes)
    for half_width in ((1, 1), (1, 1, -1)):
        with pytest.raises(CaseError):
            local_ged_map([mask], [mask], half_width)
