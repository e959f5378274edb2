"""Pictures of modes: which slice, which part of it, and the outline in the mode's hue."""

from __future__ import annotations

import numpy as np

from diffseg.ensemble import Ensemble
from diffseg.grid import Box
from diffseg.modes import find_modes
from napari_diffseg.layerdata import mode_color
from napari_diffseg.thumbnails import SIDE, thumbnails
from plugin_cases import case_of

ROI = Box((1, 2, 3), (7, 14, 15))


def hue(index: int) -> np.ndarray:
    color = mode_color(index)
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])


def test_the_slice_of_largest_area_is_shown_with_the_outline_where_the_mask_lies() -> None:
    case = case_of((9, 20, 24), (2.0, 1.0, 1.0))
    # Every slice has a grey of its own.
    case.image[0] = np.arange(9)[:, None, None]
    big, empty = np.zeros(ROI.shape, np.uint8), np.zeros(ROI.shape, np.uint8)
    big[1, 4:6, 4:6] = big[3, 2:10, 2:10] = 1
    ensemble = Ensemble(2, ROI.shape)
    for number, mask in enumerate((big, big, empty)):
        ensemble.add(mask, number)
    snapshot = ensemble.snapshot()
    first, second = thumbnails(find_modes(snapshot, 1.0), snapshot, ROI, case)
    assert first.shape == second.shape == (SIDE, SIDE, 3)
    # Slice 3 of the region is slice 4 of the scan, halfway between black (0) and white (8).
    assert (first[0, 0] == 127).all() and (second == 127).all(), "nothing is drawn on an empty one"
    line = (first == hue(1)).all(axis=-1)
    rows, columns = np.nonzero(line)
    # The block of 8 mm is in the middle of 16 mm, the least that is shown.
    assert rows.min() == columns.min() == SIDE // 4 and rows.max() == columns.max() == 3 * SIDE // 4 - 1
    assert not line[SIDE // 2, SIDE // 2]


def test_a_flat_scan_has_pictures_too() -> None:
    case = case_of((20, 24))
    ensemble = Ensemble(3, (20, 24))
    mask = np.zeros((20, 24), np.uint8)
    mask[5:15, 6:12], mask[5:15, 12:18] = 1, 2
    ensemble.add(mask, 0)
    snapshot = ensemble.snapshot()
    (picture,) = thumbnails(find_modes(snapshot, 1.0), snapshot, Box.whole((20, 24)), case)
    assert (picture == hue(1)).all(axis=-1).any() and picture.dtype == np.uint8
