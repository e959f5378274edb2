"""Guidance by a classifier: identities that hold exactly where all densities are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from diffseg.codec import ImageCodec
from diffseg.denoise import EpsHead, Prediction, VHead
from diffseg.errors import PlanError
from diffseg.guidance import (
    Guided,
    GuidedMean,
    Labelled,
    NetworkImageDenoiser,
    class_gradient,
    clipped_eps,
    guided_eps,
    one_hot,
    time_table,
)
from diffseg.noise import Level, LinearSchedule, TableSchedule
from diffseg.sample import DDIM, DDPM, Noise, transition
from saliency_oracle import (
    HEALTHY,
    LESION,
    TIMES,
    GaussianDenoiser,
    PlantedClassifier,
    PlantedDenoiser,
    lesion_image,
)

LEVEL = TIMES[300]


def noised(level: Level = LEVEL) -> Tensor:
    """Three slices with lesions, noised to ``level``."""
    clean = torch.stack([lesion_image(k) for k in (0, 4, 7)])
    return level.alpha * clean + level.sigma * Noise(0, (0, 1, 2)).draw(0, clean.shape[1:])


def mixed_population(x: Tensor, level: Level) -> Tensor:
    """Exact noise for the two populations together, equally frequent: a posterior mean of the classes' noises."""
    share = PlantedClassifier()(x, torch.full((len(x),), level.told)).softmax(dim=1)
    healthy, lesion = (PlantedDenoiser().eps(x, level, one_hot(y, 2)) for y in (0, 1))
    return share[:, 0, None, None, None] * healthy + share[:, 1, None, None, None] * lesion


@pytest.mark.parametrize("target", [0, 1])
def test_an_exact_classifier_turns_the_whole_population_into_one_class(target: int) -> None:
    """Bayes: grad log p(x | y) = grad log p(x) + grad log p(y | x), so strength 1 gives the conditional model."""
    for level in (TIMES[100], LEVEL, TIMES[700]):
        x = noised(level)
        gradient = class_gradient(PlantedClassifier(), x, level.told, target)
        guided = guided_eps(mixed_population(x, level), gradient, level, 1.0)
        expected = PlantedDenoiser().eps(x, level, one_hot(target, 2))
        assert torch.allclose(guided, expected, atol=1e-4)  # float32 sums over 256 pixels


def test_a_guided_denoiser_takes_any_sampler_to_the_class() -> None:
    """Both are the same path of the same ODE, one guided, one conditional."""
    levels = TableSchedule().levels(20)
    start = Noise(0, (0, 1)).draw(0, (1, 16, 16))

    def population(x: Tensor, level: Level) -> Prediction:
        eps = mixed_population(x, level)
        return Prediction((x - level.sigma * eps) / level.alpha)

    guided = Guided(population, PlantedClassifier(), 1, 1.0)
    *_, a = DDIM().steps(guided, start, Noise(0, (0, 1)), levels)
    *_, b = DDIM().steps(Labelled(PlantedDenoiser(), one_hot(1, 2), clip=None), start, Noise(0, (0, 1)), levels)
    assert torch.allclose(a.x, b.x, atol=1e-3)


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
@pytest.mark.parametrize("k", [0, 5, 9])
def test_the_mean_of_a_ddpm_step_is_shifted_by_variance_times_gradient(variance: str, k: int) -> None:
    levels = TableSchedule().levels(10)
    level, way = levels[k], transition(levels, k)
    x = noised(level)
    fraction = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))

    def plain(x: Tensor, level: Level) -> Prediction:
        return Prediction(0.5 * x, variance_fraction=fraction)

    sampler = DDPM(variance)  # type: ignore[arg-type]
    before, log_variance = sampler.moments(plain(x, level), x, way)
    guided = GuidedMean(plain, PlantedClassifier(), 0, 2.0, levels, sampler)(x, level)
    after, same = sampler.moments(guided, x, way)
    gradient = class_gradient(PlantedClassifier(), x, level.told, 0)
    size = log_variance.exp() if isinstance(log_variance, Tensor) else math.exp(log_variance)
    # A difference of float32 means near 3 carries 5e-7.
    assert torch.allclose(after - before, 2.0 * size * gradient, rtol=1e-4, atol=1e-6)
    assert torch.equal(torch.as_tensor(same), torch.as_tensor(log_variance))


