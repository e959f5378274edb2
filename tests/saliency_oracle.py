"""Exact image models for weak supervision, where it is known which pixels are the lesion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from diffseg.noise import Level

SIDE, PATCH = 16, 5
HEALTHY, LESION, SPREAD = 0.2, 0.9, 0.05


def linear_times(count: int = 1000) -> tuple[Level, ...]:
    """The time steps of the guided-diffusion linear schedule."""
    abar = np.cumprod(1 - np.linspace(0.1 / count, 20 / count, count))
    rows = enumerate(zip(np.sqrt(abar), np.sqrt(1 - abar), strict=True))
    return tuple(Level(i / (count - 1), float(i), float(a), float(s)) for i, (a, s) in rows)


TIMES = linear_times()


def lesion_masks() -> Tensor:
    """Nine places ``(9, H, W)`` where the lesion may be; they do not overlap."""
    masks = torch.zeros(9, SIDE, SIDE, dtype=torch.bool)
    for k in range(9):
        y, x = 5 * (k // 3), 5 * (k % 3)
        masks[k, y : y + PATCH, x : x + PATCH] = True
    return masks


def healthy_image() -> Tensor:
    """A slice ``(1, H, W)`` without lesion."""
    return torch.full((1, SIDE, SIDE), HEALTHY)


def lesion_image(place: int) -> Tensor:
    """A slice ``(1, H, W)`` with the lesion at one of the nine places."""
    return torch.where(lesion_masks()[place], LESION, HEALTHY)[None]


def templates(strength: float) -> Tensor:
    """The nine slices ``(9, 1, H, W)`` with a lesion of that share of its full contrast."""
    return torch.stack([healthy_image() + strength * (lesion_image(k) - healthy_image()) for k in range(9)])


def log_likelihoods(x: Tensor, means: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """``log p(x_t | template)`` up to a constant, ``(B, M)``; amplitudes broadcast against ``(B, M, C, H, W)``."""
    variance = alpha**2 * SPREAD**2 + sigma**2
    residual = (x[:, None] - alpha * means[None]).square() / (2 * variance)
    return -residual.flatten(2).sum(2)


@dataclass(frozen=True)
class PlantedDenoiser:
    """Exact noise for slices with a lesion at one of nine places, equally often, and pixel noise ``SPREAD``.

    The weight of class 1 is the contrast of the lesion; class 0 alone has none.
    """

    labels: int = 2

    def eps(self, x: Tensor, level: Level, label: Tensor | None) -> Tensor:
        assert label is not None
        alpha, sigma = torch.tensor(level.alpha), torch.tensor(level.sigma)
        means = templates(float(label[1]))
        mean = torch.einsum("bm,m...->b...", log_likelihoods(x, means, alpha, sigma).softmax(dim=1), means)
        variance = alpha**2 * SPREAD**2 + sigma**2
        x0 = mean + alpha * SPREAD**2 / variance * (x - alpha * mean)
        return (x - alpha * x0) / sigma


class PlantedClassifier(nn.Module):
    """The exact ``log p(y | x_t)`` of the same images, both classes equally frequent."""

    def __init__(self) -> None:
        super().__init__()
        self.alphas = torch.tensor([level.alpha for level in TIMES])

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        alpha = self.alphas[told.long()][:, None, None, None, None]
        means = torch.cat([healthy_image()[None], templates(1.0)])
        scores = log_likelihoods(x, means, alpha, (1 - alpha**2).sqrt())
        return torch.stack([scores[:, 0], scores[:, 1:].logsumexp(dim=1) - np.log(9)], dim=1)


class BrightSpots(nn.Module):
    """A convolutional classifier that counts bright pixels, and dark ones against them, for activation maps."""

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            conv.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
            conv.bias.copy_(torch.tensor([-0.5, 0.5]))
        self.middle_block = nn.Sequential(conv, nn.ReLU())
        self.dropout = nn.Dropout(0.9)
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-10.0, 1.0], [10.0, -1.0]]))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        features: Tensor = self.middle_block(x).mean(dim=(2, 3))
        out: Tensor = self.head(self.dropout(features))
        return out


@dataclass(frozen=True)
class GaussianDenoiser:
    """Exact noise for images whose pixels are all independent ``N(mean_y, spread^2)``.

    Its answers to two labels differ by the same number in every pixel, whatever the image and the noise.
    """

    labels: int = 2
    spread: float = SPREAD

    def eps(self, x: Tensor, level: Level, label: Tensor | None) -> Tensor:
        assert label is not None
        mean = float(label @ torch.tensor([HEALTHY, LESION]))
        variance = level.alpha**2 * self.spread**2 + level.sigma**2
        x0 = mean + level.alpha * self.spread**2 / variance * (x - level.alpha * mean)
        return (x - level.alpha * x0) / level.sigma


class MeanClassifier(nn.Module):
    """``log p(y | x_t)`` for ``GaussianDenoiser`` up to scale: only the mean of all pixels counts."""

    def __init__(self) -> None:
        super().__init__()
        self.middle_block = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.middle_block.weight)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        mean = self.middle_block(x).mean(dim=(1, 2, 3))
        return torch.stack([-mean, mean], dim=1)
