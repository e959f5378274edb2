"""Reading and writing NIfTI-1 and NIfTI-2 files, in any orientation.

Reading reorients to display order (`diffseg.grid`), never resamples, applies scl_slope and scl_inter, and
refuses with one sentence what cannot be a scan or a mask. Of the header only geometry is kept: no text field,
extension or free number that could name a patient reaches memory that is written again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from diffseg.case import Origin, origin_of
from diffseg.errors import CaseError
from diffseg.grid import Grid
from diffseg.io.atomic import atomic_file, suffix_of
from diffseg.io.quiet import unlogged
from diffseg.io.volume import Volume, cut_short, named, too_large

SUFFIXES = (".nii", ".nii.gz", ".nii.zst", ".hdr", ".img")
_GEOMETRY = (
    "dim_info", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d",
    "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z",
)  # fmt: skip
_MM_PER_UNIT = {1: 1000.0, 3: 1e-3}  # code 1 metre, 3 micron; 2 and the undefined 0 are mm
# Deflate shrinks at most 1032 times, zstd a block of 128 KiB to 4 bytes; a header that promises more is wrong.
_SHRINKS = {".gz": 1100, ".zst": 40_000}

_MOST_VOXELS = 32767  # along an axis of a NIfTI-1 file

Header = nib.nifti1.Nifti1Header


def open_volume(path: Path, members: bool = False) -> Volume:
    """Open a NIfTI file; with `members` a fourth axis may be longer than 1.

    Raises CaseError when the file is missing, damaged, not NIfTI, or no plain image of two or three axes.
    """
    image = _load(path)
    shape = _spatial_shape(path, image, members)
    count = int(np.prod(image.shape[3:], dtype=int))
    if count > 1 and not members:
        raise CaseError(
            f"{named(path)} is 4D and holds {count} volumes; save the one you want as its own 3D file "
            "(one file per channel)."
        )
    _refuse_impossible_size(path, image)
    origin, grid = _geometry(path, image, shape)
    stored = [origin.to_display(volume) for volume in _stored(path, image, shape)]
    together = stored[0][None] if count == 1 else np.stack(stored)
    return Volume(path, together, float(image.dataobj.slope), float(image.dataobj.inter), grid, origin)


def write_array(path: Path, array: NDArray[Any], origin: Origin) -> None:
    """Write an array in file order, with a further last axis for members if it has one, on the origin's grid.

    The type is stored as it is (uint8, uint16 or float32) with slope 1 and intercept 0. The file is written
    beside its place, read back and compared, and only then put there. Raises CaseError when that fails.
    """
    if suffix_of(path).lower() not in (".nii", ".nii.gz"):
        raise CaseError(f"{path.name!r} cannot be written; name the file .nii.gz or .nii.")
    header = geometry_header(origin)
    header.set_data_dtype(array.dtype)
    zooms = header["pixdim"][1:4].copy()
    header.set_data_shape(array.shape)
    header["pixdim"][1:4] = zooms  # set_data_shape resets the third of a 2D file, which the qform needs
    header.set_slope_inter(1.0, 0.0)
    image_class = nib.Nifti2Image if _second_version(origin) else nib.Nifti1Image
    with atomic_file(path) as temporary:
        nib.save(image_class(array, None, header), temporary)
        _verify(temporary, path, array, header)


def geometry_header(origin: Origin) -> Header:
    """A fresh little-endian header with the geometry fields of the scan's file, bit for bit."""
    kind = nib.Nifti2Header if _second_version(origin) else Header
    if origin.header is not None:
        return kind(origin.header, endianness="<", check=False)
    header = kind(endianness="<")
    header.set_data_shape(origin.shape)
    header.set_xyzt_units("mm")
    affine = origin.affine_mm
    header.set_sform(affine, code="scanner")
    try:
        header.set_qform(affine, code="scanner", strip_shears=False)
    except nib.spatialimages.HeaderDataError:  # a quaternion cannot hold shear
        header.set_qform(affine, code="unknown")
    return header


