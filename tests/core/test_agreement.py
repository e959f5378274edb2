"""The record of agreement: masks as tools store them, and figures against hand-made sets."""

from __future__ import annotations

import numpy as np
import pytest

from diffseg.agreement import agreement, table
from diffseg.errors import CaseError

SPACING = (1.0, 1.0, 1.0)


def box(stop: int, label: int = 1) -> np.ndarray:
    mask = np.zeros((4, 10, 10), np.uint8)
    mask[1:3, 2:6, 2:stop] = label
    return mask


def test_masks_stored_as_255_give_the_figures_of_masks_stored_as_1() -> None:
    samples, raters = [box(6), box(8)], [box(7), box(9)]
    one = agreement(samples, raters, SPACING)
    many = agreement([m * 255 for m in samples], [m * 255 for m in raters], SPACING)
    assert one["ged"] == many["ged"]
    assert list(many["pairs"]) == ["255"]
    assert many["pairs"]["255"] == one["pairs"]["1"]


def test_ged_of_two_boxes_by_hand() -> None:
    # Areas 4 x 4 and 4 x 8 columns: IoU 1/2 in every pair across, 1 within.
    record = agreement([box(6)] * 2, [box(10)] * 3, SPACING)
    assert record["ged"]["papers"] == pytest.approx(2 * 0.5, abs=1e-12)
    assert record["ged"]["unbiased"] == pytest.approx(2 * 0.5, abs=1e-12)
    assert record["pairs"]["1"]["dice"]["mean"] == pytest.approx(2 / 3, abs=1e-12)


def test_empty_masks_agree_and_their_surfaces_are_left_out_and_counted() -> None:
    empty = np.zeros((4, 10, 10), np.uint8)
    record = agreement([empty], [empty, box(6)], SPACING)
    assert record["pairs"]["1"]["hd95_mm"]["left_out"] == 2
    assert record["mean_iou"] == pytest.approx(0.5)
    assert "undefined" in table(record)


def test_labels_beyond_the_named_classes_and_empty_sets_are_refused() -> None:
    with pytest.raises(CaseError, match="holds the label 3, but the classes are a, b"):
        agreement([box(6, 3)], [box(6)], SPACING, ["a", "b"])
    with pytest.raises(CaseError, match="At least one"):
        agreement([], [box(6)], SPACING)
