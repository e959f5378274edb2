"""CDM and CG-CDM: how the denoised image changes with the class label, by a finite difference.

The image is noised to time step Q in one shot. From this one ``x_Q`` two DDIM walks take R steps, one given
the label ``y1`` looked for, one given a label moved a little towards the background ``y0``; the difference of
their states, summed over the steps, is the map.

References:
    Hu, Chen, Ho and Shi 2023, "Conditional diffusion models for weakly supervised medical image segmentation".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from diffseg.denoise import x0_from_eps
from diffseg.errors import PlanError
from diffseg.guidance import (
    PUBLISHED_CLIP,
    class_gradient,
    guided_eps,
    mixed_eps,
    one_hot,
)
from diffseg.noise import CLEAN, Level
from diffseg.registry import knob
from diffseg.saliency.method import SALIENCY, Models, Need, Partial, Question, SaliencyMethod

Mixture = Literal["embedding", "prediction"]
# A label as a weighted sum of what the network is given: one entry where the network itself mixes embeddings.
MixedLabel = list[tuple[float, Tensor]]


def ddim_step(x: Tensor, eps: Tensor, a: Level, b: Level) -> Tensor:
    """From level ``a`` to ``b`` along the noise ``eps``, without new noise (Song et al. 2021, eq. 12, sigma 0)."""
    return b.alpha * x0_from_eps(x, eps, a.alpha, a.sigma) + b.sigma * eps


def path(times: tuple[Level, ...], q: int, steps: int, stride: int) -> tuple[Level, ...]:
    """``steps + 1`` levels from time step ``q`` downwards, each ``stride`` steps below the last.

    ``stride`` 0 shares the whole way to the clean image equally. One step below time step 0 is ``CLEAN``.

    Raises:
        PlanError: ``q`` lies outside the schedule, or the way down is too short.
    """
    if not 0 <= q < len(times):
        raise PlanError(f"Q is {q}, but this model has the time steps 0 to {len(times) - 1}; choose one of them.")
    low = q - steps * stride if stride else -1
    if low < -1 or q - low < steps:
        raise PlanError(
            f"{steps} steps of {stride or 1} do not fit below time step {q}; choose fewer, or a larger Q."
        )
    index = np.round(np.linspace(q, low, steps + 1)).astype(int)
    return tuple(CLEAN if i < 0 else times[i] for i in index)


@dataclass(frozen=True)
class LabelDifference(SaliencyMethod):
    """The settings and the walk that all variants share; they differ in ``walk`` and the constants below.

    ``strength`` is that of a classifier's guidance, towards ``y1`` in one walk, ``y0`` in the other; ``gain`` a factor
    on the differences.
    """

    unit: ClassVar[str] = "intensity per unit of label"

    q: int = knob(400, low=1, high=9999, help="Q, the time step to which the image is noised")
    r: int = knob(10, low=1, high=1000, help="R, the number of DDIM steps")
    tau: float = knob(0.95, low=0.0, high=0.999, step=0.01, help="Weight that the label looked for keeps")

    def start(self, models: Models) -> Level:
        """The level at which ``x_Q`` is drawn."""
        return path(models.times, self.q, 0, 1)[0]

    def walk(self, models: Models) -> tuple[Level, ...]:
        """The ``r + 1`` levels that both walks visit."""
        raise NotImplementedError

    def labels(self, models: Models, question: Question, device: torch.device) -> tuple[MixedLabel, MixedLabel]:
        """``y1`` and ``tau y1 + (1 - tau) y0``, mixed as embeddings: one forward pass each."""
        assert models.denoiser is not None
        count = models.denoiser.labels
        if count == 0:
            raise PlanError("This image model takes no class label, which CDM and CG-CDM need; choose another model.")
        one, zero = (one_hot(y, count, device) for y in (question.target, question.background))
        return [(1.0, one)], [(1.0, self.tau * one + (1 - self.tau) * zero)]

    @property
    def gain(self) -> float:
        """What the difference of the states is multiplied by."""
        return 1.0

    @property
    def strength(self) -> float:
        """Strength of the guidance; 0 for methods without, which ask no classifier."""
        return 0.0

    def units(self, models: Models) -> int:
        """See ``SaliencyMethod``."""
        return self.r

    def passes(self, models: Models) -> int:
        """See ``SaliencyMethod``: two walks, each guided or not."""
        return (len(self.walk(models)) - 1) * (4 if self.strength else 2)

    def partials(self, models: Models, x: Tensor, noise: Tensor, question: Question) -> Iterator[Partial]:
        """See ``SaliencyMethod``: the sum over the steps so far and over the channels."""
        start, levels = self.start(models), self.walk(models)
        here, there = self.labels(models, question, x.device)
        state = other = start.alpha * x + start.sigma * noise
        total = torch.zeros_like(x[:, 0])
        passes = (2 if self.strength else 0) + len(here) + len(there)
        for a, b in zip(levels, levels[1:], strict=False):
            state = self.moved(models, state, here, question.target, a, b)
            other = self.moved(models, other, there, question.background, a, b)
            total = total + self.gain * (state - other).sum(dim=1)
            yield Partial(total, passes)

    def moved(self, models: Models, x: Tensor, label: MixedLabel, guide: int, a: Level, b: Level) -> Tensor:
        """One step of a walk: the networks are asked at ``a``, the state goes to ``b``."""
        assert models.denoiser is not None
        eps = mixed_eps(models.denoiser, x, a, label)
        if not self.strength:
            return self.step(x, eps, None, a, b)
        assert models.classifier is not None
        return self.step(x, eps, class_gradient(models.classifier, x, a.told, guide), a, b)

    def step(self, x: Tensor, eps: Tensor, gradient: Tensor | None, a: Level, b: Level) -> Tensor:
        """The state at ``b``, from the noise seen at ``a`` and the gradient of the classifier, if there is one."""
        return ddim_step(x, eps if gradient is None else guided_eps(eps, gradient, a, self.strength), a, b)


@SALIENCY.add("cdm", "Change of the denoised image with its label (CDM, as published in the paper)")
@dataclass(frozen=True)
class CDM(LabelDifference):
    """CDM as the paper writes it (algorithm 1 and equation 6).

    ``a = sum_{t = Q, ..., Q-R+1} (x_{t-1}(y1) - x_{t-1}(tau y1 + (1 - tau) y0)) / (1 - tau)``, summed over the
    channels. ``x_Q = sqrt(abar_Q) x + sqrt(1 - abar_Q) n``; the paper's algorithm writes ``beta_t`` where
    ``sqrt(beta_t)`` must stand. Nothing is clipped (equation 5).

    Readings where the paper leaves a choice: ``stride`` is the time steps of one DDIM step, 1 in algorithm 1
    ("for t from Q to Q-R"); 0 takes R equal strides from Q to the clean image. ``mixture`` says what is mixed:
    the label *embeddings* ``f(y)``, as the paper has it, or the two noise *predictions*, which needs a third
    forward pass and makes the result of a single step independent of tau.
    """

    needs: ClassVar[tuple[Need, ...]] = ("denoiser",)

    stride: int = knob(1, low=0, high=1000, help="Time steps per DDIM step; 0: R equal strides to the clean image")
    mixture: Mixture = knob("embedding", help="Mix the label embeddings or the noise predictions")

    def walk(self, models: Models) -> tuple[Level, ...]:
        """See ``LabelDifference``."""
        return path(models.times, self.q, self.r, self.stride)

    def labels(self, models: Models, question: Question, device: torch.device) -> tuple[MixedLabel, MixedLabel]:
        """See ``LabelDifference``; mixed predictions are a sum of two."""
        here, there = super().labels(models, question, device)
        if self.mixture == "embedding":
            return here, there
        zero = one_hot(question.background, len(here[0][1]), device)
        return here, [(self.tau, here[0][1]), (1 - self.tau, zero)]

    def passes(self, models: Models) -> int:
        """See ``LabelDifference``; mixed predictions take one more."""
        return super().passes(models) + (self.r if self.mixture == "prediction" else 0)

    @property
    def gain(self) -> float:
        """``1 / (1 - tau)``: the finite difference is a derivative."""
        return 1 / (1 - self.tau)


@SALIENCY.add("cg-cdm", "CDM with classifier guidance (CG-CDM, as published in the paper)")
@dataclass(frozen=True)
class GuidedCDM(CDM):
    """CG-CDM as the paper writes it: CDM, where a classifier guides both walks with strength s.

    ``eps <- eps - s sqrt(1 - abar_t) grad log p(y | x_t)`` towards ``y1`` in the first walk and ``y0`` in the second
    (section 2.2).
    """

    needs: ClassVar[tuple[Need, ...]] = ("denoiser", "classifier")

    scale: float = knob(10.0, low=0.0, high=1000.0, help="s, the strength of the classifier's guidance")

    @property
    def strength(self) -> float:
        """``scale``."""
        return self.scale


@SALIENCY.add("cdm-code", "CDM step by step as the authors' code computes it, without guidance")
@dataclass(frozen=True)
class CodeCDM(LabelDifference):
    """CDM as the public code computes it (cond_ddpm_wsss, ``image_p_seg``), without guidance.

    It differs from the paper: ``x_Q`` is drawn at index Q but the first network call is told Q - 1; there is no
    factor ``1 / (1 - tau)``; the clean image is clipped to [-1, 1] in every step before guidance, although images
    are in [0, 1]. The sum is signed, the strides are 1, the label is mixed as an embedding.
    """

    needs: ClassVar[tuple[Need, ...]] = ("denoiser",)
    unit: ClassVar[str] = "intensity"

    def walk(self, models: Models) -> tuple[Level, ...]:
        """See ``LabelDifference``: one below Q and on."""
        return path(models.times, self.q - 1, self.r, 1)

    def step(self, x: Tensor, eps: Tensor, gradient: Tensor | None, a: Level, b: Level) -> Tensor:
        """See ``LabelDifference``; every product and sum in the order, and in the float32, of the published code.

        The map adds up differences of states that agree in four digits, so the order of rounding shows in it.
        """
        recip, root = x.new_tensor(1 / a.alpha), x.new_tensor(a.sigma / a.alpha)
        abar, before = x.new_tensor(a.alpha**2), x.new_tensor(b.alpha**2)
        clean = (recip * x - root * eps).clamp(*PUBLISHED_CLIP)
        if gradient is not None:
            eps = (recip * x - clean) / root - (1 - abar).sqrt() * (gradient * self.strength)
            clean = recip * x - root * eps
        eps = (recip * x - clean) / root
        return clean * before.sqrt() + (1 - before).sqrt() * eps


@SALIENCY.add("cg-cdm-code", "CG-CDM step by step as the authors' code computes it")
@dataclass(frozen=True)
class CodeGuidedCDM(CodeCDM):
    """``CodeCDM`` with classifier guidance; the walk of the mixed label is guided towards class ``y0``."""

    needs: ClassVar[tuple[Need, ...]] = ("denoiser", "classifier")

    scale: float = knob(10.0, low=0.0, high=1000.0, help="s, the strength of the classifier's guidance")

    @property
    def strength(self) -> float:
        """``scale``."""
        return self.scale
