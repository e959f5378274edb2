"""Arrays that are nearly everywhere 0, against numpy's own copy."""

from __future__ import annotations

import numpy as np
import pytest

from diffseg.sparse import copied, occupied


@pytest.mark.parametrize(
    ("planes", "expected"),
    [((), slice(0, 0)), ((0,), slice(0, 1)), ((4,), slice(4, 5)), ((1, 3), slice(1, 4)), (range(5), slice(0, 5))],
)
def test_occupied_planes_and_a_copy_of_them(planes: tuple[int, ...], expected: slice) -> None:
    values = np.zeros((5, 3, 4), np.uint8)
    for plane in planes:
        values[plane, 1, 2] = 7
    assert occupied(values) == expected
    before = values.copy()
    copy = copied(values)
    np.testing.assert_array_equal(copy, before)
    assert copy.dtype == values.dtype and not np.shares_memory(copy, values)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 2)])
def test_arrays_without_anything_and_views_that_run_backwards(shape: tuple[int, ...]) -> None:
    values = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)[::-1, ::-1]
    np.testing.assert_array_equal(copied(values), values)
