"""Voxel boxes, voxel grids in patient space, and the order in which voxels are shown.

Display order is (I, P, L): the first index z runs from superior to inferior, y from anterior to posterior and
x from right to left, by the closest permutation and reversal of the file's axes; nothing is resampled. The
ordered triple is right-handed in patient space, so a 3D rendering is not a mirror image, and every plane has
the radiological orientation (patient right on screen left).

World coordinates are RAS millimetres, as in NIfTI.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffseg.errors import CaseError

# Directions of increasing z, y, x in RAS: inferior, posterior, left.
_DISPLAY_DIRECTIONS = -np.eye(3)[::-1]


@dataclass(frozen=True)
class Box:
    """A half-open box of voxels, `start <= index < stop`, on axes in display order ((z, y, x) or (y, x)).

    A box may reach beyond the array it refers to; `clipped` cuts it down. Raises CaseError when the two ends
    have different lengths, or when an axis is empty or reversed.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", tuple(int(value) for value in self.start))
        object.__setattr__(self, "stop", tuple(int(value) for value in self.stop))
        if len(self.start) != len(self.stop) or len(self.start) not in (2, 3):
            raise CaseError(
                f"A region needs two or three axes with two ends each, not {self.start}, {self.stop}."
            )
        if any(a >= b for a, b in zip(self.start, self.stop, strict=True)):
            raise CaseError(
                f"The region {self} is empty; on every axis the end must be greater than the start."
            )

    @classmethod
    def parse(cls, text: str) -> Box:
        """The box written as `z0:z1,y0:y1,x0:x1` (2D: `y0:y1,x0:x1`), whole numbers from 0, ends excluded."""
        ranges = [re.fullmatch(r"\s*(\d{1,9})\s*:\s*(\d{1,9})\s*", part) for part in text.split(",")]
        found = [match for match in ranges if match is not None]
        if len(found) != len(ranges) or len(found) not in (2, 3):
            raise CaseError(
                f"The region {text!r} cannot be read; write z0:z1,y0:y1,x0:x1, or y0:y1,x0:x1 in 2D."
            )
        return cls(tuple(int(match[1]) for match in found), tuple(int(match[2]) for match in found))

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """The box that covers an array of that shape."""
        return cls((0,) * len(shape), tuple(shape))

    @classmethod
    def centred(cls, centre: Sequence[float], size: Sequence[int], shape: Sequence[int]) -> Box:
        """The box of `size` voxels nearest to `centre` (voxel coordinates) that lies inside `shape`.

        An axis on which `size` exceeds `shape` is covered whole.
        """
        sizes = [min(wanted, available) for wanted, available in zip(size, shape, strict=True)]
        start = [
            min(max(int(np.floor(middle - (length - 1) / 2 + 0.5)), 0), available - length)
            for middle, length, available in zip(centre, sizes, shape, strict=True)
        ]
        return cls(tuple(start), tuple(a + length for a, length in zip(start, sizes, strict=True)))

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.start)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Slices that cut the box out of the last axes of an array; only for a box inside that array."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def clipped(self, shape: Sequence[int]) -> Box:
        """The part of the box inside an array of that shape; CaseError when there is none."""
        if len(shape) != self.ndim:
            raise CaseError(f"The region {self} has {self.ndim} axes but the scan has {len(shape)}.")
        start = tuple(max(a, 0) for a in self.start)
        stop = tuple(min(b, n) for b, n in zip(self.stop, shape, strict=True))
        if any(a >= b for a, b in zip(start, stop, strict=True)):
            size = " x ".join(map(str, shape))
            raise CaseError(
                f"The region {self} lies outside the scan of {size} voxels; choose one inside it."
            )
        return Box(start, stop)


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie in the patient.

    `shape` is (z, y, x), or (y, x) in 2D. `affine` is 4 x 4 float64 and maps the index (z, y, x, 1) of a
    voxel centre to RAS mm; in 2D the index is (0, y, x, 1). Raises CaseError for an affine that is not finite
    or that squeezes the voxels flat.
    """

    shape: tuple[int, ...]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or len(self.shape) not in (2, 3) or min(self.shape, default=0) < 1:
            raise CaseError(
                f"A grid needs two or three axes and a 4 x 4 affine, not {self.shape}, {affine.shape}."
            )
        if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
            raise CaseError(
                "The voxel size or orientation in the header is unusable; repair the header first."
            )
        affine.setflags(write=False)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "affine", affine)

    @property
    def ndim(self) -> int:
        """Number of spatial axes, 2 or 3."""
        return len(self.shape)

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighbouring voxel centres along each axis, in mm."""
        columns = self.affine[:3, 3 - self.ndim : 3]
        return tuple(float(length) for length in np.linalg.norm(columns, axis=0))

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml, shear included; a 2D pixel counts as 1 mm thick."""
        if self.ndim == 3:
            return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0
        return float(np.linalg.norm(np.cross(self.affine[:3, 1], self.affine[:3, 2]))) / 1000.0

    def world(self, index: ArrayLike) -> NDArray[np.float64]:
        """RAS mm of voxel coordinates; (..., ndim) to (..., 3)."""
        points = np.asarray(index, dtype=np.float64)
        columns = self.affine[:3, 3 - self.ndim : 3]
        return points @ columns.T + self.affine[:3, 3]

    def crop(self, box: Box) -> Grid:
        """The grid of the voxels of `box`, which may also reach beyond this grid."""
        affine = self.affine.copy()
        affine[:3, 3] = self.world(box.start)
        return Grid(box.shape, affine)

    def same_as(self, other: Grid, tol_mm: float = 1e-3) -> bool:
        """Whether both grids have one shape and no voxel centre lies further apart than `tol_mm`."""
        if self.shape != other.shape:
            return False
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij"), axis=-1)
        gap = np.linalg.norm(self.world(corners) - other.world(corners), axis=-1)
        return bool(gap.max() <= tol_mm)


def display_order(affine: NDArray[np.float64], planar: bool) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Which file axis becomes each display axis, and whether it is reversed on the way.

    `affine` maps file indices (i, j, k) to RAS. With `planar` the third file axis is the direction through
    the plane and stays first, the other two are shown in the order they would have in a volume.
    Returns (axes, flips), three entries each: display axis a is file axis `axes[a]`, reversed if `flips[a]`.

    The choice maximises the sum of cosines between axes and display directions, taken on the orthogonal
    matrix nearest to the affine. That maximum exceeds 1, whereas a left-handed result could reach at most 1
    (the trace of a rotoreflection), so the display axes are right-handed for every invertible affine.
    """
    left, _, right = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    cosines = _DISPLAY_DIRECTIONS @ (left @ right)  # row: display direction, column: file axis
    order = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[a, axes[a]]) for a in range(3)))
    flips = [bool(cosines[a, order[a]] < 0) for a in range(3)]
    if planar:
        through = order.index(2)
        rows = [a for a in range(3) if a != through]
        # Moving the middle axis to the front changes handedness; reversing it, one voxel thick, restores it.
        flips[through] ^= through == 1
        order = (2, *(order[a] for a in rows))
        flips = [flips[through], *(flips[a] for a in rows)]
    return tuple(order), tuple(flips)


def display_affine(
    affine: NDArray[np.float64], shape: Sequence[int], axes: Sequence[int], flips: Sequence[bool]
) -> NDArray[np.float64]:
    """The affine of display indices, from the file's affine, its three-axis shape and `display_order`."""
    to_file = np.zeros((4, 4))
    to_file[3, 3] = 1.0
    for shown, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        to_file[axis, shown] = -1.0 if flip else 1.0
        to_file[axis, 3] = shape[axis] - 1 if flip else 0
    return np.asarray(affine, dtype=np.float64) @ to_file