class Leaning(nn.Module):
    """A classifier with a parameter, whose gradient is known: log-odds ``w * sum(x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.01))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        odds = self.weight * x.sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(odds), odds], dim=1)


def test_the_gradient_is_that_of_each_image_and_leaves_no_trace() -> None:
    x, network = noised(), Leaning()
    gradient = class_gradient(network, x, 0.0, 1)
    share = torch.sigmoid(-0.01 * x.sum(dim=(1, 2, 3)))
    assert torch.allclose(gradient, (0.01 * share)[:, None, None, None].expand_as(x), rtol=1e-5)
    assert network.weight.grad is None
    assert not x.requires_grad and not gradient.requires_grad
    with torch.inference_mode():
        assert torch.equal(class_gradient(network, x + 0, 0.0, 1), gradient)


def test_clipping_moves_the_rest_into_the_noise() -> None:
    x = 3 * noised()
    eps = GaussianDenoiser().eps(x, LEVEL, one_hot(1, 2))
    clipped = clipped_eps(x, eps, LEVEL, (0.0, 0.5))
    clean = (x - LEVEL.sigma * clipped) / LEVEL.alpha
    assert float(clean.min()) > -1e-5 and float(clean.max()) < 0.5 + 1e-5
    assert torch.equal(clipped_eps(x, eps, LEVEL, None), eps)


class Labels(nn.Module):
    """Answers with the label's weights: noise in the first channel is their sum, weighted by their place."""

    def forward(self, x: Tensor, told: Tensor, label: Tensor | None = None) -> Tensor:
        if label is None:
            return torch.zeros_like(x)
        place = torch.arange(label.shape[1], dtype=torch.float32)
        return (label @ place)[:, None, None, None].expand_as(x)


def test_a_network_is_given_the_weights_of_all_its_labels() -> None:
    model = NetworkImageDenoiser(Labels(), 5, EpsHead(), ImageCodec())
    x = noised()
    assert torch.equal(model.eps(x, LEVEL, torch.tensor([0.0, 0.5, 0.5])), torch.full_like(x, 1.5))
    for wrong in (None, torch.zeros(6)):
        with pytest.raises(PlanError, match="5 class labels"):
            model.eps(x, LEVEL, wrong)
    unconditional = NetworkImageDenoiser(Labels(), 0, EpsHead(), ImageCodec())
    assert not unconditional.eps(x, LEVEL, None).any()


def test_a_velocity_network_gives_its_noise() -> None:
    model = NetworkImageDenoiser(Labels(), 5, VHead(), ImageCodec())
    x = noised()
    eps = model.eps(x, LEVEL, one_hot(2, 5))
    assert torch.allclose(eps, LEVEL.sigma * x + LEVEL.alpha * 2.0, atol=1e-6)


def test_the_table_of_time_steps_counts_from_the_least_noisy() -> None:
    times = time_table(TableSchedule(), 1000)
    assert [level.told for level in times] == list(range(1000))
    assert times[400].alpha ** 2 == pytest.approx(0.1936, abs=5e-5)  # a published value of this schedule
    sigmas = [level.sigma for level in time_table(LinearSchedule(), 1001)]
    assert sigmas == sorted(sigmas) and sigmas[0] > 0


def test_classes_that_do_not_exist_are_refused() -> None:
    with pytest.raises(PlanError, match="no class 2; this model knows the classes 0 to 1"):
        one_hot(2, 2)
    with pytest.raises(PlanError, match="no class 7; the classifier knows 0 to 1"):
        class_gradient(PlantedClassifier(), noised(), 300.0, 7)


def test_the_exact_model_knows_the_contrast_of_its_lesion() -> None:
    """The oracle of the other tests itself: at little noise it must see the clean image."""
    level = TIMES[5]
    eps = PlantedDenoiser().eps(noised(level), level, one_hot(1, 2))
    clean = (noised(level) - level.sigma * eps) / level.alpha
    assert float(clean.max()) == pytest.approx(LESION, abs=0.1)
    assert float(clean.median()) == pytest.approx(HEALTHY, abs=0.02)
