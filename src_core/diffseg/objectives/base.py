"""What all objectives share: a batch, the card's parts, and fresh noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffseg.checkpoint import build_schedule, image_input
from diffseg.codec import build_codec
from diffseg.data import Example
from diffseg.denoise import Encoded, build_head
from diffseg.errors import PlanError
from diffseg.losses import Transitions
from diffseg.objectives.times import Times
from diffseg.registry import Registry
from diffseg.train_plan import TrainPlan


@dataclass(frozen=True, eq=False)
class Batch:
    """Prepared images ``(B, C, *P)``, label maps ``(B D, *P)`` int64, and image-level classes ``kinds (B,)`` int64.

    The D label maps of an image follow one another.
    """

    image: Tensor
    labels: Tensor
    kinds: Tensor

    def to(self, device: torch.device, memory_format: torch.memory_format) -> Batch:
        """The batch on a device; the image in the network's memory format."""
        image = self.image.to(device, memory_format=memory_format)
        return Batch(image, self.labels.to(device), self.kinds.to(device))


class Objective(ABC):
    """The loss of one update, and what is measured on the validation cases. All randomness is from generators."""

    def __init__(self, plan: TrainPlan) -> None:
        """Raises ``PlanError`` for settings that do not belong together."""
        self.plan, self.card, self.fit = plan, plan.model, plan.fit
        self.codec = build_codec(self.card.codec, len(self.card.classes), self.card.codec_settings)
        self.head = build_head(self.card.prediction, self.card.prediction_settings)
        self.schedule = build_schedule(self.card)
        self.times = Times(self.schedule, plan.fit)

    @abstractmethod
    def __call__(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The weighted losses by name, scalars, and their sum as ``total``."""

    @abstractmethod
    def score(self, net: nn.Module, examples: Sequence[Example], device: torch.device) -> dict[str, float]:
        """Measures of a network in evaluation mode on the validation cases, by name."""

    def image(self, batch: Batch) -> Tensor:
        """The images as the network takes them."""
        return image_input(self.card, batch.image)

    def noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal noise, drawn on the CPU so that it does not depend on the device."""
        return torch.randn(like.shape, generator=generator).to(like.device)

    def call(self, net: nn.Module, x: Tensor, *inputs: Tensor | Encoded, **named: Tensor) -> Tensor:
        """The network's output in float32; in bfloat16 inside, if the plan says so."""
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.fit.autocast):
            output: Tensor = net(x, *inputs, **named).float()
        return output

    def bound_transitions(self) -> Transitions | None:
        """The reverse steps that the variational bound needs; None where no variance is learned.

        Raises:
            PlanError: a bound without learned variance or the other way round, or times between the levels.
        """
        fit, learned = self.fit, self.head.learned_variance
        if learned != (fit.bound > 0):
            raise PlanError(
                f"The variational bound (fit.bound = {fit.bound}) trains the variance of heads with learned_variance, "
                f"which is {str(learned).lower()} on this card; set both or neither."
            )
        if learned and fit.uniform_fraction > 0:
            raise PlanError("The variational bound is one of discrete levels; set fit.uniform_fraction to 0.")
        return Transitions.of_levels(self.schedule.levels(fit.diffusion_steps)) if learned else None

    @property
    def bound_weight(self) -> float:
        """Weight of the bound, times T / 1000 if the plan says ``rescale_bound``."""
        return self.fit.bound * (len(self.times.t) / 1000 if self.fit.rescale_bound else 1.0)


OBJECTIVES: Registry[type[Objective]] = Registry("training task")


def summed(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """The losses with their sum as ``total``."""
    return losses | {"total": torch.stack(list(losses.values())).sum()}
