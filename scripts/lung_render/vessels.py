"""Blood vessels, bronchi and septa of the lung, as tubes in three dimensions cut by the slice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .chest import Chest
from .grid import FINE_SIZE, Field, Grid, blend, cover

Points = NDArray[np.float32]
STEP_MM = 0.5
THINNEST_MM = 0.32


def grow(
    rng: np.random.Generator, start: NDArray, heading: NDArray, radius_mm: float, length_mm: float, depth: int = 0
) -> list[Points]:
    """A winding, tapering, branching tube: a list of (n, 4) points x, y, z, radius (mm)."""
    n = max(int(length_mm / STEP_MM), 4)
    kinks = (rng.random((n, 1)) < 0.05) * rng.normal(0, 0.5, (n, 3))
    turn = np.cumsum((rng.normal(0, 0.1, (n, 3)) + kinks) * [1, 1, 0.25], axis=0)
    turn -= np.linspace(0, 1, n)[:, None] * turn[-1] * rng.uniform(0.3, 1)
    path = heading / np.linalg.norm(heading) + 0.7 * turn
    path /= np.linalg.norm(path, axis=1, keepdims=True)
    place = start + np.cumsum(path * STEP_MM, axis=0)
    taper = radius_mm * np.linspace(1, rng.uniform(0.5, 0.85), n)
    result = [np.concatenate([place, taper[:, None]], axis=1).astype(np.float32)]
    if depth < 3 and radius_mm > THINNEST_MM:
        for at in rng.uniform(0.15, 1.0, rng.poisson(min(length_mm / 7, 5))):
            i = min(int(at * n), n - 1)
            if abs(place[i, 2]) > 7:
                continue
            side = path[i] + rng.normal(0, [0.7, 0.7, 0.25], 3)
            thin = max(taper[i] * rng.uniform(0.45, 0.85), 0.8 * THINNEST_MM)
            result += grow(rng, place[i], side, thin, length_mm * rng.uniform(0.3, 0.75), depth + 1)
    return result


def draw_tree(rng: np.random.Generator, grid: Grid, chest: Chest) -> list[Points]:
    """Vessels that cross the crop, spreading from the nearer hilum; dense in some patients, sparse in others."""
    half = 64 * grid.spacing_mm
    centre = np.array([grid.origin_mm[0] + half, grid.origin_mm[1] + half])
    hilum = min(chest.hila, key=lambda h: abs(h[0] + chest.shift[0] - centre[0]))
    root = np.array([hilum[0] + chest.shift[0], hilum[1] + chest.shift[1]])
    parts: list[Points] = []
    for _ in range(rng.poisson(rng.uniform(45, 170) * (half / 45) ** 2)):
        place = centre + rng.uniform(-1.15, 1.15, 2) * half
        away = place - root
        far = np.linalg.norm(away) / (0.3 * grid.fov_mm)
        radius = np.clip(rng.lognormal(np.log(0.56), 0.5) * (1.4 - 0.85 * min(far, 1.2)), 0.3, 4.5)
        tilt = rng.normal(0, 0.12) if rng.uniform() < 0.55 else rng.normal(0, 2)
        heading = np.array([*(away / (np.linalg.norm(away) + 1)), 0]) + np.array([*rng.normal(0, 0.5, 2), tilt])
        start = np.array([*place, rng.normal(0, 3.5)])
        parts += grow(rng, start, heading, float(radius), rng.uniform(10, 22 + 14 * radius))
    return parts


def tubes(grid: Grid, parts: list[Points], heights_mm: NDArray, grown_mm: float = 0.0) -> Field:
    """Share of each sample inside the tubes, (N, N) in 0..1, averaged over the ``heights_mm`` of the slice."""
    result = np.zeros((FINE_SIZE, FINE_SIZE), np.float32)
    if not parts:
        return result
    points = np.concatenate(parts)
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


def paint_bronchi(rng: np.random.Generator, image: Field, grid: Grid, parts: list[Points], heights: NDArray) -> None:
    """Airways beside the thicker arteries: air with a thin wall, sometimes widened."""
    thick = [p for p in parts if p[0, 3] > 1.3 and rng.uniform() < 0.3]
    if not thick:
        return
    beside = []
    for part in thick:
        side = rng.normal(0, 1, 3)
        lane = part.copy()
        lane[:, 3] *= rng.uniform(0.6, 0.95)
        lane[:, :3] += side / np.linalg.norm(side) * (part[:, 3:] + lane[:, 3:]) * 1.1
        beside.append(lane)
    wall = rng.uniform(0.45, 1.0)
    blend(image, rng.uniform(-250, 0), tubes(grid, beside, heights, wall))
    blend(image, -985.0, tubes(grid, beside, heights))


def paint_fissure(rng: np.random.Generator, image: Field, grid: Grid) -> None:
    """A thin septum or fissure across the crop, bent, faint where it lies oblique to the slice."""
    turn, offset = rng.uniform(0, np.pi), rng.uniform(-40, 40) * grid.spacing_mm
    half = 64 * grid.spacing_mm
    x, y = grid.x - grid.origin_mm[0] - half, grid.y - grid.origin_mm[1] - half
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    bend = rng.normal(0, 0.004) * along**2 + rng.normal(0, 2) * np.sin(along / 14 + rng.uniform(0, 6))
    share = cover(rng.uniform(0.3, 0.7) - np.abs(across - offset - bend), 0.8) * rng.uniform(0.05, 0.35)
    blend(image, 0.0, share)
