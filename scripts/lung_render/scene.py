"""One rendered slice: chest, lung, vessels and nodule put together and sent through the scanner."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .chest import place_chest
from .contours import Masks, NoduleSlice
from .grid import FINE_SIZE, SIZE, Field, Grid, blend, cover, smooth, texture
from .lesion import make_lesion, paint_lesion
from .scanner import Scanner, develop, draw_scanner, reconstruct
from .tissue import draw_blood, paint_tissue
from .vessels import draw_tree, paint_bronchi, paint_fissure, tubes

EDGE_PX = 3


@dataclass(frozen=True)
class Rendering:
    """Grey values uint8 (128, 128), the raters' masks bool (4, 128, 128), HU before the window, the scanner drawn."""

    image: NDArray[np.uint8]
    masks: Masks
    hu: Field
    scanner: Scanner
    room_mm: float


def render(rng: np.random.Generator, nodule: NoduleSlice) -> Rendering:
    """A CT-like slice around the outlines of ``nodule``; every call draws another patient around it."""
    nodule, moved = _jittered(rng, nodule)
    spacing = nodule.nodule.spacing_mm
    x0, y0 = nodule.nodule.first_pixel
    grid = Grid(spacing, ((x0 - moved[1] - 256) * spacing, (y0 - moved[0] - 256) * spacing))
    chest, room = place_chest(rng, grid.fov_mm, _outline(nodule, grid), spacing)
    blood, scanner = draw_blood(rng), draw_scanner(rng)
    heights = np.array([-1, 0, 1]) * nodule.nodule.thickness_mm / 3
    image, lung_hu = _parenchyma(rng, grid)
    tree = draw_tree(rng, grid, chest)
    vessel_hu = blood.vessel_hu + rng.normal(0, 10)
    blend(image, vessel_hu, tubes(grid, tree, heights))
    paint_bronchi(rng, image, grid, tree, heights)
    for _ in range(rng.choice([0, 0, 0, 1])):
        paint_fissure(rng, image, grid)
    paint_lesion(image, make_lesion(rng, nodule, grid, lung_hu), grid, heights, vessel_hu)
    lung = image
    image = np.zeros_like(lung)
    share = paint_tissue(rng, image, grid, chest, blood)
    blend(image, lung, share)
    hu = reconstruct(rng, image, spacing, scanner)
    return Rendering(develop(hu, scanner), nodule.masks, hu, scanner, room)


def _jittered(rng: np.random.Generator, nodule: NoduleSlice) -> tuple[NoduleSlice, tuple[int, int]]:
    """The nodule brought towards the middle of the crop, as real crops are centred on the slice's outline, then
    moved by a few pixels; never closer than ``EDGE_PX`` to the border by that. Returns the move in rows, columns."""
    union = np.logical_or.reduce(nodule.masks, axis=0)
    rows, columns = np.flatnonzero(union.any(axis=1)), np.flatnonzero(union.any(axis=0))
    wide = rng.uniform() < 0.15
    move = []
    for places in (rows, columns):
        wanted = round(63.5 - (places[0] + places[-1]) / 2 + rng.normal(0.5, 8.0 if wide else 1.5))
        move.append(int(np.clip(wanted, EDGE_PX - places[0], SIZE - 1 - EDGE_PX - places[-1])))
    shift = (0, move[0], move[1])
    masks = np.roll(nodule.masks, shift, (0, 1, 2))
    near = [None if m is None else np.roll(m, shift, (0, 1, 2)) for m in nodule.neighbours]
    return replace(nodule, masks=masks, neighbours=(near[0], near[1])), (move[0], move[1])


def _outline(nodule: NoduleSlice, grid: Grid) -> NDArray:
    union = nodule.masks.any(axis=0)
    rows, columns = np.nonzero(union & ~ndimage.binary_erosion(union))
    return np.stack([columns, rows], axis=1) * grid.spacing_mm + np.array(grid.origin_mm)


def _parenchyma(rng: np.random.Generator, grid: Grid) -> tuple[Field, float]:
    """Lung tissue (HU): a level, denser towards the back, grain, and now and then disease; returns it and the level."""
    level = float(np.clip(rng.normal(-862, 32), -925, -760))
    image = np.full((FINE_SIZE, FINE_SIZE), level, np.float32)
    image += rng.uniform(0, 0.45) * (grid.y - grid.y.mean()) + rng.uniform(4, 16) * smooth(rng, 7)
    image += rng.uniform(8, 26) * texture(rng, 2.5, 9) + rng.uniform(4, 18) * texture(rng, 6, 24)
    if rng.uniform() < 0.22:
        holes = cover(smooth(rng, int(rng.integers(14, 34))) - rng.uniform(0.6, 1.6), 0.5)
        blend(image, rng.uniform(-970, -935), holes * rng.uniform(0.4, 1.0))
    if rng.uniform() < 0.12:
        image += rng.uniform(60, 260) * cover(smooth(rng, 7) - rng.uniform(0.5, 1.5), 1.2)
    if rng.uniform() < 0.10:
        net = np.exp(-((texture(rng, 5, 16) / 0.25) ** 2)) * cover(smooth(rng, 6) - rng.uniform(0, 1.2), 1.0)
        image += rng.uniform(60, 220) * net
    return image, level
