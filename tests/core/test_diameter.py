"""The largest diameter against brute force over all pairs of face middles, and on shapes measured by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from diffseg.errors import CaseError
from diffseg.metrics.diameter import largest_diameter_mm


def brute_force(mask: np.ndarray, spacing: tuple[float, ...]) -> float:
    """All pairs of all face middles of every connected piece."""
    pieces, count = label(mask, structure=np.ones((3,) * mask.ndim))
    longest = 0.0
    halves = np.concatenate([np.eye(mask.ndim), -np.eye(mask.ndim)]) / 2
    for number in range(1, count + 1):
        points = ((np.argwhere(pieces == number)[:, None] + halves) * spacing).reshape(-1, mask.ndim)
        longest = max(longest, float(np.linalg.norm(points[:, None] - points[None], axis=-1).max()))
    return longest


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.7, 1.1)])
def test_random_masks_have_the_diameter_of_brute_force(spacing: tuple[float, ...], rng: np.random.Generator) -> None:
    for share in (0.02, 0.1, 0.3, 0.7):
        mask = rng.random((5, 6, 7)) < share
        assert largest_diameter_mm(mask, spacing) == pytest.approx(brute_force(mask, spacing), rel=1e-12)
        assert largest_diameter_mm(mask[2], spacing[1:]) == pytest.approx(brute_force(mask[2], spacing[1:]), rel=1e-12)


def test_a_row_of_cubic_voxels_measures_their_sides_along_every_axis() -> None:
    for axis in range(3):
        mask = np.zeros((9, 9, 9), np.uint8)
        where: list[int | slice] = [4, 4, 4]
        where[axis] = slice(1, 7)
        mask[tuple(where)] = 2
        assert largest_diameter_mm(mask, (0.8, 0.8, 0.8)) == pytest.approx(6 * 0.8)


def test_pieces_apart_are_measured_apart_and_nothing_measures_nothing() -> None:
    mask = np.zeros((10, 30), bool)
    assert largest_diameter_mm(mask, (1.0, 1.0)) == 0
    mask[2, 2:5] = mask[2, 20:27] = True
    assert largest_diameter_mm(mask, (1.0, 0.5)) == pytest.approx(3.5)


def test_a_ball_has_its_diameter() -> None:
    z, y, x = np.indices((25, 25, 25)) - 12
    ball = z**2 + y**2 + x**2 <= 10**2
    # The outermost voxel centres lie at 10 on either side, their faces half a voxel further out.
    assert largest_diameter_mm(ball, (1.0, 1.0, 1.0)) == pytest.approx(21.0, abs=0.05)


def test_a_spacing_for_other_axes_is_refused() -> None:
    with pytest.raises(CaseError, match="2 axes needs 2 spacings, not 3"):
        largest_diameter_mm(np.ones((2, 2)), (1.0, 1.0, 1.0))
