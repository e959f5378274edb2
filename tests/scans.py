"""Scans made for tests: every orientation, every way a header can state it, and what lies where."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray


def orientations() -> Iterator[NDArray[np.float64]]:
    """The 48 matrices whose columns point along patient axes: file index to RAS, unit spacing."""
    for order in permutations(range(3)):
        for signs in product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            for axis, (target, sign) in enumerate(zip(order, signs, strict=True)):
                matrix[target, axis] = sign
            yield matrix


def affine_of(
    directions: NDArray[np.float64],
    spacing_mm: tuple[float, float, float] = (0.5, 1.25, 3.0),
    origin_mm: tuple[float, float, float] = (-31.5, 12.25, 7.0),
) -> NDArray[np.float64]:
    """4 x 4 affine with these axis directions."""
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing_mm
    affine[:3, 3] = origin_mm
    return affine


def rotation(rng: np.random.Generator) -> NDArray[np.float64]:
    """A random proper rotation."""
    matrix, triangle = np.linalg.qr(rng.normal(size=(3, 3)))
    matrix *= np.sign(np.diag(triangle))
    return matrix * np.linalg.det(matrix)


def sheared(rng: np.random.Generator, amount: float = 0.3) -> NDArray[np.float64]:
    """A random rotation, possibly mirrored, with shear."""
    mirror = np.diag([rng.choice((-1.0, 1.0)), 1.0, 1.0])
    return rotation(rng) @ (np.eye(3) + np.triu(rng.uniform(-amount, amount, (3, 3)), 1)) @ mirror


def save_nifti(
    path: Path,
    data: NDArray[Any],
    affine: NDArray[np.float64] | None = None,
    *,
    codes: tuple[int, int] = (1, 1),
    image_class: Any = nib.Nifti1Image,
    **fields: Any,
) -> Path:
    """Write `data` with the given sform and qform codes; `fields` are set in the header nibabel writes."""
    matrix = np.eye(4) if affine is None else affine
    image = image_class(data, matrix)
    image.header.set_sform(matrix, code=codes[0])
    image.header.set_qform(matrix, code=codes[1], strip_shears=True)
    image.header.set_xyzt_units("mm")
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def patch_header(path: Path, **fields: Any) -> Path:
    """Overwrite header fields of an uncompressed file as they are, however wrong."""
    header = nib.load(path).header
    for name, value in fields.items():
        header[name] = value
    raw = header.binaryblock
    with path.open("r+b") as file:
        file.write(raw)
    return path


def head(
    shape: tuple[int, int, int] = (9, 11, 13),
) -> tuple[NDArray[np.int16], dict[str, NDArray[np.float64]]]:
    """A RAS head phantom and the voxels of three marks on it: `right`, `front` and `top`, all distinct."""
    phantom = np.zeros(shape, dtype=np.int16)
    phantom[2:-2, 2:-2, 2:-2] = 10
    middle = np.array(shape) // 2
    marks = {}
    for value, (name, axis) in enumerate((("right", 0), ("front", 1), ("top", 2)), start=100):
        voxel = middle.copy()
        voxel[axis] = shape[axis] - 1
        phantom[tuple(voxel)] = value
        marks[name] = voxel.astype(np.float64)
    return phantom, marks
