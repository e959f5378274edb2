"""Samplers: from noise to a mask, as iterators of steps.

A sampler is a frozen dataclass of knobs with one generator method. It keeps no state between runs, never
works in place (a kept ``Step`` stays valid) and takes randomness only from ``Noise``.

Symbols: ``t`` time left, ``s < t`` time reached, ``abar = alpha^2``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffseg.denoise import Denoiser, eps_from_x0
from diffseg.noise import Level
from diffseg.registry import Registry, check_knobs, knob


@dataclass(frozen=True, eq=False)
class Step:
    """One finished denoising step.

    ``x (B, K, *S)`` is the state at time ``s``; ``x0 (B, K, *S)`` in [-1, 1] the clean mask seen from ``t``.
    ``done`` counts the steps finished in this run, of ``total``.
    """

    done: int
    total: int
    t: float
    s: float
    x: Tensor
    x0: Tensor


@dataclass(frozen=True)
class Noise:
    """Standard normal noise that depends only on (seed, member, draw), never on batch, order or device.

    Drawn on the CPU in float32 from a generator of its own for every draw, so any step of any member can be
    repeated alone. There is no global seed.
    """

    seed: int
    members: tuple[int, ...]

    def draw(self, index: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Noise ``(len(members), *shape)``; ``index`` 0 is the start of a run, ``k`` belongs to its k-th step."""
        rows = [torch.randn(tuple(shape), generator=self._generator(m, index)) for m in self.members]
        return torch.stack(rows).to(device)

    def _generator(self, member: int, index: int) -> torch.Generator:
        key = hashlib.sha256(f"{self.seed}/{member}/{index}".encode()).digest()
        # 63 bits: torch refuses seeds outside int64.
        return torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)


class Sampler(Protocol):
    """See the module."""

    def steps(
        self, denoiser: Denoiser, x: Tensor, noise: Noise, levels: Sequence[Level], start: int = 0
    ) -> Iterator[Step]:
        """Denoise ``x``, which lies at ``levels[start]``, down to the last level.

        ``start`` > 0 continues a run: steps keep their numbers and thus their noise.
        """
        ...


SAMPLERS: Registry[type[Sampler]] = Registry("sampler")


def pairs(levels: Sequence[Level], start: int) -> Iterator[tuple[int, Level, Level]]:
    """``(step number from 1, level left, level reached)`` from ``levels[start]`` on."""
    for k in range(start, len(levels) - 1):
        yield k + 1, levels[k], levels[k + 1]


@SAMPLERS.add("ddim", "Deterministic at eta 0; good with few steps")
@dataclass(frozen=True)
class DDIM:
    """``x_s = alpha_s x0hat + sqrt(sigma_s^2 - w^2) epshat + w z`` with
    ``w = eta (sigma_s / sigma_t) sqrt(1 - abar_t / abar_s)``.

    ``eta`` 0 is deterministic given the first noise; ``eta`` 1 has the posterior ("small") variance.

    References:
        Song, Meng and Ermon 2021, "Denoising diffusion implicit models", equations 12 and 16.
    """

    eta: float = knob(0.0, low=0.0, high=1.0, step=0.1, help="0: deterministic, 1: as random as DDPM")

    def __post_init__(self) -> None:
        check_knobs(self)

    def steps(
        self, denoiser: Denoiser, x: Tensor, noise: Noise, levels: Sequence[Level], start: int = 0
    ) -> Iterator[Step]:
        """See ``Sampler``."""
        total = len(levels) - 1
        for k, a, b in pairs(levels, start):
            seen = denoiser(x, a)
            x0 = seen.x0
            if b.sigma == 0:
                x = x0
            else:
                eps = eps_from_x0(x, x0, a.alpha, a.sigma) if seen.eps is None else seen.eps
                w = self.eta * b.sigma / a.sigma * max(0.0, 1 - (a.alpha / b.alpha) ** 2) ** 0.5
                x = b.alpha * x0 + max(0.0, b.sigma**2 - w**2) ** 0.5 * eps
                if w > 0:
                    x = x + w * noise.draw(k, x.shape[1:], x.device)
            yield Step(k, total, a.t, b.t, x, x0)


@SAMPLERS.add("ddpm", "Ancestral: new noise in every step, the widest ensembles")
@dataclass(frozen=True)
class DDPM:
    """Draws from the posterior ``q(x_s | x_t, x0hat)``.

    With ``r = SNR_t / SNR_s``: mean ``r (alpha_s / alpha_t) x_t + (1 - r) alpha_s x0hat``; variance
    ``(1 - r) sigma_s^2`` (small, the posterior's) or ``(1 - r) sigma_t^2`` (large, beta). The last step returns
    ``x0hat`` itself.

    References:
        Ho et al. 2020, equations 6 and 7; Christensen et al. 2025, equation 2, with its two sign slips mended.
    """

    large_variance: bool = knob(False, help="Use beta instead of the posterior variance")

    def steps(
        self, denoiser: Denoiser, x: Tensor, noise: Noise, levels: Sequence[Level], start: int = 0
    ) -> Iterator[Step]:
        """See ``Sampler``."""
        total = len(levels) - 1
        for k, a, b in pairs(levels, start):
            seen = denoiser(x, a)
            x0 = seen.x0
            if b.sigma == 0:
                x = x0
            else:
                r = (a.alpha * b.sigma / (a.sigma * b.alpha)) ** 2
                mean = (r * b.alpha / a.alpha) * x + ((1 - r) * b.alpha) * x0
                spread = (1 - r) ** 0.5 * (a.sigma if self.large_variance else b.sigma)
                x = mean + spread * noise.draw(k, x.shape[1:], x.device)
            yield Step(k, total, a.t, b.t, x, x0)
