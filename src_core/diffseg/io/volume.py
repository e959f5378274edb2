"""An opened file: stored numbers with their geometry, as values of a scan or as labels of a mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.case import Labels, Origin
from diffseg.errors import CaseError
from diffseg.grid import Grid

_LABEL_ROUNDING = 1e-3  # slopes of other tools turn label 2 into 1.99998
_LONGEST_NAME = 255
_MAX_LABEL = int(np.iinfo(np.uint16).max)


@dataclass(frozen=True, eq=False)
class Volume:
    """An opened file: stored numbers in display order, not yet scaled, with their geometry.

    `stored` is (M, *S): M is 1 for a scan or a mask, or the number of volumes of a 4D file.
    `partial` says that the file may cover only a part of the scan it belongs to: segmentations of other tools leave out
    what is empty.
    """

    path: Path
    stored: NDArray[Any]
    slope: float
    inter: float
    grid: Grid
    origin: Origin
    partial: bool = False

    def values(self, member: int = 0) -> NDArray[np.float32]:
        """Scaled float32 values (*S), C-contiguous; CaseError when any of them is not a finite number."""
        values, broken = self._values(member)
        refuse_broken(self.path, broken, values.size)
        return values

    def filled(self, member: int = 0) -> tuple[NDArray[np.float32], int]:
        """As `values`, with the smallest finite value where there is none, and the count of those voxels.

        Raises CaseError when no voxel is a finite number.
        """
        values, broken = self._values(member)
        if broken:
            finite = np.isfinite(values)
            if broken == values.size:
                refuse_broken(self.path, broken, values.size)
            values[~finite] = values[finite].min()
        return values, broken

    def _values(self, member: int) -> tuple[NDArray[np.float32], int]:
        stored = self.stored[member]
        values = np.empty(stored.shape, dtype=np.float32)
        broken = 0
        # Slab by slab, so that no float64 copy of the whole volume ever exists.
        for index in range(stored.shape[0]):
            with np.errstate(all="ignore"):  # what overflows is counted below
                values[index] = self._scaled(stored[index])
            broken += int(np.count_nonzero(~np.isfinite(values[index])))
        return values, broken

    def labels(self, member: int = 0) -> Labels:
        """Whole, non-negative values (*S) as uint8 or, above 255, uint16; CaseError for anything else."""
        stored = self.stored[member]
        labels = np.empty(stored.shape, dtype=np.uint16)
        broken = 0
        for index in range(stored.shape[0]):
            with np.errstate(all="ignore"):
                slab = self._scaled(stored[index])
            off_numbers = int(np.count_nonzero(~np.isfinite(slab)))
            broken += off_numbers
            if off_numbers == 0:
                labels[index] = _whole(self.path, slab)
        refuse_broken(self.path, broken, labels.size)
        return labels.astype(np.uint8) if labels.max() <= 255 else labels

    def _scaled(self, slab: NDArray[Any]) -> NDArray[Any]:
        if self.slope == 1.0 and self.inter == 0.0:
            return slab
        return slab.astype(np.float64) * self.slope + self.inter


def refuse_broken(path: Path, broken: int, total: int) -> None:
    if broken:
        raise CaseError(
            f"{named(path)} has {broken} of {total} voxels that are not finite numbers (NaN, infinite or "
            "beyond float32); replace them first."
        )


def _whole(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """The values rounded; CaseError when they are not labels."""
    whole = values if values.dtype.kind in "iu" else np.rint(values)
    wrong = (np.abs(values - whole) > _LABEL_ROUNDING) | (whole < 0) | (whole > _MAX_LABEL)
    if wrong.any():
        raise CaseError(
            f"{named(path)} is no mask: it holds {float(values[wrong][0]):g}, but labels are whole numbers "
            f"from 0 to {_MAX_LABEL}; choose a label file."
        )
    return whole


def cut_short(path: Path) -> CaseError:
    """The refusal of a file that holds less than it promises, or whose checksum is wrong."""
    return CaseError(f"{named(path)} is damaged or cut short; copy or export it again.")


@contextmanager
def enough_memory(path: Path) -> Iterator[None]:
    """Raise CaseError for the file where memory runs out inside."""
    try:
        yield
    except MemoryError:
        raise too_large(path) from None


def too_large(path: Path) -> CaseError:
    """The refusal of a file for which there is no memory."""
    return CaseError(f"{named(path)} is too large for the memory of this computer; crop it first.")


def unusable_geometry(path: Path) -> CaseError:
    """The refusal of a file whose voxels lie nowhere."""
    return CaseError(f"The voxel size or orientation in {named(path)} is unusable; repair its header first.")


def named(path: Path) -> str:
    """The file's name in quotes, without its folder; a name longer than any disk allows is shortened."""
    name = path.name
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[:60]}…{name[-20:]}")
