"""Image diffusion models that know a class label, and classifiers that steer them.

Here the image itself is noised, not a mask: ``x (B, C, H, W)`` is an image at a noise level, ``eps`` the noise
that a network sees in it. A *label* is a vector of weights ``(L,)`` over the classes the network knows: one-hot
for a class, a mixture in between. A *classifier* gives class logits of noised images.

References:
    Dhariwal and Nichol 2021, "Diffusion models beat GANs on image synthesis", section 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from diffseg.codec import Codec, Range
from diffseg.denoise import Denoiser, Head, Prediction, eps_from_x0, x0_from_eps
from diffseg.errors import PlanError
from diffseg.noise import Level, NoiseSchedule
from diffseg.sample import DDPM, transition

# ``classifier(x (B, C, H, W), told (B,)) -> logits (B, classes)``.
Classifier = Callable[[Tensor, Tensor], Tensor]
# The range to which the guided-diffusion family clips clean images, whatever range they were trained in.
PUBLISHED_CLIP: Range = (-1.0, 1.0)


class ImageDenoiser(Protocol):
    """A network that sees the noise in images, given a label."""

    @property
    def labels(self) -> int:
        """Number of classes that it knows, 0 if it takes no label."""
        ...

    def eps(self, x: Tensor, level: Level, label: Tensor | None) -> Tensor:
        """The noise in ``x (B, C, H, W)`` at ``level``, given the weights ``label (L,)``; nothing is clipped."""
        ...


@dataclass(frozen=True, eq=False)
class NetworkImageDenoiser:
    """A network called as ``network(x, told, label=weights (B, L))``, or without label where ``labels`` is 0.

    ``head`` says what its output means; ``labels`` is the number of its label embeddings.
    """

    network: nn.Module
    labels: int
    head: Head
    codec: Codec
    autocast: torch.dtype | None = None

    @torch.no_grad()
    def eps(self, x: Tensor, level: Level, label: Tensor | None) -> Tensor:
        """See ``ImageDenoiser``; the result is float32 whatever autocast does inside.

        Raises:
            PlanError: a conditional network without a label, or a label with more classes than it knows.
        """
        told = torch.full((len(x),), level.told, device=x.device)
        autocast = torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None)
        with exact_convolutions(), autocast:
            named = {"label": self._weights(label, x)} if self.labels else {}
            output = self.network(x, told, **named)
        alpha, sigma = x.new_tensor(level.alpha), x.new_tensor(level.sigma)
        mean, _ = self.head.split(output.float())
        return self.head.noise(mean, x, self.head.unclipped(mean, x, alpha, sigma, self.codec), alpha, sigma)

    def _weights(self, label: Tensor | None, x: Tensor) -> Tensor:
        """``label`` for every image, with 0 for classes that nobody asked for."""
        if label is None or len(label) > self.labels:
            given = "none" if label is None else f"one of {len(label)} classes"
            raise PlanError(f"This image model knows {self.labels} class labels, but was given {given}; give one.")
        rows = x.new_zeros(len(x), self.labels)
        rows[:, : len(label)] = label.to(x)
        return rows


def one_hot(index: int, labels: int, device: torch.device | str = "cpu") -> Tensor:
    """The label ``(labels,)`` of one class; raises ``PlanError`` for a class that does not exist."""
    if not 0 <= index < labels:
        raise PlanError(f"There is no class {index}; this model knows the classes 0 to {labels - 1}.")
    weights = torch.zeros(labels, device=device)
    weights[index] = 1
    return weights


def time_table(schedule: NoiseSchedule, count: int) -> tuple[Level, ...]:
    """The level of every time step of a schedule of ``count`` steps; index 0 is the least noisy one."""
    return tuple(reversed(schedule.levels(count)[:-1]))


def clipped_eps(x: Tensor, eps: Tensor, level: Level, clip: Range | None) -> Tensor:
    """The noise that remains when the clean image it implies is clipped to ``clip``; None changes nothing."""
    if clip is None:
        return eps
    x0 = x0_from_eps(x, eps, level.alpha, level.sigma).clamp(*clip)
    return eps_from_x0(x, x0, level.alpha, level.sigma)


def exact_convolutions() -> AbstractContextManager[None]:
    """Convolutions in full float32 on GPUs, which else round their inputs to 10 bits (TF32).

    The difference of two nearly equal predictions, divided by 1 - tau, would show that rounding.
    """
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def class_gradient(classifier: Classifier, x: Tensor, told: float, target: int) -> Tensor:
    """``grad_x log p(target | x)`` at the time ``told`` to the classifier, shape of ``x``.

    The classifier's parameters get no gradient.
    """
    x = x.detach().clone()
    with exact_convolutions(), torch.inference_mode(False), torch.enable_grad():
        # Cloned inside, because a tensor made in inference mode cannot be differentiated.
        x = x.clone().requires_grad_(True)
        logits = classifier(x, torch.full((len(x),), told, device=x.device))
        if not 0 <= target < logits.shape[1]:
            raise PlanError(f"There is no class {target}; the classifier knows 0 to {logits.shape[1] - 1}.")
        (gradient,) = torch.autograd.grad(logits.float().log_softmax(dim=1)[:, target].sum(), x)
    return gradient


def guided_eps(eps: Tensor, gradient: Tensor, level: Level, scale: float) -> Tensor:
    """``eps - sqrt(1 - abar) s grad log p(y | x)``: guidance of deterministic samplers.

    References:
        Dhariwal and Nichol 2021, algorithm 2.
    """
    return eps - scale * level.sigma * gradient


def guided_mean(mean: Tensor, variance: Tensor, gradient: Tensor, scale: float) -> Tensor:
    """``mu + s Sigma grad log p(y | x)``: guidance of ancestral samplers.

    As in the published code the gradient is taken at x_t, not at the mean.

    References:
        Dhariwal and Nichol 2021, algorithm 1.
    """
    return mean + scale * variance * gradient


@dataclass(frozen=True, eq=False)
class Guided:
    """A denoiser steered towards class ``target`` of a classifier (the deterministic form, ``guided_eps``).

    The noise is taken from the denoiser's (clipped) ``x0``, and ``x0`` made again from the guided noise without
    another clipping, as published. Itself a ``Denoiser``, for any sampler; ``GuidedMean`` is for DDPM steps.
    """

    denoiser: Denoiser
    classifier: Classifier
    target: int
    scale: float

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        """See ``Denoiser``."""
        seen = self.denoiser(x, level)
        gradient = class_gradient(self.classifier, x, level.told, self.target)
        eps = guided_eps(eps_from_x0(x, seen.x0, level.alpha, level.sigma), gradient, level, self.scale)
        return Prediction(x0_from_eps(x, eps, level.alpha, level.sigma), variance_fraction=seen.variance_fraction)


@dataclass(frozen=True, eq=False)
class GuidedMean:
    """A denoiser that makes DDPM steps steered towards ``target`` (``guided_mean``), for the run's own ``levels``.

    The shift of the mean is told as a shift of ``x0``, which is how a ``Denoiser`` can say it: the posterior mean is
    linear in ``x0``. ``sampler`` must be the one that makes the steps, since the shift grows with its variance.
    """

    denoiser: Denoiser
    classifier: Classifier
    target: int
    scale: float
    levels: Sequence[Level]
    sampler: DDPM

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        """See ``Denoiser``; ``level`` must be one of the run's."""
        seen = self.denoiser(x, level)
        way = transition(self.levels, list(self.levels).index(level))
        mean, log_variance = self.sampler.moments(seen, x, way)
        variance = log_variance.exp() if isinstance(log_variance, Tensor) else mean.new_tensor(math.exp(log_variance))
        gradient = class_gradient(self.classifier, x, level.told, self.target)
        shift = guided_mean(mean, variance, gradient, self.scale) - mean
        return Prediction(seen.x0 + shift / way.on_x0, variance_fraction=seen.variance_fraction)


@dataclass(frozen=True, eq=False)
class Labelled:
    """An image denoiser bound to one label: a ``Denoiser`` of images, ``x0`` clipped to ``clip``."""

    denoiser: ImageDenoiser
    label: Tensor | None
    clip: Range | None = PUBLISHED_CLIP

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        """See ``Denoiser``; there is no variance fraction."""
        eps = clipped_eps(x, self.denoiser.eps(x, level, self.label), level, self.clip)
        return Prediction(x0_from_eps(x, eps, level.alpha, level.sigma))


def mixed_eps(denoiser: ImageDenoiser, x: Tensor, level: Level, labels: Sequence[tuple[float, Tensor]]) -> Tensor:
    """``sum_k w_k eps(x | y_k)``: a mixture of noises, one forward pass for each of the ``(weight, label)``."""
    total = torch.zeros_like(x)
    for weight, label in labels:
        total = total + weight * denoiser.eps(x, level, label)
    return total
