"""U-Nets of the guided-diffusion family: improved- and guided-diffusion and all systems derived from them.

One class builds CIMD, Wolleb et al., diffusion-anomaly, cond_ddpm_wsss and Christensen et al. (AmbDiffSeg);
they differ by their ``GuidedUNetConfig`` only. Two dimensions; any height and width that ``stride`` divides.

References:
    Nichol and Dhariwal 2021, "Improved denoising diffusion probabilistic models".
    Dhariwal and Nichol 2021, "Diffusion models beat GANs on image synthesis".
    Christensen et al. 2025, for the variant with more middle blocks and time in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffseg.errors import CheckpointError
from diffseg.nets.architecture import ARCHITECTURES
from diffseg.nets.blocks import sinusoid, zeroed
from diffseg.nets.guided_blocks import (
    GROUPS,
    Attention,
    Downsample,
    GuidedResBlock,
    HeadOrder,
    Resampling,
    Stage,
    Upsample,
    layout,
    norm,
)


@dataclass(frozen=True)
class GuidedUNetConfig:
    """Everything needed to build a ``GuidedUNet``; stored in the checkpoint.

    Read from the tensors: ``inputs`` and ``outputs`` channels of the whole network (image and x together),
    ``base`` width of the sinusoid, ``widths`` and ``blocks`` per resolution, finest first, ``attention`` as
    downsampling factors, ``labels`` rows of class embeddings (0: not conditional), ``middle_blocks``,
    ``spare`` layers without parameters before the output norm. Never seen in the tensors: ``heads`` or
    ``head_channels`` (which wins over it), ``heads_up`` of the decoder, ``head_order``, ``mask_first``,
    ``max_period``.
    """

    inputs: int
    outputs: int
    base: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    attention: tuple[int, ...] = ()
    middle_blocks: int = 2
    scale_shift: bool = False
    resblock_updown: bool = False
    resample_conv: bool = True
    labels: int = 0
    spare: int = 0
    heads: int = 1
    head_channels: int | None = None
    heads_up: int | None = None
    head_order: HeadOrder = "legacy"
    mask_first: bool = False
    max_period: float = 10_000.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not self.widths or len(self.blocks) != len(self.widths):
            raise CheckpointError(
                f"A U-Net needs one block count per width, not {self.blocks} for {self.widths}."
            )
        wrong = [w for w in self.widths if w % GROUPS]
        if wrong:
            raise CheckpointError(
                f"Widths must be multiples of {GROUPS} for the group norms, not {wrong[0]}."
            )

    @property
    def embedding(self) -> int:
        """Width of the time embedding."""
        return 4 * self.base

    def heads_of(self, channels: int, up: bool = False) -> int:
        """Attention heads at a width of ``channels``, on the way down and in the middle or on the way ``up``.

        Raises:
            CheckpointError: the heads do not divide the channels.
        """
        heads = self.heads_up if up and self.heads_up is not None else self.heads
        if self.head_channels is not None:
            heads = max(1, channels // self.head_channels)
        if channels % heads or (self.head_channels is not None and channels % self.head_channels):
            raise CheckpointError(
                f"{channels} channels cannot be split into attention heads ({heads} heads, head channels "
                f"{self.head_channels}); correct heads or head_channels."
            )
        return heads


class Encoder:
    """Builds the way down; afterwards ``stages`` are its parts and ``skips`` their widths."""

    def __init__(self, config: GuidedUNetConfig) -> None:
        self.config = config
        self.width = config.widths[0]
        self.stages = [Stage(nn.Conv2d(config.inputs, self.width, 3, padding=1))]
        self.skips = [self.width]
        for level, blocks in enumerate(config.blocks):
            for _ in range(blocks):
                self._add(Stage(*self.layers(self.width, level)), config.widths[level])
            if level + 1 < len(config.widths):
                self._add(Stage(self._halving()), self.width)

    def _add(self, stage: Stage, width: int) -> None:
        self.width = width
        self.stages.append(stage)
        self.skips.append(width)

    def layers(self, inputs: int, level: int, up: bool = False) -> Iterator[nn.Module]:
        """A residual block to the width of ``level``, with attention where the configuration has it."""
        width = self.config.widths[level]
        yield res_block(self.config, inputs, width)
        if 2**level in self.config.attention:
            yield Attention(width, self.config.heads_of(width, up), self.config.head_order)

    def _halving(self) -> nn.Module:
        if self.config.resblock_updown:
            return res_block(self.config, self.width, self.width, "down")
        return Downsample(self.width, self.config.resample_conv)


def res_block(
    config: GuidedUNetConfig, inputs: int, outputs: int, resampling: Resampling = "none"
) -> GuidedResBlock:
    """A residual block as the configuration has them."""
    return GuidedResBlock(inputs, outputs, config.embedding, config.scale_shift, config.dropout, resampling)


def middle(config: GuidedUNetConfig, width: int) -> Stage:
    """Residual blocks at the lowest resolution, with attention between them."""
    layers: list[nn.Module] = []
    for k in range(config.middle_blocks):
        if k:
            layers.append(Attention(width, config.heads_of(width), config.head_order))
        layers.append(res_block(config, width, width))
    return Stage(*layers)


def time_layers(config: GuidedUNetConfig) -> nn.Sequential:
    """From the sinusoid of a time to the embedding that all blocks are given."""
    return nn.Sequential(
        nn.Linear(config.base, config.embedding), nn.SiLU(), nn.Linear(config.embedding, config.embedding)
    )


@ARCHITECTURES.add("guided-unet", "U-Net of the guided-diffusion family (CIMD, Wolleb, AmbDiffSeg, CDM)")
class GuidedUNet(nn.Module):
    """Predicts the head's quantity from ``x_t``, a time, an image and, if conditional, a class label."""

    Config = GuidedUNetConfig
    memory_format = torch.contiguous_format

    def __init__(self, config: GuidedUNetConfig) -> None:
        super().__init__()
        self.config = config
        encoder = Encoder(config)
        self.time_embed = time_layers(config)
        if config.labels:
            self.label_emb = nn.Embedding(config.labels, config.embedding)
        self.input_blocks = nn.ModuleList(encoder.stages)
        self.middle_block = middle(config, encoder.width)
        self.output_blocks = nn.ModuleList(self._decoder(encoder))
        width = config.widths[0]
        last = zeroed(nn.Conv2d(width, config.outputs, 3, padding=1))
        self.out = nn.Sequential(*[nn.Identity()] * config.spare, norm(width), nn.SiLU(), last)

    def _decoder(self, encoder: Encoder) -> Iterator[Stage]:
        config, width = self.config, encoder.width
        for level in reversed(range(len(config.widths))):
            for k in range(config.blocks[level] + 1):
                layers = list(encoder.layers(width + encoder.skips.pop(), level, up=True))
                width = config.widths[level]
                if level and k == config.blocks[level]:
                    layers.append(
                        res_block(config, width, width, "up")
                        if config.resblock_updown
                        else Upsample(width, config.resample_conv)
                    )
                yield Stage(*layers)

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of this."""
        return int(2 ** (len(self.config.widths) - 1))

    def embed(self, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Embedding ``(B, E)`` of times ``t (B,)`` and labels; see ``forward``."""
        emb: Tensor = self.time_embed(sinusoid(t, self.config.base, self.config.max_period))
        if not self.config.labels:
            return emb
        if label is None:
            raise CheckpointError(
                f"This network was trained with {self.config.labels} class labels; give it one."
            )
        if label.is_floating_point():
            return emb + label.to(emb) @ self.label_emb.weight.to(emb)
        return emb + self.label_emb(label)

    def forward(
        self, x: Tensor, t: Tensor, image: Tensor | None = None, label: Tensor | None = None
    ) -> Tensor:
        """The network's output ``(B, outputs, H, W)``.

        ``x (B, K, H, W)``; ``t (B,)`` in the unit it was trained with; ``image (B, C, H, W)``, None for
        networks that see ``x`` only. ``label`` is ``(B,)`` integers, or ``(B, labels)`` floats that mix the
        label embeddings with these weights (each row of a one-hot matrix gives that label).

        Raises:
            CheckpointError: a conditional network without a label.
        """
        emb = self.embed(t, label)
        h = x if image is None else torch.cat([x, image] if self.config.mask_first else [image, x], dim=1)
        h = h.contiguous(memory_format=layout(h))
        skips = []
        for stage in self.input_blocks:
            h = stage(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), emb)
        out: Tensor = self.out(h)
        return out


class ImageOnly(nn.Module):
    """A network that denoises images, called like one that denoises masks: the label is bound, no image is seen.

    ``label`` is ``(B,)`` or ``(1,)`` integers, or rows of weights; None for a network without labels.
    """

    def __init__(self, network: nn.Module, label: Tensor | None = None) -> None:
        super().__init__()
        self.network, self.label = network, label

    def forward(self, x: Tensor, t: Tensor, image: Tensor | None = None) -> Tensor:
        """The network's output for ``x (B, C, H, W)`` at times ``t (B,)``; ``image`` is not looked at."""
        label = None if self.label is None else self.label.to(x.device).expand(len(x), *self.label.shape[1:])
        out: Tensor = self.network(x, t, None, label)
        return out
