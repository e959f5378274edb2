"""From a map to a mask."""

from __future__ import annotations

import numpy as np
import pytest

from diffseg.errors import PlanError
from diffseg.saliency.otsu import (
    THRESHOLDS,
    cut_slices,
    largest_component,
    largest_per_slice,
    minmax,
    otsu,
)


def two_levels(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """A map with a square of 36 pixels near ``high`` on even ground of ``low``.

    Noise on the ground would move its highest pixels across: scikit-image returns the middle of a bin.
    """
    values = np.full((20, 20), low)
    values[4:10, 4:10] = rng.normal(high, 0.01, (6, 6))
    return values


def brute_force(values: np.ndarray) -> float:
    """The threshold among the edges of 256 bins with the largest variance between the two sides."""
    edges = np.linspace(values.min(), values.max(), 257)[1:-1]

    def between(threshold: float) -> float:
        above = values > threshold
        share = above.mean()
        if share in (0, 1):
            return 0.0
        return float(share * (1 - share) * (values[above].mean() - values[~above].mean()) ** 2)

    return float(edges[int(np.argmax([between(e) for e in edges]))])


def test_the_threshold_parts_the_pixels_as_brute_force_does(rng: np.random.Generator) -> None:
    values = np.concatenate([rng.normal(0.2, 0.1, 300), rng.normal(0.6, 0.1, 100)]).reshape(20, 20)
    # The curve is flat at its top: the middle of one bin against the edge of the next but one.
    assert otsu(values) == pytest.approx(brute_force(values), abs=2 * np.ptp(values) / 256)


def test_every_slice_has_its_own_threshold(rng: np.random.Generator) -> None:
    maps = np.stack([two_levels(rng, 0.0, 1.0), two_levels(rng, 5.0, 5.5)])
    cut = cut_slices(maps)
    assert cut.mask.sum(axis=(1, 2)).tolist() == [36, 36]
    assert 0 < cut.thresholds[0] < 1 and 5 < cut.thresholds[1] < 5.5


def test_stretching_a_map_does_not_change_its_mask(rng: np.random.Generator) -> None:
    maps = np.stack([two_levels(rng, 0.2, 0.6), two_levels(rng, -0.3, 0.1)])
    np.testing.assert_array_equal(cut_slices(minmax(maps)).mask, cut_slices(maps).mask)


def test_a_constant_slice_has_an_empty_mask_and_its_value_as_threshold() -> None:
    cut = cut_slices(np.full((1, 5, 5), 0.3))
    assert not cut.mask.any()
    assert cut.thresholds.tolist() == [0.3]
    assert not minmax(np.full((1, 5, 5), 0.3)).any()


def test_one_threshold_for_all_slices_leaves_a_slice_without_lesion_empty(rng: np.random.Generator) -> None:
    faint = np.zeros((20, 20))
    faint[2:5, 2:5] = np.linspace(0.01, 0.2, 9).reshape(3, 3)
    maps = np.stack([two_levels(rng, 0.0, 1.0), faint])
    volume, slices = (THRESHOLDS[name](maps, maps).mask for name in ("otsu-volume", "otsu-average"))
    assert slices[1].sum() > 3
    assert volume[0].sum() == 36 and volume[1].sum() <= 1


def test_average_and_slice_look_at_the_mean_and_at_the_first_draw(rng: np.random.Generator) -> None:
    first, mean = two_levels(rng, 0, 1)[None], two_levels(rng, 0, 1)[None, ::-1]
    np.testing.assert_array_equal(THRESHOLDS["otsu-slice"](mean, first).mask, cut_slices(first).mask)
    np.testing.assert_array_equal(THRESHOLDS["otsu-average"](mean, first).mask, cut_slices(mean).mask)


def test_an_unknown_threshold_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PlanError, match="otsu-average, otsu-slice, otsu-volume"):
        THRESHOLDS["isodata"]


def test_the_largest_component_joins_edges_but_not_corners() -> None:
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [1, 0, 1, 0]], dtype=bool)
    expected = np.zeros_like(mask)
    expected[1:, 2] = True
    np.testing.assert_array_equal(largest_component(mask), expected)
    with_corners = expected.copy()
    with_corners[0, :2] = True
    np.testing.assert_array_equal(largest_component(mask, connectivity=2), with_corners)


def test_of_equal_components_the_first_is_kept_and_an_empty_mask_stays_empty() -> None:
    mask = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool)
    assert np.argwhere(largest_component(mask)).tolist() == [[0, 0]]
    assert not largest_component(np.zeros((3, 3), dtype=bool)).any()


def test_in_a_stack_each_slice_keeps_its_own_and_a_volume_only_one() -> None:
    volume = np.zeros((2, 4, 4), dtype=bool)
    volume[0, 0, :3], volume[0, 2:, 3] = True, True
    volume[1, 3, :2], volume[1, 0, 3] = True, True
    assert largest_per_slice(volume).sum(axis=(1, 2)).tolist() == [3, 2]
    assert largest_component(volume).sum() == 3
