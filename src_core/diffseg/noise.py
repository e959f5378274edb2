"""Noise schedules: how much of the clean mask is left at time t.

Variance preserving throughout: ``x_t = alpha x_0 + sigma eps`` with ``alpha^2 + sigma^2 = 1``. Time runs
from 0 (clean) to 1 (noise). ``abar = alpha^2`` is the notation of Ho et al. 2020. Everything is float64;
a schedule is a frozen dataclass, and a run uses the finite list of ``Level`` made by ``levels(steps)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import PlanError
from diffseg.registry import Registry, check_knobs, knob

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """One noise level of a run: time ``t``, and the signal and noise amplitudes there.

    ``told`` is the time that the network is given, which differs from ``t`` only for foreign models.
    """

    t: float
    told: float
    alpha: float
    sigma: float

    @property
    def log_snr(self) -> float:
        """``ln(alpha^2 / sigma^2)``; infinite at the clean level."""
        return math.inf if self.sigma == 0 else 2 * (math.log(self.alpha) - math.log(self.sigma))


CLEAN = Level(t=0.0, told=0.0, alpha=1.0, sigma=0.0)


class NoiseSchedule(Protocol):
    """What samplers, training and plots need of a schedule."""

    def at(self, t: Array) -> tuple[Array, Array]:
        """``(alpha, sigma)`` at times ``t`` in [0, 1], same shape."""
        ...

    def levels(self, steps: int) -> tuple[Level, ...]:
        """``steps + 1`` levels, noisiest first; the last is ``CLEAN``."""
        ...


SCHEDULES: Registry[type[NoiseSchedule]] = Registry("noise schedule")


def log_snr(schedule: NoiseSchedule, t: Array) -> Array:
    """``ln(alpha^2 / sigma^2)`` at times ``t``, for plots and weightings."""
    alpha, sigma = schedule.at(np.asarray(t, dtype=np.float64))
    return np.asarray(2 * (np.log(alpha) - np.log(sigma)))


def refuse_steps(steps: int, least: int, most: int | None) -> None:
    """Raise ``PlanError`` unless ``least <= steps <= most``."""
    if steps < least or (most is not None and steps > most):
        span = f"between {least} and {most}" if most is not None else f"at least {least}"
        raise PlanError(f"{steps} steps were asked for, but this schedule takes {span}; change the number of steps.")


@SCHEDULES.add("linear", "1001 linear betas, thinned to the steps of a run (ImgX-DiffSeg)")
@dataclass(frozen=True)
class LinearSchedule:
    """Linear betas with *variance resampling*: a run of K steps keeps K of the original ``abar``.

    The kept indices are ``round(linspace(0, N - 1, K))`` of ``N`` betas. Where K - 1 divides N - 1 this is the
    published rule ``abar[::(N - 1) / (K - 1)]``; other K are allowed as well. Time is the index over N - 1,
    so level ``t = 0`` is the least noisy one (``abar = 1 - beta_start``), and one more step leads to ``CLEAN``.

    References:
        Fu et al. 2023 (ImgX-DiffSeg), section on variance schedule resampling; Ho et al. 2020 for the betas.
    """

    beta_start: float = knob(1e-4, low=1e-6, high=0.1, help="First beta")
    beta_end: float = knob(0.02, low=1e-4, high=0.999, help="Last beta")
    count: int = knob(1001, low=2, high=10_000, help="Number of betas before thinning")

    def __post_init__(self) -> None:
        check_knobs(self)

    @cached_property
    def abar(self) -> Array:
        """All cumulative products ``prod(1 - beta)``, shape ``(count,)``."""
        return np.asarray(np.cumprod(1 - np.linspace(self.beta_start, self.beta_end, self.count)))

    def at(self, t: Array) -> tuple[Array, Array]:
        """See ``NoiseSchedule``; between two betas ``ln abar`` is interpolated linearly."""
        index = np.clip(np.asarray(t, dtype=np.float64), 0, 1) * (self.count - 1)
        log_abar = np.interp(index, np.arange(self.count), np.log(self.abar))
        return np.exp(log_abar / 2), np.sqrt(-np.expm1(log_abar))

    def levels(self, steps: int) -> tuple[Level, ...]:
        """See ``NoiseSchedule``; raises ``PlanError`` unless 2 <= steps <= count."""
        refuse_steps(steps, 2, self.count)
        index = np.round(np.linspace(0, self.count - 1, steps)).astype(int)[::-1]
        t = index / (self.count - 1)
        abar = self.abar[index]
        rows = zip(t, np.sqrt(abar), np.sqrt(1 - abar), strict=True)
        return (*(Level(float(u), float(u), float(a), float(s)) for u, a, s in rows), CLEAN)


@SCHEDULES.add("cosine", "Continuous cosine with input scaling and log-SNR limits (Christensen 2025)")
@dataclass(frozen=True)
class CosineSchedule:
    """Continuous cosine schedule with input scaling ``b`` and limits on the log-SNR.

    ``gamma = cos^2(pi t / 2)``; scaling the clean mask by b multiplies the SNR by b^2, which is
    ``gamma_b = b^2 gamma / ((b^2 - 1) gamma + 1)``; an affine map then makes log-SNR(0) = ``limit`` and
    log-SNR(1) = ``-limit``. A run of N steps uses t = N/N, (N-1)/N, ..., 1/N and then ``CLEAN``.

    References:
        Christensen et al. 2025, noise schedule and input scaling; Hoogeboom et al. 2023 for the scaling.
    """

    input_scale: float = knob(0.1, low=0.001, high=10.0, help="b: below 1 the mask drowns in noise earlier")
    limit: float = knob(20.0, low=1.0, high=40.0, help="Largest absolute log-SNR")

    def __post_init__(self) -> None:
        check_knobs(self)

    def at(self, t: Array) -> tuple[Array, Array]:
        """See ``NoiseSchedule``."""
        t = np.clip(np.asarray(t, dtype=np.float64), 0, 1)
        scale = self.input_scale**2
        # cos and sin separately, so that neither gamma nor 1 - gamma loses digits at its end.
        clean, dirty = scale * np.cos(np.pi * t / 2) ** 2, np.sin(np.pi * t / 2) ** 2
        # At t = 0 and 1 gamma is 1 and 0; the affine map sends these to high and low.
        low = 1 / (1 + np.exp(self.limit))
        span = 1 - 2 * low
        gamma = low + span * clean / (clean + dirty)
        rest = low + span * dirty / (clean + dirty)
        return np.sqrt(gamma), np.sqrt(rest)

    def levels(self, steps: int) -> tuple[Level, ...]:
        """See ``NoiseSchedule``; raises ``PlanError`` for fewer than 1 step."""
        refuse_steps(steps, 1, None)
        t = np.arange(steps, 0, -1) / steps
        alpha, sigma = self.at(t)
        rows = zip(t, alpha, sigma, strict=True)
        return (*(Level(float(u), float(u), float(a), float(s)) for u, a, s in rows), CLEAN)
