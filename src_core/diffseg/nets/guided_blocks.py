"""Blocks of the guided-diffusion family of U-Nets, in two dimensions.

The names of parameters are those in which checkpoints of the family are published, so weights load as they
are.

Symbols: ``B`` batch, ``C`` channels, ``H``, ``W`` rows and columns, ``T = H W`` positions, ``E`` width of the
time embedding.

References:
    Dhariwal and Nichol 2021, "Diffusion models beat GANs on image synthesis", section 3 and appendix F.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from diffseg.nets.blocks import zeroed

GROUPS = 32
HeadOrder = Literal["legacy", "new"]
Resampling = Literal["none", "down", "up"]


def norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with the family's 32 groups; ``channels`` must be a multiple of 32."""
    return nn.GroupNorm(GROUPS, channels)


def layout(x: Tensor) -> torch.memory_format:
    """The memory format in which to run: channels last on a GPU, contiguous on a CPU.

    On a CPU contiguous costs 8 % of time and is three times nearer to the published outputs (1e-6 instead of 4e-6,
    which ``1 / alpha`` makes 160 times larger in the clean state seen from the first step).
    """
    return torch.channels_last if x.is_cuda else torch.contiguous_format


def attend(qkv: Tensor, heads: int, order: HeadOrder) -> Tensor:
    """Self-attention of ``qkv (B, 3 C, T)`` with ``heads``: ``(B, C, T)``.

    The channels of ``qkv`` are (head, q/k/v, channel) in the "legacy" order and (q/k/v, head, channel) in the
    "new" one. Weights of both fit both; only one gives the trained answer.
    """
    b, c, length = qkv.shape
    split, axis = ((heads, 3), 2) if order == "legacy" else ((3, heads), 1)
    parts = qkv.view(b, *split, c // (3 * heads), length).transpose(-1, -2)
    # Contiguous: on strided views PyTorch falls back to an attention that is 3 to 7 times slower.
    q, k, v = parts.contiguous().unbind(axis)
    out = nn.functional.scaled_dot_product_attention(q, k, v)
    return out.transpose(-1, -2).reshape(b, c // 3, length)


class Attention(nn.Module):
    """Residual self-attention over all positions."""

    def __init__(self, channels: int, heads: int, order: HeadOrder) -> None:
        super().__init__()
        self.heads, self.order = heads, order
        self.norm = norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape."""
        flat = x.flatten(2)
        out: Tensor = x + self.proj_out(attend(self.qkv(self.norm(flat)), self.heads, self.order)).view(
            x.shape
        )
        return out


class Downsample(nn.Module):
    """Halves height and width, by a strided convolution or by averaging."""

    def __init__(self, channels: int, with_conv: bool) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if with_conv else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, H/2, W/2)``."""
        out: Tensor = self.op(x)
        return out


class Upsample(nn.Module):
    """Doubles height and width by repetition, with or without a convolution after it."""

    def __init__(self, channels: int, with_conv: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if with_conv else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C, 2 H, 2 W)``."""
        out: Tensor = self.conv(nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


class GuidedResBlock(nn.Module):
    """Residual block: norm, SiLU, conv; time embedding; norm, SiLU, dropout, conv.

    The time enters as scale and shift of the second norm (``scale_shift``) or is added before it. With
    ``resampling`` the block also halves or doubles height and width, before its first convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        scale_shift: bool,
        dropout: float,
        resampling: Resampling,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        resample = {"none": nn.Identity(), "down": Downsample(inputs, False), "up": Upsample(inputs, False)}
        self.resample = resample[resampling]
        self.in_layers = nn.Sequential(norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, (2 if scale_shift else 1) * outputs))
        last = zeroed(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.out_layers = nn.Sequential(norm(outputs), nn.SiLU(), nn.Dropout(dropout), last)
        self.skip_connection = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """``x (B, C, H, W)`` and ``emb (B, E)`` to ``(B, C', H', W')``."""
        h = self.in_layers[2](self.resample(self.in_layers[1](self.in_layers[0](x))))
        time = self.emb_layers(emb).to(h.dtype)[:, :, None, None]
        if self.scale_shift:
            scale, shift = time.chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
        else:
            h = self.out_layers[0](h + time)
        out: Tensor = self.skip_connection(self.resample(x)) + self.out_layers[1:](h)
        return out


class Stage(nn.Sequential):
    """Layers in a row, of which the residual blocks are also given the time embedding."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:  # type: ignore[override]
        """``x (B, C, H, W)`` and ``emb (B, E)`` through all layers."""
        for layer in self:
            x = layer(x, emb) if isinstance(layer, GuidedResBlock) else layer(x)
        return x


class AttentionPool(nn.Module):
    """Attention from the mean of all positions to all positions, with learned position codes.

    ``side`` is the height and width of the feature map that it was made for; no other is accepted.
    """

    def __init__(self, side: int, channels: int, heads: int, outputs: int) -> None:
        super().__init__()
        self.side, self.heads = side, heads
        self.positional_embedding = nn.Parameter(torch.randn(channels, side**2 + 1) / channels**0.5)
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, side, side)`` to ``(B, outputs)``."""
        flat = x.flatten(2)
        flat = torch.cat([flat.mean(dim=2, keepdim=True), flat], dim=2) + self.positional_embedding.to(
            x.dtype
        )
        # The pool of the published classifiers has the new order whatever their attention blocks have.
        pooled: Tensor = self.c_proj(attend(self.qkv_proj(flat), self.heads, "new"))
        return pooled[:, :, 0]
