"""What strokes say about the rest of a mask, on shapes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from diffseg.grid import Box
from diffseg.shapes import FAR, Kinship, distances, followed, labels_of, tapered
from diffseg.strokes import Strokes, around, by_agreement, ramp

SIDE = 48
ROWS, COLUMNS = np.indices((SIDE, SIDE)) - SIDE // 2
PLAIN = (1.0, 1.0)


def disc(radius: float) -> np.ndarray:
    return (np.hypot(ROWS, COLUMNS) <= radius).astype(np.uint8)


def reach(mask: np.ndarray) -> tuple[int, int]:
    """Voxels of the mask right and left of the middle, on the middle row."""
    middle = mask[SIDE // 2] > 0
    return int(middle[SIDE // 2 :].sum()), int(middle[: SIDE // 2].sum())


def test_distances_change_sign_between_voxels_and_give_the_labels_back() -> None:
    labels = np.zeros((1, 9), np.uint8)
    labels[0, 3:5], labels[0, 5:7] = 1, 2
    phi = distances(labels, 4, (1.0, 2.0))
    np.testing.assert_allclose(phi[0, 0], [-5.5, -3.5, -1.5, 1.5, 1.5, -1.5, -3.5, -5.5, -7.5])
    assert (phi[2] == -FAR).all()
    np.testing.assert_array_equal(labels_of(phi), labels)


def test_where_members_differ_in_size_one_stroke_moves_the_whole_border() -> None:
    members = [disc(r) for r in (5, 6, 7, 8, 9, 10, 11)]
    fixed = np.zeros((SIDE, SIDE), bool)
    fixed[SIDE // 2 - 1 : SIDE // 2 + 2, SIDE // 2 + 8 : SIDE // 2 + 11] = True
    strokes = np.where(fixed, 1, disc(7)).astype(np.uint8)
    alike = followed(disc(7), strokes, fixed, members, 2, PLAIN, Kinship(alike=2.0, near=0.1))
    right, left = reach(alike)
    assert right >= 10 and left >= 9
    lonely = followed(disc(7), strokes, fixed, (), 2, PLAIN, Kinship(alike=2.0))
    assert reach(lonely) == (11, 7)  # the stroke reaches 10, and 0 counts


def test_strokes_that_agree_already_hold_the_border_and_no_strokes_change_nothing() -> None:
    fixed = np.zeros((SIDE, SIDE), bool)
    fixed[10:14, 10:14] = fixed[24, 24] = True
    members = [disc(r) for r in (5, 7, 9)]
    np.testing.assert_array_equal(followed(disc(7), disc(7), fixed, members, 2, PLAIN), disc(7))
    np.testing.assert_array_equal(followed(disc(7), disc(9), ~fixed & fixed, members, 2, PLAIN), disc(7))


@pytest.mark.parametrize("count", [1, 500])
def test_fixed_voxels_are_exact_however_many(count: int) -> None:
    rng = np.random.default_rng(count)
    fixed = np.zeros(SIDE * SIDE, bool)
    fixed[rng.choice(fixed.size, count, replace=False)] = True
    fixed = fixed.reshape(SIDE, SIDE)
    strokes = rng.integers(0, 3, fixed.shape).astype(np.uint8)
    made = followed(disc(7), strokes, fixed, [disc(5), 2 * disc(9)], 3, PLAIN)
    np.testing.assert_array_equal(made[fixed], strokes[fixed])


def test_towards_the_faces_of_a_box_the_border_goes_over_without_a_step() -> None:
    box = Box((8, 8), (40, 40))
    weight = ramp(box, Box.whole((SIDE, SIDE)), PLAIN, 4)
    assert (weight[[0, -1]] == 0).all() and (weight[:, [0, -1]] == 0).all() and weight[16, 16] == 1
    # Two bands through the box, one 6 rows below the other: the border descends over the ramp, never by all 6 at once.
    old = (np.indices(box.shape)[0] < 10).astype(np.uint8)
    new = (np.indices(box.shape)[0] < 16).astype(np.uint8)
    heights = tapered(new, old, weight, 2, PLAIN).sum(axis=0).astype(int)
    assert heights[0] == heights[-1] == 10 and heights[16] == 16
    assert np.abs(np.diff(heights)).max() <= 2
    assert (ramp(Box((0, 0), (5, 5)), Box.whole((5, 5)), PLAIN, 4) == 1).all()


def test_the_box_of_strokes_is_wider_by_the_margin_in_voxel_sides() -> None:
    marked = np.zeros((20, 30), bool)
    assert around(marked, PLAIN, 3) is None
    marked[10, 12:15] = True
    assert around(marked, (2.0, 1.0), 3) == Box((8, 9), (13, 18))


def test_the_nearest_mask_agrees_with_most_strokes_and_then_with_the_mask() -> None:
    now = disc(7)
    now[24, 33] = 1
    fixed = np.zeros(now.shape, bool)
    fixed[24, 33] = True
    strokes = Strokes(now, disc(7), fixed)
    assert by_agreement([disc(7), disc(12), disc(9)], strokes) == [2, 1, 0]
