"""Scans and masks from files of any format, and results back onto the scan's own grid. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.case import Case, Labels, Origin
from diffseg.errors import CaseError
from diffseg.grid import Grid
from diffseg.io.formats import FORMATS, LABEL_SUFFIXES, SUFFIXES, kind_of, stem_of
from diffseg.io.lay import laid_on
from diffseg.io.nifti import write_array
from diffseg.io.opened import open_group
from diffseg.io.pictures import Picture
from diffseg.io.segments import NamedClass
from diffseg.io.told import is_mask
from diffseg.io.volume import Volume, enough_memory
from diffseg.io.write import write_mask

__all__ = [
    "FORMATS",
    "LABEL_SUFFIXES",
    "SUFFIXES",
    "is_mask",
    "open_file",
    "read_case",
    "read_labels",
    "read_members",
    "read_scan",
    "to_file_order",
    "write_labels",
    "write_map",
]

# Files of one scan by different tools differ by rounding: float32 quaternions alone move corners by 0.1 mm.
_PAIRING_TOLERANCE_VOXELS = 0.1
_MOST_CHANNELS = 64
_HEADERS, _VOXELS = (".hdr", ".nhdr", ".mhd"), (".img", ".raw", ".zraw")


def open_file(path: Path, members: bool = False) -> Volume:
    """Open a scan or a mask: NIfTI, MGZ, NRRD, MetaImage, a picture, a DICOM file or a folder of DICOM slices.

    With one slice the others of its series are found in its folder. With `members` a fourth axis may be longer than 1.
    Raises CaseError with one sentence.
    """
    return open_group([Path(path)], members)


def read_case(
    images: Sequence[Path], raters: Sequence[Path] = (), channels: Sequence[str] | None = None
) -> Case:
    """Read a scan, one file, picture or DICOM series per channel, and its masks; all on one grid.

    A file of several volumes (4D) gives a channel for each. `channels` names the channels in their order; without it
    they are named after the files, a DICOM series after its folder. The case takes name, grid and origin from the first
    image. Voxels that are no finite numbers take the smallest value of their volume, which `notes` tell. Raises
    CaseError with one sentence for a file that is missing, damaged, empty or in colour, or that lies on another grid.
    """
    return read_scan(images, raters, channels)[0]


def read_scan(
    images: Sequence[Path], raters: Sequence[Path] = (), channels: Sequence[str] | None = None
) -> tuple[Case, tuple[tuple[Path, ...], ...]]:
    """As `read_case`, and for each channel the files that it was read from, each slice of a DICOM series one.

    A DICOM series is one image however many of its files are named: with one of them, or with a folder, it is every
    slice there; with several, exactly those. A header and the file of its voxels are one image too.
    """
    if not images:
        raise CaseError("No image was given; give one file per channel.")
    with enough_memory(Path(images[0])):
        return _read_scan(images, raters, channels)


def _read_scan(
    images: Sequence[Path], raters: Sequence[Path], channels: Sequence[str] | None
) -> tuple[Case, tuple[tuple[Path, ...], ...]]:
    volumes = [open_group(named, members=True) for named in _images(images)]
    groups = [volume.origin.files or (volume.path,) for volume in volumes]
    first = volumes[0]
    several = sum(len(volume.stored) for volume in volumes)
    if several > _MOST_CHANNELS:
        raise CaseError(
            f"{first.path.name!r} and what was given with it hold {several} volumes (4D); save the ones you want as "
            "their own 3D files, one per channel."
        )
    for group, volume in zip(groups, volumes, strict=True):
        _refuse_other_grid(group[0], volume.grid, first.grid)
    names = _distinct(_channel_names(groups, volumes, images)) if channels is None else tuple(channels)
    whole = next((volume for volume in volumes if len(volume.stored) > 1), None)
    if len(names) != several and whole is not None:
        raise CaseError(
            f"{whole.path.name!r} is 4D and holds {len(whole.stored)} volumes, but {', '.join(names)} is expected; "
            "save what is wanted as its own 3D file, one per channel."
        )
    if len(names) != several:
        raise CaseError(f"{len(names)} channel names were given for {several} images; give one name per image.")
    image = np.empty((several, *first.grid.shape), dtype=np.float32)
    files: list[tuple[Path, ...]] = []
    notes: list[str] = []
    if any(isinstance(volume, Picture) for volume in volumes):
        notes.append("Pictures do not tell their scale, so each pixel counts as 1 mm.")
    for group, volume in zip(groups, volumes, strict=True):
        holes = 0
        for member in range(len(volume.stored)):
            image[len(files)], broken = volume.filled(member)
            files.append(group)
            holes += broken
        if holes:
            notes.append(f"{holes} voxels of {group[0].name!r} were no finite numbers and became background.")
    rater_paths = [Path(path) for path in raters]
    labels = [read_labels(path, first.grid) for path in rater_paths]
    masks = dict(zip(_distinct([stem_of(path) for path in rater_paths]), labels, strict=True))
    name = _name(groups[0], images)
    return Case(image, first.grid, names, masks, first.origin, name, tuple(notes)), tuple(files)


def _channel_names(
    groups: Sequence[Sequence[Path]], volumes: Sequence[Volume], images: Sequence[Path]
) -> list[str]:
    """An image by its name, each volume of a 4D file with its number behind that."""
    names: list[str] = []
    for group, volume in zip(groups, volumes, strict=True):
        name, count = _name(group, images), len(volume.stored)
        names += [name] if count == 1 else [f"{name} {number}" for number in range(1, count + 1)]
    return names


def read_labels(path: Path, grid: Grid | None = None) -> Labels:
    """Read one mask (*S) in display order, uint8 or, above 255, uint16; on `grid` if one is given.

    Float files are accepted when every value lies within 0.001 of a whole number. Pictures with values below 20
    hold label numbers, others must be black and white and become 1 where they are above 127. A segmentation (DICOM
    SEG, .seg.nrrd) may cover a part of the grid, and is then laid where it lies in the patient. Raises CaseError.
    """
    with enough_memory(Path(path)):
        volume = open_file(path)
        if grid is None or _same(volume.grid, grid):
            return volume.labels()
        if volume.partial:
            return laid_on(volume, grid, _PAIRING_TOLERANCE_VOXELS)
        _refuse_other_grid(Path(path), volume.grid, grid)
        return volume.labels()


def read_members(path: Path, grid: Grid | None = None) -> Labels:
    """Read masks (N, *S) from a file whose last, fourth axis counts members; a file of one mask gives N = 1.

    Otherwise as `read_labels`.
    """
    with enough_memory(Path(path)):
        volume = open_file(Path(path), members=True)
        if grid is not None:
            _refuse_other_grid(Path(path), volume.grid, grid)
        members: Labels = np.stack([volume.labels(member) for member in range(len(volume.stored))])
        return members


def to_file_order(array: NDArray[Any], origin: Origin) -> NDArray[Any]:
    """A view of a display-order array (*S) in the order and shape of the file it came from."""
    return origin.to_file(array)


def write_labels(path: Path, labels: NDArray[Any], case: Case, classes: Sequence[NamedClass] = ()) -> None:
    """Write labels (*S), or members (N, *S), on the scan's own grid, atomically, in the format of the suffix.

    Suffixes are those of `LABEL_SUFFIXES`. Whole values are stored as uint8, or uint16 above 255; in NIfTI with slope 1
    and intercept 0 and the geometry of a NIfTI scan's header bit for bit. `classes` (background first) give names and
    colours where the format has them (.seg.nrrd, .dcm); a DICOM-SEG needs the DICOM series that the case was read from,
    and the extra `dicom-seg`. Members are NIfTI and go on a fourth axis, in 2D too: (X, Y, 1, N). Raises CaseError for
    values that are no labels, for another shape or format, and when the file cannot be written.
    """
    stored = _as_labels(labels)
    if stored.ndim == case.ndim:
        write_mask(Path(path), stored, case, classes)
        return
    members = [case.origin.to_file(member) for member in stored]
    if not members:
        raise CaseError("There are no members to write; sample at least one mask first.")
    spatial = [member[..., None] if member.ndim == 2 else member for member in members]
    write_array(Path(path), np.stack(spatial, axis=-1), case.origin)


def write_map(path: Path, values: NDArray[np.floating[Any]], case: Case) -> None:
    """Write a map of values (*S) as float32 on the scan's own grid, atomically. Raises CaseError."""
    write_array(Path(path), case.origin.to_file(np.asarray(values, dtype=np.float32)), case.origin)


