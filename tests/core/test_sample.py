"""Samplers against data whose answer is known exactly."""

from __future__ import annotations

import math

import pytest
import torch

from diffseg.denoise import Prediction
from diffseg.errors import PlanError
from diffseg.noise import CosineSchedule, LinearSchedule
from diffseg.sample import DDIM, DDPM, SAMPLERS, Noise, Sampler, noised, transition
from oracle import GaussianOracle, MixtureOracle

SCHEDULES = {"linear": LinearSchedule(), "cosine": CosineSchedule()}


def final(sampler: Sampler, denoiser: object, members: int, shape: tuple[int, ...], levels: tuple) -> torch.Tensor:
    noise = Noise(0, tuple(range(members)))
    *_, last = sampler.steps(denoiser, noise.draw(0, shape), noise, levels)  # type: ignore[arg-type]
    return last.x


DETERMINISTIC = [n for n in SAMPLERS.names() if SAMPLERS[n]().order is not None]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_errors_shrink_with_the_order_that_a_sampler_declares(name: str, schedule: str) -> None:
    oracle, sampler = GaussianOracle(0.3, 0.2), SAMPLERS[name]()
    noise = Noise(1, (0,))
    start = noise.draw(0, (1, 200)).double()
    errors = []
    for steps in (101, 201) if schedule == "linear" else (100, 200):
        levels = SCHEDULES[schedule].levels(steps)
        # At t = 0.2: the last step returns x0hat, not a point of the path, and its place depends on the step count.
        k = min(range(len(levels)), key=lambda i: abs(levels[i].t - 0.2))
        states = list(sampler.steps(oracle, start, noise, levels))
        errors.append(float((states[k - 1].x - oracle.flow(start, levels[0], levels[k])).abs().max()))
    # 0.3: higher-order terms at finite steps.
    assert math.log2(errors[0] / errors[1]) >= (sampler.order or 0) - 0.3
    # The worst of 200 points, three standard deviations out; a wrong update is off by the data's spread, 0.2, or more.
    assert errors[1] < 0.04


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_reproduces_the_moments_of_gaussian_data(variance: str) -> None:
    oracle = GaussianOracle(0.3, 0.2)
    levels = LinearSchedule().levels(1001)
    sampler = DDPM(variance)  # type: ignore[arg-type]
    x = final(sampler, oracle, 1, (1, 20_000), levels)
    # The last step returns the posterior mean at abar 0.9999, so the spread shrinks by 0.2^2 / (0.2^2 + 1e-4).
    # Standard errors: mean 0.2 / sqrt(20000) = 0.0014, std 0.001; four of them, plus the discretisation (0.002).
    assert float(x.mean()) == pytest.approx(0.3, abs=0.008)
    assert float(x.std()) == pytest.approx(0.2, abs=0.006)


@pytest.mark.parametrize("name", SAMPLERS.names())
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_sample_of_a_mixture_of_masks_is_one_of_them_with_its_frequency(name: str, schedule: str) -> None:
    templates = torch.full((3, 2, 8, 8), -1.0)
    for m, size in enumerate((2, 4, 6)):
        templates[m, 1, :size, :size] = 1
        templates[m, 0] = -templates[m, 1]
    weights = torch.tensor([0.5, 0.3, 0.2])
    x = final(SAMPLERS[name](), MixtureOracle(templates, weights), 1500, (2, 8, 8), SCHEDULES[schedule].levels(200))
    distance = (x[:, None] - templates[None]).flatten(2).abs().amax(2)
    # Exactly a template up to the float32 softmax: the final posterior is one-hot.
    assert float(distance.amin(1).max()) < 1e-3
    share = torch.bincount(distance.argmin(1), minlength=3) / len(x)
    # Standard error sqrt(0.25 / 1500) = 0.013; three of them, plus the bias of 200 steps (under 0.01).
    assert float((share - weights).abs().max()) < 0.05


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_a_member_is_the_same_alone_in_a_batch_and_after_resuming(name: str) -> None:
    oracle = GaussianOracle(0.1, 0.5)
    sampler = SAMPLERS[name](**({"eta": 0.7} if name == "ddim" else {}))
    levels = CosineSchedule().levels(6)
    batch = Noise(5, (0, 1, 2, 3))
    together = list(sampler.steps(oracle, batch.draw(0, (2, 5)), batch, levels))
    alone = Noise(5, (2,))
    single = list(sampler.steps(oracle, alone.draw(0, (2, 5)), alone, levels))
    resumed = list(sampler.steps(oracle, single[2].x, alone, levels, 3, single[2].x0))
    assert [s.done for s in resumed] == [4, 5, 6]
    for many, one in zip(together, single, strict=True):
        assert torch.equal(many.x[2], one.x[0])
    assert torch.equal(resumed[-1].x, single[-1].x)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_kept_steps_stay_valid_and_a_run_can_be_closed_half_way(name: str) -> None:
    noise = Noise(0, (0,))
    steps = SAMPLERS[name]().steps(GaussianOracle(0, 1), noise.draw(0, (1, 4)), noise, LinearSchedule().levels(5))
    first = next(steps)
    kept = first.x.clone()
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert torch.equal(first.x, kept)


