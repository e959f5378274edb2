"""Self-conditioning: a network that is also shown the clean mask it saw in the previous step.

References:
    Chen et al. 2023, "Analog bits: generating discrete data using diffusion models with self-conditioning".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffseg.card import Card
from diffseg.codec import Codec, build_codec
from diffseg.denoise import Head, NetworkDenoiser, Prediction
from diffseg.errors import CheckpointError
from diffseg.noise import Level


def is_self_conditioned(card: Card) -> bool:
    """Whether the network of the card has input channels for the previous estimate, after those of the image.

    Raises:
        CheckpointError: a number of input channels that is neither with nor without them.
    """
    state = build_codec(card.codec, len(card.classes), card.codec_settings).channels
    beside = card.network.get("image_channels", card.network.get("inputs", 0) - state)
    known = "image_channels" in card.network or "inputs" in card.network
    extra = beside - len(card.channels) * card.image.repeat
    if known and extra not in (0, state):
        raise CheckpointError(
            f"The network of {card.name} has {beside} input channels besides the noisy mask, but the image has "
            f"{beside - extra} (and a previous estimate {state}); correct the card."
        )
    return known and extra == state


class SelfConditioned:
    """A ``Denoiser`` whose network is given the estimate of the call before, zeros in the first.

    It therefore belongs to one trajectory of one batch of members. ``previous`` may be set, to go on from a kept step.
    """

    def __init__(
        self,
        network: nn.Module,
        image: Tensor,
        head: Head,
        codec: Codec,
        autocast: torch.dtype | None = None,
        previous: Tensor | None = None,
    ) -> None:
        """``image (1, C, *S)`` as for ``NetworkDenoiser``; ``previous (B, K, *S)`` is the clean state seen last."""
        self.network, self.image, self.head, self.codec = network, image, head, codec
        self.autocast, self.previous = autocast, previous

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        """See ``Denoiser``."""
        previous = torch.zeros_like(x) if self.previous is None else self.previous
        image = self.image.expand(len(x), *self.image.shape[1:])
        beside = torch.cat([image, previous.to(x)], dim=1)
        seen = NetworkDenoiser(self.network, beside, self.head, self.codec, self.autocast)(x, level)
        self.previous = seen.x0
        return seen
