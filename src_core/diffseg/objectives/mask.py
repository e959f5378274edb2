"""Training of masks that are denoised given an image: recycling, self-conditioning and all mask losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from diffseg.data import Example
from diffseg.denoise import Denoiser, Encoded, Prediction, bound, encoded
from diffseg.errors import PlanError
from diffseg.losses import MASK_LOSSES, WEIGHTINGS, bound_bits, level_weights
from diffseg.metrics.overlap import dice
from diffseg.objectives.base import OBJECTIVES, Batch, Objective, summed
from diffseg.objectives.times import Amplitudes
from diffseg.records import from_dict
from diffseg.sample import SAMPLERS, Noise
from diffseg.self_condition import SelfConditioned, is_self_conditioned
from diffseg.train_plan import TrainPlan


def recycled(see: Callable[[Tensor, Amplitudes], Tensor], x0: Tensor, before: Amplitudes, eps: Tensor) -> Tensor:
    """A predicted mask to noise instead of the true one: ``stop_grad(see(alpha' x0 + sigma' eps))``.

    ``before`` is a level noisier than the one to be trained, whose own noise is independent of ``eps``. Training
    then starts from masks with the network's mistakes, as sampling does.

    References:
        Fu et al. 2023 (ImgX-DiffSeg): ``before`` is the next level; Fu et al. 2024 (MELBA): the noisiest.
    """
    with torch.no_grad():
        return see(before.noised(x0, eps), before)


@OBJECTIVES.add("mask", "Masks of an image, denoised from pure noise")
class MaskObjective(Objective):
    """``x_t`` is a noised mask; the image is given beside it."""

    def __init__(self, plan: TrainPlan) -> None:
        super().__init__(plan)
        fit = self.fit
        self.weighting = from_dict(WEIGHTINGS[fit.weighting], fit.weighting_settings, "The weighting", PlanError)
        if fit.mse_of == "target" and (fit.weighting != "uniform" or fit.decoupled):
            raise PlanError(
                "The weightings are those of the error of the clean mask; set fit.mse_of to 'x0', or fit.weighting to "
                "'uniform' and fit.decoupled to false."
            )
        self.transitions = self.bound_transitions()
        self.self_conditioned = is_self_conditioned(self.card)
        if self.self_conditioned != (fit.self_condition > 0):
            want, have = ("below", "does") if self.self_conditioned else ("of", "does not")
            raise PlanError(
                f"The network {have} take the previous estimate as further input channels, but fit.self_condition is "
                f"{fit.self_condition}; give it {self.codec.channels} more input channels and a probability above 0, "
                "or neither."
            )

    def __call__(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """See ``Objective``."""
        x0, image = self.codec.encode(batch.labels), self.beside(net, batch)

        def see(x: Tensor, at: Amplitudes) -> Tensor:
            return self.predict(net, x, at, image)[1].x0

        t = self.times.draw(len(x0), generator)
        start = x0
        if self.fit.recycling != "none":
            before = self.times.at(self.times.before(t), x0)
            start = recycled(see, x0, before, self.noise(x0, generator))
        at = self.times.at(t, x0)
        x = at.noised(start, self.noise(x0, generator))
        previous = self.previous(see, x, at, generator) if self.self_conditioned else None
        out, seen = self.predict(net, x, at, image, previous)
        return summed(self.losses(x0, x, at, out, seen, batch.labels))

    def beside(self, net: nn.Module, batch: Batch) -> Tensor | Encoded:
        """Each image as the network takes it, once per mask; an encoder of the network's own sees it once an update."""
        image = self.image(batch)
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=self.fit.autocast):
            return encoded(net, image).repeat_interleave(len(batch.labels) // len(image), 0)

    def predict(
        self, net: nn.Module, x: Tensor, at: Amplitudes, image: Tensor | Encoded, previous: Tensor | None = None
    ) -> tuple[Tensor, Prediction]:
        """``(raw output, prediction)`` in float32; a self-conditioned network without ``previous`` is given zeros."""
        if self.self_conditioned and isinstance(image, Tensor):
            image = torch.cat([image, torch.zeros_like(x) if previous is None else previous], dim=1)
        out = self.call(net, x, at.told, image)
        return out, self.head.predict(out, x, at.alpha, at.sigma, self.codec)

    def previous(
        self, see: Callable[[Tensor, Amplitudes], Tensor], x: Tensor, at: Amplitudes, generator: torch.Generator
    ) -> Tensor:
        """The network's own estimate for a share ``self_condition`` of the samples, zeros for the others.

        References:
            Chen et al. 2023, "Analog bits", section 3: share 1/2, no gradient through the estimate.
        """
        chosen = torch.rand(len(x), generator=generator) < self.fit.self_condition
        if not chosen.any():
            return torch.zeros_like(x)
        with torch.no_grad():
            estimate = see(x, at)
        return estimate * chosen.to(x).view(-1, *[1] * (x.ndim - 1))

    def losses(
        self, x0: Tensor, x: Tensor, at: Amplitudes, out: Tensor, seen: Prediction, labels: Tensor
    ) -> dict[str, Tensor]:
        """Every loss whose weight is not 0 and that the head has a target for, weighted."""
        weights = {name: getattr(self.fit, name) for name in MASK_LOSSES}
        p = self.codec.probabilities(seen.x0) if any(weights.values()) else None
        losses = {
            name: weight * MASK_LOSSES[name](p, labels).mean()
            for name, weight in weights.items()
            if weight and p is not None
        }
        mse = self.squared_error(x0, x, at, out) if self.fit.mse else None
        if mse is not None:
            losses["mse"] = self.fit.mse * mse.mean()
        if self.transitions is not None and seen.variance_fraction is not None:
            free = self.head.unclipped(self.head.split(out)[0], x, at.alpha, at.sigma, self.codec).detach()
            bits = bound_bits(self.transitions, self.times.index(at.t), x0, x, free, seen.variance_fraction)
            losses["bound"] = self.bound_weight * bits.mean()
        return losses

    def squared_error(self, x0: Tensor, x: Tensor, at: Amplitudes, out: Tensor) -> Tensor | None:
        """Of the head's own target, or of the clean mask before clipping with the plan's weights, ``(B,)``."""
        mean = self.head.split(out)[0]
        if self.fit.mse_of == "target":
            target = self.head.target(x0, (x - at.alpha * x0) / at.sigma, at.alpha, at.sigma)
            return None if target is None else (mean - target).square().flatten(1).mean(1)
        free = self.head.unclipped(mean, x, at.alpha, at.sigma, self.codec)
        weights = level_weights(self.weighting, self.schedule, at.t.numpy(), self.fit.decoupled)
        return torch.as_tensor(weights).to(x) * (free - x0).square().flatten(1).mean(1)

    def score(self, net: nn.Module, examples: Sequence[Example], device: torch.device) -> dict[str, float]:
        """Mean Dice by class of one sample a case, over raters; of a volume's slices the one with most structure."""
        fullest: dict[str, Example] = {}
        for e in examples:
            best = fullest.get(e.name)
            if best is None or np.count_nonzero(e.labels) > np.count_nonzero(best.labels):
                fullest[e.name] = e
        rows = [self._dice_of(net, e, k, device) for k, e in enumerate(fullest.values())]
        names = [c.name for c in self.card.classes[1:]]
        return {name: mean_of([r[i] for r in rows]) for i, name in enumerate(names)}

    def _dice_of(self, net: nn.Module, example: Example, member: int, device: torch.device) -> list[float]:
        image = torch.as_tensor(example.image)[None].to(device)
        batch = Batch(image, torch.empty(0), torch.empty(0))
        kind = SelfConditioned if self.self_conditioned else bound
        denoiser: Denoiser = kind(net, self.image(batch), self.head, self.codec)
        sampler = from_dict(SAMPLERS[self.card.sampler], self.card.sampler_settings, "Sampler", PlanError)
        noise = Noise(self.fit.seed, (member,))
        x = noise.draw(0, (self.codec.channels, *image.shape[2:]), device)
        for step in sampler.steps(denoiser, x, noise, self.schedule.levels(self.card.steps)):
            x = step.x0
        got = self.codec.labels(x)[0].cpu().numpy()
        return [mean_of([dice(got == k, truth == k) for truth in example.labels]) for k in range(1, self.codec.classes)]


def mean_of(values: Sequence[float]) -> float:
    """The mean without NaN; NaN if nothing remains."""
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")
