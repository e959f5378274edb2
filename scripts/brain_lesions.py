"""Lesions painted into axial brain slices, and changes of the same shapes that are no lesions.

Arrays are ``(H, W)`` float32 on a grid of 2 mm; intensities are relative to white matter. Every shape is drawn by
one generator, whatever it is used for, so that only brightness tells a lesion. Helper of make_brain_slices.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Plane = NDArray[np.float32]
PIXEL_MM = 2.0
# White matter this close to the ventricles takes part in caps and bands.
BAND_MM = (2.0, 8.0)


@dataclass(frozen=True, eq=False)
class Slice:
    """What a lesion is painted into: the image, shares of tissue, the brain, and the distance to the ventricles."""

    image: Plane
    wm: Plane
    gm: Plane
    inside: Plane
    ventricle_mm: Plane


def noise_field(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> Plane:
    """Smooth noise of mean 0 and standard deviation 1."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray((field - field.mean()) / (field.std() + 1e-9), dtype=np.float32)


def place(weight: Plane, rng: np.random.Generator) -> tuple[int, int] | None:
    """A pixel drawn with these weights; None where all are 0."""
    total = float(weight.sum(dtype=np.float64))
    if total <= 0:
        return None
    index = int(rng.choice(weight.size, p=weight.ravel().astype(np.float64) / weight.sum(dtype=np.float64)))
    y, x = np.unravel_index(index, weight.shape)
    return int(y), int(x)


def ellipse(shape: tuple[int, ...], centre: tuple[int, int], radii_mm: tuple[float, float], angle: float) -> Plane:
    """1 at the centre, falling to 0.5 on the ellipse and below outside."""
    y, x = np.indices(shape, dtype=np.float32)
    y, x = (y - centre[0]) * PIXEL_MM, (x - centre[1]) * PIXEL_MM
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius = np.sqrt((u / radii_mm[0]) ** 2 + (v / radii_mm[1]) ** 2)
    return np.asarray(1 / (1 + radius**4), dtype=np.float32)


def spot(at: Slice, radii_mm: tuple[float, float], cortical: bool, rng: np.random.Generator) -> Plane:
    """A roundish lesion with a wavy outline: in deep white matter, or where it meets the cortex."""
    rim = np.clip(4 * at.wm * (1 - at.wm), 0, 1) * (at.gm > 0.1) * (at.ventricle_mm > 12)
    weight = rim if cortical else at.wm**2 * (0.3 + np.exp(-at.ventricle_mm / 15))
    centre = place(np.where(weight > 0.2, weight, 0), rng)
    if centre is None:
        return np.zeros_like(at.image)
    first, stretch = rng.uniform(*radii_mm), rng.uniform(1, 2.2)
    shape = ellipse(at.image.shape, centre, (first * stretch, first), rng.uniform(0, np.pi))
    shape *= 1 + 0.25 * noise_field(at.image.shape, rng.uniform(1, 2.5), rng)
    return shape if cortical else shape * np.clip(2 * at.wm, 0, 1)


def band(at: Slice, rng: np.random.Generator) -> Plane:
    """White matter along the ventricles, of uneven width, on the whole length or at the horns only."""
    width = rng.uniform(*BAND_MM)
    wave = noise_field(at.image.shape, rng.uniform(2, 5), rng)
    if rng.random() < 0.6:  # most such lesions are about alike on both sides
        wave = (wave + wave[:, ::-1]) / 2
    reach = width * (1 + 0.7 * wave + rng.uniform(-0.5, 0.3))
    if rng.random() < 0.5:
        rows = np.flatnonzero((at.ventricle_mm < 1).any(axis=1))
        ends = (rows.min(), rows.max()) if len(rows) else (0, 0)
        y = np.arange(at.image.shape[0])[:, None]
        near = np.min([np.abs(y - end) for end in ends], axis=0) * PIXEL_MM
        reach = reach * np.exp(-((near / rng.uniform(8, 20)) ** 2))
    shape = 1 / (1 + np.exp(np.clip((at.ventricle_mm - reach) / rng.uniform(0.4, 1.5), -30, 30)))
    return np.asarray(shape * (reach > 1.5) * np.clip(2 * at.wm, 0, 1), dtype=np.float32)


def patch(at: Slice, rng: np.random.Generator) -> Plane:
    """A confluent lesion: islands of noise in a region of white matter."""
    centre = place(at.wm**2 * np.exp(-at.ventricle_mm / 20), rng)
    if centre is None:
        return np.zeros_like(at.image)
    radii = (rng.uniform(6, 26), rng.uniform(5, 14))
    region = ellipse(at.image.shape, centre, radii, rng.uniform(0, np.pi))
    wave = noise_field(at.image.shape, rng.uniform(1.2, 3.0), rng)
    shape = 1 / (1 + np.exp(-(2.5 * (wave + rng.uniform(-0.3, 1.2)) - 6 * (0.5 - region))))
    return np.asarray(shape * region * 1.6 * np.clip(2 * at.wm, 0, 1), dtype=np.float32)


def shapes(at: Slice, rng: np.random.Generator) -> Plane:
    """The share of lesion of a whole slice, 0 to 1: few small spots up to bands, patches and spots together."""
    load = rng.choice(["few", "some", "many"], p=[0.3, 0.35, 0.35])
    parts = [spot(at, (1.2, 3.0), rng.random() < 0.35, rng) for _ in range(rng.integers(1, 4 if load == "few" else 8))]
    if load != "few":
        parts += [spot(at, (2.5, 6.0), rng.random() < 0.35, rng) for _ in range(rng.integers(1, 5))]
    if load == "many" or (load == "some" and rng.random() < 0.5):
        parts += [band(at, rng)] if rng.random() < 0.8 else []
        parts += [patch(at, rng) for _ in range(rng.integers(0 if load == "some" else 1, 5))]
    share = np.clip(np.max(parts, axis=0), 0, 1)
    # A steeper edge than the shapes have, then softened by as much as this lesion is meant to be.
    share = np.clip((share - 0.5) * rng.uniform(2, 6) + 0.5, 0, 1)
    share = ndimage.gaussian_filter(share, rng.uniform(0.3, 0.9))
    return np.asarray(share * at.inside, dtype=np.float32)


def painted(at: Slice, rng: np.random.Generator) -> tuple[Plane, NDArray[np.bool_]]:
    """The slice with lesions, and where they are: brightened towards a level well above white matter."""
    share = shapes(at, rng)
    base = ndimage.gaussian_filter(at.image, 1.0)
    uneven = 1 + 0.12 * noise_field(share.shape, rng.uniform(1.5, 4), rng)
    level = 1 + rng.uniform(0.24, 0.6) * uneven
    change = share * np.clip(level - base, 0, None)
    return np.asarray(at.image + change, dtype=np.float32), (share > 0.5) & (change > 0.06)


def touched(at: Slice, rng: np.random.Generator) -> Plane:
    """The slice after harmless changes in shapes of lesions: a little darker, or a little smoother."""
    share = shapes(at, rng)
    base = ndimage.gaussian_filter(at.image, 0.7)
    dark = rng.uniform(0, 0.12) if rng.random() < 0.6 else 0.0
    return np.asarray(at.image + share * (rng.uniform(0, 1) * (base - at.image) - dark * at.wm), dtype=np.float32)
