"""An axial cut through a chest: body, lungs, mediastinum, heart, diaphragm, spine, as signed distances."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from .grid import Field


@dataclass(frozen=True)
class Ellipse:
    """A filled ellipse: centre and half axes in mm, turned by ``turn`` radians."""

    x: float
    y: float
    a: float
    b: float
    turn: float = 0.0

    def inside(self, x: Field, y: Field) -> Field:
        """Signed distance in mm, positive inside; exact on the axes, close elsewhere."""
        c, s = np.cos(self.turn), np.sin(self.turn)
        u, v = ((x - self.x) * c + (y - self.y) * s), ((y - self.y) * c - (x - self.x) * s)
        near = np.sqrt((u / self.a) ** 2 + (v / self.b) ** 2) + 1e-6
        slope = np.sqrt((u / self.a**2) ** 2 + (v / self.b**2) ** 2) + 1e-6
        return near * (1 - near) / slope


@dataclass(frozen=True)
class Chest:
    """One drawn chest. Lengths in mm from the centre of the slice; see :func:`draw_chest` for the ranges."""

    cavity: tuple[float, float, float, float]
    waves: NDArray
    wall: tuple[float, float, float]
    middle: tuple[Ellipse, ...]
    heart: Ellipse | None
    domes: tuple[Ellipse, ...]
    spine: Ellipse
    aorta: Ellipse
    airway: tuple[Ellipse, ...]
    hila: tuple[tuple[float, float], ...]
    shift: tuple[float, float] = (0.0, 0.0)
    roughness: float = field(default=4.0)

    def moved(self, x_mm: float, y_mm: float) -> Chest:
        """The same chest elsewhere."""
        return replace(self, shift=(self.shift[0] + x_mm, self.shift[1] + y_mm))

    def local(self, x: Field, y: Field) -> tuple[Field, Field]:
        """Coordinates of the chest itself."""
        return x - self.shift[0], y - self.shift[1]

    def polar(self, x: Field, y: Field) -> tuple[Field, Field, Field]:
        """Of local places: angle, distance inside the pleura (mm, negative in the wall) and the pleura's radius."""
        cx, cy, a, b = self.cavity
        u, v = x - cx, y - cy
        radius = np.sqrt(u * u + v * v) + 1e-3
        angle = np.arctan2(v, u)
        near = ((np.abs(u) / a) ** 2.4 + (np.abs(v) / b) ** 2.4) ** (1 / 2.4)
        wave = sum(w * np.cos((k + 2) * angle + p) for k, (w, p) in enumerate(self.waves))
        edge = radius / near * (1 + wave)
        tilt = 1.0 / np.sqrt(1 + (np.clip(edge / 260, 0.2, 1) * np.sin(2 * angle) * (a / b - b / a)) ** 2)
        return angle, (edge - radius) * tilt, edge

    def mediastinum(self, x: Field, y: Field) -> Field:
        """Signed distance into whatever is no lung inside the cavity (local places)."""
        parts = [shape.inside(x, y) for shape in (*self.middle, self.spine, *self.domes)]
        if self.heart is not None:
            parts.append(self.heart.inside(x, y))
        return _smooth_max(parts, self.roughness)

    def lung(self, x: Field, y: Field) -> Field:
        """Signed distance into the lung, mm, of places in the slice."""
        u, v = self.local(x, y)
        return np.minimum(self.polar(u, v)[1], -self.mediastinum(u, v))


def _smooth_max(parts: list[Field], round_mm: float) -> Field:
    result = parts[0]
    for part in parts[1:]:
        h = np.clip(0.5 + 0.5 * (part - result) / round_mm, 0, 1)
        result = result + (part - result) * h + round_mm * h * (1 - h)
    return result


def draw_chest(rng: np.random.Generator, fov_mm: float) -> Chest:
    """A chest at a random level (0 apex .. 1 base), scaled to the field of view as real scans are."""
    level, f = rng.uniform(), fov_mm
    shrink = 1 - 0.35 * max(0.0, 0.3 - level) / 0.3
    a, b = rng.uniform(0.34, 0.42) * f * shrink, rng.uniform(0.24, 0.31) * f * shrink
    cx, cy = rng.normal(0, 0.012) * f, rng.normal(0.02, 0.025) * f
    waves = np.stack([rng.normal(0, [0.02, 0.012, 0.008, 0.006, 0.004]), rng.uniform(0, 6.3, 5)], axis=1)
    wall = (rng.uniform(14, 36), rng.uniform(0, 24), rng.uniform(0, 14))
    spine = Ellipse(cx, cy + b * rng.uniform(0.8, 0.95), rng.uniform(17, 23), rng.uniform(22, 34))
    middle = [Ellipse(cx, cy - 0.1 * b, rng.uniform(18, 34), rng.uniform(0.55, 0.9) * b)]
    middle.append(Ellipse(cx + rng.normal(0, 4), cy + 0.25 * b, rng.uniform(24, 42), rng.uniform(22, 40)))
    hila = tuple((cx + side * rng.uniform(32, 52), cy + rng.uniform(-5, 25)) for side in (-1, 1))
    if 0.3 < level < 0.8:
        middle += [Ellipse(x, y, rng.uniform(8, 17), rng.uniform(10, 22), rng.uniform(-0.6, 0.6)) for x, y in hila]
    return Chest(
        cavity=(cx, cy, a, b),
        waves=waves,
        wall=wall,
        middle=tuple(middle),
        heart=_heart(rng, cx, cy, b) if level > 0.42 else None,
        domes=_domes(rng, level, (cx, cy, a, b)),
        spine=spine,
        aorta=Ellipse(spine.x + rng.uniform(14, 22), spine.y - rng.uniform(14, 24), 12, rng.uniform(11, 15)),
        airway=_airway(rng, level, cx, cy),
        hila=hila,
        roughness=rng.uniform(2, 9),
    )


