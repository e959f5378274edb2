"""Overlap and surface distances of two masks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffseg.errors import CaseError, PlanError
from diffseg.metrics.catalogue import METRICS, MaskPair
from diffseg.metrics.overlap import dice, iou
from diffseg.metrics.surface import hd, hd95, surface_dice, surface_distances

SPACING_MM = (2.5, 0.75, 0.5)
# Sums of squares in another order differ in the last bits only.
EXACT = {"rel": 1e-12, "abs": 1e-12}


def voxels(mask: np.ndarray) -> set[tuple[int, ...]]:
    """The voxels of a mask, one by one."""
    return {index for index in np.ndindex(mask.shape) if mask[index]}


def slow_surface(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels with a face neighbour outside the mask, found one by one."""
    inside = voxels(mask)
    steps = [
        tuple(sign * (axis == own) for own in range(mask.ndim))
        for axis in range(mask.ndim)
        for sign in (1, -1)
    ]
    return [v for v in sorted(inside) if any(tuple(np.add(v, step)) not in inside for step in steps)]


def slow_directed(a: np.ndarray, b: np.ndarray, spacing_mm: tuple[float, ...]) -> list[float]:
    """From each surface voxel of a to the nearest of b, by comparing all."""
    targets = slow_surface(b)
    return [
        min(
            sum(((p - q) * s) ** 2 for p, q, s in zip(one, other, spacing_mm, strict=True)) ** 0.5
            for other in targets
        )
        for one in slow_surface(a)
    ]


def slow_percentile(values: list[float], q: float) -> float:
    """Linear interpolation between order statistics."""
    ordered = sorted(values)
    position = (len(ordered) - 1) * q / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def random_pair(
    rng: np.random.Generator, shape: tuple[int, ...], density: float
) -> tuple[np.ndarray, np.ndarray]:
    """Two masks that are never empty."""
    masks = rng.random((2, *shape)) < density
    masks[0].flat[0] = masks[1].flat[-1] = True
    return masks[0], masks[1]


@pytest.mark.parametrize("density", [0.02, 0.3, 0.8])
def test_overlap_equals_counting_one_by_one(density: float, rng: np.random.Generator) -> None:
    for _ in range(10):
        a, b = random_pair(rng, (5, 6, 7), density)
        one, two = voxels(a), voxels(b)
        assert dice(a, b) == pytest.approx(2 * len(one & two) / (len(one) + len(two)), **EXACT)
        assert iou(a, b) == pytest.approx(len(one & two) / len(one | two), **EXACT)


@settings(max_examples=50)
@given(st.lists(st.booleans(), min_size=4, max_size=16), st.randoms())
def test_dice_and_iou_are_symmetric_and_tied_to_each_other(flags: list[bool], shuffler: object) -> None:
    a = np.array(flags).reshape(1, -1)
    b = np.array(shuffler.sample(flags, len(flags))).reshape(1, -1)  # type: ignore[attr-defined]
    if not a.any():
        return
    assert dice(a, b) == dice(b, a) and iou(a, b) == iou(b, a)
    assert dice(a, b) == pytest.approx(2 * iou(a, b) / (1 + iou(a, b)), **EXACT)
    assert dice(a, a) == iou(a, a) == 1


def test_any_value_but_zero_counts_as_mask() -> None:
    assert dice(np.array([[0, 255, 3]]), np.array([[0.0, 1.0, 0.0]])) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("shape", "density"), [((4, 5, 6), 0.1), ((4, 5, 6), 0.6), ((5, 6, 7), 0.95), ((9, 11), 0.5)]
)
def test_surface_figures_equal_comparing_all_voxels(
    shape: tuple[int, ...], density: float, rng: np.random.Generator
) -> None:
    spacing = SPACING_MM[: len(shape)]
    for _ in range(4):
        a, b = random_pair(rng, shape, density)
        forth, back = slow_directed(a, b, spacing), slow_directed(b, a, spacing)
        found = surface_distances(a, b, spacing)
        assert sorted(found.a_to_b_mm) == pytest.approx(sorted(forth), **EXACT)
        assert hd95(a, b, spacing) == pytest.approx(
            max(slow_percentile(forth, 95), slow_percentile(back, 95)), **EXACT
        )
        assert hd(a, b, spacing) == pytest.approx(max(*forth, *back), **EXACT)
        assert found.mean() == pytest.approx(sum(forth + back) / len(forth + back), **EXACT)
        assert found.larger_mean() == pytest.approx(max(sum(d) / len(d) for d in (forth, back)), **EXACT)
        for tolerance in (0.0, 0.6, 2.5, 100.0):
            near = [d for d in forth + back if d <= tolerance]
            # Distances that equal the tolerance up to rounding may fall on either side; these do not.
            assert all(abs(d - tolerance) > 1e-9 or d == tolerance for d in forth + back)
            assert surface_dice(a, b, spacing, tolerance) == pytest.approx(
                len(near) / len(forth + back), **EXACT
            )


