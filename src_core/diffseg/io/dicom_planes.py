"""Where the frames of DICOM files lie, and which of them make one volume. Reads no pixels and nothing of the patient.

Only the attributes of `_TAGS` are ever taken from a file: geometry, the kind of pixels, and the UIDs that say which
files belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import UID

from diffseg.errors import CaseError
from diffseg.io.formats import is_dicom
from diffseg.io.quiet import silent
from diffseg.io.volume import named

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_TAGS = [
    "SOPClassUID", "SeriesInstanceUID", "Modality", "SeriesNumber", "ImageType", "Rows", "Columns", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "PixelRepresentation", "NumberOfFrames", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "SliceThickness", "SpacingBetweenSlices",
    "RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "SegmentSequence", "SegmentationType", "MaximumFractionalValue",
]  # fmt: skip
_SAME_DIRECTION = 1e-3
_MOST_FILES = 50_000
_MOST_LISTED = 6


@dataclass(frozen=True, eq=False)
class Plane:
    """One frame of a file: `position` (3,) of its first pixel and `directions` (2, 3) of increasing column and row.

    Both in DICOM's L P S millimetres; None where the file does not state them. `spacing_mm` is that between columns
    and between rows. `thickness_mm` is the distance to the next slice as far as the file tells it.
    """

    path: Path
    frame: int
    series: str
    label: str
    size: tuple[int, int]
    position: NDArray[np.float64] | None
    directions: NDArray[np.float64] | None
    spacing_mm: tuple[float, float]
    thickness_mm: float
    slope: float
    inter: float

    def beside(self, other: Plane) -> bool:
        """Whether both can be slices of one volume, wherever they lie."""
        if self.series != other.series or self.size != other.size:
            return False
        if self.directions is None or other.directions is None:
            return self.directions is other.directions
        turned = np.abs(self.directions - other.directions).max() > _SAME_DIRECTION
        return not turned and np.allclose(self.spacing_mm, other.spacing_mm, rtol=_SAME_DIRECTION)


def read_header(path: Path) -> Any:
    """The attributes named above of one file. Raises CaseError for a file that cannot be read as DICOM."""
    return read_tags(path, _TAGS)


def read_tags(path: Path, tags: Sequence[str], pixels: bool = False) -> Any:
    """These attributes of a file alone, every value of them converted. Raises CaseError."""
    try:
        with silent("pydicom"):
            found = pydicom.dcmread(path, stop_before_pixels=not pixels, specific_tags=list(tags))
            if not UID(found.file_meta.TransferSyntaxUID).is_transfer_syntax:
                raise ValueError("no transfer syntax")
            for _ in found.iterall():  # pydicom converts values when they are first asked for
                pass
            return found
    except MemoryError:
        if pixels:
            raise
        # Without pixels only a damaged length asks for so much.
        raise CaseError(f"{named(path)} cannot be read as DICOM; it is damaged, or of another format.") from None
    except Exception as error:  # pydicom lets errors of struct, zlib, unicode and attributes through
        raise CaseError(f"{named(path)} cannot be read as DICOM; it is damaged, or of another format.") from error


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM segmentation; False for a folder and what cannot be read."""
    if path.is_dir() or not is_dicom(path):
        return False
    try:
        return str(read_tags(path, ["SOPClassUID"]).get("SOPClassUID", "")) in SEGMENTATIONS
    except CaseError:
        return False


def find_planes(given: Sequence[Path]) -> list[Plane]:
    """The frames of one volume: of a folder, of the series of one file, or of exactly these files of one series.

    With one file the others of its series are looked for in its folder. Raises CaseError with one sentence where there
    is no image, or where a folder holds several series or slices that do not belong together.
    """
    if len(given) == 1 and given[0].is_dir():
        stacks = grouped(_images(_files(given[0])))
        if not stacks:
            raise CaseError(f"The folder {named(given[0])} holds no DICOM images; choose the folder of the slices.")
        if len(stacks) > 1:
            raise CaseError(
                f"The folder {named(given[0])} holds {_listed(stacks)}; choose one file of the one you want."
            )
        return stacks[0]
    chosen = planes_of(given[0], read_header(given[0]))
    if len(given) == 1 and chosen[0].series and len(chosen) == 1:
        others = [path for path in _files(given[0].parent, deep=False) if path != given[0]]
        return next(stack for stack in grouped([*chosen, *_images(others, chosen[0].series)]) if chosen[0] in stack)
    stacks = grouped([*chosen, *(plane for path in given[1:] for plane in planes_of(path, read_header(path)))])
    if len(stacks) > 1:
        raise CaseError(f"{named(given[0])} and what was given with it hold {_listed(stacks)}; give one of them.")
    return stacks[0]


def grouped(planes: Iterable[Plane]) -> list[list[Plane]]:
    """Stacks of planes that can be slices of one volume, in the order in which they first occur."""
    stacks: list[list[Plane]] = []
    for plane in planes:
        home = next((stack for stack in stacks if stack[0].beside(plane)), None)
        if home is None:
            stacks.append([plane])
        else:
            home.append(plane)
    return stacks