def _heart(rng: np.random.Generator, cx: float, cy: float, b: float) -> Ellipse:
    return Ellipse(
        cx + rng.uniform(8, 38), cy - rng.uniform(0.1, 0.4) * b, rng.uniform(50, 74), rng.uniform(38, 56), 0.5
    )


def _domes(rng: np.random.Generator, level: float, cavity: tuple[float, float, float, float]) -> tuple[Ellipse, ...]:
    """Liver and left diaphragm, growing towards the base until only a rim of lung is left."""
    cx, cy, a, b = cavity
    result = []
    for side, start in ((-1, 0.68), (1, 0.76)):
        rise = (level - start) / (1 - start)
        if rise > 0:
            grow = np.sqrt(rise) * rng.uniform(0.85, 1.05)
            place = cx + side * (0.52 + rng.normal(0, 0.03)) * a
            centre = cy - rng.uniform(0.0, 0.25) * b
            result.append(Ellipse(place, centre, 0.40 * a * grow, 0.82 * b * grow, rng.normal(0, 0.1)))
    return tuple(result)


def _airway(rng: np.random.Generator, level: float, cx: float, cy: float) -> tuple[Ellipse, ...]:
    if level < 0.4:
        return (Ellipse(cx + rng.normal(0, 3), cy + rng.uniform(5, 15), rng.uniform(7, 10), rng.uniform(7, 10)),)
    if level < 0.55:
        return tuple(
            Ellipse(cx + side * rng.uniform(14, 24), cy + rng.uniform(5, 15), rng.uniform(5, 7), rng.uniform(5, 9))
            for side in (-1, 1)
        )
    return ()


def place_chest(rng: np.random.Generator, fov_mm: float, outline: NDArray, spacing_mm: float) -> tuple[Chest, float]:
    """A chest whose lung holds the nodule, and the room (mm) between nodule and the nearest tissue.

    ``outline`` is (n, 2), x and y in mm, of the nodule's border. Of several drawn chests the first that leaves some
    millimetres is taken, else the roomiest is moved until it does. A nodule that is flat towards tissue within 20 mm
    mostly touches it: the chest is moved up to it.
    """
    x, y = outline[:, 0].astype(np.float32), outline[:, 1].astype(np.float32)
    gap_mm = rng.uniform(1.0, 4.0)
    best, room = draw_chest(rng, fov_mm), -np.inf
    for _ in range(25):
        chest = draw_chest(rng, fov_mm)
        space = float(chest.lung(x, y).min())
        if space > room:
            best, room = chest, space
        if room > gap_mm:
            break
    wanted = max(room, gap_mm)
    if room < 20 and rng.uniform() < (0.75 if flat_towards(best, outline, spacing_mm) > 0.55 else 0.12):
        wanted = -rng.uniform(0.0, 1.2)
    for _ in range(8):
        if abs(wanted - room) < 0.2:
            break
        best = best.moved(*_step(best, x, y, wanted - room))
        room = float(best.lung(x, y).min())
    return best, room


def flat_towards(chest: Chest, outline: NDArray, spacing_mm: float) -> float:
    """How flat the nodule is on the side of the nearest tissue: width of its outermost 0.8 pixels there over its
    whole width, 0..1; 0 for nodules less than 6 pixels wide, which have no sides."""
    x, y = outline[:, 0].astype(np.float32), outline[:, 1].astype(np.float32)
    towards = np.array(_step(chest, x, y, 1.0))
    towards /= np.hypot(*towards) + 1e-6
    ahead, across = outline @ towards, outline @ np.array([-towards[1], towards[0]])
    width = float(np.ptp(across))
    if width < 6 * spacing_mm:
        return 0.0
    return float(np.ptp(across[ahead > ahead.max() - 0.8 * spacing_mm])) / width


def _step(chest: Chest, x: Field, y: Field, change_mm: float) -> tuple[float, float]:
    """How to move the chest so that the tightest point of the outline gains ``change_mm`` of room."""
    i = int(np.argmin(chest.lung(x, y)))
    px, py = x[i : i + 1], y[i : i + 1]
    here = chest.lung(px, py)
    gx = float((chest.lung(px + 1, py) - here)[0])
    gy = float((chest.lung(px, py + 1) - here)[0])
    norm = max(gx * gx + gy * gy, 0.2)
    return -change_mm * gx / norm, -change_mm * gy / norm
