"""The U-Net of the house: one class for slices and volumes.

``x_t`` and the image are concatenated at the input; the answer has one channel per class. Only
convolutions, no attention, so any window whose sides are multiples of ``stride`` will do. ``DirectUNet`` is
the same network without diffusion, the baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffseg.nets.architecture import ARCHITECTURES
from diffseg.nets.blocks import ResBlock, TimeEmbedding, channels_last, conv, from_patches, to_patches


@dataclass(frozen=True)
class UNetConfig:
    """Everything needed to build a ``UNet``; stored in the checkpoint.

    ``widths`` has one entry per resolution, finest first. Multiples of 16 make CPU convolutions 1.5 to 3
    times faster than other widths. With ``patch`` p every p^n voxels become channels of one at the input and come
    apart again at the output.
    """

    spatial: int
    image_channels: int
    classes: int
    widths: tuple[int, ...] = (16, 32, 64, 128)
    blocks: int = 1
    groups: int = 8
    dropout: float = 0.0
    patch: int = 1


@ARCHITECTURES.add("unet", "Convolutional U-Net that sees the image and x_t concatenated")
class UNet(nn.Module):
    """Predicts the head's quantity for every class from ``x_t``, ``t`` and the image."""

    Config = UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        n, w = config.spatial, config.widths
        embedding = 4 * w[0]
        self.time = TimeEmbedding(w[0] * 2, embedding)
        cell = config.patch**n
        self.stem = conv(n, (config.image_channels + config.classes) * cell, w[0])
        self.encoder, self.down = nn.ModuleList(), nn.ModuleList()
        self.decoder, self.up = nn.ModuleList(), nn.ModuleList()

        def stack(inputs: int, outputs: int) -> nn.ModuleList:
            sizes = [inputs] + [outputs] * config.blocks
            pairs = zip(sizes, sizes[1:], strict=False)
            return nn.ModuleList(ResBlock(n, a, b, embedding, config.groups, config.dropout) for a, b in pairs)

        for level, width in enumerate(w):
            self.encoder.append(stack(width, width))
            if level + 1 < len(w):
                self.down.append(conv(n, width, w[level + 1], stride=2))
        for level in reversed(range(len(w) - 1)):
            self.up.append(conv(n, w[level + 1], w[level], kernel=1))
            self.decoder.append(stack(2 * w[level], w[level]))
        self.norm = nn.GroupNorm(config.groups, w[0])
        self.head = conv(n, w[0], config.classes * cell)

    @property
    def stride(self) -> int:
        """Sides of the input must be multiples of this."""
        return int(self.config.patch * 2 ** (len(self.config.widths) - 1))

    def forward(self, x: Tensor, t: Tensor, image: Tensor) -> Tensor:
        """``x (B, K, *S)``, ``t (B,)`` in [0, 1] and ``image (B, C, *S)`` to ``(B, K, *S)``."""
        emb = self.time(t)
        seen = to_patches(torch.cat([image, x], dim=1), self.config.patch)
        h = self.stem(seen.contiguous(memory_format=channels_last(self.config.spatial)))
        skips = []
        for level, blocks in enumerate(self.encoder):
            h = run(blocks, h, emb)
            if level < len(self.down):
                skips.append(h)
                h = self.down[level](h)
        for up, blocks in zip(self.up, self.decoder, strict=True):
            # Channels are reduced before the interpolation: eight times fewer multiplications in 3D.
            h = nn.functional.interpolate(up(h), scale_factor=2, mode="nearest")
            h = run(blocks, torch.cat([h, skips.pop()], dim=1), emb)
        return from_patches(self.head(nn.functional.silu(self.norm(h))), self.config.patch)


@ARCHITECTURES.add("unet-direct", "The same U-Net without diffusion: it sees the image only")
class DirectUNet(UNet):
    """The deterministic baseline: noisy mask and time are replaced by zeros, so every member is the same mask."""

    def forward(self, x: Tensor, t: Tensor, image: Tensor) -> Tensor:
        """See ``UNet``."""
        return super().forward(torch.zeros_like(x), torch.zeros_like(t), image)


def run(blocks: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
    """``h`` passed through a list of residual blocks, each given the time embedding."""
    for block in blocks.children():
        h = block(h, emb)
    return h
