"""DICOM slices as one volume: a folder, one file of a series, or a file of many frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEG2000, UID, JPEG2000Lossless, JPEGExtended12Bit, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from diffseg.case import Origin, origin_of
from diffseg.errors import CaseError
from diffseg.io.dicom_planes import Plane, find_planes, read_tags
from diffseg.io.quiet import silent
from diffseg.io.volume import Volume, cut_short, named, too_large, unusable_geometry

_PIXEL_TAGS = [
    "BitsAllocated", "BitsStored", "HighBit", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
    "PixelRepresentation", "PlanarConfiguration", "NumberOfFrames", "PixelData", "FloatPixelData",
    "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "LossyImageCompression",
]  # fmt: skip
# What the decoder of the extra dicom-jpeg reads, and the decoders that read 8 bits only of lossy JPEG.
_INSTALLABLE = {*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, JPEG2000, JPEG2000Lossless}
_EIGHT_BITS = {"gdcm", "pillow"}
_SHRINKS = 2000  # more than any of DICOM's compressions; a header that promises more is wrong
# Positions are written in decimals, so equal steps differ a little.
_UNEVEN = 0.02
_UNEVEN_MM = 0.01
_SHIFTED_PIXELS = 0.25
_SAME_PLACE_MM = 1e-3
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def open_dicom(given: Sequence[Path]) -> Volume:
    """Open a folder of slices, the series of one file, or exactly the slices given.

    Slices are ordered by their position, and each keeps its own rescale slope and intercept. One image is a 2D scan;
    without a place in space it lies at the origin, as a picture does. Raises CaseError with one sentence for slices at
    one position, missing or unevenly spaced ones, a tilted gantry, several series, colours, and damaged files.
    """
    planes, affine = stack(find_planes(given))
    columns, rows = planes[0].size
    files = tuple(dict.fromkeys(plane.path for plane in planes))
    try:
        origin = origin_of((columns, rows, len(planes)), affine, files[0], file_format="dicom", files=files)
        grid = origin.display_grid()
    except CaseError:
        raise unusable_geometry(planes[0].path) from None
    stored, slope, inter = _values(planes)
    return Volume(files[0], origin.to_display(stored.transpose(2, 1, 0))[None], slope, inter, grid, origin)


def stack(planes: Sequence[Plane]) -> tuple[list[Plane], NDArray[np.float64]]:
    """Planes in the order of their positions, and the 4 x 4 from (column, row, slice) to RAS mm. Raises CaseError."""
    first = planes[0]
    affine = np.eye(4)
    if first.position is None or first.directions is None:
        if len(planes) > 1:
            raise CaseError(
                f"{named(first.path)} and {len(planes) - 1} other slices do not say where they lie; open one file "
                "alone, or convert the series with the program that made it."
            )
        affine[:3, :3] = np.diag([*first.spacing_mm, first.thickness_mm])
        return [first], _LPS @ affine
    across = np.cross(*first.directions)
    ordered = sorted(planes, key=lambda plane: float(_place(plane) @ across))
    places = np.stack([_place(plane) for plane in ordered])
    if len(ordered) > 1:
        _refuse_uneven(ordered, places, across)
        step = (places[-1] - places[0]) / (len(ordered) - 1)
    else:
        step = across * first.thickness_mm
    affine[:3, 0], affine[:3, 1] = first.directions * np.array(first.spacing_mm)[:, None]
    affine[:3, 2], affine[:3, 3] = step, places[0]
    return ordered, _LPS @ affine


def _place(plane: Plane) -> NDArray[np.float64]:
    if plane.position is None:
        raise CaseError(f"{named(plane.path)} does not say where it lies; take it out of the folder.")
    return plane.position


def _refuse_uneven(planes: Sequence[Plane], places: NDArray[np.float64], across: NDArray[np.float64]) -> None:
    name, along = named(planes[0].path), places @ across
    gaps = np.diff(along)
    same = int(np.count_nonzero(gaps < _SAME_PLACE_MM))
    if same == len(gaps):
        raise CaseError(
            f"The {len(planes)} slices with {name} all lie at one position, so they make no volume; open one of them "
            "alone, or export the series again."
        )
    if same:
        raise CaseError(
            f"Of the {len(planes)} slices with {name} only {len(planes) - same} lie at different positions (several "
            "volumes in one series, or copies); put the slices of one volume into a folder of their own."
        )
    gap = float(np.median(gaps))
    allowed = _UNEVEN * gap + _UNEVEN_MM
    steps = np.maximum(np.rint(gaps / gap), 1)
    if np.abs(gaps - steps * gap).max() > allowed * steps.max():
        raise CaseError(
            f"The slices with {name} are unevenly spaced ({gaps.min():.4g} to {gaps.max():.4g} mm); resample the "
            "series to even slices first."
        )
    if steps.max() > 1:
        hole = int(np.argmax(steps))
        raise CaseError(
            f"{int((steps - 1).sum())} slices are missing with {name}, the first after {named(planes[hole].path)} "
            f"(at {along[hole]:.4g} mm, the next at {along[hole + 1]:.4g} mm); export the series again."
        )
    aside = (places - places[0]) - np.outer(along - along[0], across)
    if np.linalg.norm(aside, axis=1).max() > _SHIFTED_PIXELS * min(planes[0].spacing_mm):
        angle = np.degrees(np.arctan2(np.linalg.norm(aside[-1]), along[-1] - along[0]))
        raise CaseError(
            f"The slices with {name} are shifted against each other (a gantry tilted by {angle:.1f} degrees); resample "
            "the series to upright slices first, for example with dcm2niix."
        )


def _values(planes: Sequence[Plane]) -> tuple[NDArray[Any], float, float]:
    """Values (slice, row, column) with slope and intercept; already scaled where those differ between slices."""
    slopes = {(plane.slope, plane.inter) for plane in planes}
    several = len(slopes) > 1
    columns, rows = planes[0].size
    stored: NDArray[Any] | None = None
    read: tuple[Path, NDArray[Any]] | None = None
    try:
        for number, plane in enumerate(planes):
            if read is None or read[0] != plane.path:
                read = (plane.path, read_pixels(plane.path))
            if read[1].shape[1:] != (rows, columns) or plane.frame >= len(read[1]):
                raise cut_short(plane.path)
            frame = read[1][plane.frame]
            if stored is None:
                stored = np.empty((len(planes), rows, columns), np.float32 if several else frame.dtype)
            if not several and np.result_type(stored.dtype, frame.dtype) != stored.dtype:
                stored = stored.astype(np.result_type(stored.dtype, frame.dtype))
            with np.errstate(all="ignore"):
                stored[number] = frame.astype(np.float64) * plane.slope + plane.inter if several else frame
    except MemoryError:
        raise too_large(planes[0].path) from None
    assert stored is not None
    return (stored, 1.0, 0.0) if several else (stored, *slopes.pop())


def read_pixels(path: Path) -> NDArray[Any]:
    """The stored numbers (frame, row, column) of a file of grey values. Raises CaseError."""
    found = read_tags(path, _PIXEL_TAGS, pixels=True)
    bits = _refuse_impossible_size(path, found)
    _refuse_missing_decoder(path, UID(found.file_meta.TransferSyntaxUID), bits)
    try:
        with silent("pydicom"):
            pixels = np.asarray(found.pixel_array)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged streams
        raise cut_short(path) from error
    if pixels.ndim not in (2, 3):
        raise CaseError(f"{named(path)} is in colour; convert it to one grey value per pixel.")
    return pixels if pixels.ndim == 3 else pixels[None]


def _refuse_missing_decoder(path: Path, syntax: UID, bits: int) -> None:
    """Uncompressed and run-length encoded files need nothing more; others need a decoder that may be missing.

    Whatever decoder pydicom knows serves, but the one that is named reads neither High-Throughput JPEG 2000 nor the
    lossy JPEG of more than 8 bits.
    """
    try:
        decoder = get_decoder(syntax)
        able = set(decoder.available_plugins) if syntax.is_compressed else {""}
    except NotImplementedError:
        able = set()
    deep = syntax == JPEGExtended12Bit and bits > 8
    if able - (_EIGHT_BITS if deep else set()):
        return
    if deep or syntax not in _INSTALLABLE:
        what = f"{_words(syntax)} of {bits} bits" if deep else _words(syntax)
        raise CaseError(f"{named(path)} is compressed as {what}, which is not read; export it uncompressed.")
    raise CaseError(
        f"{named(path)} is compressed as {_words(syntax)}, whose decoder is not installed; install it with "
        "pip install 'napari-diffseg[dicom-jpeg]', or export the series uncompressed."
    )


def _words(syntax: UID) -> str:
    return syntax.name if not syntax.is_private else "a private format"


def _refuse_impossible_size(path: Path, found: Any) -> int:
    """Gives back how many bits of a number are used; 0 where the file does not say."""
    try:
        bits = int(found.get("BitsStored") or 0)
        count = int(found.Rows) * int(found.Columns) * int(found.get("NumberOfFrames") or 1)
        promised = count * int(found.BitsAllocated) / 8
    except (AttributeError, TypeError, ValueError) as error:
        raise cut_short(path) from error
    packed = UID(found.file_meta.TransferSyntaxUID).is_compressed
    if promised > path.stat().st_size * (_SHRINKS if packed else 1):
        raise cut_short(path)
    return bits


def origin_now(origin: Origin) -> list[Plane]:
    """The planes of the series that a scan came from, as they lie on disk now, in the order of the third axis.

    Raises CaseError when the files are gone or are no longer the same scan.
    """
    missing = next((path for path in origin.files if not path.is_file()), None)
    if missing is not None:
        raise CaseError(
            f"The slice {named(missing)} of the scan is no longer where it was; put it back, or save as NIfTI."
        )
    planes, affine = stack(find_planes(origin.files))
    if (*planes[0].size, len(planes)) != origin.shape or not np.allclose(affine, origin.affine, atol=1e-6):
        raise CaseError("The scan's DICOM files have changed since it was opened; open it again, or save as NIfTI.")
    return planes
