"""Training of classifiers that see noised images and can therefore guide an image diffusion model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffseg.data import Example
from diffseg.objectives.base import OBJECTIVES, Batch, Objective, summed
from diffseg.objectives.image import one


@OBJECTIVES.add("classifier", "The class of an image at any noise level")
class ClassifierObjective(Objective):
    """Cross-entropy of the image-level class of ``x_t``, at all levels alike.

    References:
        Dhariwal and Nichol 2021, "Diffusion models beat GANs on image synthesis", section 4 and appendix H.
    """

    def logits(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """Class logits ``(B, labels)`` of the images noised to drawn levels."""
        x0 = self.image(batch)
        at = self.times.at(self.times.draw(len(x0), generator), x0)
        return self.call(net, at.noised(x0, self.noise(x0, generator)), at.told)

    def __call__(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """See ``Objective``."""
        logits = self.logits(net, batch, generator)
        return summed({"cross_entropy": nn.functional.cross_entropy(logits, batch.kinds)})

    @torch.no_grad()
    def score(self, net: nn.Module, examples: Sequence[Example], device: torch.device) -> dict[str, float]:
        """``accuracy`` over all levels, with the same levels and noise every time."""
        generator = torch.Generator().manual_seed(self.fit.seed)
        batches = [one(e, device) for e in examples]
        right = [self.logits(net, b, generator).argmax(1) == b.kinds for b in batches]
        return {"accuracy": float(torch.cat(right).float().mean())}
