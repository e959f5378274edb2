"""Samplers: from noise to a mask, as iterators of steps.

A sampler is a frozen dataclass of knobs with one generator method. It keeps no state between runs, never
works in place (a kept ``Step`` stays valid) and takes randomness only from ``Noise``. ``SAMPLERS`` is complete once
this module is imported.

Symbols: ``t`` time left, ``s < t`` time reached, ``abar = alpha^2``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from diffseg.denoise import Denoiser, Prediction, eps_from_x0
from diffseg.errors import PlanError
from diffseg.noise import Level
from diffseg.registry import check_knobs, knob
from diffseg.sample_dpm import DPMSolver
from diffseg.sample_steps import SAMPLERS, Noise, Sampler, Step, Transition, noised, pairs, transition

__all__ = [
    "DDIM",
    "DDPM",
    "SAMPLERS",
    "DPMSolver",
    "Noise",
    "Sampler",
    "Step",
    "Transition",
    "noised",
    "pairs",
    "transition",
]


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

    @property
    def order(self) -> int | None:
        """1 where it is deterministic."""
        return 1 if self.eta == 0 else None

    def steps(
        self,
        denoiser: Denoiser,
        x: Tensor,
        noise: Noise,
        levels: Sequence[Level],
        start: int = 0,
        previous: Tensor | None = None,
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
    """Draws from the posterior ``q(x_s | x_t, x0hat)``; the last step returns ``x0hat`` itself.

    ``variance``: "small" is the posterior's, "large" is beta, "learned" lies between them in the logarithm where the
    network says, and needs a network that does; see ``transition``.

    References:
        Ho et al. 2020, equations 6 and 7; Nichol and Dhariwal 2021, equation 15 (learned range).
    """

    variance: Literal["small", "large", "learned"] = knob("small", help="How much noise each step adds")

    @property
    def order(self) -> int | None:
        """None: it draws noise."""
        return None

    def moments(self, seen: Prediction, x: Tensor, way: Transition) -> tuple[Tensor, Tensor | float]:
        """Mean (shape of ``x``) and log variance (a number, or shape of ``x`` where learned) of one step.

        Raises:
            PlanError: learned variance was asked of a network that has none.
        """
        mean = way.on_x * x + way.on_x0 * seen.x0
        if self.variance != "learned":
            return mean, way.log_small if self.variance == "small" else way.log_large
        if seen.variance_fraction is None:
            raise PlanError("This model did not learn a variance; choose the small or the large one for ddpm.")
        f = seen.variance_fraction
        return mean, f * way.log_beta + (1 - f) * way.log_small

    def steps(
        self,
        denoiser: Denoiser,
        x: Tensor,
        noise: Noise,
        levels: Sequence[Level],
        start: int = 0,
        previous: Tensor | None = None,
    ) -> Iterator[Step]:
        """See ``Sampler``."""
        total = len(levels) - 1
        for k, a, b in pairs(levels, start):
            seen = denoiser(x, a)
            mean, log_variance = self.moments(seen, x, transition(levels, k - 1))
            if b.sigma > 0:
                half = log_variance / 2
                spread = half.exp() if isinstance(half, Tensor) else math.exp(half)
                x = mean + spread * noise.draw(k, x.shape[1:], x.device)
            else:
                x = seen.x0
            yield Step(k, total, a.t, b.t, x, seen.x0)
