"""What the scanner adds: the reconstruction kernel's blur, its noise, and the grey-value window."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

from .grid import FINE, FINE_SIZE, PAD, SIZE, Field, smooth

LOWEST_HU = -1024.0


@dataclass(frozen=True)
class Scanner:
    """A kernel (half-frequency in cycles/mm, edge enhancement), noise (HU, streak direction and strength), the width
    of the grey-value window in HU and the quality of the JPEG file the slice went through."""

    half_per_mm: float
    steepness: float
    enhance: float
    noise_hu: float
    streak: tuple[float, float]
    window_hu: float
    jpeg: int


def draw_scanner(rng: np.random.Generator) -> Scanner:
    """Kernels from soft to sharp; sharp ones have more noise. 8-bit range from -1024 HU to the scan's maximum."""
    sharp = rng.beta(1.6, 1.6)
    return Scanner(
        half_per_mm=0.43 + 0.36 * sharp,
        steepness=rng.uniform(2.6, 4.2),
        enhance=max(0.0, sharp - 0.25) * rng.uniform(0.0, 0.9),
        noise_hu=float(np.exp(rng.normal(np.log(26 + 22 * sharp), 0.4))),
        streak=(rng.uniform(0, np.pi), max(0.0, rng.normal(0.3, 0.8))),
        window_hu=float(np.clip(rng.lognormal(np.log(2450), 0.2), 1700, 4095)),
        jpeg=int(rng.integers(88, 97)),
    )


def _frequencies(size: int, step_mm: float) -> tuple[Field, Field]:
    rows, columns = fft.fftfreq(size, step_mm)[:, None], fft.rfftfreq(size, step_mm)[None, :]
    return np.hypot(rows, columns).astype(np.float32), np.arctan2(rows, columns).astype(np.float32)


def transfer(scanner: Scanner, frequency: Field) -> Field:
    """The kernel's transfer function at ``frequency`` (cycles/mm)."""
    fall = np.exp(-np.log(2) * (frequency / scanner.half_per_mm) ** scanner.steepness)
    hump = (frequency / scanner.half_per_mm) ** 2
    return fall * (1 + scanner.enhance * hump * np.exp(1 - hump))


def reconstruct(rng: np.random.Generator, image_hu: Field, spacing_mm: float, scanner: Scanner) -> Field:
    """The slice (128, 128) in HU as the scanner would show it, from the fine grid's truth."""
    frequency, _ = _frequencies(FINE_SIZE, spacing_mm / FINE)
    blurred = fft.irfft2(fft.rfft2(image_hu) * transfer(scanner, frequency), s=image_hu.shape)
    coarse = blurred.reshape(FINE_SIZE // FINE, FINE, FINE_SIZE // FINE, FINE).mean(axis=(1, 3))
    crop = coarse[PAD : PAD + SIZE, PAD : PAD + SIZE]
    return crop + _noise(rng, spacing_mm, scanner)


def _noise(rng: np.random.Generator, spacing_mm: float, scanner: Scanner) -> Field:
    frequency, angle = _frequencies(SIZE, spacing_mm)
    spectrum = np.sqrt(frequency + 0.07) * transfer(scanner, frequency)
    direction, strength = scanner.streak
    spectrum = spectrum * (1 + strength * np.exp(-((np.sin(angle - direction) / 0.3) ** 2)))
    white = rng.standard_normal((SIZE, SIZE // 2 + 1, 2), dtype=np.float32).view(np.complex64)[..., 0]
    field = fft.irfft2(white * spectrum, s=(SIZE, SIZE))
    level = 1 + 0.15 * smooth(rng, 5)[::FINE, ::FINE][:SIZE, :SIZE]
    return scanner.noise_hu * field / field.std() * level


def develop(image_hu: Field, scanner: Scanner) -> NDArray[np.uint8]:
    """8-bit grey values: the window, then a JPEG round trip as the real slices had."""
    grey = np.clip((image_hu - LOWEST_HU) * (255.0 / scanner.window_hu), 0, 255)
    file = io.BytesIO()
    Image.fromarray(np.round(grey).astype(np.uint8)).save(file, "JPEG", quality=scanner.jpeg)
    return np.asarray(Image.open(file))
