"""Volumes larger than the model's window, and slice models on volumes, without seams.

There is one global ``x``. Within every step the model sees overlapping windows of it, and their clean masks are
blended before the sampler moves on; noise and history therefore agree across window borders, which sampling
each window by itself cannot give. A ``Windowed`` or ``Slicewise`` denoiser is a ``Denoiser`` like any other.

Symbols: ``x (B, K, *S)`` global state, ``*W`` one window, ``h`` halo, ``o`` overlap of neighbouring windows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseg.cost import starts
from diffseg.denoise import Denoiser, Prediction
from diffseg.errors import PlanError
from diffseg.noise import Level
from diffseg.sample import Noise

FIELDS = ("x0", "eps", "variance_fraction")
# Binds the model to a part of the image, (1, C, *W) -> Denoiser.
Bind = Callable[[Tensor], Denoiser]


def profile(start: int, window: int, size: int, halo: int, ramp: int) -> NDArray[np.float32]:
    """Weight along one axis, ``(window,)``: 0 within ``halo`` of an inner border, a ramp, 1 in the middle.

    At the borders of the volume there is no neighbour to take over, so the weight stays 1 there.
    """
    inside = np.arange(window, dtype=np.float32)
    rise = np.clip((inside + 1 - halo) / (ramp + 1), 0, 1)
    left = np.ones(window, np.float32) if start == 0 else rise
    right = np.ones(window, np.float32) if start + window >= size else rise[::-1]
    return np.minimum(left, right).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Window:
    """One window: where it lies, its blending weight ``(*W)`` and the model bound to its part of the image."""

    place: tuple[Any, ...]
    weight: Tensor
    denoiser: Denoiser


class Windowed:
    """Denoises windows of one global ``x`` and blends their answers; see the module.

    ``halo`` voxels next to inner window borders, where the network misses context, are not used at all. With
    a network whose receptive field reaches no further than the halo the answer equals the whole volume's.
    """

    def __init__(self, bind: Bind, image: Tensor, window: Sequence[int], halo: int, overlap: int | None = None) -> None:
        """``image (1, C, *S)``; ``overlap`` defaults to half the window.

        Raises:
            PlanError: the overlap leaves no voxel between two halos, or does not fit the window.
        """
        shape = tuple(image.shape[2:])
        overlaps = [side // 2 if overlap is None else overlap for side in window]
        self.windows: list[Window] = []
        axes = []
        for size, side, o in zip(shape, window, overlaps, strict=True):
            if size > side and not 2 * halo < o < side:
                raise PlanError(
                    f"An overlap of {o} voxels does not fit windows of {side} with a halo of {halo}; choose more than "
                    f"{2 * halo} and less than {side}."
                )
            axes.append([(s, min(side, size), size, o) for s in starts(size, side, o)])
        total = torch.zeros(shape)
        for places in product(*axes):
            slices = tuple(slice(s, s + side) for s, side, _, _ in places)
            weight = torch.ones(())
            for s, side, size, o in places:
                line = torch.as_tensor(profile(s, side, size, halo, o - 2 * halo))
                weight = weight[..., None] * line
            total[slices] += weight
            everywhere: tuple[Any, ...] = (..., *slices)
            self.windows.append(Window(everywhere, weight.to(image.device), bind(image[everywhere])))
        self.norm = (1 / total).to(image.device)

    def __len__(self) -> int:
        return len(self.windows)

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        """See ``Denoiser``; every field that the windows give is blended."""
        sums: dict[str, Tensor] = {}
        for w in self.windows:
            prediction = w.denoiser(x[w.place], level)
            for name in FIELDS:
                part = getattr(prediction, name)
                if part is not None:
                    sums.setdefault(name, torch.zeros_like(x))[w.place] += part * w.weight
        return Prediction(**{name: total * self.norm for name, total in sums.items()})


class Slicewise:
    """A slice model on a volume: ``x (B, K, Z, Y, X)`` is denoised slice by slice, ``batch`` of them at a time."""

    def __init__(self, bind: Bind, image: Tensor, batch: int = 16) -> None:
        """``image (1, C, Z, Y, X)``; the model is bound to stacks of ``batch`` slices ``(batch, C, Y, X)``."""
        slices = image[0].movedim(1, 0)
        self.batch = batch
        self.denoisers = [bind(part) for part in slices.split(batch)]

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        """See ``Denoiser``."""
        members = [self._member(m.movedim(1, 0), level) for m in x]
        return joined(members, lambda parts: torch.stack(parts).movedim(1, 2))

    def _member(self, slices: Tensor, level: Level) -> Prediction:
        pairs = zip(self.denoisers, slices.split(self.batch), strict=True)
        return joined([denoiser(part, level) for denoiser, part in pairs], torch.cat)


def joined(predictions: Sequence[Prediction], join: Callable[[list[Tensor]], Tensor]) -> Prediction:
    """One prediction from several, field by field; fields that the model does not give stay None."""

    def field(name: str) -> Tensor | None:
        parts = [getattr(p, name) for p in predictions]
        return None if parts[0] is None else join(parts)

    return Prediction(join([p.x0 for p in predictions]), field("eps"), field("variance_fraction"))


@dataclass(frozen=True)
class SliceNoise(Noise):
    """Noise that is correlated along the first spatial axis: neighbours share ``correlation`` of it.

    ``n_z = rho n_{z-1} + sqrt(1 - rho^2) e_z``, standard normal in every voxel. With 0 slices are independent, with
    1 all slices get the same noise, so that neighbouring slices of similar anatomy end in the same mode.
    """

    correlation: float = 0.0

    def draw(self, index: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """Noise ``(members, K, Z, Y, X)``; see ``Noise.draw``."""
        fresh = super().draw(index, shape)
        rho = self.correlation
        rows = [fresh[:, :, 0]]
        for z in range(1, fresh.shape[2]):
            rows.append(rho * rows[-1] + (1 - rho**2) ** 0.5 * fresh[:, :, z])
        return torch.stack(rows, dim=2).to(device)
