"""NRRD: .nrrd, .nhdr with its voxels in a file beside it, and .seg.nrrd as 3D Slicer writes segmentations.

Headers are parsed by pynrrd; voxels are read by ourselves, since pynrrd unpacks whatever comes.
Reference: https://teem.sourceforge.net/nrrd/format.html, and for .seg.nrrd
https://slicer.readthedocs.io/en/latest/developer_guide/modules/segmentations.html
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from numpy.typing import NDArray

from diffseg.case import Labels, Origin, origin_of
from diffseg.errors import CaseError
from diffseg.io.payload import Packing, read_numbers
from diffseg.io.quiet import silent
from diffseg.io.segments import NamedClass, merged, segments_of
from diffseg.io.volume import Volume, named, unusable_geometry

_LONGEST_HEADER = 1 << 20
_PACKINGS: dict[str, Packing] = {
    "raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
    "txt": "text", "text": "text", "ascii": "text",
}  # fmt: skip
_TYPES = {
    word: code
    for code, words in {
        "i1": "signed char,int8,int8_t",
        "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,signed short int,int16,int16_t",
        "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t",
        "u4": "uint,unsigned int,uint32,uint32_t",
        "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
        "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for word in words.split(",")
}
_MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 1e-3, "µm": 1e-3, "micrometer": 1e-3, "micron": 1e-3}
_AWAY_FROM_RAS = {"left": -1.0, "l": -1.0, "posterior": -1.0, "p": -1.0, "inferior": -1.0, "i": -1.0}
_RIGHT_OR_UP = {"right", "r", "anterior", "a", "superior", "s"}
_LPS = np.array([-1.0, -1.0, 1.0])

Header = dict[str, Any]


def open_nrrd(path: Path, members: bool = False) -> Volume:
    """Open a NRRD file of one grey value per voxel, or a segmentation of several layers.

    With `members` an axis without a place in space may be longer than 1. Raises CaseError for anything else, and for
    segments that overlap.
    """
    header, begin = _header(path)
    try:
        sizes = tuple(int(n) for n in header["sizes"])
        dtype = _dtype(header)
        packing = _PACKINGS[str(header["encoding"]).lower()]
        if min(sizes) < 1 or len(sizes) != int(header["dimension"]):
            raise ValueError
        spatial, affine, unit_mm = _geometry(path, header, len(sizes))
    except (KeyError, ValueError, TypeError):
        raise CaseError(f"{named(path)} cannot be read as NRRD; it is damaged, or of an unknown type.") from None
    numbers = _numbers(path, header, begin, int(np.prod(sizes, dtype=object)), dtype, packing)
    array = np.moveaxis(numbers.reshape(sizes, order="F"), spatial, range(len(spatial)))
    shape = array.shape[: len(spatial)]
    several = np.moveaxis(array.reshape((*shape, -1), order="F"), -1, 0)
    parts = _segments(header)
    if len(several) > 1 and not members and not parts:
        raise CaseError(
            f"{named(path)} holds {len(several)} values per voxel (volumes, colours or vectors); save the 3D volume "
            "you want as its own file."
        )
    try:
        origin = origin_of(shape, affine, path, file_format="nrrd", unit_mm=unit_mm)
    except CaseError:
        raise unusable_geometry(path) from None
    if parts and len(several) > 1:
        several = _flat(path, several, parts)[None]
    together = np.stack([origin.to_display(one) for one in several])
    return Volume(path, together, 1.0, 0.0, origin.display_grid(), origin, partial=bool(parts))


def names_segments(path: Path) -> bool:
    """Whether the header names segments, as 3D Slicer's does. Raises CaseError for a damaged one."""
    return bool(_segments(_header(path)[0]))


def write_nrrd(temporary: Path, labels: Labels, origin: Origin) -> None:
    """Write labels in file order, (X, Y, Z) or (X, Y), packed, with the origin's geometry."""
    _write(temporary, labels, origin, ())


def write_segmentation(temporary: Path, labels: Labels, origin: Origin, classes: Sequence[NamedClass] = ()) -> None:
    """As `write_nrrd`, with a name and a colour for every label, as 3D Slicer reads them."""
    whole = " ".join(f"0 {n - 1}" for n in (*labels.shape, 1)[:3])
    fields = [
        ("Segmentation_ContainedRepresentationNames", "Binary labelmap|"),
        ("Segmentation_MasterRepresentation", "Binary labelmap"),
        ("Segmentation_ReferenceImageExtentOffset", "0 0 0"),
    ]
    for number, segment in enumerate(segments_of(labels, classes)):
        of = {
            "ID": f"Segment_{segment.label}",
            "Name": segment.name,
            "NameAutoGenerated": 0,
            "Color": " ".join(f"{value:.6g}" for value in segment.rgb),
            "ColorAutoGenerated": 0,
            "LabelValue": segment.label,
            "Layer": 0,
            "Extent": whole,
        }
        fields += [(f"Segment{number}_{key}", str(value)) for key, value in of.items()]
    _write(temporary, labels, origin, fields)


def _write(temporary: Path, labels: Labels, origin: Origin, fields: Sequence[tuple[str, str]]) -> None:
    """Without a date, so that the same mask is the same file."""
    volume = labels if labels.ndim == 3 else labels[..., None]
    lps = np.diag([*_LPS, 1.0]) @ origin.affine_mm
    lines = [
        "NRRD0005",
        f"type: uint{8 * volume.dtype.itemsize}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, volume.shape))}",
        f"space directions: {' '.join(_vector(lps[:3, axis]) for axis in range(3))}",
        "kinds: domain domain domain",
        *(["endian: little"] if volume.dtype.itemsize > 1 else []),
        "encoding: gzip",
        f"space origin: {_vector(lps[:3, 3])}",
        *(f"{key}:={value}" for key, value in fields),
    ]
    packed = gzip.compress(volume.astype(volume.dtype.newbyteorder("<")).tobytes(order="F"), 6, mtime=0)
    temporary.write_bytes(("\n".join(lines) + "\n\n").encode("utf-8") + packed)


