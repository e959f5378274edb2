"""Blood vessels, bronchi and septa of the lung, as tubes in three dimensions cut by the slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .chest import Chest
from .grid import FINE_SIZE, Field, Grid, blend, cover

Tubes = NDArray[np.float32]  # (b, n, 4): x, y, z and radius in mm along b tubes; radius 0 beyond a tube's end
STEP_MM = 0.5
THINNEST_MM = 0.32
REACH_MM = 7.0


def grow(
    rng: np.random.Generator, start: NDArray, heading: NDArray, radius_mm: NDArray, length_mm: NDArray, levels: int = 4
) -> list[Tubes]:
    """Winding, tapering tubes and their branches, a list with one array per level of branching.

    ``start`` and ``heading`` are (b, 3), ``radius_mm`` and ``length_mm`` (b,), for b trunks. Tubes that leave the
    slice by more than ``REACH_MM`` do not branch there.
    """
    if len(start) == 0:
        return []
    n = int(length_mm.max() / STEP_MM) + 2
    place, path = _wind(rng, start, heading, n)
    along = np.arange(n) * STEP_MM / length_mm[:, None]
    taper = radius_mm[:, None] * (1 - rng.uniform(0.15, 0.5, (len(start), 1)) * np.minimum(along, 1))
    tubes_here = np.concatenate([place, np.where(along <= 1, taper, 0)[..., None]], axis=2).astype(np.float32)
    if levels == 1:
        return [tubes_here]
    counts = rng.poisson(np.minimum(length_mm / 7, 5)) * (radius_mm > THINNEST_MM)
    parent = np.repeat(np.arange(len(start)), counts)
    at = (rng.uniform(0.15, 1.0, len(parent)) * length_mm[parent] / STEP_MM).astype(int)
    near = np.abs(place[parent, at, 2]) < REACH_MM
    parent, at = parent[near], at[near]
    side = path[parent, at] + rng.normal(0, 1, (len(parent), 3)) * [0.7, 0.7, 0.25]
    thin = np.maximum(taper[parent, at] * rng.uniform(0.45, 0.85, len(parent)), 0.8 * THINNEST_MM)
    short = length_mm[parent] * rng.uniform(0.3, 0.75, len(parent))
    return [tubes_here, *grow(rng, place[parent, at], side, thin, short, levels - 1)]


def _wind(rng: np.random.Generator, start: NDArray, heading: NDArray, n: int) -> tuple[NDArray, NDArray]:
    """Places and directions, both (b, n, 3), of paths that wander and now and then kink, mostly within the slice."""
    shape = (len(start), n, 3)
    bends = 0.1 * rng.standard_normal(shape, dtype=np.float32)
    kinked = np.nonzero(rng.random(shape[:2], dtype=np.float32) < 0.05)
    bends[kinked] += rng.normal(0, 0.5, (len(kinked[0]), 3))
    path = 0.7 * np.cumsum(bends, axis=1) * np.array([1, 1, 0.25], np.float32)
    path += (heading / np.linalg.norm(heading, axis=1, keepdims=True))[:, None]
    path /= np.sqrt((path * path).sum(axis=2, keepdims=True)) + 1e-6
    return start[:, None] + np.cumsum(path * STEP_MM, axis=1), path


def draw_tree(rng: np.random.Generator, grid: Grid, chest: Chest) -> list[Tubes]:
    """Vessels that cross the crop, spreading from the nearer hilum; dense in some patients, sparse in others."""
    half = 64 * grid.spacing_mm
    centre = np.array([grid.origin_mm[0] + half, grid.origin_mm[1] + half])
    hilum = min(chest.hila, key=lambda h: abs(h[0] + chest.shift[0] - centre[0]))
    count = int(rng.poisson(rng.uniform(45, 170) * (half / 45) ** 2))
    place = centre + rng.uniform(-1.15, 1.15, (count, 2)) * half
    away = place - (hilum[0] + chest.shift[0], hilum[1] + chest.shift[1])
    far = np.linalg.norm(away, axis=1)
    radius = rng.lognormal(np.log(0.56), 0.5, count) * (1.4 - 0.85 * np.minimum(far / (0.3 * grid.fov_mm), 1.2))
    radius = np.clip(radius, 0.3, 4.5)
    tilt = np.where(rng.random(count) < 0.55, rng.normal(0, 0.12, count), rng.normal(0, 2, count))
    flat = away / (far[:, None] + 1) + rng.normal(0, 0.5, (count, 2))
    start = np.column_stack([place, rng.normal(0, 3.5, count)])
    return grow(rng, start, np.column_stack([flat, tilt]), radius, rng.uniform(10, 22 + 14 * radius))


def tubes(grid: Grid, parts: list[Tubes], heights_mm: NDArray, grown_mm: float = 0.0) -> Field:
    """Share of each sample inside the tubes, (N, N) in 0..1, averaged over the ``heights_mm`` of the slice."""
    result = np.zeros((FINE_SIZE, FINE_SIZE), np.float32)
    if not parts:
        return result
    points = np.concatenate([part[part[..., 3] > 0] for part in parts])
    columns, rows = grid.to_fine(points[:, 0], points[:, 1])
    keep = (columns > -12) & (columns < FINE_SIZE + 12) & (rows > -12) & (rows < FINE_SIZE + 12)
    keep &= np.abs(points[:, 2]) < heights_mm.max() + points[:, 3] + grown_mm
    columns, rows, points = columns[keep], rows[keep], points[keep]
    for height in heights_mm:
        wide = (points[:, 3] + grown_mm) ** 2 - (points[:, 2] - height) ** 2
        cut = wide > 0
        radius = np.sqrt(wide[cut]) / grid.step_mm
        result += _discs(columns[cut], rows[cut], radius)
    return result / len(heights_mm)


def _discs(columns: NDArray, rows: NDArray, radius: NDArray) -> Field:
    """Union of soft discs, by the largest share at each sample."""
    image = np.zeros(FINE_SIZE * FINE_SIZE, np.float32)
    for low, high in ((0, 1.5), (1.5, 3.5), (3.5, 7.5), (7.5, 15)):
        some = (radius > low) & (radius <= high)
        if not some.any():
            continue
        reach = int(high) + 2
        span = np.arange(-reach, reach + 1)
        c0, r0 = np.round(columns[some]).astype(int), np.round(rows[some]).astype(int)
        cc, rr = c0[:, None, None] + span[None, None, :], r0[:, None, None] + span[None, :, None]
        far = np.hypot(cc - columns[some][:, None, None], rr - rows[some][:, None, None])
        size = radius[some][:, None, None]
        share = np.clip(size - far + 0.5, 0, 1) * np.minimum(1, 2 * size)
        ok = (share > 0) & (cc >= 0) & (cc < FINE_SIZE) & (rr >= 0) & (rr < FINE_SIZE)
        flat = np.broadcast_to(rr * FINE_SIZE, share.shape)[ok] + np.broadcast_to(cc, share.shape)[ok]
        np.maximum.at(image, flat, share[ok].astype(np.float32))
    return image.reshape(FINE_SIZE, FINE_SIZE)


def paint_bronchi(rng: np.random.Generator, image: Field, grid: Grid, parts: list[Tubes], heights: NDArray) -> None:
    """Airways beside the thicker arteries: air with a thin wall, sometimes widened."""
    trunks = np.concatenate([part[part[:, 0, 3] > 1.3] for part in parts[:1]])
    lanes = trunks[rng.random(len(trunks)) < 0.3].copy()
    if len(lanes) == 0:
        return
    artery = lanes[..., 3:].copy()
    lanes[..., 3:] *= rng.uniform(0.6, 0.95, (len(lanes), 1, 1))
    side = rng.normal(0, 1, (len(lanes), 1, 3))
    lanes[..., :3] += side / np.linalg.norm(side, axis=2, keepdims=True) * (artery + lanes[..., 3:]) * 1.1
    wall = rng.uniform(0.45, 1.0)
    blend(image, rng.uniform(-250, 0), tubes(grid, [lanes], heights, wall))
    blend(image, -985.0, tubes(grid, [lanes], heights))


def paint_fissure(rng: np.random.Generator, image: Field, grid: Grid) -> None:
    """A thin septum or fissure across the crop, bent, faint where it lies oblique to the slice."""
    turn, offset = rng.uniform(0, np.pi), rng.uniform(-40, 40) * grid.spacing_mm
    half = 64 * grid.spacing_mm
    x, y = grid.x - grid.origin_mm[0] - half, grid.y - grid.origin_mm[1] - half
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    bend = rng.normal(0, 0.004) * along**2 + rng.normal(0, 2) * np.sin(along / 14 + rng.uniform(0, 6))
    share = cover(rng.uniform(0.3, 0.7) - np.abs(across - offset - bend), 0.8) * rng.uniform(0.05, 0.35)
    blend(image, 0.0, share)
