"""Which file formats there are, told by names and, for DICOM, by the first bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, TypeAlias

from diffseg.errors import CaseError
from diffseg.io.atomic import suffix_of

Kind: TypeAlias = Literal["nifti", "mgh", "nrrd", "metaimage", "picture", "dicom"]

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_BY_SUFFIX: dict[str, Kind] = {
    **dict.fromkeys((".nii", ".nii.gz", ".nii.zst", ".hdr", ".img"), "nifti"),
    **dict.fromkeys((".mgz", ".mgh"), "mgh"),
    **dict.fromkeys((".nrrd", ".nhdr", ".seg.nrrd"), "nrrd"),
    **dict.fromkeys((".mha", ".mhd"), "metaimage"),
    **dict.fromkeys(PICTURES, "picture"),
    **dict.fromkeys((".dcm", ".dicom", ".ima"), "dicom"),
}
SUFFIXES = tuple(_BY_SUFFIX)

# What masks can be written as, the first being what a name without a suffix gets.
LABEL_SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".dcm")

# For file dialogs: what it is called, and how its names end.
FORMATS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("NIfTI", (".nii.gz", ".nii")),
    ("NRRD segmentation with class names (3D Slicer)", (".seg.nrrd",)),
    ("NRRD", (".nrrd",)),
    ("MetaImage", (".mha",)),
    ("DICOM-SEG, for a DICOM series", (".dcm",)),
)

_PREAMBLE = 128
_MAGIC = b"DICM"


def kind_of(path: Path) -> Kind:
    """The format of a file or of a folder of DICOM slices.

    DICOM files often have no suffix, or a wrong one, so those of none or of an unknown one are looked into. Raises
    CaseError when it is none of them, or when the file is missing or empty.
    """
    if not os.path.exists(path):  # which bears any name, unlike Path.exists
        raise CaseError(f"{str(path)!r} does not exist; check the name.")
    if path.is_dir():
        return "dicom"
    known = _BY_SUFFIX.get(suffix_of(path).lower()) or _BY_SUFFIX.get(path.suffix.lower())
    if not path.is_file():
        raise CaseError(f"{path.name!r} is no ordinary file; choose a scan or a mask.")
    if path.stat().st_size == 0 and known != "picture":
        raise CaseError(f"{path.name!r} is empty (0 bytes); copy or export it again.")
    if known is not None and known != "dicom":
        return known
    if is_dicom(path):
        return "dicom"
    if known == "dicom":
        raise CaseError(f"{path.name!r} cannot be read as DICOM; it is damaged, or of another format.")
    raise CaseError(
        f"{path.name!r} is of no known format; give NIfTI, NRRD, MetaImage, MGZ, DICOM, or a PNG, JPEG or TIFF picture."
    )


def is_dicom(path: Path) -> bool:
    """Whether a file says in its first bytes that it is DICOM; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC
    except OSError:
        return False


def stem_of(path: Path) -> str:
    """A file's name without its suffix, `.nii.gz` and `.seg.nrrd` counted as one; that of a folder whole."""
    if path.is_dir():
        return path.name
    suffix = suffix_of(path)
    # What is behind the last full stop of a DICOM file's name, often a number, is no suffix.
    known = suffix.lower() in _BY_SUFFIX or suffix.lower() in (".gz", ".zst")
    return path.name[: len(path.name) - len(suffix)] if known else path.name
