"""The queue of places to check, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from diffseg.ensemble import Ensemble
from diffseg.errors import CaseError
from diffseg.grid import Box
from diffseg.places import SEEN_TO, find_places, seen_to

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


def test_a_place_is_seen_to_by_the_share_of_its_disagreement_on_and_beside_edited_voxels_of_a_slice() -> None:
    rng = np.random.default_rng(1)
    for shape, axis in [((5, 7, 6), 0), ((5, 7, 6), 2), ((9, 8), 0)]:
        field = np.where(rng.random(shape) < 0.7, rng.uniform(0.05, 0.25, shape), 0)
        (place, *_) = find_places(field, Box.whole(shape), shape, 1.5, by="region", axis=axis, covered=1.0)
        assert place.weight.sum() == pytest.approx(place.disagreement_mm3, rel=1e-5)
        edited = rng.random(place.where.size) < 0.1
        marked = np.zeros(shape, bool)
        marked.reshape(-1)[place.where[edited]] = True
        reach = np.ones([1 if len(shape) == 3 and a == axis else 3 for a in range(len(shape))], bool)
        near = ndimage.binary_dilation(marked, reach).reshape(-1)[place.where]
        assert seen_to(place, edited, shape) == pytest.approx(place.weight[near].sum() / place.weight.sum(), rel=1e-5)
        assert seen_to(place, edited & False, shape) == 0 and seen_to(place, edited | True, shape) == 1


def test_one_voxel_does_not_see_to_a_large_region_but_to_a_speck() -> None:
    field = np.zeros((4, 12, 12))
    field[1:3, 1:9, 1:9], field[0, 11, 11] = 0.25, 0.1
    large, speck = find_places(field, Box.whole(field.shape), field.shape, 1.0, by="region", covered=1.0)
    one = np.zeros(large.where.size, bool)
    one[20] = True
    assert seen_to(large, one, field.shape) == pytest.approx(9 / 128) and SEEN_TO > 9 / 128
    assert seen_to(speck, np.ones(1, bool), field.shape) == 1


def test_without_disagreement_there_is_nothing_to_check_and_flat_scans_have_regions() -> None:
    assert find_places(np.zeros(BOX.shape), BOX, SHAPE, 1.0) == ()
    flat = np.zeros((6, 6))
    flat[2, 3] = 0.25
    (only,) = find_places(flat, Box.whole((6, 6)), (6, 6), 0.25)
    assert only.by == "region" and only.voxel == (2, 3) and only.disagreement_mm3 == pytest.approx(0.125)
    with pytest.raises(CaseError, match="shape"):
        find_places(flat, BOX, SHAPE, 1.0)
