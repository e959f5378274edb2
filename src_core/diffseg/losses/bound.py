"""The variational bound of a diffusion model whose variances are learned, and the hybrid loss built on it.

Symbols: discrete step t of T, 0 the least noisy; ``abar`` the squared signal amplitude; ``beta_t = 1 - abar_t /
abar_{t-1}``; ``small_t = beta_t (1 - abar_{t-1}) / (1 - abar_t)`` the variance of ``q(x_{t-1} | x_t, x_0)``.
States are ``(B, C, *S)``; bounds are bits per dimension, ``(B,)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseg.noise import Level

Array = NDArray[np.float64]
# Half the width of the bins of 8-bit images in [-1, 1].
HALF_BIN = 1 / 255


@dataclass(frozen=True, eq=False)
class Transitions:
    """Coefficients of every reverse step, float64 ``(T,)``, index 0 the least noisy.

    ``q(x_{t-1} | x_t, x_0)`` has mean ``of_x0 x_0 + of_x x_t`` and variance ``small``, whose logarithm at step 0,
    where it is 0, is taken from step 1.
    """

    alpha: Array
    sigma: Array
    of_x0: Array
    of_x: Array
    log_small: Array
    log_beta: Array

    @classmethod
    def of(cls, abar: Array) -> Transitions:
        """From the cumulative products ``abar (T,)``, falling, T >= 1."""
        abar = np.asarray(abar, dtype=np.float64)
        before = np.concatenate([[1.0], abar[:-1]])
        beta = 1 - abar / before
        small = beta * (1 - before) / (1 - abar)
        # A single step has no next one to borrow from; its own beta is the only scale there is.
        floor = small[1] if len(small) > 1 else beta[0]
        return cls(
            np.sqrt(abar),
            np.sqrt(1 - abar),
            beta * np.sqrt(before) / (1 - abar),
            np.sqrt(abar / before) * (1 - before) / (1 - abar),
            np.log(np.concatenate([[floor], small[1:]])),
            np.log(beta),
        )

    @classmethod
    def of_levels(cls, levels: Sequence[Level]) -> Transitions:
        """From the levels of a schedule, noisiest first; clean ones are left out."""
        return cls.of(np.array([v.alpha**2 for v in reversed(levels) if v.sigma > 0]))

    def __len__(self) -> int:
        return len(self.alpha)

    def at(self, name: str, index: Tensor, like: Tensor) -> Tensor:
        """Column ``name`` at steps ``index (B,)`` as float32 that broadcasts against ``like (B, C, *S)``."""
        values = torch.as_tensor(getattr(self, name))[index.cpu()].float().to(like.device)
        return values.view(-1, *[1] * (like.ndim - 1))


def bound_bits(
    transitions: Transitions, index: Tensor, x0: Tensor, x: Tensor, x0hat: Tensor, fraction: Tensor
) -> Tensor:
    """The term of the bound that belongs to step ``index (B,)``, in bits per dimension, ``(B,)``.

    The model's step is ``N(of_x0 x0hat + of_x x, exp(f ln beta + (1 - f) ln small))`` with ``f = fraction``. The term
    is its KL divergence from the true posterior; at step 0 it is the negative log likelihood of ``x0`` in bins of
    1/127.5, as of 8-bit images in [-1, 1].

    References:
        Nichol and Dhariwal 2021, equations 4 to 7 and 15. ``x0hat`` is not clipped, as in their code.
    """
    a, b = transitions.at("of_x0", index, x), transitions.at("of_x", index, x)
    small, beta = transitions.at("log_small", index, x), transitions.at("log_beta", index, x)
    log_variance = fraction * beta + (1 - fraction) * small
    truth, mean = a * x0 + b * x, a * x0hat + b * x
    kl = _kl(truth, small, mean, log_variance).flatten(1).mean(1)
    likelihood = binned_log_likelihood(x0, mean, log_variance / 2).flatten(1).mean(1)
    return torch.where(index.to(x.device) == 0, -likelihood, kl) / math.log(2)


def _kl(mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor) -> Tensor:
    """KL divergence of normal distributions, in nats: from the first to the second."""
    ratio = log_variance_1 - log_variance_2
    distance = (mean_1 - mean_2).square() * torch.exp(-log_variance_2)
    return 0.5 * (ratio.exp() - 1 - ratio + distance)


def binned_log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log probability, in nats, that a normal variable falls in the bin around ``x``; the end bins are open.

    The normal distribution function is the tanh approximation of the published code, which keeps its numbers;
    it is off by at most 2e-4. Probabilities below 1e-12 count as 1e-12.
    """
    scale = torch.exp(-log_std)
    above = _normal_cdf(scale * (x - mean + HALF_BIN))
    below = _normal_cdf(scale * (x - mean - HALF_BIN))
    inside = torch.where(x > 0.999, 1 - below, above - below)
    return torch.where(x < -0.999, above, inside).clamp_min(1e-12).log()


def _normal_cdf(z: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def hybrid(
    transitions: Transitions,
    index: Tensor,
    x0: Tensor,
    eps: Tensor,
    output: Tensor,
) -> tuple[Tensor, Tensor]:
    """``(squared error of the noise, bound)`` of a network that gives noise and variance, each ``(B,)``.

    ``output (B, 2C, *S)`` for ``x_t = alpha x0 + sigma eps``: first the noise, then ``v`` with ``f = (v + 1) / 2``,
    not clamped. The noise is detached in the bound, which therefore trains the variance only. The published loss is
    the sum of both, with the bound multiplied by T / 1000 if "rescale_learned_sigmas" is set.

    References:
        Nichol and Dhariwal 2021, equation 16: lambda = 0.001 times the bound of all T steps, whose estimate from
        one step is T times its term, is the factor T / 1000.
    """
    alpha, sigma = transitions.at("alpha", index, x0), transitions.at("sigma", index, x0)
    x = alpha * x0 + sigma * eps
    noise, v = output.chunk(2, dim=1)
    x0hat = (x - sigma * noise.detach()) / alpha
    bits = bound_bits(transitions, index, x0, x, x0hat, (v + 1) / 2)
    return (eps - noise).square().flatten(1).mean(1), bits
