"""Denoisers: from a noisy mask and a time to the clean mask that they hint at.

A ``Denoiser`` is already bound to one image; networks, guidance, windows and the oracles of the tests are
all Denoisers, and samplers know nothing else. ``HEADS`` says what a network's output means.

Symbols: ``x (B, K, *S)`` noisy mask, ``x0`` clean mask in [-1, 1], ``alpha``, ``sigma`` amplitudes at its level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from diffseg.codec import MaskCodec
from diffseg.noise import Level
from diffseg.registry import Registry


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a denoiser sees in a noisy state; all fields ``(B, K, *S)``.

    ``x0`` is the clean state, clipped to the codec's range. ``eps`` is given only where a published sampler uses the
    noise as predicted before ``x0`` was clipped; else samplers derive it from ``x0``. ``variance_fraction`` f, where
    the network learned it, places the log variance of a step between its bounds: ``f ln(beta) + (1 - f) ln(small)``.
    """

    x0: Tensor
    eps: Tensor | None = None
    variance_fraction: Tensor | None = None


class Denoiser(Protocol):
    """``(x, level) -> Prediction`` for states ``x (B, K, *S)``."""

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        """What is expected from ``x`` at ``level``."""
        ...


class Head(Protocol):
    """What a network's output means, in both directions. ``alpha`` and ``sigma`` broadcast against ``x``."""

    def x0(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: MaskCodec) -> Tensor:
        """Clean mask in [-1, 1] from the network's output."""
        ...

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | None:
        """What the output should equal in a squared-error loss; None where only mask losses make sense."""
        ...


HEADS: Registry[type[Head]] = Registry("prediction")


@HEADS.add("x0", "The network gives class logits of the clean mask")
class X0Head:
    """Logits; ``x0hat = 2 softmax - 1`` (Fu et al. 2023)."""

    def x0(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: MaskCodec) -> Tensor:
        """See ``Head``."""
        return codec.from_logits(output)

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | None:
        """None: logits have no regression target."""
        return None


@HEADS.add("eps", "The network gives the noise")
class EpsHead:
    """``x0 = (x - sigma eps) / alpha``, clipped to [-1, 1] (Ho et al. 2020)."""

    def x0(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: MaskCodec) -> Tensor:
        """See ``Head``."""
        return x0_from_eps(x, output, alpha, sigma).clamp(-1, 1)

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | None:
        """The noise."""
        return eps


@HEADS.add("v", "The network gives the velocity alpha eps - sigma x0")
class VHead:
    """``x0 = alpha x - sigma v``, clipped to [-1, 1] (Salimans and Ho 2022)."""

    def x0(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: MaskCodec) -> Tensor:
        """See ``Head``."""
        return x0_from_v(x, output, alpha, sigma).clamp(-1, 1)

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | None:
        """The velocity."""
        return alpha * eps - sigma * x0


def x0_from_eps(x: Tensor, eps: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """``(x - sigma eps) / alpha``."""
    return (x - sigma * eps) / alpha


def eps_from_x0(x: Tensor, x0: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """``(x - alpha x0) / sigma``."""
    return (x - alpha * x0) / sigma


def x0_from_v(x: Tensor, v: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """``alpha x - sigma v``."""
    return alpha * x - sigma * v


@dataclass(frozen=True, eq=False)
class NetworkDenoiser:
    """A network bound to one image ``(1, C, *S)``; the image is repeated over the batch.

    Gradients are off and autocast is entered and left within one call, so that nothing of torch's
    per-thread state is open while a caller pauses between steps.
    """

    network: nn.Module
    image: Tensor
    head: Head
    codec: MaskCodec
    autocast: torch.dtype | None = None

    @torch.no_grad()
    def __call__(self, x: Tensor, level: Level) -> Prediction:
        """See ``Denoiser``; the result is float32 whatever autocast does inside."""
        b = x.shape[0]
        told = torch.full((b,), level.told, device=x.device)
        image = self.image.expand(b, *self.image.shape[1:])
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            output = self.network(x, told, image)
        alpha, sigma = x.new_tensor(level.alpha), x.new_tensor(level.sigma)
        return Prediction(self.head.x0(output.float(), x, alpha, sigma, self.codec))
