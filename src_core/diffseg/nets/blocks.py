"""Building blocks of the U-Nets, for two and three spatial dimensions.

Symbols: ``B`` batch, ``C`` channels, ``*S`` spatial axes, ``E`` width of the time embedding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def conv(spatial: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    """A 2D or 3D convolution with "same" padding for odd kernels."""
    layer: type[nn.Conv2d] | type[nn.Conv3d] = nn.Conv2d if spatial == 2 else Conv3d
    return layer(inputs, outputs, kernel, stride=stride, padding=kernel // 2)


class Conv3d(nn.Conv3d):
    """``nn.Conv3d`` that runs in oneDNN on a CPU whatever the size of its input.

    For a single volume whose first four sizes multiply to 20480 or less torch 2.13 takes its own plain loops, which are
    3 to 9 times slower; the coarse levels of a U-Net are all that small.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that nn.Conv3d gives it
        """As ``nn.Conv3d``."""
        small = len(input) == 1 and math.prod(input.shape[:4]) <= 20480
        if not (small and input.device.type == "cpu" and input.dtype == self.weight.dtype == torch.float32):
            return super().forward(input)
        if torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.is_available():
            return super().forward(input)
        padding = [side // 2 for side in self.kernel_size]
        return torch.mkldnn_convolution(
            input, self.weight, self.bias, padding, self.stride, self.dilation, self.groups
        )


def zeroed(module: nn.Module) -> nn.Module:
    """The module with all parameters set to 0, so that a residual branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def channels_last(spatial: int) -> torch.memory_format:
    """The memory format in which CPU and GPU convolutions of this dimension are quickest."""
    return torch.channels_last if spatial == 2 else torch.channels_last_3d


def to_patches(x: Tensor, patch: int) -> Tensor:
    """``(B, C, *S)`` to ``(B, C patch^n, *S / patch)``: every cell of ``patch`` voxels a side becomes channels.

    Nothing is lost; a network behind it has ``patch^n`` times fewer places to visit. Sides must be multiples of it.
    """
    if patch == 1:
        return x
    cells = [part for side in x.shape[2:] for part in (side // patch, patch)]
    n = x.ndim - 2
    split = x.reshape(*x.shape[:2], *cells)
    order = (0, 1, *range(3, 3 + 2 * n, 2), *range(2, 2 + 2 * n, 2))
    return split.permute(order).reshape(len(x), -1, *cells[::2])


def from_patches(x: Tensor, patch: int) -> Tensor:
    """The inverse of ``to_patches``: ``(B, C patch^n, *S)`` to ``(B, C, *S patch)``."""
    if patch == 1:
        return x
    n, sides = x.ndim - 2, x.shape[2:]
    split = x.reshape(len(x), -1, *[patch] * n, *sides)
    order = (0, 1, *(axis for i in range(n) for axis in (2 + n + i, 2 + i)))
    return split.permute(order).reshape(len(x), -1, *(side * patch for side in sides))


def sinusoid(t: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """Sinusoidal embedding of times ``t (B,)``: ``(B, width)``, cosines first, then sines.

    References:
        Vaswani et al. 2017, "Attention is all you need", section 3.5, with the half-and-half layout
        of Ho et al. 2020.
    """
    half = width // 2
    rate = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    phase = t.float()[:, None] * rate[None]
    return torch.cat([phase.cos(), phase.sin()], dim=1)


class TimeEmbedding(nn.Module):
    """Times in [0, 1], shape ``(B,)``, to vectors ``(B, E)``: sinusoid, linear, SiLU, linear."""

    # Times are stretched to the range 0..1000 for which the sinusoid's periods were chosen.
    SCALE = 1000.0

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.width = width
        self.mlp = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))

    def forward(self, t: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.mlp(sinusoid(t * self.SCALE, self.width))
        return out


class ResBlock(nn.Module):
    """Residual block: norm, SiLU, conv; time scale and shift; norm, SiLU, dropout, conv.

    With ``embedding`` 0 the block knows no time.

    References:
        Dhariwal and Nichol 2021, "Diffusion models beat GANs", adaptive group normalisation.
    """

    def __init__(self, spatial: int, inputs: int, outputs: int, embedding: int, groups: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(min(groups, inputs), inputs)
        self.conv1 = conv(spatial, inputs, outputs)
        self.time = zeroed(nn.Linear(embedding, 2 * outputs)) if embedding else None
        self.norm2 = nn.GroupNorm(min(groups, outputs), outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(conv(spatial, outputs, outputs))
        self.skip = conv(spatial, inputs, outputs, kernel=1) if inputs != outputs else nn.Identity()
        self.act = nn.SiLU()

    def forward(self, x: Tensor, emb: Tensor | None) -> Tensor:
        """``x (B, C, *S)`` and ``emb (B, E)`` to ``(B, C', *S)``."""
        h = self.norm2(self.conv1(self.act(self.norm1(x))))
        if self.time is not None and emb is not None:
            scale, shift = self.time(emb).view(emb.shape[0], -1, *[1] * (x.ndim - 2)).chunk(2, dim=1)
            h = h * (1 + scale) + shift
        out: Tensor = self.skip(x) + self.conv2(self.dropout(self.act(h)))
        return out
