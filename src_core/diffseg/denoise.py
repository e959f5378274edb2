"""Denoisers: from a noisy mask and a time to the clean mask that they hint at.

A ``Denoiser`` is already bound to one image; networks, guidance, windows and the oracles of the tests are
all Denoisers, and samplers know nothing else. ``HEADS`` says what a network's output means.

Symbols: ``x (B, C, *S)`` noisy state, ``x0`` clean state in the codec's range, ``alpha``, ``sigma`` amplitudes at
its level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from pydantic import ConfigDict
from torch import Tensor, nn

from diffseg.codec import Codec
from diffseg.errors import CheckpointError
from diffseg.noise import Level
from diffseg.records import from_dict
from diffseg.registry import Registry


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a denoiser sees in a noisy state; all fields ``(B, K, *S)``.

    ``x0`` is the clean state, clipped to the codec's range. ``eps`` is given only where a published sampler uses the
    noise as predicted before ``x0`` was clipped; else samplers derive it from ``x0``. ``variance_fraction`` f, where
    the network learned it, places the log variance of a step between its bounds: ``f ln(beta) + (1 - f) ln(small)``.
    """

    x0: Tensor
    eps: Tensor | None = None
    variance_fraction: Tensor | None = None


class Denoiser(Protocol):
    """``(x, level) -> Prediction`` for states ``x (B, K, *S)``."""

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        """What is expected from ``x`` at ``level``."""
        ...


HEADS: Registry[type[Head]] = Registry("prediction")


@dataclass(frozen=True)
class Head:
    """What a network's output means, in both directions. ``alpha`` and ``sigma`` broadcast against ``x``.

    ``learned_variance``: the output has twice the channels; of the second half v the variance fraction is
    ``(v + 1) / 2``, not clamped (Nichol and Dhariwal 2021, equation 15). ``keep_eps``: samplers use the noise as it was
    before ``x0`` was clipped, as AmbDiffSeg does; right is to derive it again, the default. ``clip``: whether ``x0`` is
    clipped to the codec's range.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    learned_variance: bool = False
    keep_eps: bool = False
    clip: bool = True

    def unclipped(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: Codec) -> Tensor:
        """The clean state that ``output`` (without variance channels) means, before clipping."""
        raise NotImplementedError

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | None:
        """What the output should equal in a squared-error loss; None where only mask losses make sense."""
        raise NotImplementedError

    def noise(self, output: Tensor, x: Tensor, x0: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The noise that ``output`` means, ``x0`` being its unclipped clean state."""
        return eps_from_x0(x, x0, alpha, sigma)

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The network's output without variance channels, and the variance fraction if there are any."""
        if not self.learned_variance:
            return output, None
        mean, v = output.chunk(2, dim=1)
        return mean, (v + 1) / 2

    def predict(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: Codec) -> Prediction:
        """Everything that samplers take from the network's ``output``."""
        output, fraction = self.split(output)
        free = self.unclipped(output, x, alpha, sigma, codec)
        eps = self.noise(output, x, free, alpha, sigma) if self.keep_eps else None
        return Prediction(free.clamp(*codec.clip) if self.clip else free, eps, fraction)

    def x0(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: Codec) -> Tensor:
        """The clean state alone."""
        return self.predict(output, x, alpha, sigma, codec).x0


def build_head(name: str, settings: Mapping[str, Any]) -> Head:
    """The head called ``name``.

    Raises:
        CheckpointError: settings that it does not know.
        PlanError: an unknown name.
    """
    return from_dict(HEADS[name], dict(settings), f"Prediction {name}", CheckpointError)


@HEADS.add("x0", "The network gives class logits of the clean mask")
class X0Head(Head):
    """Logits; ``x0hat = 2 softmax - 1`` (Fu et al. 2023), or what the codec makes of them."""

    def unclipped(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: Codec) -> Tensor:
        """See ``Head``."""
        return codec.from_logits(output)

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | None:
        """None: logits have no regression target."""
        return None


@HEADS.add("x0-value", "The network gives the clean mask itself")
class X0ValueHead(Head):
    """START_X of guided-diffusion, and AmbDiffSeg's x where the tanh is part of the network."""

    def unclipped(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: Codec) -> Tensor:
        """See ``Head``."""
        return output

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | None:
        """The clean state."""
        return x0


@HEADS.add("x0-tanh", "The network gives the clean mask before a tanh (AmbDiffSeg)")
class X0TanhHead(Head):
    """``x0hat = tanh(output)`` (Christensen et al. 2025)."""

    def unclipped(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: Codec) -> Tensor:
        """See ``Head``."""
        return output.tanh()

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | None:
        """None: the loss is on ``x0hat``, since the tanh never reaches a clean mask."""
        return None


@HEADS.add("x0-probability", "The network gives the probability of the structure (AmbDiffSeg's p)")
class X0ProbabilityHead(Head):
    """``x0hat = 2 p - 1`` (Christensen et al. 2025)."""

    def unclipped(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: Codec) -> Tensor:
        """See ``Head``."""
        return 2 * output - 1

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | None:
        """The probability."""
        return (x0 + 1) / 2