def _vector(numbers: NDArray[np.float64]) -> str:
    return f"({','.join(repr(float(n)) for n in numbers)})"


def _header(path: Path) -> tuple[Header, int]:
    """The parsed header and the byte where it ends."""
    with path.open("rb") as file:
        head = file.read(_LONGEST_HEADER)
    blank = re.search(rb"\r?\n\r?\n", head)
    end = len(head) if blank is None else blank.end()
    try:
        with silent("nrrd"):
            return dict(nrrd.read_header(head[:end].splitlines(keepends=True))), end
    except Exception as error:  # pynrrd lets errors of re, float and numpy through
        raise CaseError(f"{named(path)} cannot be read as NRRD; it is damaged, or of another format.") from error


def _dtype(header: Header) -> np.dtype:
    """The type of a voxel; KeyError for one that is no number, or whose byte order is not told."""
    code = _TYPES[str(header["type"]).lower()]
    if code[1] == "1" or _PACKINGS[str(header["encoding"]).lower()] == "text":
        return np.dtype(code)
    return np.dtype({"little": "<", "big": ">"}[str(header["endian"]).lower()] + code)


def _geometry(path: Path, header: Header, axes: int) -> tuple[list[int], NDArray[np.float64], float]:
    """The axes that lie in space, the 4 x 4 from their indices to RAS in the file's units, and those in mm.

    Without a named space the axes are taken as L, P and S, as ITK does.
    """
    directions = header.get("space directions")
    if directions is None:
        spacings = np.nan_to_num(np.array(header.get("spacings", np.ones(axes)), float), nan=1.0)
        if axes not in (2, 3) or len(spacings) != axes:
            raise CaseError(f"{named(path)} states no place in space for its {axes} axes; save the 3D volume alone.")
        directions = np.diag(spacings)
    rows = [np.atleast_1d(np.nan if row is None else np.asarray(row, float)) for row in directions]
    spatial = [axis for axis, row in enumerate(rows) if np.isfinite(row).all()]
    if len(rows) != axes or len(spatial) not in (2, 3) or any(len(rows[a]) not in (2, 3) for a in spatial):
        raise unusable_geometry(path)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for column, axis in enumerate(spatial):
        affine[: len(rows[axis]), column] = rows[axis]
    start = header.get("space origin")
    if start is not None:
        affine[: len(start), 3] = start
    affine[:3] *= _signs(str(header.get("space", "")))[:, None]
    units = {str(unit).strip('"').lower() for unit in header.get("space units", ())} - {""}
    return spatial, affine, _MM_PER_UNIT.get(units.pop(), 1.0) if len(units) == 1 else 1.0


def _signs(space: str) -> NDArray[np.float64]:
    """+1 or -1 for each of three axes, which takes the file's space to RAS."""
    text = space.strip().lower()
    words = text.split("-") if "-" in text else list(text)
    if len(words) < 3 or not set(words[:3]) <= {*_AWAY_FROM_RAS, *_RIGHT_OR_UP}:
        return _LPS
    return np.array([_AWAY_FROM_RAS.get(word, 1.0) for word in words[:3]])


def _numbers(path: Path, header: Header, begin: int, count: int, dtype: np.dtype, packing: Packing) -> NDArray[Any]:
    name = header.get("data file", header.get("datafile"))
    skip = int(header.get("byte skip", header.get("byteskip")) or 0)
    lines = int(header.get("line skip", header.get("lineskip")) or 0)
    if lines < 0 or skip < -1 or (skip and packing != "raw"):
        raise CaseError(f"{named(path)} skips parts of its voxels in a way that is not read here; convert it first.")
    if name is None:
        return read_numbers(path, count, dtype, packing, begin + skip if skip >= 0 else skip, 0)
    if Path(name).name != name or name.upper().startswith("LIST") or "%" in name:
        raise CaseError(f"{named(path)} keeps its voxels in several files or folders; convert it to one .nrrd file.")
    return read_numbers(path.parent / name, count, dtype, packing, skip, lines)


def _segments(header: Header) -> list[tuple[int, int]]:
    """Layer and value of every segment; none where the file is no segmentation."""
    found = []
    for key in header:
        match = re.fullmatch(r"Segment(\d+)_ID", key)
        if match is not None:
            try:
                layer, value = (int(header.get(f"Segment{match[1]}_{what}", 0)) for what in ("Layer", "LabelValue"))
            except ValueError:
                continue
            found.append((layer, value or int(match[1]) + 1))
    return found


def _flat(path: Path, layers: NDArray[Any], segments: Sequence[tuple[int, int]]) -> NDArray[np.uint16]:
    """Layers (M, *file shape) as one label map; segments keep their values unless two share one."""
    values = [value for _, value in segments]
    numbers = values if len(set(values)) == len(values) else list(range(1, len(values) + 1))
    if any(not 0 <= layer < len(layers) for layer, _ in segments):
        raise CaseError(f"{named(path)} names a layer that it does not hold; export it again.")
    return merged(path, [layers[layer] == value for layer, value in segments], numbers)
