"""Noise levels drawn for training: which times, what the network is told of them, and how much noise they mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffseg.noise import CLEAN, NoiseSchedule
from diffseg.train_plan import FitPlan


@dataclass(frozen=True, eq=False)
class Amplitudes:
    """Times ``t (B,)`` float64, what the network is ``told (B,)`` float32, and the amplitudes there.

    ``alpha`` and ``sigma`` are float32 and broadcast against states ``(B, C, *S)``.
    """

    t: Tensor
    told: Tensor
    alpha: Tensor
    sigma: Tensor

    def noised(self, x0: Tensor, eps: Tensor) -> Tensor:
        """``alpha x0 + sigma eps``."""
        return self.alpha * x0 + self.sigma * eps


class Times:
    """The levels of training: ``diffusion_steps`` levels of the schedule, and maybe all times between them.

    ``t`` and ``told (K,)`` ascend. A share ``uniform_fraction`` of the draws is uniform in [0, 1] instead of one of
    the levels. With ``stratified`` times a batch of B has one uniform number in every B-th of [0, 1),
    ``(perm(i) + u) / B``, so that its levels are spread evenly (Christensen et al. 2025). No time above ``noisiest`` is
    drawn, but the least noisy level always may be.
    """

    def __init__(self, schedule: NoiseSchedule, fit: FitPlan) -> None:
        """Raises ``PlanError`` for a number of levels that the schedule does not have."""
        self.schedule, self.fit = schedule, fit
        levels = [v for v in reversed(schedule.levels(fit.diffusion_steps)) if v is not CLEAN]
        self.t = np.array([v.t for v in levels])
        self.told = np.array([v.told for v in levels])

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """Times ``(batch,)``, float64 on the CPU."""
        count = max(1, int((self.t <= self.fit.noisiest).sum()))
        if self.fit.stratified:
            place = torch.randperm(batch, generator=generator)
            u = (place + torch.rand(batch, generator=generator, dtype=torch.float64)) / batch
            pick = (u * count).long().clamp(max=count - 1)
        else:
            pick = torch.randint(count, (batch,), generator=generator)
            u = torch.rand(batch, generator=generator, dtype=torch.float64)
        anywhere = torch.rand(batch, generator=generator) < self.fit.uniform_fraction
        return torch.where(anywhere, u * self.fit.noisiest, torch.as_tensor(self.t)[pick])

    def before(self, t: Tensor) -> Tensor:
        """The noisier time that a recycled mask is predicted from: the next level, or the noisiest of all.

        At the noisiest level itself it is that level. (Fu et al. 2024 do not draw it with "max"; with few levels
        the first step of sampling would then never be trained.)
        """
        if self.fit.recycling == "max":
            return torch.full_like(t, float(self.t[-1]))
        above = np.searchsorted(self.t, t.numpy(), side="right")
        return torch.as_tensor(self.t[np.minimum(above, len(self.t) - 1)])

    def index(self, t: Tensor) -> Tensor:
        """The number of each time's level, 0 the least noisy; ``t`` must be among the levels."""
        return torch.as_tensor(np.searchsorted(self.t, t.numpy()))

    def at(self, t: Tensor, like: Tensor) -> Amplitudes:
        """The amplitudes at times ``t (B,)`` for states shaped and placed ``like (B, C, *S)``."""
        same = np.array_equal(self.t, self.told)
        told = t.numpy() if same else np.interp(t.numpy(), self.t, self.told)
        alpha, sigma = (
            torch.as_tensor(a, dtype=torch.float32, device=like.device).view(-1, *[1] * (like.ndim - 1))
            for a in self.schedule.at(t.numpy())
        )
        return Amplitudes(t, torch.as_tensor(told, dtype=torch.float32, device=like.device), alpha, sigma)