def _images(paths: Sequence[Path]) -> list[list[Path]]:
    """What was named, image by image: slices of one DICOM series together, without the files of voxels of a header."""
    found = [Path(path) for path in paths]
    headers = {path.with_suffix("") for path in found if path.suffix.lower() in _HEADERS}
    images: dict[str, list[Path]] = {}
    for path, times in Counter(found).items():
        if times > 1:
            raise CaseError(f"{path.name!r} was given {times} times; give each channel's own file once.")
        if path.suffix.lower() in _VOXELS and path.with_suffix("") in headers:
            continue
        several = kind_of(path) == "dicom" and not path.is_dir() and len(found) > 1
        images.setdefault(_series(path) if several else str(path), []).append(path)
    return list(images.values())


def _series(path: Path) -> str:
    """The series that a DICOM file belongs to; its own name where it belongs to none."""
    from diffseg.io.dicom_planes import read_tags

    return str(read_tags(path, ["SeriesInstanceUID"]).get("SeriesInstanceUID") or path)


def _name(group: Sequence[Path], given: Sequence[Path]) -> str:
    """What an image is called: a file by its name, a DICOM series by its folder."""
    path = group[0]
    return path.parent.name if len(group) > 1 or path not in map(Path, given) else stem_of(path)


def _same(found: Grid, expected: Grid) -> bool:
    return found is expected or found.same_as(expected, tol_mm=_PAIRING_TOLERANCE_VOXELS * min(expected.spacing_mm))


def _refuse_other_grid(path: Path, found: Grid, expected: Grid) -> None:
    if _same(found, expected):
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
