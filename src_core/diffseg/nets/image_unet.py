"""Small networks of images that diffuse themselves: a denoiser that knows class labels, and a classifier.

Built from the blocks of the house U-Net, for slices. The image is folded first: ``patch`` by ``patch`` pixels become
channels of one, so that the widest convolutions run on a grid ``patch`` times coarser. On a CPU an update costs a tenth
of what the networks of the guided-diffusion family need.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffseg.errors import CheckpointError
from diffseg.nets.architecture import ARCHITECTURES
from diffseg.nets.blocks import ResBlock, TimeEmbedding, conv, zeroed

SPATIAL = 2


@dataclass(frozen=True)
class ImageNetConfig:
    """Everything needed to build one of the networks here; stored in the checkpoint.

    ``channels`` of the image; ``labels`` are the classes that are told (denoiser) or named (classifier), 0 for a
    denoiser that is told none. ``widths`` has one entry per resolution, finest first, each a multiple of ``groups``.
    """

    channels: int = 1
    labels: int = 0
    widths: tuple[int, ...] = (48, 96, 128)
    blocks: int = 1
    groups: int = 8
    patch: int = 2
    dropout: float = 0.0

    def __post_init__(self) -> None:
        wrong = [w for w in self.widths if w % self.groups]
        if wrong or not self.widths:
            raise CheckpointError(f"Widths must be multiples of {self.groups} for the group norms, not {self.widths}.")

    @property
    def embedding(self) -> int:
        """Width of the time embedding."""
        return 4 * self.widths[0]

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of this."""
        return int(self.patch * 2 ** (len(self.widths) - 1))

    def stage(self, inputs: int, outputs: int) -> Stage:
        """``blocks`` residual blocks, the first from ``inputs`` channels."""
        sizes = [inputs] + [outputs] * self.blocks
        pairs = zip(sizes, sizes[1:], strict=False)
        return Stage(ResBlock(SPATIAL, a, b, self.embedding, self.groups, self.dropout) for a, b in pairs)


class Stage(nn.ModuleList):
    """Residual blocks in a row, each given the time embedding."""

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """``h (B, C, H, W)`` and ``emb (B, E)`` through all blocks."""
        for block in self:
            h = block(h, emb)
        return h


class Encoder(nn.Module):
    """The way down, shared by both networks."""

    def __init__(self, config: ImageNetConfig) -> None:
        super().__init__()
        widths = config.widths
        self.fold = nn.PixelUnshuffle(config.patch)
        self.stem = conv(SPATIAL, config.channels * config.patch**2, widths[0])
        self.stages = nn.ModuleList(config.stage(w, w) for w in widths)
        self.down = nn.ModuleList(conv(SPATIAL, a, b, stride=2) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, x: Tensor, emb: Tensor) -> list[Tensor]:
        """Features of ``x (B, C, H, W)`` at every resolution, finest first."""
        h = self.stem(self.fold(x).contiguous(memory_format=torch.channels_last))
        features = []
        for level, stage in enumerate(self.stages):
            h = stage(h, emb)
            features.append(h)
            if level < len(self.down):
                h = self.down[level](h)
        return features


@ARCHITECTURES.add("image-unet", "Small U-Net that denoises images, given their class")
class ImageUNet(nn.Module):
    """Predicts the head's quantity of a noised image from the image, a time in [0, 1] and a class label."""

    Config = ImageNetConfig

    def __init__(self, config: ImageNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.time = TimeEmbedding(2 * widths[0], config.embedding)
        if config.labels:
            self.label_emb = nn.Embedding(config.labels, config.embedding)
        self.encoder = Encoder(config)
        self.middle_block = config.stage(widths[-1], widths[-1])
        pairs = list(zip(widths, widths[1:], strict=False))[::-1]
        self.up = nn.ModuleList(conv(SPATIAL, b, a, kernel=1) for a, b in pairs)
        self.decoder = nn.ModuleList(config.stage(2 * a, a) for a, _ in pairs)
        self.norm = nn.GroupNorm(config.groups, widths[0])
        self.head = zeroed(conv(SPATIAL, widths[0], config.channels * config.patch**2))
        self.unfold = nn.PixelShuffle(config.patch)

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of this."""
        return self.config.stride

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """``x (B, C, H, W)`` and ``t (B,)`` in [0, 1] to the same shape.

        ``label`` is ``(B,)`` integers, or ``(B, labels)`` floats that mix the label embeddings with these weights.

        Raises:
            CheckpointError: a conditional network without a label.
        """
        emb = self.embed(t, label)
        *skips, h = self.encoder(x, emb)
        h = self.middle_block(h, emb)
        for up, stage in zip(self.up, self.decoder, strict=True):
            # Channels are reduced before the interpolation: four times fewer multiplications.
            h = nn.functional.interpolate(up(h), scale_factor=2, mode="nearest")
            h = stage(torch.cat([h, skips.pop()], dim=1), emb)
        out: Tensor = self.unfold(self.head(nn.functional.silu(self.norm(h))))
        return out

    def embed(self, t: Tensor, label: Tensor | None) -> Tensor:
        """Embedding ``(B, E)`` of times ``t (B,)`` and labels; see ``forward``."""
        emb: Tensor = self.time(t)
        if not self.config.labels:
            return emb
        if label is None:
            raise CheckpointError(f"This network was trained with {self.config.labels} class labels; give it one.")
        if label.is_floating_point():
            return emb + label.to(emb) @ self.label_emb.weight.to(emb)
        return emb + self.label_emb(label)


@ARCHITECTURES.add("image-classifier", "Small classifier of noised images (encoder of image-unet)")
class ImageClassifier(nn.Module):
    """Class logits of a noised image at a time in [0, 1].

    From the mean and the maximum of every feature at every resolution: a single small lesion makes an image one with
    lesions, but drowns in a mean over all places and may be gone from the coarse features.
    """

    Config = ImageNetConfig

    def __init__(self, config: ImageNetConfig) -> None:
        super().__init__()
        if config.labels < 2:
            raise CheckpointError(f"A classifier names at least 2 classes, not {config.labels}; give its labels.")
        self.config = config
        widths = (*config.widths, config.widths[-1])
        self.time = TimeEmbedding(2 * widths[0], config.embedding)
        self.encoder = Encoder(config)
        self.middle_block = config.stage(widths[-1], widths[-1])
        self.norms = nn.ModuleList(nn.GroupNorm(config.groups, w) for w in widths)
        self.head = nn.Linear(2 * sum(widths), config.labels)

    @property
    def stride(self) -> int:
        """Height and width of the input must be multiples of this."""
        return self.config.stride

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Logits ``(B, labels)`` of images ``x (B, C, H, W)`` noised to times ``t (B,)``; any size."""
        emb = self.time(t)
        features = self.encoder(x, emb)
        features.append(self.middle_block(features[-1], emb))
        maps = [nn.functional.silu(norm(h)) for norm, h in zip(self.norms, features, strict=True)]
        pooled = [part for h in maps for part in (h.mean(dim=(2, 3)), h.amax(dim=(2, 3)))]
        out: Tensor = self.head(torch.cat(pooled, dim=1))
        return out
