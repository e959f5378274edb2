"""The fine sampling grid of one rendered slice, and random fields on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Field = NDArray[np.floating]
SIZE = 128
PAD = 8
FINE = 2
FINE_SIZE = (SIZE + 2 * PAD) * FINE


@dataclass(frozen=True)
class Grid:
    """Where the fine samples of one crop lie in the patient.

    ``spacing_mm`` is the pixel size of the slice; ``origin_mm`` the (x, y) place of the crop's first pixel
    centre, from the centre of the 512 x 512 slice; x grows to the patient's left, y to the back. ``x``/``y`` have
    shapes (1, N) and (N, 1), N = ``FINE_SIZE``: ``FINE`` samples per pixel, ``PAD`` pixels around the crop.
    """

    spacing_mm: float
    origin_mm: tuple[float, float]

    @property
    def step_mm(self) -> float:
        """Distance between fine samples."""
        return self.spacing_mm / FINE

    @property
    def fov_mm(self) -> float:
        """Side of the whole reconstructed slice."""
        return self.spacing_mm * 512

    @property
    def x(self) -> Field:
        """Sample places left to right, mm, (1, N)."""
        return (self.origin_mm[0] + self.spacing_mm * fine_pixels())[None, :].astype(np.float32)

    @property
    def y(self) -> Field:
        """Sample places front to back, mm, (N, 1)."""
        return (self.origin_mm[1] + self.spacing_mm * fine_pixels())[:, None].astype(np.float32)

    def to_fine(self, x_mm: NDArray, y_mm: NDArray) -> tuple[NDArray, NDArray]:
        """Column and row, in fine samples, of places in the patient."""
        shift = PAD * FINE + (FINE - 1) / 2
        columns = (x_mm - self.origin_mm[0]) / self.step_mm + shift
        return columns, (y_mm - self.origin_mm[1]) / self.step_mm + shift


@lru_cache(maxsize=1)
def fine_pixels() -> NDArray:
    """Places of the fine samples along one axis, in pixels of the crop."""
    return (np.arange(FINE_SIZE) + 0.5) / FINE - 0.5 - PAD


@lru_cache(maxsize=1)
def _frequency() -> Field:
    rows = fft.fftfreq(FINE_SIZE)[:, None]
    return np.hypot(rows, fft.rfftfreq(FINE_SIZE)[None, :]).astype(np.float32)


def texture(rng: np.random.Generator, low: float, high: float) -> Field:
    """Gaussian field of standard deviation 1 with wavelengths between ``low`` and ``high`` fine samples."""
    spectrum = np.exp(-((_frequency() * low) ** 2)) - np.exp(-((_frequency() * high) ** 2))
    white = rng.standard_normal((FINE_SIZE, FINE_SIZE // 2 + 1, 2), dtype=np.float32)
    field = fft.irfft2(white.view(np.complex64)[..., 0] * spectrum, s=(FINE_SIZE, FINE_SIZE))
    return (field / field.std()).astype(np.float32)


@lru_cache(maxsize=8)
def _spread(knots: int) -> Field:
    place = np.linspace(0, knots - 1, FINE_SIZE)[:, None] - np.arange(knots)[None, :]
    weights = np.exp(-0.5 * (place / 0.6) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def smooth(rng: np.random.Generator, knots: int) -> Field:
    """Gaussian field of standard deviation about 1 that changes over 1/``knots`` of the side; cheap."""
    spread = _spread(knots)
    field = spread @ rng.standard_normal((knots, knots), dtype=np.float32) @ spread.T
    return np.asarray(field / 0.55, np.float32)


def cover(distance_mm: Field, soft_mm: float) -> Field:
    """Share of a sample that lies inside (0..1), from the signed distance (positive inside), over ``soft_mm``."""
    return np.clip(0.5 + distance_mm / soft_mm, 0, 1)


def blend(image: Field, value: Field | float, share: Field) -> None:
    """Replace ``share`` (0..1) of each sample of ``image`` by ``value``, in place."""
    image += (value - image) * share
