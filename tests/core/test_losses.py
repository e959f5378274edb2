"""Losses: closed forms, what they train, degenerate masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from diffseg.errors import PlanError
from diffseg.losses import (
    MASK_LOSSES,
    WEIGHTINGS,
    Transitions,
    bound_bits,
    cross_entropy,
    dice_loss,
    dice_per_class,
    focal,
    hybrid,
    level_weights,
    log_snr_slope,
)
from diffseg.losses.bound import binned_log_likelihood
from diffseg.losses.weights import Sigmoid
from diffseg.noise import CosineSchedule, LinearSchedule, log_snr
from diffseg.train_plan import FitPlan

ABAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


def test_dice_loss_closed_form_and_absent_classes() -> None:
    labels = torch.tensor([[0, 1, 1, 0]])
    p = torch.tensor([[[0.9, 0.2, 0.4, 1.0], [0.1, 0.8, 0.6, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    # Class 1: 2 * (0.8 + 0.6) / (1.5 + 2); class 2 is absent and skipped.
    assert float(dice_loss(p, labels)) == pytest.approx(1 - 2 * 1.4 / 3.5, abs=1e-6)
    assert float(dice_loss(p, torch.zeros_like(labels))) == 0.0
    per_class = dice_per_class(p, labels)
    assert float(per_class[0, 1]) == pytest.approx(1 - 2 * 1.4 / 3.5, abs=1e-6)
    assert torch.isnan(per_class[0, 2])


def test_a_class_without_label_or_probability_leaves_the_gradient_finite() -> None:
    logits = torch.full((1, 3, 4), -200.0)
    logits[:, 0] = 200
    logits.requires_grad_(True)
    dice_loss(logits.softmax(1), torch.zeros(1, 4, dtype=torch.long)).sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_cross_entropy_and_focal_closed_forms() -> None:
    p, labels = torch.tensor([[[0.25, 0.5], [0.75, 0.5]]]), torch.tensor([[0, 1]])
    assert float(cross_entropy(p, labels)) == pytest.approx((math.log(4) + math.log(2)) / 2, abs=1e-6)
    want = (0.75**2 * math.log(4) + 0.5**2 * math.log(2)) / 2
    assert float(focal(p, labels)) == pytest.approx(want, abs=1e-6)
    # Overlapping classes: voxel 0 wants class 0 and not class 1, each with 0.25; voxel 1 has 0.5 everywhere.
    both = (2 * math.log(4) + 2 * math.log(2)) / 2
    assert float(cross_entropy(p, labels, exclusive=False)) == pytest.approx(both, abs=1e-6)


def test_every_mask_loss_has_a_weight_in_the_plan() -> None:
    plan = FitPlan(updates=1)
    assert all(isinstance(getattr(plan, name), float) for name in MASK_LOSSES)


def test_reverse_steps_agree_with_the_product_of_normal_distributions() -> None:
    tr = Transitions.of(ABAR)
    t = 417
    a, b, beta = ABAR[t], ABAR[t - 1], 1 - ABAR[t] / ABAR[t - 1]
    # q(x_s | x_0) q(x_t | x_s) as a function of x_s: precisions add, means are weighted by them.
    precision = 1 / (1 - b) + (1 - beta) / beta
    assert np.exp(tr.log_small[t]) == pytest.approx(1 / precision, rel=1e-9)
    assert tr.of_x0[t] == pytest.approx(np.sqrt(b) / (1 - b) / precision, rel=1e-9)
    assert tr.of_x[t] == pytest.approx(np.sqrt(1 - beta) / beta / precision, rel=1e-9)
    assert (tr.of_x0[0], tr.of_x[0]) == (pytest.approx(1), 0)
    assert tr.log_small[0] == tr.log_small[1]
    assert np.isclose(a, tr.alpha[t] ** 2)


def test_transitions_of_a_schedule_leave_out_its_clean_level() -> None:
    tr = Transitions.of_levels(LinearSchedule(count=1001).levels(11))
    assert len(tr) == 11
    assert tr.alpha[0] ** 2 == pytest.approx(1 - 1e-4)
    assert np.all(np.diff(tr.alpha) < 0)


def test_bound_is_zero_only_for_the_true_posterior() -> None:
    g = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 1, 4, 4, generator=g), torch.randn(2, 1, 4, 4, generator=g)
    tr, t = Transitions.of(ABAR), torch.tensor([3, 900])
    x = tr.at("alpha", t, x0) * x0 + tr.at("sigma", t, x0) * eps
    small, beta = torch.zeros_like(x0), torch.ones_like(x0)
    assert float(bound_bits(tr, t, x0, x, x0, small).abs().max()) < 1e-6
    # Variance beta instead: KL = (ln(beta / small) - 1 + small / beta) / 2 nats.
    ratio = tr.log_beta[t] - tr.log_small[t]
    want = (ratio - 1 + np.exp(-ratio)) / 2 / math.log(2)
    np.testing.assert_allclose(bound_bits(tr, t, x0, x, x0, beta), want, rtol=1e-4, atol=1e-7)
    shifted = bound_bits(tr, t, x0, x, x0 + 0.1, small)
    distance = (0.1 * tr.of_x0[t]) ** 2 / np.exp(tr.log_small[t]) / 2 / math.log(2)
    # In float32 a KL divergence has an error of about 1e-8, from 1 - 1.
    np.testing.assert_allclose(shifted, distance, rtol=1e-4, atol=1e-8)


def test_binned_likelihood_sums_to_one_and_is_near_the_normal_distribution() -> None:
    x = torch.linspace(-1, 1, 256, dtype=torch.float64)
    log_p = binned_log_likelihood(x, torch.full_like(x, 0.2), torch.full_like(x, math.log(0.1)))
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-9)
    inner = slice(90, 215)  # within three standard deviations; beyond, the tanh approximation is relative only
    high, low = ((x + s / 255 - 0.2) / 0.1 for s in (1, -1))
    np.testing.assert_allclose(log_p.exp()[inner], (norm.cdf(high) - norm.cdf(low))[inner], atol=2e-4)


def test_the_bound_trains_the_variance_and_the_squared_error_the_noise() -> None:
    g = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 1, 4, 4, generator=g).clamp(-1, 1), torch.randn(2, 1, 4, 4, generator=g)
    tr, t = Transitions.of(ABAR), torch.tensor([0, 500])
    output = torch.randn(2, 2, 4, 4, generator=g).requires_grad_(True)
    mse, bits = hybrid(tr, t, x0, eps, output)
    (of_bits,) = torch.autograd.grad(bits.sum(), output, retain_graph=True)
    (of_mse,) = torch.autograd.grad(mse.sum(), output)
    assert float(of_bits[:, :1].abs().max()) == 0 and bool((of_bits[:, 1:] != 0).any())
    assert float(of_mse[:, 1:].abs().max()) == 0 and bool((of_mse[:, :1] != 0).any())


def test_weightings_turn_the_clean_mask_error_into_the_named_one() -> None:
    schedule, t = CosineSchedule(input_scale=0.5), np.array([0.1, 0.5, 0.9])
    alpha, sigma = schedule.at(t)
    error = 0.3  # of the clean mask; the noise then errs by alpha / sigma and the velocity by 1 / sigma times it
    weights = {name: level_weights(WEIGHTINGS[name](), schedule, t) for name in WEIGHTINGS}
    np.testing.assert_allclose(weights["snr"] * error**2, (alpha / sigma * error) ** 2)
    np.testing.assert_allclose(weights["snr-plus-one"] * error**2, (error / sigma) ** 2)
    np.testing.assert_allclose(weights["snr-truncated"], np.maximum((alpha / sigma) ** 2, 1))
    np.testing.assert_allclose(weights["sigmoid"], alpha**2)
    np.testing.assert_allclose(weights["uniform"], 1)


def test_decoupled_weights_do_not_depend_on_the_schedule() -> None:
    """The integral of ``w(l) (-dl/dt)`` over time is that of ``w`` over the log-SNR, whatever the schedule."""
    t = np.linspace(0.01, 0.99, 5001)
    for scale in (0.1, 1.0):
        schedule = CosineSchedule(scale)
        total = np.trapezoid(level_weights(Sigmoid(bias=-2.0), schedule, t, decoupled=True), t)
        low, high = log_snr(schedule, np.array([0.99, 0.01]))
        # The antiderivative of sigmoid(l - 2) is ln(1 + e^(l - 2)); the trapezoids err by 1e-4 at the steep ends.
        assert total == pytest.approx(np.logaddexp(0, high - 2) - np.logaddexp(0, low - 2), rel=1e-3)


def test_slope_of_the_log_snr_is_the_analytic_one() -> None:
    t = np.array([0.05, 0.3, 0.5, 0.95])
    # Without limits ln cot^2(pi t / 2) + ln b^2 has the derivative -2 pi / sin(pi t).
    np.testing.assert_allclose(log_snr_slope(CosineSchedule(0.1, 40.0), t), -2 * np.pi / np.sin(np.pi * t), rtol=1e-6)


def test_unknown_weightings_and_wild_biases_are_refused() -> None:
    with pytest.raises(PlanError, match="no weighting called 'snrr'"):
        WEIGHTINGS["snrr"]
    with pytest.raises(PlanError, match="bias is 50"):
        Sigmoid(bias=50.0)
