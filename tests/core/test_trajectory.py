"""Slots, the field of a mask with many classes, and what counts as change."""

from __future__ import annotations

import numpy as np
import pytest

from diffseg.trajectory import changed_voxels, class_field, field_stops, kept_slots, last_branch, read_field


def test_all_steps_are_kept_while_they_fit_then_every_nth_and_always_the_last() -> None:
    assert kept_slots(5, 100, 600) == (0, 1, 2, 3, 4, 5)
    assert kept_slots(5, 100, 500) == (0, 2, 4, 5)
    assert kept_slots(1000, 10**9, 1) == (0, 1000)
    assert kept_slots(1, 1, 1) == (0, 1)


@pytest.mark.parametrize("steps", [1, 7, 50, 1000])
@pytest.mark.parametrize("most", [2, 3, 10, 64])
def test_kept_slots_never_need_more_than_their_budget(steps: int, most: int) -> None:
    slots = kept_slots(steps, 8, 8 * most)
    assert len(slots) <= most and slots[0] == 0 and slots[-1] == steps and list(slots) == sorted(set(slots))


def test_no_branch_leaves_the_last_step_which_adds_no_noise() -> None:
    assert last_branch(5) == 3 and last_branch(1) < 0


def test_with_two_classes_the_field_is_the_mask_itself(rng: np.random.Generator) -> None:
    p = rng.random((3, 4)).astype(np.float32)
    np.testing.assert_allclose(class_field(np.stack([1 - p, p])), 2 * p - 1, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 5, 9])
def test_class_and_certainty_are_read_off_the_field_even_in_half_precision(
    classes: int, rng: np.random.Generator
) -> None:
    p = rng.dirichlet(np.ones(classes), 4000).T.astype(np.float32)
    field = class_field(p)
    assert field.min() >= -1 and field.max() <= 1
    which, s = read_field(field.astype(np.float16), classes)
    sure = 1 - p[0] > 0.05
    assert (which == p[1:].argmax(axis=0) + 1)[sure].all()
    # float16 has 11 bits; a band is 2 / (classes - 1) wide.
    np.testing.assert_allclose(s, 1 - p[0], atol=(classes - 1) * 2.0**-11 + 0.005)


def test_certain_classes_lie_at_the_upper_ends_of_their_bands() -> None:
    certain = np.eye(4, dtype=np.float32)
    which, s = read_field(class_field(certain), 4)
    assert class_field(certain)[0] == -1
    assert which[1:].tolist() == [1, 2, 3] and s[1:] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("colors", [["#ff0000"], ["#ff0000", "#00ff00", "#0000ff"]])
def test_the_colormap_shows_each_class_in_its_colour_as_opaque_as_it_is_certain(colors: list[str]) -> None:
    places, shades = field_stops(colors)
    assert places[0] == 0 and places[-1] == 1 and (np.diff(places) > 0).all()
    table = np.array(shades)
    classes = len(colors) + 1
    for k in range(1, classes):
        for s in (0.1, 0.5, 1.0):
            p = np.zeros((classes, 1), np.float32)
            p[0], p[k] = 1 - s, s
            place = (class_field(p)[0] + 1) / 2
            shown = np.array([np.interp(place, places, table[:, c]) for c in range(4)])
            expected = [int(colors[k - 1][i : i + 2], 16) / 255 for i in (1, 3, 5)]
            np.testing.assert_allclose(shown, [*expected, s], atol=1e-4)


def test_change_is_the_expected_number_of_voxels_of_another_class() -> None:
    p = np.zeros((3, 4), np.float32)
    p[0] = 1
    q = p.copy()
    q[:, 1] = (0, 1, 0)
    q[:, 2] = (0.5, 0, 0.5)
    assert changed_voxels(p, q) == pytest.approx(1.5)
    assert changed_voxels(q, q) == 0
