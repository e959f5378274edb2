"""Cases for plugin tests: made in memory or on disk, asymmetric so that no flip goes unseen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.case import Case, origin_of
from scans import save_nifti


def gradient(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A different value in every voxel."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def case_of(
    shape: tuple[int, ...],
    spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0),
    channels: int = 1,
    **raters: NDArray[Any],
) -> Case:
    """A case in memory whose file order is already display order, reversed axes apart."""
    spacing = (1.0,) * (3 - len(shape)) + tuple(spacing_mm[-len(shape) :])
    affine = np.diag([-spacing[2], -spacing[1], -spacing[0], 1.0])
    origin = origin_of((*shape[::-1], 1)[:3], affine)
    image = np.stack([gradient(shape) + i for i in range(channels)])
    return Case(image, origin.display_grid(), tuple(f"C{i}" for i in range(channels)), raters, origin, "scan")


def scan_file(path: Path, shape: tuple[int, int, int] = (20, 24, 18), affine: NDArray[Any] | None = None) -> Path:
    """A NIfTI scan in file order ``shape``."""
    return save_nifti(path, gradient(shape), np.diag([-1.0, -1.0, -1.0, 1.0]) if affine is None else affine)
