"""Patches as if the skull had been removed."""

from __future__ import annotations

import numpy as np
import pytest

from diffseg.stripping import stripped


@pytest.mark.parametrize("seed", range(5))
def test_structures_keep_their_contrast_and_the_outside_turns_evenly_black(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(1, 40, 44, 48)).astype(np.float32)
    labels = np.zeros(image.shape[1:], np.uint8)
    labels[16:24, 18:26, 20:28] = 1
    before = image.copy()
    out = stripped(image, labels, rng)
    np.testing.assert_array_equal(image, before)
    assert abs(out.mean()) < 1e-4 and abs(out.std() - 1) < 1e-4, "normalised again"
    black = out[0] == out[0].min()
    assert 0 < black.mean() < 0.9
    # What is left is the old image on another scale: one slope and one offset for all of it.
    slope, offset = np.polyfit(before[0][~black], out[0][~black], 1)
    np.testing.assert_allclose(out[0][~black], slope * before[0][~black] + offset, atol=1e-4)
    assert slope > 0 and not black[labels > 0].any()


def test_nothing_changes_without_structures_and_black_stays_away_from_them() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 30, 30)).astype(np.float32)
    assert stripped(image, np.zeros((30, 30), np.uint8), rng) is image
    labels = np.zeros((30, 30), np.uint8)
    labels[14:16, 14:16] = 2
    nearest = []
    for _ in range(50):
        black = np.argwhere((out := stripped(image, labels, rng))[0] == out[0].min())
        nearest.append(np.linalg.norm(black - 14.5, axis=1).min())
    # Structures are never black, and the darkest voxels may lie right beside them.
    assert min(nearest) > 0.5 * np.sqrt(2)


def test_a_flat_channel_stays_as_it_is() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[8:12, 8:12] = 1
    image = np.full((1, 20, 20), 3, np.float32)
    np.testing.assert_array_equal(stripped(image, labels, np.random.default_rng(0)), image)