def _second_version(origin: Origin) -> bool:
    """Whether masks are NIfTI-2: as the scan is, and where the first version cannot count the voxels."""
    return origin.format == "nifti2" or (origin.header is None and max(origin.shape) > _MOST_VOXELS)


def _load(path: Path) -> Any:
    try:
        with unlogged("nibabel.global"), np.errstate(all="ignore"):
            image = nib.load(path)
    except Exception as error:  # nibabel raises a dozen unrelated types on damaged headers
        raise CaseError(
            f"{named(path)} cannot be read as NIfTI; it is damaged, or of another format."
        ) from error
    if not isinstance(image, nib.Nifti1Pair):
        raise CaseError(
            f"{named(path)} is not NIfTI-1 or NIfTI-2 and states no orientation; convert it first."
        )
    return image


def _spatial_shape(path: Path, image: Any, members: bool) -> tuple[int, ...]:
    """(X, Y), (X, Y, 1) or (X, Y, Z); a fourth axis may follow, or with `members` a fifth instead."""
    shape = tuple(int(n) for n in image.shape)
    dtype = image.header.get_data_dtype()
    if len(shape) < 2 or min(shape) < 1:
        raise CaseError(f"{named(path)} holds no 2D or 3D image (its shape is {shape}); choose another file.")
    if dtype.fields is not None or dtype.kind not in "iuf":
        raise CaseError(
            f"{named(path)} holds colours or complex numbers; convert it to one grey value per voxel."
        )
    if any(n != 1 for n in shape[4:]) and not (members and len(shape) == 5 and shape[3] == 1):
        raise CaseError(
            f"{named(path)} has {len(shape)} axes {shape}; save the 3D volume you want as its own file."
        )
    return shape[:3]


def _refuse_impossible_size(path: Path, image: Any) -> None:
    """Compare the header's promise with the file before any memory is taken for it."""
    data_path = Path(image.file_map["image"].filename)
    promised = (
        int(np.prod([int(n) for n in image.shape], dtype=object)) * image.header.get_data_dtype().itemsize
    )
    present = data_path.stat().st_size * _SHRINKS.get(data_path.suffix.lower(), 1)
    if promised > present:
        raise cut_short(path)


def _geometry(path: Path, image: Any, shape: tuple[int, ...]) -> tuple[Origin, Grid]:
    version = "nifti2" if isinstance(image.header, nib.Nifti2Header) else "nifti1"
    header = image.header.as_byteswapped("<")
    kept = type(header)(endianness="<")
    for field in _GEOMETRY:
        kept[field] = header[field]
    kept["pixdim"][:4] = header["pixdim"][:4]
    try:
        with np.errstate(all="ignore"):
            affine = np.asarray(image.header.get_best_affine(), dtype=np.float64)
        unit_mm = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
        origin = origin_of(shape, affine, path, kept.binaryblock, version, unit_mm)
        grid = origin.display_grid()
    except Exception as error:  # an impossible quaternion or matrix surfaces as one of several numeric errors
        raise CaseError(
            f"The voxel size or orientation in {named(path)} is unusable; repair its header first."
        ) from error
    return origin, grid


def _stored(path: Path, image: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """The stored numbers (M, *file shape) without scaling; mapped, not copied, from an uncompressed file."""
    try:
        raw = np.asanyarray(image.dataobj.get_unscaled())
        return np.moveaxis(raw.reshape((*shape, -1), order="F"), -1, 0)
    except MemoryError:
        raise too_large(path) from None
    except Exception as error:  # a damaged stream raises any of zlib, EOF, OS and value errors
        raise cut_short(path) from error


def _verify(temporary: Path, path: Path, array: NDArray[Any], header: Header) -> None:
    found: Any = nib.load(temporary)
    same = found.shape == array.shape and np.array_equal(np.asanyarray(found.dataobj.get_unscaled()), array)
    if not same or any(found.header[f].tobytes() != header[f].tobytes() for f in _GEOMETRY):
        raise CaseError(
            f"{path.name!r} did not read back as it was written; what was there is unchanged, try again."
        )
