"""Training of image diffusion models, class-conditional or not, as weak supervision needs them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffseg.data import Example
from diffseg.errors import PlanError
from diffseg.losses import hybrid
from diffseg.objectives.base import OBJECTIVES, Batch, Objective, summed
from diffseg.train_plan import TrainPlan


@OBJECTIVES.add("image", "Images, denoised given their class (CDM, CG-Diff)")
class ImageObjective(Objective):
    """``x_t`` is a noised image; the network is called as ``network(x, told, label=kinds)`` if the card has labels.

    References:
        Hu et al. 2023 (CDM): hybrid loss, labels normal and lesion.
    """

    def __init__(self, plan: TrainPlan) -> None:
        super().__init__(plan)
        if self.card.prediction != "eps":
            raise PlanError(f"Image models are trained to predict noise, not {self.card.prediction!r}; set 'eps'.")
        self.transitions = self.bound_transitions()

    def __call__(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """See ``Objective``; ``mse`` of the noise and, with learned variance, ``bound``."""
        mse, bits = self.errors(net, batch, generator)
        losses = {"mse": self.fit.mse * mse.mean()}
        if bits is not None:
            losses["bound"] = self.bound_weight * bits.mean()
        return summed(losses)

    def errors(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Squared error of the noise and bound, each ``(B,)``, at drawn levels; the bound is None if not learned."""
        x0 = self.image(batch)
        at = self.times.at(self.times.draw(len(x0), generator), x0)
        eps = self.noise(x0, generator)
        named = {"label": batch.kinds} if self.card.labels else {}
        out = self.call(net, at.noised(x0, eps), at.told, **named)
        if self.transitions is None:
            return (out - eps).square().flatten(1).mean(1), None
        return hybrid(self.transitions, self.times.index(at.t), x0, eps, out)

    @torch.no_grad()
    def score(self, net: nn.Module, examples: Sequence[Example], device: torch.device) -> dict[str, float]:
        """``noise error``: the mean squared error of the noise, with the same levels and noise every time."""
        generator = torch.Generator().manual_seed(self.fit.seed)
        rows = [self.errors(net, one(e, device), generator)[0] for e in examples]
        return {"noise error": float(torch.cat(rows).mean())}


def one(example: Example, device: torch.device) -> Batch:
    """A batch of one whole example with its first rater's labels."""
    image, labels = torch.as_tensor(example.image)[None], torch.as_tensor(example.labels[:1].astype("int64"))
    kinds = torch.tensor([example.kind_of(example.labels[0])])
    return Batch(image.to(device), labels.to(device), kinds.to(device))
