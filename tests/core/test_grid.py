"""Boxes, grids, and the order in which voxels are shown."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffseg.errors import CaseError
from diffseg.grid import Box, Grid, display_affine, display_order
from scans import affine_of, orientations, rotation, sheared

# Inferior, posterior and left: the world directions of increasing z, y and x.
INFERIOR_POSTERIOR_LEFT = np.array([[0, 0, -1.0], [0, -1.0, 0], [-1.0, 0, 0]]).T

sides = st.tuples(st.integers(0, 500), st.integers(1, 500)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(st.lists(sides, min_size=2, max_size=3))
def test_a_box_survives_its_own_text(ends: list[tuple[int, int]]) -> None:
    box = Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))
    assert Box.parse(str(box)) == box
    assert Box.parse(str(box).replace(",", " , ").replace(":", " : ")) == box


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1:2",
        "1:2,3:4,5:6,7:8",
        "a:b,1:2,3:4",
        "1:2:3,4:5",
        "-1:2,3:4",
        "1.5:2,3:4",
        "1,2,3",
        "5:5,1:2",
        "6:5,1:2",
    ],
)
def test_an_unreadable_region_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(CaseError) as refusal:
        Box.parse(text)
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


def test_a_box_cuts_out_what_its_text_says() -> None:
    values = np.arange(6 * 7 * 8).reshape(6, 7, 8)
    box = Box.parse("1:3,0:7,5:6")
    assert box.shape == (2, 7, 1)
    np.testing.assert_array_equal(values[box.slices], values[1:3, 0:7, 5:6])


def test_clipping_keeps_exactly_the_voxels_inside_the_scan() -> None:
    box = Box((-3, 2, 4), (4, 90, 6))
    inside = {
        (z, y, x)
        for z in range(-3, 4)
        for y in range(2, 90)
        for x in range(4, 6)
        if 0 <= z < 5 and y < 6 and x < 7
    }
    clipped = box.clipped((5, 6, 7))
    assert inside == {tuple(np.add(index, clipped.start)) for index in np.ndindex(clipped.shape)}


@pytest.mark.parametrize("box", [Box((5, 0, 0), (6, 1, 1)), Box((-4, 0, 0), (0, 1, 1)), Box((0, 0), (1, 1))])
def test_a_box_beside_the_scan_or_with_other_axes_is_refused(box: Box) -> None:
    with pytest.raises(CaseError):
        box.clipped((5, 6, 7))


@given(st.integers(1, 9), st.integers(1, 9), st.floats(-3, 12))
def test_a_centred_box_is_the_nearest_one_inside(size: int, length: int, centre: float) -> None:
    box = Box.centred((centre, 0), (size, 1), (length, 1))
    wanted = min(size, length)
    assert box.shape[0] == wanted and box.start[0] >= 0 and box.stop[0] <= length
    starts = range(length - wanted + 1)
    nearest = min(abs(start + (wanted - 1) / 2 - centre) for start in starts)
    assert abs(box.start[0] + (wanted - 1) / 2 - centre) == pytest.approx(nearest, abs=1e-9)


def test_world_coordinates_follow_the_affine_in_two_and_three_axes(rng: np.random.Generator) -> None:
    affine = affine_of(rotation(rng))
    index = rng.integers(0, 9, size=(20, 3)).astype(float)
    homogeneous = np.c_[index, np.ones(20)] @ affine.T
    np.testing.assert_allclose(Grid((9, 9, 9), affine).world(index), homogeneous[:, :3], atol=1e-12)
    flat = np.c_[np.zeros(20), index[:, 1:], np.ones(20)] @ affine.T
    np.testing.assert_allclose(Grid((9, 9), affine).world(index[:, 1:]), flat[:, :3], atol=1e-12)


@pytest.mark.parametrize("shape", [(8, 9, 10), (9, 10)])
def test_a_cropped_grid_leaves_every_voxel_where_it_was(
    shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    grid = Grid(shape, affine_of(sheared(rng)))
    box = Box(tuple(range(1, len(shape) + 1)), tuple(range(4, len(shape) + 4)))
    cropped = grid.crop(box)
    index = np.argwhere(np.ones(box.shape))
    # Millimetre coordinates of size 100 carry rounding of 1e-14 each.
    np.testing.assert_allclose(cropped.world(index), grid.world(index + box.start), atol=1e-12)
    assert cropped.shape == box.shape and cropped.spacing_mm == pytest.approx(grid.spacing_mm, rel=1e-15)


def test_volume_counts_shear_and_spacing() -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[0, 1] = 1.5  # shear: a parallelepiped keeps base times height
    grid = Grid((5, 5, 5), affine)
    assert grid.voxel_ml == pytest.approx(2 * 3 * 4 / 1000, rel=1e-12)
    assert grid.spacing_mm == pytest.approx((2, np.hypot(3, 1.5), 4), rel=1e-12)
    assert Grid((5, 5), np.diag([9.0, 3.0, 4.0, 1.0])).voxel_ml == pytest.approx(3 * 4 * 1 / 1000, rel=1e-12)


def test_grids_are_the_same_within_the_tolerance_only() -> None:
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    turned = affine.copy()
    turned[0, 1] = 1e-4  # the far corner of 100 voxels moves by 0.0099 mm
    one, two = Grid((100, 100, 100), affine), Grid((100, 100, 100), turned)
    assert one.same_as(one) and not one.same_as(two) and one.same_as(two, tol_mm=0.01)
    assert not one.same_as(Grid((100, 100, 99), affine), tol_mm=1e9)


@pytest.mark.parametrize(
    "affine", [np.diag([1.0, 0.0, 1.0, 1.0]), np.diag([1.0, np.nan, 1.0, 1.0]), np.eye(3), np.ones((4, 4))]
)
def test_a_degenerate_affine_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(CaseError):
        Grid((3, 3, 3), affine)


def test_a_grid_cannot_be_changed_afterwards() -> None:
    given_affine = np.eye(4)
    grid = Grid((3, 3, 3), given_affine)
    given_affine[0, 0] = 5
    assert grid.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2


@pytest.mark.parametrize("directions", list(orientations()))
def test_every_orientation_is_shown_inferior_posterior_left(directions: np.ndarray) -> None:
    affine = affine_of(directions)
    axes, flips = display_order(affine, planar=False)
    shown = display_affine(affine, (4, 5, 6), axes, flips)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)[list(axes)]
    np.testing.assert_array_equal(shown[:3, :3], INFERIOR_POSTERIOR_LEFT * spacing)


@pytest.mark.parametrize("directions", list(orientations()))
def test_a_plane_of_any_orientation_is_shown_as_in_a_volume_and_right_handed(directions: np.ndarray) -> None:
    affine = affine_of(directions)
    axes, flips = display_order(affine, planar=True)
    shown = display_affine(affine, (4, 5, 1), axes, flips)
    assert axes[0] == 2 and np.linalg.det(shown[:3, :3]) > 0
    steps = [tuple(np.sign(column)) for column in shown[:3, 1:3].T]
    order = [tuple(column) for column in INFERIOR_POSTERIOR_LEFT.T]
    assert [order.index(step) for step in steps] == sorted(order.index(step) for step in steps)


def test_display_axes_are_right_handed_and_nearest_for_any_oblique_or_sheared_affine(
    rng: np.random.Generator,
) -> None:
    for _ in range(300):
        affine = affine_of(sheared(rng, amount=rng.uniform(0, 0.8)), tuple(rng.uniform(0.2, 8, 3)))
        axes, flips = display_order(affine, planar=False)
        shown = display_affine(affine, (4, 5, 6), axes, flips)
        assert np.linalg.det(shown[:3, :3]) > 0
        planar_axes, planar_flips = display_order(affine, planar=True)
        plane = display_affine(affine, (4, 5, 1), planar_axes, planar_flips)
        assert np.linalg.det(plane[:3, :3]) > 0


def test_display_order_is_that_of_nibabel_where_the_nearest_axes_are_clear(rng: np.random.Generator) -> None:
    for directions in orientations():
        tilt, _ = np.linalg.qr(np.eye(3) + rng.normal(scale=0.1, size=(3, 3)))
        tilt *= np.sign(np.diag(tilt))
        affine = affine_of(tilt @ directions)
        target = nib.orientations.axcodes2ornt("IPL")
        expected = nib.orientations.ornt_transform(nib.io_orientation(affine), target)
        axes, flips = display_order(affine, planar=False)
        for shown, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
            assert tuple(expected[axis]) == (shown, -1 if flip else 1)
