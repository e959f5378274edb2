"""Noise schedules that are tables of betas, thinned to the steps of a run.

``abar_i = prod_{j <= i} (1 - beta_j)`` of ``count`` betas, index 0 the least noisy. A run keeps some indices; the
betas of its steps follow from the kept ``abar``. Time t of index i is ``i / (count - 1)``, so the level at ``t = 0``
is slightly noisy and one more step leads to ``CLEAN``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from diffseg.errors import PlanError
from diffseg.noise_levels import CLEAN, SCHEDULES, Array, Level, refuse_steps
from diffseg.registry import check_knobs, knob


class BetaTable:
    """What all tables share; a subclass has the fields ``count`` and ``table()``."""

    count: int

    def table(self) -> Array:
        """All betas, float64 ``(count,)``."""
        raise NotImplementedError

    @cached_property
    def abar(self) -> Array:
        """All cumulative products ``prod(1 - beta)``, float64 ``(count,)``."""
        return np.asarray(np.cumprod(1 - self.table()))

    def at(self, t: Array) -> tuple[Array, Array]:
        """See ``NoiseSchedule``; between two betas ``ln abar`` is interpolated linearly."""
        index = np.clip(np.asarray(t, dtype=np.float64), 0, 1) * (self.count - 1)
        log_abar = np.interp(index, np.arange(self.count), np.log(self.abar))
        return np.exp(log_abar / 2), np.sqrt(-np.expm1(log_abar))

    def kept_levels(self, kept: Sequence[int], told: Sequence[float]) -> tuple[Level, ...]:
        """Levels of the ascending indices ``kept``, noisiest first, then ``CLEAN``; ``told`` goes with ``kept``."""
        index = np.asarray(kept, dtype=int)
        abar = self.abar[index]
        rows = zip(index / (self.count - 1), told, np.sqrt(abar), np.sqrt(1 - abar), strict=True)
        levels = [Level(float(t), float(u), float(a), float(s)) for t, u, a, s in rows]
        return (*reversed(levels), CLEAN)


def even_indices(count: int, steps: int) -> list[int]:
    """``round(linspace(0, count - 1, steps))``; one step keeps the noisiest."""
    if steps == 1:
        return [count - 1]
    return [int(i) for i in np.round(np.linspace(0, count - 1, steps))]


def linear_betas(count: int, start: float, end: float) -> Array:
    """Evenly spaced betas (Ho et al. 2020)."""
    return np.linspace(start, end, count)


def quadratic_betas(count: int, start: float, end: float) -> Array:
    """Betas whose square roots are evenly spaced (ImgX-DiffSeg, there spelled "quadradic")."""
    return np.asarray(np.linspace(start**0.5, end**0.5, count) ** 2)


def warmup_betas(count: int, start: float, end: float, fraction: float) -> Array:
    """Quadratic over the first ``fraction`` of the betas, then constant (ImgX-DiffSeg)."""
    betas = np.full(count, end)
    ramp = max(int(count * fraction), 1)
    betas[:ramp] = quadratic_betas(ramp, start, end)
    return betas


def _cosine_abar(t: Array) -> Array:
    return np.asarray(np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2)


def cosine_betas(count: int) -> Array:
    """``min(1 - abar((i + 1) / T) / abar(i / T), 0.999)`` (Nichol and Dhariwal 2021, equation 17)."""
    t = np.arange(count + 1) / count
    abar = _cosine_abar(t)
    return np.minimum(1 - abar[1:] / abar[:-1], 0.999)


def published_cosine_betas(count: int, start: float, end: float) -> Array:
    """The "cosine" of ImgX-DiffSeg's code: ``1 - abar`` itself, stretched to [start, end], taken for beta.

    The division by the previous abar is missing, so that this is no cosine schedule; for checkpoints trained with it.
    """
    rise = 1 - _cosine_abar(np.linspace(0, 1, count))
    rise[0] = 0
    return np.asarray(start + rise * (end - start))


Betas = Literal["linear", "quadratic", "warmup10", "warmup50", "cosine", "cosine-imgx"]


def make_betas(kind: Betas, count: int, start: float, end: float) -> Array:
    """The betas called ``kind``, ``(count,)``; ``start`` and ``end`` do not matter to "cosine"."""
    if kind == "cosine":
        return cosine_betas(count)
    if kind in ("warmup10", "warmup50"):
        return warmup_betas(count, start, end, int(kind[-2:]) / 100)
    tables = {"linear": linear_betas, "quadratic": quadratic_betas, "cosine-imgx": published_cosine_betas}
    return tables[kind](count, start, end)


@SCHEDULES.add("linear", "1001 linear betas, thinned to the steps of a run (ImgX-DiffSeg)")
@dataclass(frozen=True)
class LinearSchedule(BetaTable):
    """Betas with *variance resampling*: a run of K steps keeps K of the original ``abar``.

    The kept indices are ``round(linspace(0, N - 1, K))`` of ``N`` betas. Where K - 1 divides N - 1 this is the
    published rule ``abar[::(N - 1) / (K - 1)]``; other K are allowed as well. ``betas`` names another table of the
    published code; "cosine" is the right one and "cosine-imgx" that code's.

    ``told`` is the time that the network gets at index i, the k-th of the K kept ones (from 0): "time" i / (N - 1);
    "index" k (code v0.1.0); "share" (k + 1) / K, what the current code says while sampling; "trained" (i + 1) / N,
    what the same code said at that noise level while training with N steps, and so the right one for its weights.

    References:
        Fu et al. 2023 (ImgX-DiffSeg), section on variance schedule resampling; Ho et al. 2020 for the betas.
    """

    beta_start: float = knob(1e-4, low=1e-6, high=0.1, help="First beta")
    beta_end: float = knob(0.02, low=1e-4, high=0.999, help="Last beta")
    count: int = knob(1001, low=2, high=10_000, help="Number of betas before thinning")
    betas: Betas = "linear"
    told: Literal["time", "index", "share", "trained"] = "time"

    def __post_init__(self) -> None:
        check_knobs(self)

    def table(self) -> Array:
        """See ``BetaTable``."""
        return make_betas(self.betas, self.count, self.beta_start, self.beta_end)

    def levels(self, steps: int) -> tuple[Level, ...]:
        """See ``NoiseSchedule``; raises ``PlanError`` unless 2 <= steps <= count."""
        refuse_steps(steps, 2, self.count)
        kept = np.asarray(even_indices(self.count, steps))
        told = {
            "time": kept / (self.count - 1),
            "index": np.arange(steps, dtype=np.float64),
            "share": (np.arange(steps) + 1) / steps,
            "trained": (kept + 1) / self.count,
        }[self.told]
        return self.kept_levels(kept.tolist(), told.tolist())


def section_indices(count: int, sections: Sequence[int]) -> list[int]:
    """Kept indices of 0..count-1 split into equal sections, the first ones longer by the remainder.

    Of a section of n indices k are kept at ``start + round(i (n - 1) / (k - 1))``; one kept index is the first.
    The sum is accumulated, as published, since its rounding decides ties. A section too short for its steps raises
    ``ValueError``.
    """
    kept: list[int] = []
    start = 0
    for place, steps in enumerate(sections):
        size = count // len(sections) + (place < count % len(sections))
        if not 1 <= steps <= size:
            raise ValueError(f"{steps} of {size}")
        stride, offset = ((size - 1) / (steps - 1) if steps > 1 else 1.0), 0.0
        for _ in range(steps):
            kept.append(start + round(offset))
            offset += stride
        start += size
    return sorted(set(kept))


def stride_indices(count: int, steps: int) -> list[int]:
    """``range(0, count, i)`` of the smallest i that gives ``steps`` indices (never the last one, but for i = 1).

    Raises ``ValueError`` where there is no such stride, as for 938 of the 1000 possible numbers of steps.
    """
    for stride in range(1, count + 1):
        if len(range(0, count, stride)) == steps:
            return list(range(0, count, stride))
    raise ValueError(f"no stride for {steps} of {count}")


def kept_indices(count: int, respacing: str) -> list[int]:
    """Indices of 0..count-1 that a run keeps, ascending.

    "N" keeps N of the whole table, "a,b,c" so many of equal sections, "ddimN" N at an integer stride; the published
    rules, exactly. Where these refuse ("ddim37", sections too short), the same number is kept evenly, rounded.

    Raises:
        PlanError: another text, or more steps than betas.

    References:
        Dhariwal and Nichol 2021, guided-diffusion, timestep respacing.
    """
    text = respacing.strip()
    try:
        numbers = [int(part) for part in text.removeprefix("ddim").split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1 or (text.startswith("ddim") and len(numbers) > 1):
        raise PlanError(f"Respacing {respacing!r} cannot be read; write for example '50', 'ddim50' or '10,15,20'.")
    refuse_steps(sum(numbers), 1, count)
    try:
        if text.startswith("ddim"):
            return stride_indices(count, numbers[0])
        return section_indices(count, numbers)
    except ValueError:
        return even_indices(count, sum(numbers))


@SCHEDULES.add("guided", "1000 linear or cosine betas with respacing (guided-diffusion, CIMD, Wolleb, CDM)")
@dataclass(frozen=True)
class TableSchedule(BetaTable):
    """Schedules of the guided-diffusion family: the network is told the original index.

    ``betas``: "linear" from ``0.1 / T`` to ``20 / T`` or "cosine" (see ``cosine_betas``). ``respacing``: empty for
    evenly kept steps (the published rule "N"; a single step keeps the noisiest index, where the published rule
    keeps the cleanest), "ddim" for the published strides at any number of steps, or an explicit "250", "ddim50",
    "10,15,20", which must have the steps of the run. ``rescale`` tells the index times 1000 / T.

    References:
        Dhariwal and Nichol 2021 (guided-diffusion); Nichol and Dhariwal 2021 for the cosine.
    """

    betas: Literal["linear", "cosine"] = "linear"
    count: int = knob(1000, low=2, high=100_000, help="T: number of betas")
    respacing: str = ""
    rescale: bool = knob(False, help="Tell the network the index times 1000 / T")

    def __post_init__(self) -> None:
        check_knobs(self)
        if self.respacing not in ("", "ddim"):
            kept_indices(self.count, self.respacing)

    def table(self) -> Array:
        """See ``BetaTable``."""
        if self.betas == "cosine":
            return cosine_betas(self.count)
        return np.minimum(linear_betas(self.count, 0.1 / self.count, 20 / self.count), 0.999)

    def kept(self, steps: int) -> list[int]:
        """Original indices of a run of ``steps`` steps, ascending ("timestep map").

        Raises:
            PlanError: more steps than betas, or not those of an explicit respacing.
        """
        refuse_steps(steps, 1, self.count)
        if self.respacing == "":
            return kept_indices(self.count, str(steps)) if steps > 1 else even_indices(self.count, 1)
        if self.respacing == "ddim":
            return kept_indices(self.count, f"ddim{steps}") if steps > 1 else even_indices(self.count, 1)
        found = kept_indices(self.count, self.respacing)
        if len(found) != steps:
            raise PlanError(
                f"The respacing {self.respacing} of this model makes {len(found)} steps, but {steps} were asked for; "
                f"ask for {len(found)}."
            )
        return found

    def levels(self, steps: int) -> tuple[Level, ...]:
        """See ``NoiseSchedule``; raises ``PlanError`` like ``kept``."""
        kept = self.kept(steps)
        factor = 1000 / self.count if self.rescale else 1.0
        return self.kept_levels(kept, [i * factor for i in kept])
