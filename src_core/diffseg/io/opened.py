"""Opening the files of one image by the reader of their format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffseg.io.formats import kind_of
from diffseg.io.nifti import open_volume
from diffseg.io.pictures import open_picture
from diffseg.io.volume import Volume


def open_group(group: Sequence[Path], members: bool = False) -> Volume:
    """The image of these files; several are slices of one DICOM series. Raises CaseError with one sentence.

    Readers are imported when they are needed: a scan in NIfTI does not wait for those of DICOM.
    """
    path = group[0]
    kind = kind_of(path)
    if kind == "picture":
        return open_picture(path)
    if kind == "nifti":
        return open_volume(path, members)
    if kind == "mgh":
        from diffseg.io.mgh import open_mgh

        return open_mgh(path, members)
    if kind == "nrrd":
        from diffseg.io.nrrd import open_nrrd

        return open_nrrd(path, members)
    if kind == "metaimage":
        from diffseg.io.metaimage import open_metaimage

        return open_metaimage(path)
    from diffseg.io.dicom import open_dicom
    from diffseg.io.dicom_planes import is_segmentation

    if len(group) == 1 and is_segmentation(path):
        from diffseg.io.dicom_seg import open_segmentation

        return open_segmentation(path)
    return open_dicom(group)
