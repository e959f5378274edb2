"""Scans and masks from files, and results back onto the scan's own grid. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.case import Case, Labels, Origin
from diffseg.errors import CaseError
from diffseg.grid import Grid
from diffseg.io.atomic import suffix_of
from diffseg.io.nifti import open_volume, write_array
from diffseg.io.pictures import is_picture, open_picture
from diffseg.io.volume import Volume

__all__ = ["open_file", "read_case", "read_labels", "read_members", "to_file_order", "write_labels", "write_map"]

# Files of one scan by different tools differ by rounding: float32 quaternions alone move corners by 0.1 mm.
_PAIRING_TOLERANCE_VOXELS = 0.1


def open_file(path: Path, members: bool = False) -> Volume:
    """Open a NIfTI file, whose fourth axis may be longer than 1 with `members`, or a 2D picture (PNG, JPEG, TIFF).

    Raises CaseError with one sentence.
    """
    return open_picture(path) if is_picture(path) else open_volume(path, members)


def read_case(
    images: Sequence[Path], raters: Sequence[Path] = (), channels: Sequence[str] | None = None
) -> Case:
    """Read a scan, one NIfTI file or picture per channel, and its masks; all on one grid.

    `channels` names the channels in the order of `images`; without it they are named after the files.
    The case takes name, grid and origin from the first image. Raises CaseError with one sentence for a file
    that is missing, damaged, empty, 4D, in colour or not finite, or that lies on another grid.
    """
    paths = [Path(path) for path in images]
    if not paths:
        raise CaseError("No image was given; give one file per channel.")
    names = _distinct([_stem(path) for path in paths]) if channels is None else tuple(channels)
    if len(names) != len(paths):
        raise CaseError(
            f"{len(names)} channel names were given for {len(paths)} images; give one name per image."
        )
    first = open_file(paths[0])
    image = np.empty((len(paths), *first.grid.shape), dtype=np.float32)
    image[0] = first.values()
    for index, path in enumerate(paths[1:], start=1):
        volume = open_file(path)
        _refuse_other_grid(path, volume.grid, first.grid)
        image[index] = volume.values()
    rater_paths = [Path(path) for path in raters]
    labels = [read_labels(path, first.grid) for path in rater_paths]
    rater_names = _distinct([_stem(path) for path in rater_paths])
    return Case(
        image, first.grid, names, dict(zip(rater_names, labels, strict=True)), first.origin, _stem(paths[0])
    )


def read_labels(path: Path, grid: Grid | None = None) -> Labels:
    """Read one mask (*S) in display order, uint8 or, above 255, uint16; on `grid` if one is given.

    Float files are accepted when every value lies within 0.001 of a whole number. Pictures with values below 20
    hold label numbers, others must be black and white and become 1 where they are above 127. Raises CaseError.
    """
    volume = open_file(Path(path))
    if grid is not None:
        _refuse_other_grid(Path(path), volume.grid, grid)
    return volume.labels()


def read_members(path: Path, grid: Grid | None = None) -> Labels:
    """Read masks (N, *S) from a file whose last, fourth axis counts members; a file of one mask gives N = 1.

    Otherwise as `read_labels`.
    """
    volume = open_file(Path(path), members=True)
    if grid is not None:
        _refuse_other_grid(Path(path), volume.grid, grid)
    members: Labels = np.stack([volume.labels(member) for member in range(len(volume.stored))])
    return members


def to_file_order(array: NDArray[Any], origin: Origin) -> NDArray[Any]:
    """A view of a display-order array (*S) in the order and shape of the file it came from."""
    return origin.to_file(array)


def write_labels(path: Path, labels: NDArray[Any], case: Case) -> None:
    """Write labels (*S), or members (N, *S), on the scan's own grid, atomically.

    Whole values are stored as uint8, or uint16 above 255, with slope 1 and intercept 0 and the geometry of
    the scan's header bit for bit. Members go on a fourth axis, in 2D too: (X, Y, 1, N). Raises CaseError for
    values that are no labels, for another shape, and when the file cannot be written.
    """
    stored = _as_labels(labels)
    if stored.ndim == case.ndim:
        write_array(Path(path), case.origin.to_file(stored), case.origin)
        return
    members = [case.origin.to_file(member) for member in stored]
    if not members:
        raise CaseError("There are no members to write; sample at least one mask first.")
    spatial = [member[..., None] if member.ndim == 2 else member for member in members]
    write_array(Path(path), np.stack(spatial, axis=-1), case.origin)


def write_map(path: Path, values: NDArray[np.floating[Any]], case: Case) -> None:
    """Write a map of values (*S) as float32 on the scan's own grid, atomically. Raises CaseError."""
    write_array(Path(path), case.origin.to_file(np.asarray(values, dtype=np.float32)), case.origin)


def _refuse_other_grid(path: Path, found: Grid, expected: Grid) -> None:
    if found is expected or found.same_as(expected, tol_mm=_PAIRING_TOLERANCE_VOXELS * min(expected.spacing_mm)):
        return
    if found.shape != expected.shape:
        ours, theirs = (" x ".join(map(str, grid.shape)) for grid in (expected, found))
        raise CaseError(
            f"{path.name!r} has {theirs} voxels but the scan has {ours}; resample it to the scan's grid."
        )
    raise CaseError(
        f"{path.name!r} lies elsewhere in space than the scan, or has another voxel size; resample it to the "
        "scan's grid."
    )


def _as_labels(labels: NDArray[Any]) -> Labels:
    array = np.asarray(labels)
    if array.dtype in (np.uint8, np.uint16):
        return array
    if array.size and not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 65535):
        raise CaseError(
            "Labels must be whole numbers from 0 to 65535; these reach beyond and were not written."
        )
    stored: Labels = array.astype(np.uint8 if not array.size or array.max() <= 255 else np.uint16)
    if not np.array_equal(stored, array):
        raise CaseError(
            "Labels must be whole numbers from 0 to 65535; these have fractions and were not written."
        )
    return stored


def _stem(path: Path) -> str:
    suffix = suffix_of(path)
    return path.name[: len(path.name) - len(suffix)] if suffix else path.name


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with (2), (3) ... behind repeated ones."""
    taken: list[str] = []
    for name in names:
        candidate, count = name, 1
        while candidate in taken:
            count += 1
            candidate = f"{name} ({count})"
        taken.append(candidate)
    return tuple(taken)
