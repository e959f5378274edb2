"""MGH and MGZ, the volumes of FreeSurfer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from diffseg.case import origin_of
from diffseg.errors import CaseError
from diffseg.io.quiet import unlogged
from diffseg.io.volume import Volume, cut_short, named, too_large, unusable_geometry

_HEADER_BYTES = 284
_GZIP_LIMIT = 1100


def open_mgh(path: Path, members: bool = False) -> Volume:
    """Open a .mgh or .mgz file; with `members` it may hold several frames. Raises CaseError for anything else."""
    try:
        with unlogged("nibabel.global"), np.errstate(all="ignore"):
            image: Any = nib.freesurfer.mghformat.MGHImage.from_filename(path)
        shape = tuple(int(n) for n in image.shape)
        itemsize = image.header.get_data_dtype().itemsize
        affine = np.asarray(image.affine, np.float64)
    except Exception as error:  # nibabel raises a dozen unrelated types on damaged headers
        raise CaseError(f"{named(path)} cannot be read as MGZ; it is damaged, or of another format.") from error
    frames = int(np.prod(shape[3:], dtype=object))
    if min(shape, default=0) < 1 or frames > 1 and not members:
        raise CaseError(f"{named(path)} has the shape {shape}; save the 3D volume you want as its own file.")
    promised = int(np.prod(shape, dtype=object)) * itemsize + _HEADER_BYTES
    if promised > path.stat().st_size * (_GZIP_LIMIT if path.suffix.lower() == ".mgz" else 1):
        raise cut_short(path)
    try:
        origin = origin_of(shape[:3], affine, path, file_format="mgh")
        grid = origin.display_grid()
    except CaseError:
        raise unusable_geometry(path) from None
    try:
        values = np.asanyarray(image.dataobj).reshape((*shape[:3], -1), order="F")
    except MemoryError:
        raise too_large(path) from None
    except Exception as error:  # a damaged stream raises any of zlib, EOF, OS and value errors
        raise cut_short(path) from error
    together = np.stack([origin.to_display(values[..., frame]) for frame in range(frames)])
    return Volume(path, together, 1.0, 0.0, grid, origin)