def test_two_parallel_plates_are_their_distance_apart() -> None:
    a, b = np.zeros((2, 20, 9, 9), bool)
    a[3], b[10] = True, True
    for spacing in ((1.0, 1.0, 1.0), (2.5, 1.0, 1.0)):
        assert hd95(a, b, spacing) == hd(a, b, spacing) == pytest.approx(7 * spacing[0], **EXACT)
        assert surface_dice(a, b, spacing, 7 * spacing[0]) == 1
        assert surface_dice(a, b, spacing, 6.9 * spacing[0]) == 0


def test_concentric_balls_are_the_difference_of_their_radii_apart() -> None:
    z, y, x = np.ogrid[-24:25, -24:25, -24:25]
    square = z**2 + y**2 + x**2
    small, large = square <= 15**2, square <= 20**2
    # The surface of a digital ball lies within one voxel of the sphere.
    assert hd(small, large, (1.0, 1.0, 1.0)) == pytest.approx(5, abs=1)
    assert hd95(small, large, (2.0, 2.0, 2.0)) == pytest.approx(10, abs=2)


def test_a_mask_at_the_end_of_the_array_has_its_surface_there() -> None:
    full = np.ones((3, 3, 3), bool)
    core = np.zeros((3, 3, 3), bool)
    core[1, 1, 1] = True
    found = surface_distances(full, core, (1.0, 1.0, 1.0))
    assert len(found.a_to_b_mm) == 26 and found.percentile(100) == pytest.approx(3**0.5)


EMPTY, DOT = np.zeros((3, 4, 5), bool), np.zeros((3, 4, 5), bool)
DOT[1, 2, 3] = True


@pytest.mark.parametrize("name", METRICS.names())
def test_two_empty_masks_are_undefined(name: str) -> None:
    assert np.isnan(METRICS[name].compute(MaskPair(EMPTY, EMPTY, SPACING_MM)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("dice", 0.0), ("iou", 0.0), ("hd95", np.inf), ("hd", np.inf), ("assd", np.inf), ("surface_dice", 0.0)],
)
def test_one_empty_mask_is_the_worst_there_is(name: str, value: float) -> None:
    for a, b in ((EMPTY, DOT), (DOT, EMPTY)):
        assert METRICS[name].compute(MaskPair(a, b, SPACING_MM)) == value


@pytest.mark.parametrize("name", METRICS.names())
def test_equal_masks_are_the_best_there_is_and_all_values_lie_in_range(
    name: str, rng: np.random.Generator
) -> None:
    metric = METRICS[name]
    best = metric.high if metric.better == "higher" else metric.low
    assert metric.compute(MaskPair(DOT, DOT, SPACING_MM)) == best
    for density in (0.05, 0.5):
        value = metric.compute(MaskPair(*random_pair(rng, (4, 5, 6), density), SPACING_MM))
        assert metric.low <= value <= metric.high
    assert METRICS.help(name) and metric.unit in ("", "mm")


def test_an_unknown_metric_is_refused_with_the_known_names() -> None:
    with pytest.raises(PlanError, match="hd95"):
        METRICS["hausdorff"]


def test_masks_of_different_shapes_or_a_wrong_spacing_are_refused() -> None:
    for function in (dice, iou):
        with pytest.raises(CaseError):
            function(EMPTY, EMPTY[1:])
    for b, spacing in product((DOT, DOT[1:]), (SPACING_MM, SPACING_MM[:2])):
        if b.shape != DOT.shape or len(spacing) != 3:
            with pytest.raises(CaseError):
                hd95(DOT, b, spacing)
