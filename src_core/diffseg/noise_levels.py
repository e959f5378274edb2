"""Noise levels, and what a noise schedule is.

Variance preserving throughout: ``x_t = alpha x_0 + sigma eps`` with ``alpha^2 + sigma^2 = 1``. Time runs
from 0 (clean) to 1 (noise). ``abar = alpha^2`` is the notation of Ho et al. 2020. Everything is float64;
a schedule is a frozen dataclass, and a run uses the finite list of ``Level`` made by ``levels(steps)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import PlanError
from diffseg.registry import Registry

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
