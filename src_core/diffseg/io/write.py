"""One mask into a file of the format its name asks for, read back before it takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffseg.case import Case, Labels
from diffseg.errors import CaseError
from diffseg.io.atomic import atomic_file, suffix_of
from diffseg.io.formats import LABEL_SUFFIXES
from diffseg.io.nifti import write_array
from diffseg.io.segments import NamedClass, segments_of
from diffseg.io.volume import Volume, named

# Directions are stored as unit vectors beside their lengths, so corners of a scan move by some 1e-12 mm.
_EXACT_MM = 1e-6
# DICOM keeps 16 characters of a number.
_DICOM_MM = 1e-3


def write_mask(path: Path, labels: Labels, case: Case, classes: Sequence[NamedClass] = ()) -> None:
    """Write labels (*S), uint8 or uint16, atomically in the format of the suffix. Raises CaseError."""
    suffix = suffix_of(path).lower()
    stored = case.origin.to_file(labels)
    if suffix in (".nii", ".nii.gz"):
        write_array(path, stored, case.origin)
    elif suffix in (".nrrd", ".seg.nrrd"):
        from diffseg.io import nrrd

        with atomic_file(path) as temporary:
            if suffix == ".nrrd":
                nrrd.write_nrrd(temporary, stored, case.origin)
            else:
                nrrd.write_segmentation(temporary, stored, case.origin, classes)
            _verify(path, nrrd.open_nrrd(temporary), labels, case)
    elif suffix == ".mha":
        from diffseg.io import metaimage

        with atomic_file(path) as temporary:
            metaimage.write_metaimage(temporary, stored, case.origin)
            _verify(path, metaimage.open_metaimage(temporary), labels, case)
    elif suffix == ".dcm":
        _write_dicom(path, labels, case, classes)
    else:
        raise CaseError(f"{named(path)} cannot be written; name the file {', '.join(LABEL_SUFFIXES)}.")


def _write_dicom(path: Path, labels: Labels, case: Case, classes: Sequence[NamedClass]) -> None:
    """A SEG numbers its segments from 1, so it is the order of the labels that comes back."""
    from diffseg.io import dicom_seg, dicom_seg_write
    from diffseg.io.lay import laid_on

    dicom_seg_write.refuse_unfit(path, case.origin)
    with atomic_file(path) as temporary:
        dicom_seg_write.write_dicom_seg(temporary, case.origin.to_file(labels), case.origin, classes)
        numbered = np.zeros(65536, np.uint16)
        for number, segment in enumerate(segments_of(labels, classes), start=1):
            numbered[segment.label] = number
        found = laid_on(dicom_seg.open_segmentation(temporary), case.grid, _DICOM_MM / min(case.spacing_mm))
        if not np.array_equal(found, numbered[labels]):
            raise _unlike(path)


def _verify(path: Path, found: Volume, labels: Labels, case: Case) -> None:
    if not found.grid.same_as(case.grid, _EXACT_MM) or not np.array_equal(found.labels(), labels):
        raise _unlike(path)


def _unlike(path: Path) -> CaseError:
    return CaseError(f"{path.name!r} did not read back as it was written; what was there is unchanged, try again.")
