"""Sizes of members by hand, and the interval's promise about the next member."""

from __future__ import annotations

import numpy as np
import pytest

from diffseg.cleaning import without_small
from diffseg.ensemble import Ensemble, Snapshot
from diffseg.errors import PlanError
from diffseg.grid import Grid
from diffseg.measurements import distribution, measure, members_for
from diffseg.metrics.postprocess import relative_area

GRID = Grid((4, 8, 8), np.diag([2.0, 0.5, 0.5, 1.0]))


def blocks(*widths: int) -> Snapshot:
    """One mask per width: 2 slices x 3 rows x width, the last column of class 2; 0 is an empty mask."""
    ensemble = Ensemble(3, GRID.shape)
    for number, width in enumerate(widths):
        labels = np.zeros(GRID.shape, np.uint8)
        labels[1:3, 2:5, 0:width] = 1
        labels[1:3, 2:5, max(width - 1, 0) : width] = 2
        ensemble.add(labels, 10 + number)
    return ensemble.snapshot()


def test_members_are_measured_in_ml_and_mm_with_an_entry_per_class() -> None:
    first, empty = measure(blocks(4, 0), GRID)
    assert (first.member, empty.member) == (10, 11)
    assert first.volume_ml == pytest.approx(24 * 0.5 / 1000)
    assert first.class_volume_ml == pytest.approx((18 * 0.5 / 1000, 6 * 0.5 / 1000))
    # Between face middles: 2 slices of 2 mm, and the middles of voxels 1 row of 0.5 mm and 3 columns apart.
    assert first.diameter_mm == pytest.approx(np.sqrt(4.0**2 + 1.0**2 + 1.5**2))
    assert first.centre == (1.5, 3.0, 1.5)
    assert empty.empty and empty.diameter_mm == 0 and empty.centre == (1.5, 3.5, 3.5)


def test_members_measured_before_are_taken_over() -> None:
    known = measure(blocks(4, 0), GRID)
    both = measure(blocks(4, 0, 5), GRID, known)
    assert both[0] is known[0] and both[1] is known[1] and both[2].member == 12


def test_the_interval_covers_the_next_value_as_often_as_it_says(rng: np.random.Generator) -> None:
    # Exchangeable values of any distribution, here a skewed one; 4,000 draws leave 3 standard errors of 0.017 or less.
    for n in (8, 39, 60):
        draws = rng.lognormal(size=(4000, n + 1))
        found = [distribution(tuple(row[:-1])) for row in draws]
        inside = np.mean([d.low <= row[-1] <= d.high for d, row in zip(found, draws, strict=True)])
        assert inside == pytest.approx(found[0].coverage, abs=0.017)


def test_39_members_are_needed_for_95_percent_and_fewer_say_so() -> None:
    assert members_for(0.95) == 39 and members_for(0.8) == 9
    few, many = distribution(range(1, 17)), distribution(range(1, 40))
    assert (few.low, few.high, few.median) == (1, 16, 8.5) and few.coverage == pytest.approx(15 / 17)
    assert not few.enough and few.needed == 39
    assert (many.low, many.high) == pytest.approx((1, 39)) and many.coverage == 0.95 and many.enough
    one = distribution([2.5])
    assert (one.low, one.median, one.high, one.coverage) == (2.5, 2.5, 2.5, 0)


def test_no_values_are_refused() -> None:
    with pytest.raises(PlanError, match="0 values"):
        distribution([])


def test_cleaning_equals_relative_area_of_the_members_and_a_new_ensemble(rng: np.random.Generator) -> None:
    snapshot = blocks(7, 0, 3, 4, 6, 1)
    for ratio in (0.0, 0.5, 3 / 7, 1.0):
        kept = relative_area([snapshot.member(i) for i in range(6)], ratio)
        fresh = Ensemble(3, GRID.shape)
        for number, labels in zip(snapshot.ids, kept, strict=True):
            fresh.add(labels, number)
        cleaned, wanted = without_small(snapshot, ratio), fresh.snapshot()
        np.testing.assert_array_equal(cleaned.votes, wanted.votes)
        np.testing.assert_array_equal(cleaned.iou, wanted.iou)
        assert all((cleaned.member(i) == wanted.member(i)).all() for i in range(6))
    assert snapshot.votes.max() == 4, "the snapshot itself stays"
