"""Two streams: a heavy encoder sees the image once per case, a light decoder denoises x_t given its features.

An ensemble of N members in K steps costs one pass of the encoder and N K passes of the decoder. The encoder is a
whole U-Net over the image, so that every feature it hands on has seen all of it; the decoder is a small U-Net over
coarse cells of the mask, to which features are added at each of its resolutions, and features of every single
voxel once more where the answer is written. The decoder never leaves its cells: on a CPU, folding and unfolding
full-resolution features would cost more than its convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffseg.errors import CheckpointError
from diffseg.nets.architecture import ARCHITECTURES
from diffseg.nets.blocks import ResBlock, TimeEmbedding, channels_last, conv, from_patches, to_patches


@dataclass(frozen=True)
class TwoStreamConfig:
    """Everything needed to build a ``TwoStream``; stored in the checkpoint.

    ``widths`` are the encoder's, finest first, behind cells of ``patch`` voxels a side; ``light_widths`` those of the
    decoder, whose cells have ``light_patch`` voxels a side, ``patch`` times a power of 2. ``fine`` is the number of
    channels that each voxel of a cell has of its own.
    """

    spatial: int
    image_channels: int
    classes: int
    widths: tuple[int, ...] = (16, 32, 64, 128)
    light_widths: tuple[int, ...] = (32, 64)
    patch: int = 1
    light_patch: int = 2
    fine: int = 16
    groups: int = 8
    dropout: float = 0.0

    def __post_init__(self) -> None:
        ratio, rest = divmod(self.light_patch, self.patch)
        if rest or ratio & (ratio - 1) or len(self.light_widths) > len(self.widths) - self.skip:
            raise CheckpointError(
                f"The decoder's cells of {self.light_patch} voxels must be those of the encoder ({self.patch}) times a "
                "power of 2, and its resolutions among the encoder's; correct the network."
            )

    @property
    def skip(self) -> int:
        """The resolution of the encoder at which the decoder begins, 0 being the finest."""
        return (self.light_patch // self.patch).bit_length() - 1


@dataclass(frozen=True, eq=False)
class Features:
    """What the encoder found: ``levels (B, C, *S)``, one per resolution of the decoder, and ``fine`` for its cells."""

    levels: tuple[Tensor, ...]
    fine: Tensor

    def expand(self, batch: int, *_: int) -> Features:
        """The features of one image for ``batch`` noisy masks; nothing is copied."""
        return Features(
            tuple(f.expand(batch, *f.shape[1:]) for f in self.levels), self.fine.expand(batch, *self.fine.shape[1:])
        )

    def repeat_interleave(self, repeats: int, dim: int) -> Features:
        """The features of every image ``repeats`` times in a row, along the batch."""
        levels = tuple(f.repeat_interleave(repeats, dim) for f in self.levels)
        return Features(levels, self.fine.repeat_interleave(repeats, dim))


class Pyramid(nn.Module):
    """A U-Net without head: features at all its resolutions, finest first."""

    def __init__(self, spatial: int, widths: tuple[int, ...], embedding: int, groups: int, dropout: float) -> None:
        super().__init__()
        pairs = list(zip(widths, widths[1:], strict=False))

        def block(inputs: int, outputs: int) -> ResBlock:
            return ResBlock(spatial, inputs, outputs, embedding, groups, dropout)

        self.encoder = nn.ModuleList(block(w, w) for w in widths)
        self.down = nn.ModuleList(conv(spatial, a, b, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(conv(spatial, b, a, kernel=1) for a, b in pairs[::-1])
        self.decoder = nn.ModuleList(block(2 * a, a) for a, _ in pairs[::-1])

    def forward(self, h: Tensor, emb: Tensor | None = None, beside: tuple[Tensor, ...] = ()) -> list[Tensor]:
        """``h (B, C, *S)`` to its features; ``beside`` are added at each resolution on the way down."""
        skips = []
        for level, block in enumerate(self.encoder):
            h = block(h + beside[level] if beside else h, emb)
            skips.append(h)
            if level < len(self.down):
                h = self.down[level](h)
        found = [skips.pop()]
        for up, block in zip(self.up, self.decoder, strict=True):
            h = nn.functional.interpolate(up(found[-1]), scale_factor=2, mode="nearest")
            found.append(block(torch.cat([h, skips.pop()], dim=1), emb))
        return found[::-1]


@ARCHITECTURES.add("two-stream", "A heavy encoder of the image, run once, and a light decoder of x_t")
class TwoStream(nn.Module):
    """Predicts the head's quantity like ``UNet``; ``encode`` once, then ``forward`` with its features."""

    Config = TwoStreamConfig

    def __init__(self, config: TwoStreamConfig) -> None:
        super().__init__()
        self.config = config
        n, light = config.spatial, config.light_widths
        embedding = 4 * light[0]
        self.image_stem = conv(n, config.image_channels * config.patch**n, config.widths[0])
        self.image_stream = Pyramid(n, config.widths, 0, config.groups, config.dropout)
        handed = config.widths[config.skip : config.skip + len(light)]
        self.hand_over = nn.ModuleList(conv(n, a, b, kernel=1) for a, b in zip(handed, light, strict=True))
        self.fine_image = conv(n, config.widths[0] // config.patch**n, config.fine, kernel=1)
        self.time = TimeEmbedding(2 * light[0], embedding)
        self.mask_stem = conv(n, config.classes * config.light_patch**n, light[0])
        self.mask_stream = Pyramid(n, light, embedding, config.groups, config.dropout)
        self.norm = nn.GroupNorm(config.groups, light[0])
        self.fine_mask = conv(n, light[0], config.fine * config.light_patch**n, kernel=1)
        self.head = conv(n, config.fine * config.light_patch**n, config.classes * config.light_patch**n, kernel=1)

    @property
    def stride(self) -> int:
        """Sides of the input must be multiples of this."""
        return int(self.config.patch * 2 ** (len(self.config.widths) - 1))

    def encode(self, image: Tensor) -> Features:
        """Everything that the decoder takes from ``image (B, C, *S)``."""
        layout = channels_last(self.config.spatial)
        h = self.image_stem(to_patches(image, self.config.patch).contiguous(memory_format=layout))
        found = self.image_stream(h)
        levels = found[self.config.skip : self.config.skip + len(self.hand_over)]
        fine = self.fine_image(from_patches(found[0], self.config.patch))
        fine = to_patches(fine, self.config.light_patch).contiguous(memory_format=layout)
        return Features(tuple(f(level) for f, level in zip(self.hand_over, levels, strict=True)), fine)

    def forward(self, x: Tensor, t: Tensor, image: Tensor | Features) -> Tensor:
        """``x (B, K, *S)``, ``t (B,)`` in [0, 1] and an image ``(B, C, *S)`` or its features to ``(B, K, *S)``."""
        seen = image if isinstance(image, Features) else self.encode(image)
        cells = to_patches(x, self.config.light_patch).contiguous(memory_format=channels_last(self.config.spatial))
        h = self.mask_stream(self.mask_stem(cells), self.time(t), seen.levels)[0]
        fine = self.fine_mask(nn.functional.silu(self.norm(h))) + seen.fine
        return from_patches(self.head(nn.functional.silu(fine)), self.config.light_patch)
