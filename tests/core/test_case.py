"""Where display arrays come from, and that going back is exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diffseg.case import Case, Origin, origin_of
from diffseg.errors import CaseError
from diffseg.grid import Grid
from scans import affine_of, orientations, sheared

SHAPES = [(4, 5, 6), (4, 5, 1), (4, 5)]


def every_voxel_where_it_was(origin: Origin, mm_per_unit: float = 1.0) -> None:
    """Display arrays show each file voxel at its own place, and go back to file order exactly."""
    stored = np.arange(np.prod(origin.shape)).reshape(origin.shape)
    shown = origin.to_display(stored)
    grid = origin.display_grid(mm_per_unit)
    assert shown.shape == grid.shape
    np.testing.assert_array_equal(origin.to_file(shown), stored)
    file_index = np.argwhere(stored >= 0).astype(float)
    file_index = np.c_[
        file_index, np.zeros((len(file_index), 4 - file_index.shape[1] - 1)), np.ones(len(file_index))
    ]
    expected = (file_index @ origin.affine.T)[:, :3] * mm_per_unit
    display_index = np.argsort(shown.ravel(), kind="stable")
    found = grid.world(np.stack(np.unravel_index(display_index, shown.shape), axis=-1))
    # Coordinates of size 100 mm, three products each: rounding stays far below this.
    np.testing.assert_allclose(found, expected, atol=1e-11 * mm_per_unit)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("directions", list(orientations()))
def test_every_voxel_stays_at_its_place_in_all_48_orientations(
    directions: np.ndarray, shape: tuple[int, ...]
) -> None:
    every_voxel_where_it_was(origin_of(shape, affine_of(directions)))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_voxel_stays_at_its_place_under_oblique_and_sheared_affines(
    shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    for _ in range(40):
        every_voxel_where_it_was(origin_of(shape, affine_of(sheared(rng), tuple(rng.uniform(0.2, 6, 3)))))


def test_an_affine_in_metres_gives_a_grid_in_millimetres() -> None:
    origin = origin_of((4, 5, 6), np.diag([0.001, 0.002, 0.003, 1.0]))
    assert origin.display_grid(1000.0).spacing_mm == pytest.approx((3, 2, 1), rel=1e-12)
    every_voxel_where_it_was(origin, 1000.0)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1)])
def test_a_plane_without_a_through_plane_step_is_readable(shape: tuple[int, ...]) -> None:
    affine = np.diag([2.0, 3.0, 0.0, 1.0])
    origin = origin_of(shape, affine)
    assert origin.display_grid().spacing_mm == pytest.approx((3, 2))
    np.testing.assert_array_equal(origin.affine, affine)
    assert np.linalg.det(origin.display_grid().affine[:3, :3]) > 0


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((4, 5, 6), np.diag([2.0, 3.0, 0.0, 1.0])),
        ((4, 5), np.diag([2.0, 0.0, 1.0, 1.0])),
        ((4, 5, 6), np.full((4, 4), np.nan)),
        ((4, 5), np.full((4, 4), np.inf)),
        ((4, 5, 6), np.eye(3)),
    ],
)
def test_a_degenerate_affine_is_refused(shape: tuple[int, ...], affine: np.ndarray) -> None:
    with pytest.raises(CaseError):
        origin_of(shape, affine)


def test_arrays_of_another_shape_are_refused_both_ways() -> None:
    origin = origin_of((4, 5, 6), np.eye(4))
    with pytest.raises(CaseError):
        origin.to_display(np.zeros((6, 5, 4)))
    with pytest.raises(CaseError):
        origin.to_file(np.zeros((4, 5, 6)))
    with pytest.raises(CaseError):
        origin.to_file(np.zeros((5, 6)))


def case_with(**changes: Any) -> Case:
    """A small case, with some parts exchanged."""
    origin = origin_of((4, 5, 6), np.eye(4))
    parts: dict[str, Any] = {
        "image": np.zeros((1, 6, 5, 4), np.float32),
        "grid": origin.display_grid(),
        "channels": ("T1",),
        "raters": {},
        "origin": origin,
        "name": "scan",
    }
    return Case(**(parts | changes))


def test_a_case_whose_parts_do_not_fit_is_refused() -> None:
    with pytest.raises(CaseError):
        case_with(channels=("T1", "T2"))
    with pytest.raises(CaseError):
        case_with(grid=Grid((6, 5, 5), np.eye(4)))
    with pytest.raises(CaseError, match="'A'"):
        case_with(raters={"A": np.zeros((4, 5, 6), np.uint8)})


def test_cases_are_compared_by_identity_and_derive_spacing_from_the_affine() -> None:
    one, two = case_with(), case_with()
    assert one != two and one == one
    assert one.spacing_mm == one.grid.spacing_mm and one.ndim == 3


def test_the_raters_of_a_case_cannot_be_exchanged() -> None:
    raters = {"A": np.zeros((6, 5, 4), np.uint8)}
    case = case_with(raters=raters)
    raters["B"] = np.zeros((1, 1, 1), np.uint8)
    assert list(case.raters) == ["A"]
    with pytest.raises(TypeError):
        case.raters["C"] = raters["A"]  # type: ignore[index]
