"""How much each noise level counts in a squared error on the clean mask.

The loss of a sample at time t is ``w(t) mean (x0hat - x0)^2``. All weightings are functions of the log-SNR
``l = ln(alpha^2 / sigma^2)`` alone; ``w = SNR`` makes the loss that of the predicted noise. Multiplying by
``-dl/dt`` makes the loss independent of how the schedule spreads the levels over time (``decoupled``).

References:
    Christensen et al. 2025, the five weightings and the bias; Kingma and Gao 2023 for the derivative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict
from scipy.special import expit

from diffseg.noise import NoiseSchedule, log_snr
from diffseg.registry import Registry, check_knobs, knob

Array = NDArray[np.float64]

# Misspelt settings are refused.
STRICT = ConfigDict(extra="forbid")
# Half the distance over which the derivative of the log-SNR is taken, as a part of the time axis [0, 1].
_HALF_STEP = 1e-6


class Weighting(Protocol):
    """``weights = weighting(log_snr)``, float64 of the same shape."""

    def __call__(self, log_snr: Array) -> Array:
        """Weight at each log-SNR."""
        ...


WEIGHTINGS: Registry[type[Weighting]] = Registry("weighting")


@WEIGHTINGS.add("uniform", "Every level counts the same")
@dataclass(frozen=True)
class Uniform:
    """1."""

    __pydantic_config__ = STRICT

    def __call__(self, log_snr: Array) -> Array:
        """See ``Weighting``."""
        return np.ones_like(log_snr)


@WEIGHTINGS.add("snr", "SNR: the squared error of the noise")
@dataclass(frozen=True)
class Snr:
    """``SNR = exp(l)``; nearly clean levels outweigh all others."""

    __pydantic_config__ = STRICT

    def __call__(self, log_snr: Array) -> Array:
        """See ``Weighting``."""
        return np.asarray(np.exp(log_snr))


@WEIGHTINGS.add("snr-truncated", "SNR, but never less than 1")
@dataclass(frozen=True)
class SnrTruncated:
    """``max(SNR, 1)`` (Salimans and Ho 2022); the choice of Christensen et al. 2025."""

    __pydantic_config__ = STRICT

    def __call__(self, log_snr: Array) -> Array:
        """See ``Weighting``."""
        return np.asarray(np.maximum(np.exp(log_snr), 1))


@WEIGHTINGS.add("snr-plus-one", "SNR + 1: the squared error of the velocity")
@dataclass(frozen=True)
class SnrPlusOne:
    """``SNR + 1``, which is ``1 / sigma^2`` (Salimans and Ho 2022)."""

    __pydantic_config__ = STRICT

    def __call__(self, log_snr: Array) -> Array:
        """See ``Weighting``."""
        return np.asarray(np.exp(log_snr) + 1)


@WEIGHTINGS.add("sigmoid", "sigmoid(log-SNR + bias), as the paper writes it")
@dataclass(frozen=True)
class Sigmoid:
    """``sigmoid(l + bias)``: SNR-like at noisy levels, constant at clean ones.

    The sign of the bias is that of Christensen et al. 2025, who found about -6 to be best.
    """

    __pydantic_config__ = STRICT

    bias: float = knob(0.0, low=-20.0, high=20.0, help="Below 0 fewer levels count fully, only the cleanest")

    def __post_init__(self) -> None:
        check_knobs(self)

    def __call__(self, log_snr: Array) -> Array:
        """See ``Weighting``."""
        return np.asarray(expit(log_snr + self.bias))


@WEIGHTINGS.add("sigmoid-code", "sigmoid(log-SNR - bias), as the code of the paper has it")
@dataclass(frozen=True)
class SigmoidCode(Sigmoid):
    """``sigmoid(l - bias)``: the published code turns the sign of the bias around; for its settings only."""

    def __call__(self, log_snr: Array) -> Array:
        """See ``Weighting``."""
        return np.asarray(expit(log_snr - self.bias))


def log_snr_slope(schedule: NoiseSchedule, t: Array) -> Array:
    """``d(log-SNR)/dt`` by central differences, one-sided at 0 and 1; negative.

    The step of 2e-6 keeps the relative error below 1e-7 for smooth schedules with t > 0.01 or so.
    """
    t = np.asarray(t, dtype=np.float64)
    low, high = np.maximum(t - _HALF_STEP, 0), np.minimum(t + _HALF_STEP, 1)
    return np.asarray((log_snr(schedule, high) - log_snr(schedule, low)) / (high - low))


def level_weights(weighting: Weighting, schedule: NoiseSchedule, t: Array, decoupled: bool = False) -> Array:
    """Weights at times ``t``, multiplied by ``-d(log-SNR)/dt`` if ``decoupled``."""
    weights = weighting(log_snr(schedule, t))
    return weights * -log_snr_slope(schedule, t) if decoupled else weights
