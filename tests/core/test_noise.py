"""Schedules against closed forms and the published values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from diffseg.errors import PlanError
from diffseg.noise import CLEAN, SCHEDULES, CosineSchedule, LinearSchedule, log_snr


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
