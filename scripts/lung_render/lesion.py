"""The nodule in HU: a body that lies between the raters' outlines, as dense and as sharp as they rated it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from .contours import RATERS, NoduleSlice
from .grid import FINE, FINE_SIZE, PAD, SIZE, Field, Grid, smooth, texture
from .vessels import Tubes, grow, tubes

MARGIN_PX = 12
FAR_PX = 6.0


@dataclass(frozen=True)
class Lesion:
    """Share of nodule tissue (0..1) and its HU, both on the fine grid, and tubes that spring from it."""

    share: Field
    hu: Field
    tubes: list[Tubes]


def signed_px(mask: NDArray) -> Field:
    """Signed distance to the mask's edge in pixels, positive inside; the edge lies between pixels."""
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    return np.where(mask, inside - 0.5, 0.5 - outside).astype(np.float32)


def shape_px(masks: NDArray, weights: NDArray) -> tuple[Field, float]:
    """Of the raters' masks (4, h, w): their weighted mean signed distance, and the share of raters that marked."""
    marked = masks.any(axis=(1, 2))
    distances = np.stack([signed_px(m) for m in masks[marked]])
    w = weights[marked] / weights[marked].sum()
    return np.tensordot(w, distances, axes=1).astype(np.float32), float(marked.mean())


