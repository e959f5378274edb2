"""Whether a file is a mask or a scan, as far as the file itself and its name tell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from diffseg.errors import CaseError
from diffseg.io.formats import Kind, kind_of
from diffseg.io.opened import open_group
from diffseg.io.pictures import JPEG_SUFFIXES
from diffseg.io.quiet import unlogged

# "t1_seg", "mask-2", "labels", "rater1"; not "segment of a name" like "massage".
LABEL_NAME = re.compile(
    r"(?<![a-z])(label|mask|seg|rater|annotation)(s|map|mentation|mentations)?(?![a-z])", re.IGNORECASE
)
LABEL_INTENT = "label"
MOST_LABELS = 256
FEW_LABELS = 16
# A mask in a JPEG file has grey only around edges; a scan with so little grey shows nothing.
_SHARE_OF_GREY = 0.03


def is_mask(path: Path, named: bool = True) -> bool:
    """Whether a file is a mask; False for one that cannot be read at all, which reading it will explain.

    A mask is what says so itself (a segmentation of DICOM or 3D Slicer, NIfTI's intent code) or holds whole numbers, at
    most 256 different ones, under a name that speaks of a label, mask, segmentation or rater. With ``named`` False the
    name does not matter, but then at most 16 different ones, or black and white: the rule for files that come together
    with a scan. A DICOM image is never one.
    """
    try:
        kind = kind_of(path)
        called = bool(LABEL_NAME.search(path.name))
        if kind == "dicom":
            return _is_segmentation(path)
        if _says_so(path, kind):
            return True
        if named and not called:
            return False
        values = _stored(path)
        if kind == "picture" and _black_and_white(path, values):
            return True
        return values.dtype.kind in "iu" and _few(values, MOST_LABELS if called else FEW_LABELS)
    except CaseError:
        return False


def _is_segmentation(path: Path) -> bool:
    from diffseg.io.dicom_planes import is_segmentation

    return is_segmentation(path)


def _says_so(path: Path, kind: Kind) -> bool:
    if kind == "nrrd":
        from diffseg.io.nrrd import names_segments

        return names_segments(path)
    if kind != "nifti":
        return False
    try:
        with unlogged("nibabel.global"):
            image: Any = nib.load(path)
            return bool(image.header.get_intent()[0] == LABEL_INTENT)
    except Exception as error:  # nibabel raises a dozen unrelated types on damaged headers
        raise CaseError(f"{path.name!r} cannot be read; it is damaged.") from error


def _stored(path: Path) -> NDArray[Any]:
    """The stored numbers (*S) of one volume."""
    return open_group([path]).stored[0]


def _black_and_white(path: Path, grey: NDArray[Any]) -> bool:
    """Whether a picture is a mask of 0 and 255, softened as far as JPEG softens edges."""
    if grey.dtype != np.uint8:
        return False
    if path.suffix.lower() not in JPEG_SUFFIXES:
        return bool(np.isin(grey, (0, 255)).all())
    between = np.count_nonzero((grey > 64) & (grey < 191))
    return bool(between <= _SHARE_OF_GREY * grey.size) and _sure_ends(grey)


def _sure_ends(grey: NDArray[Any]) -> bool:
    """Whether what is light is as light as can be, and what is dark as dark, as nowhere in a photograph."""
    dark, light = grey[grey <= 64], grey[grey >= 191]
    return bool((not dark.size or np.median(dark) <= 4) and (not light.size or np.median(light) >= 251))


def _few(values: NDArray[Any], most: int) -> bool:
    """Whether there are at most so many different values; a scan is told after its first slices."""
    found: set[int] = set()
    for slab in values:
        found.update(np.unique(slab).tolist())
        if len(found) > most:
            return False
    return True
