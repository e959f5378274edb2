"""Masks that agree with what is already known: part of the voxels is given, the rest is drawn around it.

A wrapper in the manner of RePaint around any sampler. At every level the known voxels are replaced by their true
values with fresh noise of that level, so that the model sees them and continues them. A step alone would let the
rest be drawn before it had noticed: every block of ``jump`` steps is therefore noised again and repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from diffseg.denoise import Denoiser
from diffseg.errors import PlanError
from diffseg.noise import Level
from diffseg.registry import check_knobs, knob
from diffseg.sample import Noise, Sampler, Step


@dataclass(frozen=True)
class Resampling:
    """How thoroughly the unknown part is brought into agreement with the known one."""

    resamplings: int = knob(5, low=1, high=100, help="Passes over every block of steps; more agree better")
    jump: int = knob(1, low=1, high=100, help="Steps in a block")

    def __post_init__(self) -> None:
        check_knobs(self)


@dataclass(frozen=True, eq=False)
class KnownRegion:
    """A ``Sampler`` that keeps ``known`` voxels at ``values``.

    ``known (1 | B, 1 | C, *S)`` bool; ``values (1 | B, C, *S)`` clean states, such as ``codec.encode(labels)``; what
    they hold elsewhere does not matter. Every ``Step`` is that of the last repetition, so a run has as many as
    without the wrapper, each ``resamplings`` network passes long. In ``x0``, and so in the final state, known
    voxels have exactly their values. A run continued from any of its steps ends as it would have.

    With exact denoisers and many repetitions the unknown part follows the model's distribution given the known
    part; with one repetition (plain replacement) it is biased towards masks that ignore it.

    References:
        Lugmayr et al. 2022, "RePaint: inpainting using denoising diffusion probabilistic models", algorithm 1.
    """

    sampler: Sampler
    known: Tensor
    values: Tensor
    resampling: Resampling = Resampling()

    @property
    def order(self) -> int | None:
        """None: it draws noise whatever the wrapped sampler does."""
        return None

    def steps(
        self,
        denoiser: Denoiser,
        x: Tensor,
        noise: Noise,
        levels: Sequence[Level],
        start: int = 0,
        previous: Tensor | None = None,
    ) -> Iterator[Step]:
        """See ``Sampler``; raises ``PlanError`` if known voxels and states differ in shape."""
        known, values = self._fitted(x)
        jump, total = self.resampling.jump, len(levels) - 1
        x = self._replaced(x, known, values, noise, levels, start)
        while start < total:
            end = min(start - start % jump + jump, total)
            if start % jump == 0 and self.resampling.resamplings > 1:
                x, previous = self._repeated(denoiser, x, noise, levels, start, end), None
            for k in range(start, end):
                step = next(iter(self.sampler.steps(denoiser, x, noise, levels, k, previous)))
                x0 = torch.where(known, values, step.x0)
                x = self._replaced(step.x, known, values, noise, levels, k + 1)
                previous = x0
                yield replace(step, x=x, x0=x0)
            start = end

    def _repeated(
        self, denoiser: Denoiser, x: Tensor, noise: Noise, levels: Sequence[Level], start: int, end: int
    ) -> Tensor:
        """State at ``levels[start]`` after all repetitions of the block ``start..end`` but the last.

        Samplers that look back do so within one pass over a block only, since noising again ends their path.
        """
        known, values = self._fitted(x)
        top, bottom = levels[start], levels[end]
        ratio = top.alpha / bottom.alpha
        spread = max(0.0, top.sigma**2 - (ratio * bottom.sigma) ** 2) ** 0.5
        for repetition in range(self.resampling.resamplings - 1):
            own = stream(noise, f"repetition {repetition}")
            previous = None
            for k in range(start, end):
                step = next(iter(self.sampler.steps(denoiser, x, own, levels, k, previous)))
                x = self._replaced(step.x, known, values, own, levels, k + 1)
                previous = torch.where(known, values, step.x0)
            x = ratio * x + spread * stream(own, "again").draw(end, x.shape[1:], x.device)
            x = self._replaced(x, known, values, own, levels, start)
        return x

    def _replaced(
        self, x: Tensor, known: Tensor, values: Tensor, noise: Noise, levels: Sequence[Level], k: int
    ) -> Tensor:
        """``x`` with the known voxels at their values, noised to ``levels[k]``."""
        level = levels[k]
        noisy = level.alpha * values
        if level.sigma > 0:
            noisy = noisy + level.sigma * stream(noise, "known").draw(k, x.shape[1:], x.device)
        return torch.where(known, noisy, x)

    def _fitted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Known voxels and values where ``x`` lies."""
        known, values = self.known.to(x.device), self.values.to(x)
        try:
            # torch's own function imports SymPy, which takes a second.
            fits = np.broadcast_shapes(known.shape, values.shape, x.shape) == tuple(x.shape)
        except ValueError:
            fits = False
        if not fits:
            raise PlanError(
                f"Known voxels {tuple(known.shape)} with values {tuple(values.shape)} do not fit a state of shape "
                f"{tuple(x.shape)}; give them on the model's grid."
            )
        return known, values


def stream(noise: Noise, name: str) -> Noise:
    """Other noise of the same members, independent of ``noise`` and of streams of other names."""
    key = hashlib.sha256(f"{noise.seed}/{name}".encode()).digest()
    return replace(noise, seed=int.from_bytes(key[:8], "big"))
