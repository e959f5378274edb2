"""A scan with its masks, as every other part of the program receives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import CaseError
from diffseg.grid import Grid, display_affine, display_order

Labels: TypeAlias = NDArray[np.unsignedinteger[Any]]  # uint8 or, above 255, uint16


@dataclass(frozen=True, eq=False)
class Origin:
    """How display arrays came from the file, so that saving inverts it exactly.

    `shape` is the file's own spatial shape, (X, Y, Z), (X, Y, 1) or (X, Y), and `affine` its own 4 x 4
    matrix, in the file's units of `unit_mm` each. `axes` and `flips` are those of `grid.display_order`. `header` holds
    the geometry fields of the file's header in its own binary form, and nothing that could name a patient.
    `files` are the slices of a DICOM series in the order of the third axis, `path` being the first; else empty.
    """

    path: Path | None
    shape: tuple[int, ...]
    affine: NDArray[np.float64]
    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    header: bytes | None = None
    format: str = "nifti1"
    unit_mm: float = 1.0
    files: tuple[Path, ...] = ()

    @property
    def affine_mm(self) -> NDArray[np.float64]:
        """The matrix from file indices (i, j, k) to RAS mm, invertible for a file of one 2D image too."""
        return self._affine(self.unit_mm)

    @property
    def planar(self) -> bool:
        """Whether the file holds one 2D image."""
        return len(self.shape) == 2 or self.shape[2] == 1

    def to_display(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of a file-order array of this shape with the axes in display order: (z, y, x) or (y, x)."""
        if array.shape != self.shape:
            raise CaseError(f"Expected an array of {self.shape} voxels in file order but got {array.shape}.")
        volume = array[..., None] if array.ndim == 2 else array
        shown = volume.transpose(self.axes)[tuple(slice(None, None, -1 if f else 1) for f in self.flips)]
        return shown[0] if self.planar else shown

    def to_file(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of a display-order array in the file's own order and shape; inverts `to_display`."""
        volume = array[None] if self.planar else array
        if volume.shape != self._display_shape():
            raise CaseError(
                f"Expected {self.display_grid().shape} voxels, as the scan has, but got {array.shape}."
            )
        stored = volume[tuple(slice(None, None, -1 if f else 1) for f in self.flips)]
        stored = stored.transpose(np.argsort(self.axes))
        return stored[..., 0] if len(self.shape) == 2 else stored

    def display_grid(self, mm_per_unit: float | None = None) -> Grid:
        """The grid of the display arrays, in mm, for units of `mm_per_unit` (the origin's own unless given)."""
        affine = self._affine(self.unit_mm if mm_per_unit is None else mm_per_unit)
        affine = display_affine(affine, (*self.shape, 1)[:3], self.axes, self.flips)
        return Grid(self._display_shape()[1:] if self.planar else self._display_shape(), affine)

    def _affine(self, unit_mm: float) -> NDArray[np.float64]:
        affine = np.array(self.affine, dtype=np.float64)
        affine[:3] *= unit_mm
        if self.planar:
            affine[:3, 2] = _through_plane(affine)
        return affine

    def _display_shape(self) -> tuple[int, ...]:
        shape = (*self.shape, 1)[:3]
        return tuple(shape[axis] for axis in self.axes)


@dataclass(frozen=True, eq=False)
class Case:
    """A scan: `image` (C, *S) float32 in display order on `grid`, one name per channel, and rater masks.

    `raters` maps a name to labels (*S), uint8 or uint16. `notes` are sentences about what reading had to change. Cases
    are compared by identity.
    Raises CaseError when the parts do not fit together.
    """

    image: NDArray[np.float32]
    grid: Grid
    channels: tuple[str, ...]
    raters: Mapping[str, Labels]
    origin: Origin
    name: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "raters", MappingProxyType(dict(self.raters)))
        if self.image.shape != (len(self.channels), *self.grid.shape):
            raise CaseError(
                f"The image array {self.image.shape} does not fit {len(self.channels)} channels on a grid of "
                f"{self.grid.shape} voxels."
            )
        for name, labels in self.raters.items():
            if labels.shape != self.grid.shape:
                raise CaseError(
                    f"The mask {name!r} has {labels.shape} voxels but the scan {self.grid.shape}."
                )

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Voxel spacing along (z, y, x) or (y, x), in mm."""
        return self.grid.spacing_mm

    @property
    def ndim(self) -> int:
        """Number of spatial axes, 2 or 3."""
        return self.grid.ndim


def origin_of(
    shape: Sequence[int],
    affine: NDArray[np.float64],
    path: Path | None = None,
    header: bytes | None = None,
    file_format: str = "nifti1",
    unit_mm: float = 1.0,
    files: Sequence[Path] = (),
) -> Origin:
    """The Origin of a file of that spatial shape (two or three axes) and affine; CaseError if degenerate."""
    planar = len(shape) == 2 or shape[2] == 1
    matrix = np.array(affine, dtype=np.float64)
    if planar and matrix.shape == (4, 4):
        matrix[:3, 2] = _through_plane(matrix)
    spans = (
        matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.linalg.matrix_rank(matrix[:3, :3]) == 3
    )
    if not spans:
        raise CaseError("The voxel size or orientation in the header is unusable; repair the header first.")
    axes, flips = display_order(matrix, planar)
    exact = np.array(affine, dtype=np.float64)
    exact.setflags(write=False)
    voxels = tuple(int(n) for n in shape)
    return Origin(path, voxels, exact, axes, flips, header, file_format, unit_mm, tuple(files))


def _through_plane(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The step through a 2D image: the file's own, but 1 mm along the normal where that lies in the plane."""
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) == 3:
        return np.array(affine[:3, 2])
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    length = float(np.linalg.norm(normal))
    return normal / length if length > 0 else normal
