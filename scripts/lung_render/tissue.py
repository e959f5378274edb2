"""Grey values in HU of the chest around the lung: wall, ribs, heart, bone, diaphragm, air outside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .chest import Chest
from .grid import Field, Grid, blend, cover, smooth, texture

AIR_HU, FAT_HU, MUSCLE_HU = -1000.0, -100.0, 45.0


@dataclass(frozen=True)
class Blood:
    """Vessel and heart enhancement of one scan, HU."""

    vessel_hu: float
    heart_hu: float
    organ_hu: float


def draw_blood(rng: np.random.Generator) -> Blood:
    """Half of the scans are given contrast medium."""
    if rng.uniform() < 0.5:
        return Blood(rng.uniform(20, 60), rng.uniform(30, 50), rng.uniform(45, 65))
    strength = rng.uniform(60, 260)
    return Blood(40 + 0.8 * strength, 40 + strength * rng.uniform(0.6, 1.0), rng.uniform(60, 120))


def paint_tissue(rng: np.random.Generator, image: Field, grid: Grid, chest: Chest, blood: Blood) -> Field:
    """Paint all that is no lung over ``image`` (HU, in place); returns the lung's share of each sample."""
    x, y = chest.local(grid.x, grid.y)
    angle, depth, edge = chest.polar(x, y)
    middle = chest.mediastinum(x, y)
    bumps = smooth(rng, 12) * rng.uniform(0.1, 0.6)
    step = grid.step_mm
    if middle.max() > -3:
        blend(image, _mediastinum(rng, grid, chest, blood, x, y, middle), cover(middle + bumps, step))
    if depth.min() < 3:
        blend(image, _wall(rng, grid, chest, -depth, angle, edge), cover(-depth + 0.4 * bumps, step))
    return cover(np.minimum(depth, -middle) - 0.3, step)


def _wall(rng: np.random.Generator, grid: Grid, chest: Chest, depth: Field, angle: Field, edge: Field) -> Field:
    """Chest wall by depth under the pleura (mm): muscle with ribs, layers of fat, skin, air."""
    base, back, side = chest.wall
    thick = base + back * np.clip(np.sin(angle), 0, 1) + side * np.abs(np.cos(angle)) + 4 * np.sin(3 * angle)
    muscle_part = rng.uniform(0.35, 0.95)
    streak = np.sin(depth / rng.uniform(2.2, 5.0) + 1.6 * smooth(rng, 8)) + 0.6 * smooth(rng, 14)
    fat = cover(streak - rng.uniform(0.0, 1.3) - 0.8 * cover(12 - depth, 6), 0.8)
    fat = np.maximum(fat, cover(depth - muscle_part * thick + 1.5 * smooth(rng, 10), 1.5))
    if rng.uniform() < 0.35:
        fat = np.maximum(fat, cover(rng.uniform(0.5, 2.5) - np.abs(depth - 1.0) + 0.6 * smooth(rng, 8), 1.0))
    wall = MUSCLE_HU + rng.normal(5, 8) + (FAT_HU + rng.normal(0, 8) - MUSCLE_HU) * fat
    wall = (wall + rng.uniform(6, 16) * texture(rng, 2.5, 14)).astype(np.float32)
    _ribs(rng, wall, grid, angle * edge, depth, float(np.mean(edge)))
    blend(wall, 20.0, cover(1.2 - np.abs(depth - thick), 1.0))
    blend(wall, AIR_HU, cover(depth - thick - 1.2, grid.step_mm))
    return wall


def _ribs(rng: np.random.Generator, wall: Field, grid: Grid, arc: Field, depth: Field, radius: float) -> None:
    """Ribs cut obliquely: long flat ovals of cortex and marrow along the pleura, and now and then a scapula."""
    place, end = -np.pi * radius + rng.uniform(0, 60), np.pi * radius
    low, high = float(arc.min()) - 60, float(arc.max()) + 60
    while place < end:
        half = rng.uniform(4, 32)
        centre, place = place + half, place + 2 * half + rng.uniform(14, 80)
        if low < centre < high:
            far = rng.uniform(4.5, 8.5)
            _bone(rng, wall, grid, (arc - centre, depth - far), half, rng.uniform(2.4, 4.6))
            if rng.uniform() < 0.12:
                _bone(rng, wall, grid, (arc - centre, depth - far - rng.uniform(14, 24)), half, rng.uniform(2, 4))


def _bone(
    rng: np.random.Generator, wall: Field, grid: Grid, place: tuple[Field, Field], half: float, thick: float
) -> None:
    lean, shell, fade = rng.normal(0, 0.12), rng.uniform(0.7, 1.7), rng.uniform(0.5, 1.0)
    cortex, marrow = rng.uniform(350, 1050) * rng.uniform(0.85, 1.1), rng.uniform(60, 320) + 40 * smooth(rng, 20)
    near = np.flatnonzero((np.abs(place[0]) < half + 8) & (np.abs(place[1]) < 8 + 0.4 * half))
    if near.size == 0:
        return
    along, across, values = place[0].ravel()[near], place[1].ravel()[near], wall.ravel()[near]
    beyond = np.maximum(np.abs(along) - half, 0)
    inside = thick * (1 + 0.1 * np.cos(along / 7)) - np.hypot(beyond, across - lean * along)
    blend(values, marrow.ravel()[near], fade * cover(inside, grid.step_mm))
    blend(values, cortex, fade * cover(inside, grid.step_mm) * cover(shell - inside, 0.8))
    wall.ravel()[near] = values


def _mediastinum(
    rng: np.random.Generator, grid: Grid, chest: Chest, blood: Blood, x: Field, y: Field, depth: Field
) -> Field:
    """Fat with vessels, heart, spine, aorta, airway and the organs below the diaphragm."""
    wobble = 2.0 * smooth(rng, 9)
    fat_rim = rng.uniform(-2, 7)
    tissue = np.full(depth.shape, rng.uniform(25, 50), np.float32)
    patches = cover(smooth(rng, 11) - rng.uniform(-0.4, 1.2), 0.6)
    blend(tissue, FAT_HU, patches)
    if chest.heart is not None:
        inner = chest.heart.inside(x, y) - fat_rim + wobble
        blend(tissue, FAT_HU, cover(chest.heart.inside(x, y), 1.0))
        blend(tissue, blood.heart_hu + 6 * smooth(rng, 6), cover(inner, 1.5))
    for dome in chest.domes:
        blend(tissue, blood.organ_hu + 4 * smooth(rng, 6), cover(dome.inside(x, y), 1.0))
    for _ in range(rng.integers(0, 4)):
        ex, ey = rng.uniform(-25, 25), rng.uniform(-50, 20)
        oval = np.hypot(x - chest.middle[0].x - ex, y - chest.middle[0].y - ey)
        blend(tissue, blood.heart_hu, cover(rng.uniform(7, 15) - oval, 1.0))
    blend(tissue, blood.heart_hu, cover(chest.aorta.inside(x, y), 1.0))
    bone = chest.spine.inside(x, y) + 0.5 * wobble
    blend(tissue, rng.uniform(120, 260) + 45 * texture(rng, 5, 16), cover(bone, 1.0))
    blend(tissue, rng.uniform(350, 700), cover(bone, 1.0) * cover(1.3 - bone, 0.8))
    for tube in chest.airway:
        blend(tissue, AIR_HU + 15, cover(tube.inside(x, y), grid.step_mm))
    return tissue + rng.uniform(5, 14) * texture(rng, 2.5, 14)
