"""Denoisers whose exact answer is known, and a small untrained model for tests that need a real one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffseg.card import Card, ClassInfo
from diffseg.checkpoint import build_network, save_checkpoint
from diffseg.denoise import Prediction
from diffseg.noise import Level
from diffseg.preprocess import ImageRule


@dataclass(frozen=True)
class GaussianOracle:
    """Exact ``E[x_0 | x_t]`` for data distributed as ``N(mean, std^2)`` in every voxel."""

    mean: float
    std: float

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        variance = level.alpha**2 * self.std**2 + level.sigma**2
        return Prediction(self.mean + level.alpha * self.std**2 / variance * (x - level.alpha * self.mean))

    def flow(self, x: Tensor, start: Level, end: Level) -> Tensor:
        """Where the probability-flow path through ``x`` at ``start`` lies at ``end``."""

        def spread(level: Level) -> float:
            return (level.alpha**2 * self.std**2 + level.sigma**2) ** 0.5

        return end.alpha * self.mean + spread(end) / spread(start) * (x - start.alpha * self.mean)


@dataclass(frozen=True)
class MixtureOracle:
    """Exact ``E[x_0 | x_t]`` for data that are ``templates (M, K, *S)`` with probabilities ``weights (M,)``."""

    templates: Tensor
    weights: Tensor

    def posterior(self, x: Tensor, level: Level) -> Tensor:
        """Probability of each template given ``x``, ``(B, M)``."""
        residual = x[:, None] - level.alpha * self.templates[None].to(x)
        score = -residual.flatten(2).square().sum(2) / (2 * level.sigma**2)
        return (score + self.weights.to(x).log()).softmax(dim=1)

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        return Prediction(torch.einsum("bm,m...->b...", self.posterior(x, level), self.templates.to(x)))


def tiny_card(spatial: int = 3, channels: int = 1, classes: int = 3, spacing_mm: float | None = None) -> Card:
    """The card of a model small enough to run in milliseconds."""
    colors = ("#000000", "#e69f00", "#56b4e9", "#009e73")
    names = ("background", "anterior", "posterior", "other")
    return Card(
        name="tiny",
        title="Tiny",
        description="An untrained model for tests",
        architecture="unet",
        network={"spatial": spatial, "image_channels": channels, "classes": classes, "widths": [8, 8], "groups": 4},
        schedule="linear",
        schedule_settings={},
        prediction="x0",
        channels=tuple(f"C{i}" for i in range(channels)),
        classes=tuple(ClassInfo(n, c) for n, c in zip(names[:classes], colors[:classes], strict=True)),
        rule=ImageRule(None if spacing_mm is None else (spacing_mm,) * spatial, (0.5, 99.5), "zscore", 4),
        window=(16,) * spatial,
        sampler="ddpm",
        sampler_settings={},
        steps=3,
    )


def save_tiny(path: Path, card: Card | None = None, seed: int = 0) -> Card:
    """Write a tiny model with random, non-zero weights, whose masks therefore vary from voxel to voxel."""
    card = card or tiny_card()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(card)
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.2 * torch.randn(p.shape))
    save_checkpoint(path, card, network)
    return card