def planes_of(path: Path, header: Any) -> list[Plane]:
    """The frames of one file of one grey value per pixel. Raises CaseError for colours, films and mosaics."""
    try:
        size = (int(header.Columns), int(header.Rows))
        frames = int(header.get("NumberOfFrames") or 1)
        samples = int(header.get("SamplesPerPixel") or 1)
    except (AttributeError, TypeError, ValueError):
        raise CaseError(f"{named(path)} holds no image, or a damaged one; choose a slice of a scan.") from None
    if min(*size, frames) < 1:
        raise CaseError(f"{named(path)} holds no image ({size[0]} x {size[1]} pixels); choose a slice of a scan.")
    if samples != 1 or "PALETTE" in str(header.get("PhotometricInterpretation", "")):
        raise CaseError(f"{named(path)} is in colour; convert it to one grey value per pixel.")
    if "MOSAIC" in [str(word).upper() for word in header.get("ImageType") or ()]:
        raise CaseError(f"{named(path)} holds its slices as a mosaic in one picture; convert it with dcm2niix first.")
    groups = header.get("PerFrameFunctionalGroupsSequence") or [header] * (frames == 1)
    if len(groups) != frames:
        raise CaseError(f"{named(path)} holds {frames} frames without their places in space; save one as its own file.")
    shared = (header.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()])[0]
    try:
        return [_plane(path, number, header, group, shared, size) for number, group in enumerate(groups)]
    except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise CaseError(
            f"The voxel size or orientation in {named(path)} is unusable; repair its header first."
        ) from error


def _plane(path: Path, number: int, header: Any, group: Any, shared: Any, size: tuple[int, int]) -> Plane:
    places = [group, shared, header]
    position = _numbers(_stated("ImagePositionPatient", "PlanePositionSequence", places), 3)
    turn = _numbers(_stated("ImageOrientationPatient", "PlaneOrientationSequence", places), 6)
    pixel = _numbers(_stated("PixelSpacing", "PixelMeasuresSequence", places), 2)
    if pixel is None:
        pixel = _numbers(header.get("ImagerPixelSpacing"), 2)
    between = _numbers(_stated("SpacingBetweenSlices", "PixelMeasuresSequence", places), 1)
    thick = _numbers(_stated("SliceThickness", "PixelMeasuresSequence", places), 1)
    slope = _numbers(_stated("RescaleSlope", "PixelValueTransformationSequence", places), 1)
    inter = _numbers(_stated("RescaleIntercept", "PixelValueTransformationSequence", places), 1)
    directions = None if turn is None else _unit(turn.reshape(2, 3))
    step = next((abs(float(one[0])) for one in (between, thick) if one is not None and one[0]), 1.0)
    if position is not None and directions is not None and pixel is None:
        raise ValueError("no size of a pixel")
    rows_mm, columns_mm = (1.0, 1.0) if pixel is None else (float(pixel[0]), float(pixel[1]))
    words = f"{header.get('SeriesNumber') or '?'} ({str(header.get('Modality') or 'unknown')[:8]})"
    return Plane(
        path,
        number,
        str(header.get("SeriesInstanceUID") or ""),
        words,
        size,
        None if directions is None else position,
        None if position is None else directions,
        (columns_mm, rows_mm),
        step,
        1.0 if slope is None else float(slope[0]),
        0.0 if inter is None else float(inter[0]),
    )


def _stated(name: str, sequence: str, places: Sequence[Any]) -> Any:
    """The attribute, from the functional groups of the frame, those of all frames, or the file itself."""
    for place in places:
        inside = place.get(sequence)
        value = inside[0].get(name) if inside else place.get(name)
        if value is not None and value != "":
            return value
    return None


def _numbers(value: Any, count: int) -> NDArray[np.float64] | None:
    if value is None:
        return None
    found = np.atleast_1d(np.array(value, dtype=np.float64))
    if found.shape != (count,) or not np.isfinite(found).all():
        raise ValueError("another count of numbers, or none that are finite")
    return found


def _unit(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(directions, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(directions[0] @ directions[1]) > 0.01:
        raise ValueError("no orthogonal directions")
    return directions / lengths[:, None]


def _images(paths: Iterable[Path], series: str | None = None) -> list[Plane]:
    """Frames of all files that hold images, of one series if it is given; other DICOM objects are passed over."""
    found: list[Plane] = []
    for path in paths:
        header = read_header(path)
        kind = str(header.get("SOPClassUID", ""))
        if "Rows" not in header or kind in SEGMENTATIONS:
            continue
        if series is None or str(header.get("SeriesInstanceUID") or "") == series:
            found += planes_of(path, header)
    return found


def _files(folder: Path, deep: bool = True) -> list[Path]:
    """The DICOM files of a folder, and only if there are none those of the folders in it."""
    try:
        direct = sorted(path for path in folder.iterdir() if path.is_file() and is_dicom(path))
        if direct or not deep:
            return direct
        found = []
        for number, path in enumerate(folder.rglob("*")):
            if number > _MOST_FILES:
                raise CaseError(f"The folder {named(folder)} holds too many files; choose the folder of the slices.")
            if path.is_file() and is_dicom(path):
                found.append(path)
        return sorted(found)
    except OSError as error:
        raise CaseError(f"The folder {named(folder)} cannot be read; check who may read it.") from error


def _listed(stacks: Sequence[Sequence[Plane]]) -> str:
    """For example: 2 series: 3 (CT): 40 of 512 x 512, 4 (CT): 1 of 256 x 256."""
    texts = [f"{stack[0].label}: {len(stack)} of {stack[0].size[0]} x {stack[0].size[1]}" for stack in stacks]
    more = "" if len(texts) <= _MOST_LISTED else f", and {len(texts) - _MOST_LISTED} more"
    series = len({stack[0].series for stack in stacks})
    what = f"{series} DICOM series" if series == len(stacks) else f"{len(stacks)} stacks of slices"
    return f"{what}, number (kind): slices: {', '.join(texts[:_MOST_LISTED])}{more}"