@HEADS.add("eps", "The network gives the noise")
class EpsHead(Head):
    """``x0 = (x - sigma eps) / alpha`` (Ho et al. 2020)."""

    def unclipped(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: Codec) -> Tensor:
        """See ``Head``."""
        return x0_from_eps(x, output, alpha, sigma)

    def noise(self, output: Tensor, x: Tensor, x0: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The output."""
        return output

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | None:
        """The noise."""
        return eps


@HEADS.add("v", "The network gives the velocity alpha eps - sigma x0")
class VHead(Head):
    """``x0 = alpha x - sigma v``, ``eps = sigma x + alpha v`` (Salimans and Ho 2022)."""

    def unclipped(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: Codec) -> Tensor:
        """See ``Head``."""
        return x0_from_v(x, output, alpha, sigma)

    def noise(self, output: Tensor, x: Tensor, x0: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Without the cancellation that ``x - alpha x0`` suffers where sigma is small."""
        return sigma * x + alpha * output

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | None:
        """The velocity."""
        return alpha * eps - sigma * x0


@HEADS.add("both", "The network gives the noise and the clean mask (AmbDiffSeg's both)")
@dataclass(frozen=True)
class BothHead(Head):
    """Twice the channels, first eps, then x: ``x0 = alpha^2 x + sigma^2 (x_t - sigma eps) / alpha``.

    ``published_weights``: AmbDiffSeg's code weights the two by alpha and sigma, whose sum is not 1, so that even
    perfect outputs give ``(alpha + sigma) x0``. Right is the default.
    """

    published_weights: bool = False

    def unclipped(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, codec: Codec) -> Tensor:
        """See ``Head``."""
        eps, clean = output.chunk(2, dim=1)
        power = 1 if self.published_weights else 2
        return alpha**power * clean + sigma**power * x0_from_eps(x, eps, alpha, sigma)

    def noise(self, output: Tensor, x: Tensor, x0: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The first half of the output."""
        return output.chunk(2, dim=1)[0]

    def target(self, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor | None:
        """Noise and clean state, ``(B, 2 C, *S)``."""
        return torch.cat((eps, x0), dim=1)


def x0_from_eps(x: Tensor, eps: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """``(x - sigma eps) / alpha``."""
    return (x - sigma * eps) / alpha


def eps_from_x0(x: Tensor, x0: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """``(x - alpha x0) / sigma``."""
    return (x - alpha * x0) / sigma


def x0_from_v(x: Tensor, v: Tensor, alpha: Tensor | float, sigma: Tensor | float) -> Tensor:
    """``alpha x - sigma v``."""
    return alpha * x - sigma * v


class Encoded(Protocol):
    """What a network with an encoder of its own makes of an image, once for all noisy masks."""

    def expand(self, batch: int, *rest: int) -> Encoded:
        """The same for ``batch`` masks; like ``Tensor.expand``, ``rest`` are -1."""
        ...

    def repeat_interleave(self, repeats: int, dim: int) -> Encoded:
        """That of every image ``repeats`` times in a row; like ``Tensor.repeat_interleave`` along the batch, 0."""
        ...


def encoded(network: nn.Module, image: Tensor) -> Tensor | Encoded:
    """What ``network`` takes beside the noisy mask: ``image (B, C, *S)`` itself, or what its ``encode`` makes of it."""
    encode: Callable[[Tensor], Encoded] | None = getattr(network, "encode", None)
    return image if encode is None else encode(image)


@torch.no_grad()
def bound(
    network: nn.Module, image: Tensor, head: Head, codec: Codec, autocast: torch.dtype | None = None
) -> NetworkDenoiser:
    """The network bound to ``image (1, C, *S)``; an encoder of its own runs here, once."""
    with torch.autocast(image.device.type, dtype=autocast, enabled=autocast is not None):
        beside = encoded(network, image)
    return NetworkDenoiser(network, beside, head, codec, autocast)


@dataclass(frozen=True, eq=False)
class NetworkDenoiser:
    """A network bound to one image ``(1, C, *S)``, or what its encoder made of it; repeated over the batch.

    Gradients are off and autocast is entered and left within one call, so that nothing of torch's
    per-thread state is open while a caller pauses between steps.
    """

    network: nn.Module
    image: Tensor | Encoded
    head: Head
    codec: Codec
    autocast: torch.dtype | None = None

    @torch.no_grad()
    def __call__(self, x: Tensor, level: Level) -> Prediction:
        """See ``Denoiser``; the result is float32 whatever autocast does inside."""
        b = x.shape[0]
        told = torch.full((b,), level.told, device=x.device)
        image = self.image.expand(b, *[-1] * (x.ndim - 1))
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            output = self.network(x, told, image)
        alpha, sigma = x.new_tensor(level.alpha), x.new_tensor(level.sigma)
        return self.head.predict(output.float(), x, alpha, sigma, self.codec)