def test_ddim_at_eta_one_has_the_variance_of_small_ddpm() -> None:
    # Same levels, same noise, exact oracle: the two updates are the same formula written differently.
    oracle, noise, levels = GaussianOracle(0.2, 0.4), Noise(3, (0,)), CosineSchedule().levels(8)
    x = noise.draw(0, (1, 50)).double()
    a = [s.x for s in DDIM(eta=1.0).steps(oracle, x, noise, levels)]
    b = [s.x for s in DDPM().steps(oracle, x, noise, levels)]
    for u, v in zip(a, b, strict=True):
        torch.testing.assert_close(u, v, rtol=0, atol=1e-9)


def test_noise_depends_on_seed_member_and_draw_only() -> None:
    a = Noise(7, (3, 1)).draw(2, (4,))
    b = Noise(7, (1,)).draw(2, (4,))
    assert torch.equal(a[1], b[0])
    others = [Noise(8, (1,)).draw(2, (4,)), Noise(7, (1,)).draw(3, (4,)), Noise(7, (2,)).draw(2, (4,))]
    assert not any(torch.equal(b, o) for o in others)


def test_noise_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    Noise(1, (0, 1)).draw(0, (1000,))
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_learned_variance_lies_between_its_bounds_in_the_logarithm(fraction: float) -> None:
    levels = LinearSchedule().levels(5)
    x = torch.zeros(1, 1, 3)
    for k in range(3):
        way = transition(levels, k)
        _, log_variance = DDPM("learned").moments(Prediction(x, None, torch.full_like(x, fraction)), x, way)
        expected = way.small ** (1 - fraction) * way.large**fraction
        torch.testing.assert_close(torch.as_tensor(log_variance).exp(), torch.full_like(x, expected))


def test_learned_variance_of_a_model_without_one_is_refused() -> None:
    noise = Noise(0, (0,))
    with pytest.raises(PlanError, match="did not learn a variance"):
        next(DDPM("learned").steps(GaussianOracle(0, 1), noise.draw(0, (1, 4)), noise, LinearSchedule().levels(5)))


def test_a_noised_mask_has_the_amplitudes_of_its_level_and_is_redrawn_like_itself_when_little_is_forgotten() -> None:
    templates = torch.full((2, 1, 8, 8), -1.0)
    templates[1, :, :4] = 1
    oracle, levels = MixtureOracle(templates, torch.tensor([0.5, 0.5])), LinearSchedule().levels(20)
    noise = Noise(0, tuple(range(64)))
    for start, changed in [(0, True), (15, False), (20, False)]:
        x = noised(templates[1:], noise, levels, start)
        assert x.shape == (64, 1, 8, 8)
        # 4096 values: four standard errors are 0.06 in the mean of 2048 and less in the spread.
        assert float(x[:, :, :4].mean()) == pytest.approx(levels[start].alpha, abs=0.09)
        assert float(x[:, :, :4].std()) == pytest.approx(levels[start].sigma, abs=0.06)
        states = [s.x for s in DDIM().steps(oracle, x, noise, levels, start)]
        last = states[-1] if states else x
        assert bool((last.sign() != templates[1].sign()).any()) is changed
