"""Schedules against closed forms and the published values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diffseg.errors import PlanError
from diffseg.noise import CLEAN, SCHEDULES, CosineSchedule, LinearSchedule, TableSchedule, kept_indices, log_snr


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_amplitudes_lie_on_the_unit_circle_and_the_snr_falls(name: str) -> None:
    schedule = SCHEDULES[name]()
    alpha, sigma = schedule.at(np.linspace(0, 1, 501))
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-12)
    assert (np.diff(log_snr(schedule, np.linspace(0, 1, 501))) < 0).all()


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_levels_agree_with_the_schedule_and_end_clean(name: str) -> None:
    schedule = SCHEDULES[name]()
    levels = schedule.levels(7)
    assert len(levels) == 8 and levels[-1] is CLEAN
    alpha, sigma = schedule.at(np.array([v.t for v in levels[:-1]]))
    # Table and formula differ only by float64 rounding.
    np.testing.assert_allclose([v.alpha for v in levels[:-1]], alpha, rtol=1e-12)
    np.testing.assert_allclose([v.sigma for v in levels[:-1]], sigma, rtol=1e-9)


def test_five_linear_levels_have_the_published_abar() -> None:
    # Values printed for K = 5 in the analysis of the published schedule; given to 4 significant digits or more.
    abar = [v.alpha**2 for v in LinearSchedule().levels(5)[:-1]]
    np.testing.assert_allclose(abar, [3.995e-5, 0.0033189, 0.077992, 0.52175, 0.9999], rtol=2e-4)


def test_five_linear_levels_have_the_published_posterior() -> None:
    levels = LinearSchedule().levels(5)
    std, on_x0, on_x = [], [], []
    for a, b in zip(levels, levels[1:], strict=False):
        ratio = (a.alpha / b.alpha) ** 2
        on_x0.append(b.alpha * (1 - ratio) / a.sigma**2)
        on_x.append(math.sqrt(ratio) * b.sigma**2 / a.sigma**2)
        std.append(math.sqrt((1 - ratio) * b.sigma**2 / a.sigma**2))
    np.testing.assert_allclose(on_x0, [0.0569, 0.2683, 0.6663, 0.99984, 1], atol=6e-5)
    np.testing.assert_allclose(on_x, [0.1094, 0.1908, 0.2005, 1.5e-4, 0], atol=6e-5)
    np.testing.assert_allclose(std, [0.992, 0.941, 0.664, 0.0100, 0], atol=6e-4)


def test_cosine_with_input_scale_has_the_published_gamma() -> None:
    alpha, sigma = CosineSchedule(input_scale=0.1).at(np.array([0.1, 0.2, 0.3, 0.5, 0.7, 0.9]))
    # Published to three digits.
    np.testing.assert_allclose(alpha**2, [0.285, 0.0865, 0.0371, 0.00990, 0.00259, 0.000251], rtol=3e-3)
    assert 2 * math.log(alpha[3] / sigma[3]) == pytest.approx(-4.605, abs=5e-4)


def test_input_scaling_multiplies_the_snr_by_its_square() -> None:
    t = np.linspace(0.2, 0.8, 7)
    # A limit of 40 makes the affine correction (e^-40) negligible here.
    plain, scaled = (log_snr(CosineSchedule(b, 40.0), t) for b in (1.0, 0.1))
    np.testing.assert_allclose(scaled - plain, 2 * math.log(0.1), atol=1e-9)


def test_cosine_reaches_its_limits_at_both_ends() -> None:
    # 1e-6: near 1 - e^-20 the float64 grid is coarse compared with e^-20 = 2e-9.
    np.testing.assert_allclose(log_snr(CosineSchedule(0.1, 20.0), np.array([0.0, 1.0])), [20, -20], atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "steps"), [(LinearSchedule(), 1), (LinearSchedule(), 1002), (CosineSchedule(), 0)]
)
def test_impossible_step_counts_are_refused_with_the_possible_ones(schedule: object, steps: int) -> None:
    with pytest.raises(PlanError, match="steps were asked for"):
        schedule.levels(steps)  # type: ignore[attr-defined]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(PlanError, match="input_scale is 0"):
        CosineSchedule(input_scale=0.0)


@pytest.mark.parametrize("betas", ["linear", "cosine"])
@pytest.mark.parametrize("count", [1000, 4000])
def test_guided_tables_have_the_published_abar(betas: str, count: int) -> None:
    # Values of the analysis of the published code, to three digits.
    expected = {("linear", 1000): 0.1936, ("linear", 4000): 0.896, ("cosine", 1000): 0.646, ("cosine", 4000): 0.972}
    found = TableSchedule(betas, count).abar[400]  # type: ignore[arg-type]
    assert found == pytest.approx(expected[betas, count], rel=1e-3)


def test_any_number_of_steps_is_allowed_and_the_noisiest_level_is_kept() -> None:
    for steps in (1, 2, 37, 41, 999, 1000):
        levels = TableSchedule().levels(steps)
        assert len(levels) == steps + 1
        assert levels[0].told == 999
        told = [v.told for v in levels[:-1]]
        assert told == sorted(set(told), reverse=True)


def test_strides_leave_out_the_last_index_where_they_exist_as_published() -> None:
    schedule = TableSchedule(respacing="ddim")
    assert [v.told for v in schedule.levels(10)[:-1]] == list(range(900, -1, -100))
    assert schedule.levels(37)[0].told == 999


def test_rescaled_times_are_told_in_thousandths() -> None:
    levels = TableSchedule(count=4000, rescale=True).levels(4000)
    assert (levels[0].told, levels[-2].told) == (999.75, 0)


def test_an_explicit_respacing_names_the_steps_it_makes() -> None:
    schedule = TableSchedule(respacing="10,15,20")
    assert len(schedule.levels(45)) == 46
    with pytest.raises(PlanError, match="makes 45 steps, but 10"):
        schedule.levels(10)


@pytest.mark.parametrize("text", ["", "ddim", "5,x", "0", "ddim5,5", "-3", "1001"])
def test_respacings_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(PlanError):
        kept_indices(1000, text)


def test_sections_too_short_for_their_steps_are_thinned_evenly() -> None:
    kept = kept_indices(100, "60,10")
    assert len(kept) == 70 and (kept[0], kept[-1]) == (0, 99)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("time", [1, 0.75, 0.5, 0.25, 0]),
        ("index", [4, 3, 2, 1, 0]),
        ("share", [1, 0.8, 0.6, 0.4, 0.2]),
        ("trained", [1, 751 / 1001, 501 / 1001, 251 / 1001, 1 / 1001]),
    ],
)
def test_the_time_told_follows_the_generation_of_the_published_code(told: str, expected: list[float]) -> None:
    levels = LinearSchedule(told=told).levels(5)  # type: ignore[arg-type]
    np.testing.assert_allclose([v.told for v in levels[:-1]], expected, rtol=1e-12)
    assert [v.alpha for v in levels] == [v.alpha for v in LinearSchedule().levels(5)]


def test_the_right_cosine_of_a_table_has_its_middle_where_it_should_and_the_published_one_elsewhere() -> None:
    right, published = (LinearSchedule(betas=b).abar for b in ("cosine", "cosine-imgx"))  # type: ignore[arg-type]
    # cos^2 at the middle of the offset quarter period: Nichol and Dhariwal's abar(1/2).
    assert right[500] == pytest.approx(math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) ** 2, rel=0.01)
    # exp(-sum beta) with beta = 0.02 sin^2: the sum over the first half is about 0.02 * 1001 * (1 / 4 - 1 / (2 pi)).
    assert published[500] == pytest.approx(math.exp(-0.02 * 1001 * (0.25 - 0.5 / math.pi)), rel=0.15)
