"""The classifier of noised images that guides a diffusion model: the encoder of the guided-diffusion U-Net.

References:
    Dhariwal and Nichol 2021, "Diffusion models beat GANs on image synthesis", section 4 and appendix H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from diffseg.errors import CaseError, CheckpointError
from diffseg.nets.architecture import ARCHITECTURES
from diffseg.nets.blocks import sinusoid
from diffseg.nets.guided_blocks import AttentionPool, layout, norm
from diffseg.nets.guided_unet import Encoder, GuidedUNetConfig, middle, time_layers

Pool = Literal["adaptive", "attention", "spatial", "spatial_v2"]
# Width of the hidden layer of the two "spatial" pools.
HIDDEN = 2048


@dataclass(frozen=True)
class GuidedClassifierConfig(GuidedUNetConfig):
    """As for the U-Net; ``outputs`` are the classes.

    ``pool`` says how the feature map becomes one vector: "attention" (only for feature maps of ``side`` by
    ``side``), "adaptive" (mean, then linear), "spatial" and "spatial_v2" (means of the output of every stage,
    then two linear layers).
    """

    pool: Pool = "attention"
    side: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pool == "attention" and self.side < 1:
            raise CheckpointError(
                "A classifier with an attention pool needs the side of its feature map; give it."
            )


@ARCHITECTURES.add("guided-classifier", "Classifier of noised images (encoder of the guided-diffusion U-Net)")
class GuidedClassifier(nn.Module):
    """Class logits of a noised image at a time."""

    Config = GuidedClassifierConfig
    memory_format = torch.contiguous_format

    def __init__(self, config: GuidedClassifierConfig) -> None:
        super().__init__()
        self.config = config
        encoder = Encoder(config)
        self.time_embed = time_layers(config)
        self.input_blocks = nn.ModuleList(encoder.stages)
        self.middle_block = middle(config, encoder.width)
        self.out = self._pool(encoder.width, sum(encoder.skips) + encoder.width)

    def _pool(self, width: int, features: int) -> nn.Sequential:
        config = self.config
        if config.pool == "attention":
            pool = AttentionPool(config.side, width, config.heads_of(width), config.outputs)
            return nn.Sequential(norm(width), nn.SiLU(), pool)
        if config.pool == "adaptive":
            last = nn.Conv2d(width, config.outputs, 1)
            return nn.Sequential(norm(width), nn.SiLU(), nn.AdaptiveAvgPool2d(1), last, nn.Flatten())
        first, last_layer = nn.Linear(features, HIDDEN), nn.Linear(HIDDEN, config.outputs)
        if config.pool == "spatial":
            return nn.Sequential(first, nn.ReLU(), last_layer)
        return nn.Sequential(first, norm(HIDDEN), nn.SiLU(), last_layer)

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of this."""
        return int(2 ** (len(self.config.widths) - 1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Logits ``(B, classes)`` of images ``x (B, C, H, W)`` noised to times ``t (B,)``.

        Raises:
            CaseError: a size that the attention pool was not made for.
        """
        config = self.config
        want = config.side * self.stride
        if config.pool == "attention" and tuple(x.shape[2:]) != (want, want):
            have = "×".join(str(n) for n in x.shape[2:])
            raise CaseError(
                f"This classifier takes images of {want}×{want} pixels, not {have}; resize or crop them."
            )
        emb = self.time_embed(sinusoid(t, config.base, config.max_period))
        h = x.contiguous(memory_format=layout(x))
        means = []
        for stage in [*self.input_blocks, self.middle_block]:
            h = stage(h, emb)
            means.append(h.mean(dim=(2, 3)))
        out: Tensor = self.out(torch.cat(means, dim=1) if config.pool.startswith("spatial") else h)
        return out
