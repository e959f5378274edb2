"""Tools on masks against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from diffseg.editing import around, fill_between, fill_holes, grow, keep_largest
from diffseg.errors import CaseError
from diffseg.grid import Box

MM = (3.0, 1.0, 0.5)


def disc(radius_mm: float, centre_mm: tuple[float, float], shape: tuple[int, int] = (60, 120)) -> np.ndarray:
    """A disc on a plane with the spacing of the last two axes of ``MM``."""
    y, x = np.indices(shape)
    return (y * MM[1] - centre_mm[0]) ** 2 + (x * MM[2] - centre_mm[1]) ** 2 <= radius_mm**2


def volume(slices: dict[int, np.ndarray], depth: int = 11) -> np.ndarray:
    labels = np.zeros((depth, 60, 120), np.uint8)
    for index, shape in slices.items():
        labels[index][shape] = 1
    return labels


def test_between_discs_of_two_sizes_the_radius_changes_linearly() -> None:
    filled = fill_between(volume({0: disc(8, (30, 30)), 10: disc(20, (30, 30))}), 1, 0, MM)
    for index in range(11):
        area = filled[index].sum() * MM[1] * MM[2]
        radius = 8 + 12 * index / 10
        # Half a pixel of the coarser side, all around.
        assert np.sqrt(area / np.pi) == pytest.approx(radius, abs=0.5)


def test_between_shifted_discs_lies_the_disc_shifted_by_its_part_of_the_way() -> None:
    labels = volume({0: disc(6, (10, 10)), 10: disc(6, (50, 50))})
    filled = fill_between(labels, 1, 0, MM)
    for index in (2, 5, 7):
        where = np.argwhere(filled[index]) * MM[1:]
        np.testing.assert_allclose(where.mean(axis=0), (10 + 4 * index, 10 + 4 * index), atol=0.5)
        assert filled[index].sum() == pytest.approx(labels[0].sum(), rel=0.1)


def test_filling_works_along_every_axis_and_leaves_painted_slices_as_they_are() -> None:
    labels = volume({1: disc(8, (30, 30)), 4: disc(9, (28, 30)), 9: disc(5, (30, 32))})
    along0 = fill_between(labels, 1, 0, MM)
    for index in (0, 1, 4, 9, 10):
        np.testing.assert_array_equal(along0[index], labels[index])
    turned = fill_between(labels.transpose(1, 2, 0), 1, 2, (1.0, 0.5, 3.0))
    np.testing.assert_array_equal(turned.transpose(2, 0, 1), along0)


def test_what_is_filled_does_not_depend_on_how_much_background_is_given() -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        labels = np.zeros((6, 30, 30), np.uint8)
        for index in (0, 5):
            y, x, height, width = rng.integers(2, 14, 4)
            labels[index, y : y + height, x : x + width] = rng.random((height, width)) > 0.2
        box = around(labels, 1)
        assert box is not None
        np.testing.assert_array_equal(
            fill_between(labels[box.slices], 1, 0, MM), fill_between(labels, 1, 0, MM)[box.slices]
        )


def test_chosen_slices_redraw_what_lies_between_them_and_only_that() -> None:
    labels = volume({index: disc(8, (30, 30)) for index in range(11)})
    labels[2] = labels[8] = disc(16, (30, 30))
    filled = fill_between(labels, 1, 0, MM, keys=(8, 2))
    assert all((filled[index] == disc(16, (30, 30))).all() for index in range(2, 9))
    assert all((filled[index] == labels[index]).all() for index in (0, 1, 9, 10))
    assert (fill_between(labels, 1, 0, MM, keys=(5,)) == labels).all()
    with pytest.raises(CaseError, match="0 to 10"):
        fill_between(labels, 1, 0, MM, keys=(3, 11))


def test_other_classes_are_protected_unless_said_otherwise() -> None:
    labels = volume({0: disc(8, (30, 30)), 10: disc(8, (30, 30))})
    labels[5, 30, 58:62] = 2
    assert (fill_between(labels, 1, 0, MM)[5, 30, 58:62] == 2).all()
    assert (fill_between(labels, 1, 0, MM, protect=False)[5, 30, 58:62] == 1).all()
    assert (grow(labels, 1, 6.0, (0.5, 1, 1))[5, 30, 58:62] == 2).all()
    assert (grow(labels, 1, 6.0, (0.5, 1, 1), protect=False)[5, 30, 58:62] == 1).all()


def test_the_largest_part_stays_and_corners_connect() -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[2, 2, 2] = 1
    labels[5, 5, 4:6] = 1
    labels[0, 5, 0:5] = 2
    kept = keep_largest(labels, 1)
    assert (kept == 1).sum() == 3 and kept[1, 1, 1] == 1 and (kept[0, 5, :5] == 2).all()
    assert (keep_largest(labels, 3) == labels).all()


def test_holes_are_filled_in_the_volume_or_slice_by_slice() -> None:
    labels = np.zeros((5, 9, 9), np.uint8)
    labels[:, 2:7, 2:7] = 1
    labels[:, 4, 4] = 0  # a tunnel: open in the volume, closed in each axial slice
    labels[2, 3, 3] = 0  # a hole
    labels[2, 5, 5] = 2
    whole, slices = fill_holes(labels, 1), fill_holes(labels, 1, axis=0)
    assert whole[2, 3, 3] == 1 and not whole[:, 4, 4].any() and whole[2, 5, 5] == 2
    assert slices[2, 3, 3] == 1 and slices[:, 4, 4].all() and slices[2, 5, 5] == 2
    assert fill_holes(labels, 1, axis=0, protect=False)[2, 5, 5] == 1
    assert fill_holes(labels[:1], 1)[0, 4, 4] == 1, "one slice is a plane"


@pytest.mark.parametrize("mm", [0.5, 1.0, 1.2, 3.0, -0.5, -1.0, -3.0])
def test_growing_and_shrinking_in_mm_agree_with_brute_force_on_anisotropic_voxels(mm: float) -> None:
    rng = np.random.default_rng(3)
    labels = (rng.random((5, 8, 9)) > (0.85 if mm > 0 else 0.15)).astype(np.uint8)
    centres = np.argwhere(np.ones_like(labels)) * MM
    near = np.linalg.norm(centres[:, None] - centres[None], axis=-1) <= abs(mm)
    inside = labels.reshape(-1) == 1
    expected = (near & inside).any(axis=1) if mm > 0 else ~(near & ~inside).any(axis=1)
    np.testing.assert_array_equal(grow(labels, 1, mm, MM).reshape(-1), expected)


def test_nothing_to_grow_and_nothing_around_to_shrink_from_change_nothing() -> None:
    empty, full = np.zeros((3, 4), np.uint8), np.ones((3, 4), np.uint8)
    for labels in (empty, full):
        for mm in (2.0, 0.0, -2.0):
            assert (grow(labels, 1, mm, (1.0, 1.0)) == labels).all()
    with pytest.raises(CaseError, match="finite"):
        grow(empty, 1, float("nan"), (1.0, 1.0))


def test_the_box_around_a_class_has_its_margin_within_the_array() -> None:
    labels = np.zeros((6, 7, 8), np.uint8)
    assert around(labels, 1) is None
    labels[0, 3, 7] = labels[2, 4, 6] = 1
    assert around(labels, 1, margin=2) == Box((0, 1, 4), (5, 7, 8))
