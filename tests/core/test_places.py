"""The queue of places to check, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from diffseg.ensemble import Ensemble
from diffseg.errors import CaseError
from diffseg.grid import Box
from diffseg.places import find_places

SHAPE, BOX = (12, 20, 20), Box((2, 5, 5), (10, 15, 15))


def variance() -> np.ndarray:
    """Three blobs: 4 voxels in slice 3 of the scan, 6 in slices 5 and 6, and a speck."""
    found = np.zeros(BOX.shape)
    found[1, 2, 2:6] = 0.25
    found[3, 7, 4:7] = found[4, 8, 5:8] = 0.2
    found[7, 0, 0] = 0.05
    return found


def test_slices_come_in_the_order_of_their_disagreement_in_mm3() -> None:
    places = find_places(variance(), BOX, SHAPE, voxel_mm3=1.5)
    assert [(p.by, p.number) for p in places] == [("slice", 3), ("slice", 5), ("slice", 6)], "without the speck"
    assert [p.disagreement_mm3 for p in places] == pytest.approx([2 * 1.5 * 1.0, 2 * 1.5 * 0.6, 2 * 1.5 * 0.6])
    assert places[0].voxel[0] == 3 and places[1].voxel == (5, 12, 10)
    np.testing.assert_array_equal(np.stack(np.unravel_index(places[0].where, SHAPE))[:, 0], (3, 7, 7))


def test_regions_connect_through_corners_and_are_looked_at_where_they_weigh_most() -> None:
    places = find_places(variance(), BOX, SHAPE, 1.0, by="region")
    assert [p.number for p in places] == [1, 2] and [p.where.size for p in places] == [6, 4]
    assert places[0].disagreement_mm3 == pytest.approx(2 * 1.2) and places[0].voxel == (5, 12, 10)
    everything = find_places(variance(), BOX, SHAPE, 1.0, by="region", covered=1.0)
    assert len(everything) == 3 and len({p.key for p in everything}) == 3


def test_the_disagreement_is_the_expected_difference_of_two_members_drawn_at_random() -> None:
    rng = np.random.default_rng(0)
    masks = (rng.random((5, 4, 6, 6)) > 0.5).astype(np.uint8)
    ensemble = Ensemble(2, masks.shape[1:])
    for number, mask in enumerate(masks):
        ensemble.add(mask, number)
    box = Box.whole(masks.shape[1:])
    places = find_places(ensemble.snapshot().variance(), box, box.shape, 2.0, covered=1.0)
    pairs = [np.count_nonzero(a != b, axis=(1, 2)) for a in masks for b in masks]
    expected = 2.0 * np.mean(pairs, axis=0)
    # float32 variances
    assert {p.number: p.disagreement_mm3 for p in places} == pytest.approx(dict(enumerate(expected)), rel=1e-5)


def test_without_disagreement_there_is_nothing_to_check_and_flat_scans_have_regions() -> None:
    assert find_places(np.zeros(BOX.shape), BOX, SHAPE, 1.0) == ()
    flat = np.zeros((6, 6))
    flat[2, 3] = 0.25
    (only,) = find_places(flat, Box.whole((6, 6)), (6, 6), 0.25)
    assert only.by == "region" and only.voxel == (2, 3) and only.disagreement_mm3 == pytest.approx(0.125)
    with pytest.raises(CaseError, match="shape"):
        find_places(flat, BOX, SHAPE, 1.0)
