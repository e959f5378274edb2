"""All noise schedules by name, and the continuous ones.

``SCHEDULES`` is complete once this module is imported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffseg.noise_levels import CLEAN, SCHEDULES, Array, Level, NoiseSchedule, log_snr, refuse_steps
from diffseg.noise_tables import LinearSchedule, TableSchedule, kept_indices
from diffseg.registry import check_knobs, knob

__all__ = [
    "CLEAN",
    "SCHEDULES",
    "Array",
    "CosineSchedule",
    "Level",
    "LinearSchedule",
    "LinearSimpleSchedule",
    "NoiseSchedule",
    "TableSchedule",
    "kept_indices",
    "log_snr",
    "refuse_steps",
]


class LimitedSchedule:
    """A continuous signal-to-noise curve with input scaling and limits; a subclass has ``shape``."""

    input_scale: float
    limit: float

    def shape(self, t: Array) -> tuple[Array, Array]:
        """``gamma`` and ``1 - gamma`` before scaling, each exact at its own end."""
        raise NotImplementedError

    def at(self, t: Array) -> tuple[Array, Array]:
        """See ``NoiseSchedule``."""
        clean, dirty = self.shape(np.clip(np.asarray(t, dtype=np.float64), 0, 1))
        clean = self.input_scale**2 * clean
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


@SCHEDULES.add("cosine", "Continuous cosine with input scaling and log-SNR limits (Christensen 2025)")
@dataclass(frozen=True)
class CosineSchedule(LimitedSchedule):
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

    def shape(self, t: Array) -> tuple[Array, Array]:
        """cos^2 and sin^2 separately, so that neither gamma nor 1 - gamma loses digits at its end."""
        return np.cos(np.pi * t / 2) ** 2, np.sin(np.pi * t / 2) ** 2


@SCHEDULES.add("linear-simple", "Continuous gamma = 1 - t with input scaling and log-SNR limits (AmbDiffSeg)")
@dataclass(frozen=True)
class LinearSimpleSchedule(LimitedSchedule):
    """``gamma = 1 - t``, scaled and limited like ``CosineSchedule``.

    References:
        Chen 2023, "On the importance of noise scheduling"; "linear_simple" of Christensen et al. 2025.
    """

    input_scale: float = knob(0.1, low=0.001, high=10.0, help="b: below 1 the mask drowns in noise earlier")
    limit: float = knob(20.0, low=1.0, high=40.0, help="Largest absolute log-SNR")

    def __post_init__(self) -> None:
        check_knobs(self)

    def shape(self, t: Array) -> tuple[Array, Array]:
        """See ``LimitedSchedule``."""
        return 1 - t, t