def to_fine(values: Field, corner: tuple[int, int], outside: float) -> Field:
    """A native patch placed on the fine grid, interpolated linearly between pixel centres."""
    for axis in (0, 1):
        padded = np.pad(values, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        middle = np.take(padded, np.arange(1, padded.shape[axis] - 1), axis)
        before = np.take(padded, np.arange(0, padded.shape[axis] - 2), axis)
        after = np.take(padded, np.arange(2, padded.shape[axis]), axis)
        pair = np.stack([0.75 * middle + 0.25 * before, 0.75 * middle + 0.25 * after], axis=axis + 1)
        values = pair.reshape([s * FINE if a == axis else s for a, s in enumerate(values.shape)])
    result = np.full((FINE_SIZE, FINE_SIZE), outside, np.float32)
    r, c = (corner[0] + PAD) * FINE, (corner[1] + PAD) * FINE
    result[r : r + values.shape[0], c : c + values.shape[1]] = values
    return result


def body_share(rng: np.random.Generator, nodule: NoduleSlice, edge_px: float) -> tuple[Field, Field]:
    """Share of nodule tissue on the fine grid, averaged through the slice, and the mean signed distance (pixels).

    The body follows a random blend of the raters' outlines, so each outline is a plausible reading of it and none
    can be read off exactly; its surface is smoothed and warped by about half a pixel, as hands do not follow it
    better. Where raters left a slice out, the body is fainter and a little smaller.
    """
    union = np.logical_or.reduce(nodule.masks, axis=0)
    for other in nodule.neighbours:
        union = union | (other.any(axis=0) if other is not None else False)
    rows, columns = np.flatnonzero(union.any(axis=1)), np.flatnonzero(union.any(axis=0))
    r0, r1 = max(rows[0] - MARGIN_PX, 0), min(rows[-1] + MARGIN_PX + 1, SIZE)
    c0, c1 = max(columns[0] - MARGIN_PX, 0), min(columns[-1] + MARGIN_PX + 1, SIZE)
    weights = rng.dirichlet(np.full(RATERS, 1.5))
    here, marked = shape_px(nodule.masks[:, r0:r1, c0:c1], weights)
    beside = []
    for other in nodule.neighbours:
        part = None if other is None else shape_px(other[:, r0:r1, c0:c1], weights)
        beside.append((np.minimum(here, 0) - 3, 0.0) if part is None else part)
    warp = rng.uniform(0.2, 0.6) * ndimage.gaussian_filter(rng.standard_normal(here.shape), 2.5) * 8.0
    share = np.zeros_like(here)
    for height in np.array([-1, 0, 1]) * nodule.nodule.thickness_mm / 3:
        (next_to, next_marked), apart = beside[int(height > 0)], nodule.apart_mm[int(height > 0)]
        t = min(abs(height) / apart, 1.0)
        distance = ndimage.gaussian_filter((1 - t) * here + t * next_to, 0.8) + warp
        part = (1 - t) * marked + t * next_marked
        body = expit((distance + 0.15 - 1.0 * (1 - part)) / edge_px)
        share += body * min(1.0, part ** rng.uniform(0.25, 0.8)) / 3
    share = _dissent(rng, nodule.masks[:, r0:r1, c0:c1], share, warp, edge_px, marked)
    return to_fine(share, (r0, c0), 0.0), to_fine(here, (r0, c0), -MARGIN_PX)


def _dissent(
    rng: np.random.Generator, masks: NDArray, share: Field, warp: Field, edge_px: float, marked: float
) -> Field:
    """Makes the body part-solid where the raters' areas differ by much: denser the more of them drew a place, with
    soft transitions, and a faint rim out to the widest outline."""
    areas = masks.sum(axis=(1, 2))
    areas = areas[areas > 0]
    spread = float(np.clip((areas.max() / areas.min() - 1.25) / 1.25, 0, 1))
    if spread == 0:
        return share
    distances = [ndimage.gaussian_filter(signed_px(m), 1.0) + warp for m in masks if m.any()]
    soft_px = edge_px + 0.4
    votes = [expit(one / soft_px) for one in distances]
    weights = rng.dirichlet(np.full(len(votes), 6.0))
    vote = sum(w * v for w, v in zip(weights, votes, strict=True)) * marked ** rng.uniform(0.25, 0.8)
    mixed = share + spread * rng.uniform(0.2, 1.0) * (vote - share)
    rim = spread * rng.uniform(0.0, 0.4) * marked * expit(np.max(distances, axis=0) / (soft_px + 0.3))
    return np.maximum(mixed, rim).astype(np.float32)


def density_hu(rng: np.random.Generator, nodule: NoduleSlice, lung_hu: float, distance: Field, px_mm: float) -> Field:
    """HU of the nodule's own tissue from the ratings of a random blend of raters."""
    weights = rng.dirichlet(np.full(RATERS, 2.0))
    rating = {name: float(values @ weights) for name, values in nodule.nodule.ratings.items()}
    solid = rng.uniform(-10, 105) - 35 * max(0.0, 3.5 - rating["subtlety"])
    glass = lung_hu + rng.uniform(140, 380)
    deepest = float(distance.max())
    firm = np.clip((rating["texture"] - 1.6) / 2.4, 0, 1)
    core = expit((distance - (1 - firm) * deepest * rng.uniform(0.7, 1.1)) / 0.8)
    hu = glass + (solid - glass) * (core * firm**0.5 if firm < 1 else np.ones_like(core))
    grain = rng.uniform(10, 35) * (1 + 1.5 * (1 - firm))
    hu = hu + grain * (0.7 * texture(rng, 3, 12) + 0.5 * smooth(rng, 24))
    kind = int(rng.choice(nodule.nodule.ratings["calcification"]))
    if kind == 3:
        hu = hu + rng.uniform(120, 800) * np.clip(0.2 + distance / max(deepest, 1), 0, 1)
    elif kind < 6:
        centre = distance - deepest * (0.55 if kind in (1, 4) else 0.75)
        hu = hu + rng.uniform(150, 600) * expit(centre / 0.6) * (1 + 0.3 * smooth(rng, 40))
    if deepest * px_mm > 6 and rng.uniform() < 0.05:
        hole = distance - deepest * rng.uniform(0.45, 0.8) + 0.8 * smooth(rng, 30)
        hu = hu + (-950 - hu) * expit(hole / 0.5)
    return hu.astype(np.float32)


def roots(rng: np.random.Generator, nodule: NoduleSlice, grid: Grid) -> list[Tubes]:
    """Spicules where raters rated them, and vessels that run into the nodule."""
    union = nodule.masks.any(axis=0)
    rows, columns = np.nonzero(union)
    centre = np.array(grid.origin_mm) + grid.spacing_mm * np.array([columns.mean(), rows.mean()])
    radius = grid.spacing_mm * np.sqrt(len(rows) / np.pi)
    spiky = float(rng.choice(nodule.nodule.ratings["spiculation"]))
    spicules, fed = int(rng.poisson(max(0.0, spiky - 1.5) * 2.5)), int(rng.choice([0, 0, 0, 1, 1, 2]))
    start, out = _outward(rng, centre, radius, spicules, 0.8, 0.15)
    length = radius * rng.uniform(0.35, 1.0, spicules) + 1.5
    result = grow(rng, start, out, rng.uniform(0.25, 0.6, spicules), length, levels=1)
    start, out = _outward(rng, centre, radius, fed, 0.6, 0.5)
    return result + grow(rng, start, out, rng.uniform(0.35, 1.2, fed), rng.uniform(8, 30, fed), levels=2)


def _outward(
    rng: np.random.Generator, centre: NDArray, radius: float, count: int, share: float, tilt: float
) -> tuple[NDArray, NDArray]:
    """Starts at ``share`` of the radius and headings away from the centre, both (count, 3)."""
    turn = rng.uniform(0, 2 * np.pi, count)
    out = np.column_stack([np.cos(turn), np.sin(turn), rng.normal(0, tilt, count)])
    return np.array([*centre, 0]) + share * radius * out * [1, 1, 0], out


def make_lesion(rng: np.random.Generator, nodule: NoduleSlice, grid: Grid, lung_hu: float) -> Lesion:
    """The nodule of one slice. Edges: 0.3 px wide where rated sharp, 1.8 px where rated poorly defined."""
    margin = float(nodule.nodule.ratings["margin"] @ rng.dirichlet(np.full(RATERS, 2.0)))
    edge_px = float(np.interp(margin, [1, 3, 5], [1.5, 0.75, 0.3])) * rng.uniform(0.8, 1.25)
    share, distance = body_share(rng, nodule, edge_px)
    return Lesion(share, density_hu(rng, nodule, lung_hu, distance, grid.spacing_mm), roots(rng, nodule, grid))


def paint_lesion(image: Field, lesion: Lesion, grid: Grid, heights_mm: NDArray, vessel_hu: float) -> None:
    """Lay the nodule over the lung; vessels that are denser than it stay visible."""
    fed = tubes(grid, lesion.tubes, heights_mm)
    image += (np.maximum(vessel_hu, image) - image) * fed
    image += (np.maximum(lesion.hu, image) - image) * lesion.share
