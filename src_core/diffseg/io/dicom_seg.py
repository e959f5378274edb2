"""DICOM segmentations (SEG) as masks.

A SEG holds one picture per slice and segment, usually leaving out those that are empty. It is read onto a grid of its
own, and laid on that of the scan by where its slices lie in the patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.case import origin_of
from diffseg.errors import CaseError
from diffseg.io.dicom import read_pixels
from diffseg.io.dicom_planes import Plane, planes_of, read_header
from diffseg.io.segments import merged
from diffseg.io.volume import Volume, cut_short, named, too_large, unusable_geometry

_OFF_LATTICE = 0.1
_SAME_PLACE_MM = 1e-3
# More slices between two that are there than this many times those that are there mean a damaged file.
_EMPTY_SLICES = 1000
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def open_segmentation(path: Path) -> Volume:
    """Open a DICOM segmentation as one label map: segment numbers, or the labels of a label map SEG.

    Raises CaseError for probabilities, overlapping segments, frames in different directions and damaged files.
    """
    header = read_header(path)
    planes = planes_of(path, header)
    slices, affine = _lattice(path, planes)
    count = max(slices) + 1
    columns, rows = planes[0].size
    pixels = _marks(path, header, read_pixels(path))
    if len(pixels) != len(planes) or pixels.shape[1:] != (rows, columns):
        raise cut_short(path)
    try:
        labels = _labels(path, header, pixels, slices, count)
    except MemoryError:
        raise too_large(path) from None
    try:
        origin = origin_of((columns, rows, count), affine, path, file_format="dicom")
        grid = origin.display_grid()
    except CaseError:
        raise unusable_geometry(path) from None
    return Volume(path, origin.to_display(labels.transpose(2, 1, 0))[None], 1.0, 0.0, grid, origin, partial=True)


def _lattice(path: Path, planes: Sequence[Plane]) -> tuple[list[int], NDArray[np.float64]]:
    """The slice number of each frame, from 0 along the normal, and the 4 x 4 to RAS mm of the whole."""
    first = planes[0]
    if first.position is None or first.directions is None or any(not first.beside(plane) for plane in planes):
        raise CaseError(f"{named(path)} has frames in several directions, or of unknown place; it is not read.")
    across = np.cross(*first.directions)
    places = np.stack([plane.position for plane in planes if plane.position is not None])
    if len(places) != len(planes):
        raise CaseError(f"{named(path)} has frames of unknown place; it is not read.")
    along = places @ across
    start = int(np.argmin(along))
    gaps = np.diff(np.sort(along))
    apart = gaps[gaps > _SAME_PLACE_MM]
    # Neighbours may both be left out as empty, so what the file says is right before what is seen.
    gap = first.thickness_mm
    if len(apart) and np.abs(apart / gap - np.rint(apart / gap)).max() > _OFF_LATTICE:
        gap = float(apart.min())
    steps = (along - along[start]) / gap
    slices = np.rint(steps).astype(int)
    if np.abs(steps - slices).max() > _OFF_LATTICE or slices.max() > _EMPTY_SLICES * len(planes):
        raise CaseError(f"{named(path)} has unevenly spaced frames; export it again.")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = first.directions * np.array(first.spacing_mm)[:, None]
    last = int(np.argmax(along))
    affine[:3, 2] = (places[last] - places[start]) / slices[last] if slices[last] else across * gap
    affine[:3, 3] = places[start]
    return [int(n) for n in slices], _LPS @ affine


def _marks(path: Path, header: Any, pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels as 0 and 1, or as labels; probabilities are no mask unless all of them are 0 or full."""
    kind = str(header.get("SegmentationType", "BINARY"))
    if kind == "LABELMAP":
        return pixels
    if kind == "FRACTIONAL":
        full = int(header.get("MaximumFractionalValue") or 255)
        if not ((pixels == 0) | (pixels == full)).all():
            raise CaseError(f"{named(path)} holds probabilities, no mask; export it as a binary segmentation.")
        return (pixels == full).astype(np.uint8)
    return pixels.astype(np.uint8)


def _labels(
    path: Path, header: Any, pixels: NDArray[Any], slices: Sequence[int], count: int
) -> NDArray[np.unsignedinteger[Any]]:
    """Labels (slice, row, column) of frames (frame, row, column)."""
    shape = (count, *pixels.shape[1:])
    if str(header.get("SegmentationType", "")) == "LABELMAP":
        labels = np.zeros(shape, pixels.dtype)
        for frame, number in zip(pixels, slices, strict=True):
            labels[number] = frame
        return labels
    masks: dict[int, NDArray[np.bool_]] = {}
    for frame, number, segment in zip(pixels, slices, _segments(path, header, len(pixels)), strict=True):
        mask = masks.setdefault(segment, np.zeros(shape, np.bool_))
        mask[number] |= frame != 0
    return merged(path, list(masks.values()), list(masks))


def _segments(path: Path, header: Any, frames: int) -> list[int]:
    """The segment number of every frame."""
    try:
        shared = header.get("SharedFunctionalGroupsSequence")
        common = shared[0].get("SegmentIdentificationSequence") if shared else None
        groups = header.get("PerFrameFunctionalGroupsSequence") or []
        found: list[Any] = [group.get("SegmentIdentificationSequence") or common for group in groups]
        numbers = [int(one[0].ReferencedSegmentNumber) for one in found]
    except (AttributeError, TypeError, IndexError, ValueError):
        numbers = []
    if len(numbers) != frames or min(numbers) < 1 or max(numbers) > 65535:
        raise CaseError(f"{named(path)} does not say which segment its frames show; export it again.")
    return numbers
