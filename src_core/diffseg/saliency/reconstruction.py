"""CG-Diff: what must change in an image before a classifier calls it healthy.

The image is encoded into noise by running DDIM backwards, which forgets nothing, and decoded again while a
classifier guides it towards the background class. Where the two images differ, the lesion was.

References:
    Wolleb, Bieder, Sandkühler and Cattin 2022, "Diffusion models for medical anomaly detection".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diffseg.codec import Range
from diffseg.denoise import x0_from_eps
from diffseg.errors import PlanError
from diffseg.guidance import PUBLISHED_CLIP, class_gradient, clipped_eps, guided_eps, one_hot
from diffseg.noise import CLEAN, Level
from diffseg.registry import knob
from diffseg.saliency.cdm import ddim_step, path
from diffseg.saliency.method import SALIENCY, Models, Need, Partial, Question, SaliencyMethod


@dataclass(frozen=True)
class Move:
    """One DDIM step: the state is taken to lie at ``a`` and goes to ``b``. ``told`` is the classifier's time."""

    a: Level
    b: Level
    guided: bool
    told: float


@dataclass(frozen=True)
class Reconstruction(SaliencyMethod):
    """The settings and the way there and back that both variants share."""

    needs: ClassVar[tuple[Need, ...]] = ("denoiser", "classifier")
    range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    unit: ClassVar[str] = "intensity"
    clip: ClassVar[Range | None] = None

    q: int = knob(500, low=1, high=9999, help="L, the time step up to which the image is encoded")
    scale: float = knob(100.0, low=0.0, high=10_000.0, help="s, the strength of the classifier's guidance")

    def moves(self, models: Models) -> list[Move]:
        """All steps, there and back."""
        raise NotImplementedError

    def begin(self, models: Models, x: Tensor, noise: Tensor) -> Tensor:
        """The state before the first step."""
        return x

    def units(self, models: Models) -> int:
        """See ``SaliencyMethod``."""
        return len(self.moves(models))

    def passes(self, models: Models) -> int:
        """See ``SaliencyMethod``: guided steps ask both networks."""
        return sum(2 if move.guided else 1 for move in self.moves(models))

    def partials(self, models: Models, x: Tensor, noise: Tensor, question: Question) -> Iterator[Partial]:
        """See ``SaliencyMethod``: ``sum_c |x - x'|``; 0 on the way there, the clean image in sight on the way back."""
        assert models.denoiser is not None
        labels = models.denoiser.labels
        label = one_hot(question.background, labels, x.device) if labels else None
        state = self.begin(models, x, noise)
        for move in self.moves(models):
            state, clean = self.moved(models, state, move, label, question.background)
            if move.guided:
                yield Partial((x - clean).abs().sum(dim=1), 2)
            else:
                yield Partial(torch.zeros_like(x[:, 0]), 1)

    def moved(
        self, models: Models, x: Tensor, move: Move, label: Tensor | None, target: int
    ) -> tuple[Tensor, Tensor]:
        """The state after one step, and the clean image that was in sight in it."""
        assert models.denoiser is not None
        eps = models.denoiser.eps(x, _seen(move.a, models.times), label)
        if move.a.sigma:  # a clean image has no noise into which clipping could move anything
            eps = clipped_eps(x, eps, move.a, self.clip)
        if move.guided:
            assert models.classifier is not None
            gradient = class_gradient(models.classifier, x, move.told, target)
            eps = guided_eps(eps, gradient, move.a, self.scale)
        return ddim_step(x, eps, move.a, move.b), x0_from_eps(x, eps, move.a.alpha, move.a.sigma)


def _seen(level: Level, times: tuple[Level, ...]) -> Level:
    """The level that the network is told: it knows none cleaner than time step 0."""
    return times[0] if level.sigma == 0 else level


@SALIENCY.add("cg-diff", "Difference to the reconstruction that a classifier calls healthy (CG-Diff)")
@dataclass(frozen=True)
class CGDiff(Reconstruction):
    """CG-Diff as the paper describes it: deterministic encoding to step L, guided decoding, ``sum_c |x - x'|``.

    Encoding: ``x_{t+1} = sqrt(abar_{t+1}) x0hat + sqrt(1 - abar_{t+1}) eps(x_t, t)``; decoding is DDIM with
    ``eps - s sqrt(1 - abar_t) grad log p(background | x_t)``. A conditional network is given the background's label
    both ways. ``steps`` DDIM steps are taken each way; published are as many as time steps (500, s = 100; Hu et
    al. 2023 compare with 400). There is no noise, hence one draw.
    """

    random: ClassVar[bool] = False

    steps: int = knob(500, low=1, high=9999, help="DDIM steps each way")

    def moves(self, models: Models) -> list[Move]:
        """See ``Reconstruction``."""
        down = path(models.times, self.q, min(self.steps, self.q + 1), 0)
        up = down[::-1]
        there = [Move(a, b, False, a.told) for a, b in zip(up, up[1:], strict=False)]
        return there + [Move(a, b, True, a.told) for a, b in zip(down, down[1:], strict=False)]


@SALIENCY.add("cg-diff-code", "CG-Diff step by step as the authors' code computes it")
@dataclass(frozen=True)
class CodeCGDiff(Reconstruction):
    """CG-Diff as the public code computes it (diffusion-anomaly, ``ddim_sample_loop_known``).

    It differs from the paper: noise of time step 0 is added before the encoding, so the result is random; the
    encoding calls steps 1, ..., L - 1 on states that lie one step below, so it ends at step L; the decoding calls
    L - 2, ..., 0, two steps below where its states lie; the clean image is clipped to [-1, 1] before guidance.
    Steps are those of a schedule of which every ``stride``-th time step is kept, and the classifier is told their
    number there, not the time that it was trained with.
    """

    clip: ClassVar[Range | None] = PUBLISHED_CLIP

    stride: int = knob(1, low=1, high=1000, help="Every how many time steps one is kept")

    def kept(self, models: Models) -> tuple[Level, ...]:
        """The time steps that are kept, 0 first.

        Raises:
            PlanError: Q reaches beyond them.
        """
        kept = models.times[:: self.stride]
        if not 2 <= self.q // self.stride < len(kept):
            raise PlanError(
                f"Q is {self.q}, but between {2 * self.stride} and {(len(kept) - 1) * self.stride} is expected."
            )
        return kept

    def moves(self, models: Models) -> list[Move]:
        """See ``Reconstruction``."""
        kept = self.kept(models)
        last = self.q // self.stride
        there = [Move(kept[k], kept[k + 1], False, float(k)) for k in range(1, last)]
        below = (CLEAN, *kept)
        return there + [Move(kept[k], below[k], True, float(k)) for k in reversed(range(last - 1))]

    def begin(self, models: Models, x: Tensor, noise: Tensor) -> Tensor:
        """See ``Reconstruction``."""
        level = self.kept(models)[0]
        return level.alpha * x + level.sigma * noise
