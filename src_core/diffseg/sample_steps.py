"""What a sampler is: steps, noise, and the arithmetic of one step.

A sampler is a frozen dataclass of knobs with one generator method. It keeps no state between runs, never
works in place (a kept ``Step`` stays valid) and takes randomness only from ``Noise``.

Symbols: ``t`` time left, ``s < t`` time reached, ``abar = alpha^2``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffseg.denoise import Denoiser
from diffseg.noise import Level
from diffseg.registry import Registry


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

    @property
    def order(self) -> int | None:
        """Order of convergence towards the probability-flow path; None for samplers that draw noise."""
        ...

    def steps(
        self,
        denoiser: Denoiser,
        x: Tensor,
        noise: Noise,
        levels: Sequence[Level],
        start: int = 0,
        previous: Tensor | None = None,
    ) -> Iterator[Step]:
        """Denoise ``x``, which lies at ``levels[start]``, down to the last level.

        ``start`` > 0 continues a run: steps keep their numbers and thus their noise. ``previous`` is the ``x0`` of the
        step that led to ``x``, if there was one: samplers that look back go on exactly where they were.
        """
        ...


SAMPLERS: Registry[type[Sampler]] = Registry("sampler")


def pairs(levels: Sequence[Level], start: int) -> Iterator[tuple[int, Level, Level]]:
    """``(step number from 1, level left, level reached)`` from ``levels[start]`` on."""
    for k in range(start, len(levels) - 1):
        yield k + 1, levels[k], levels[k + 1]


def noised(x0: Tensor, noise: Noise, levels: Sequence[Level], start: int) -> Tensor:
    """Clean states ``x0 (1 | B, C, *S)`` noised to ``levels[start]``, one for each member of ``noise``.

    The way to redraw a mask: the smaller ``start``, the more of it is forgotten; at the last level nothing is.
    """
    level = levels[start]
    return level.alpha * x0 + level.sigma * noise.draw(0, x0.shape[1:], x0.device)


@dataclass(frozen=True)
class Transition:
    """One step from level t to s < t: ``q(x_s | x_t, x0) = N(on_x x_t + on_x0 x0, small)``, in float64.

    ``large`` is the step's beta, ``1 - abar_t / abar_s``. ``log_small`` and ``log_large`` are the logarithms that
    variance choices use: the step to the clean state, where ``small`` is 0, takes those of ``small`` one step before.
    """

    on_x: float
    on_x0: float
    small: float
    large: float
    log_small: float
    log_large: float
    log_beta: float


def transition(levels: Sequence[Level], k: int) -> Transition:
    """The step from ``levels[k]`` to ``levels[k + 1]``.

    With ``r = SNR_t / SNR_s``: mean ``r (alpha_s / alpha_t) x_t + (1 - r) alpha_s x0``, variance ``(1 - r) sigma_s^2``
    (small, the posterior's) or ``(1 - r) sigma_t^2`` (large, beta).

    References:
        Ho et al. 2020, equations 6 and 7; Nichol and Dhariwal 2021 (clipped first log variance); Christensen et al.
        2025, equation 2, with its two sign slips mended.
    """
    a, b = levels[k], levels[k + 1]
    if b.sigma == 0:
        # No noise is added here; the logarithms matter to variational bounds only.
        beta = a.sigma**2
        log_small = transition(levels, k - 1).log_small if k > 0 else math.log(beta)
        return Transition(0.0, 1.0, 0.0, beta, log_small, log_small, math.log(beta))
    r = (a.alpha * b.sigma / (a.sigma * b.alpha)) ** 2
    small, large = (1 - r) * b.sigma**2, (1 - r) * a.sigma**2
    return Transition(
        on_x=r * b.alpha / a.alpha,
        on_x0=(1 - r) * b.alpha,
        small=small,
        large=large,
        log_small=math.log(small),
        log_large=math.log(large),
        log_beta=math.log(large),
    )
