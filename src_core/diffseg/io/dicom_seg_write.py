"""Masks as DICOM segmentations that refer to the series they were drawn on.

Needs highdicom (extra `dicom-seg`). A SEG is one more object of the patient's study, so DICOM has it name the patient
exactly as the slices do; they are read for that when it is written, and nothing of them is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import generate_uid

import diffseg
from diffseg.case import Labels, Origin
from diffseg.errors import CaseError
from diffseg.io.dicom import origin_now
from diffseg.io.quiet import silent
from diffseg.io.segments import NamedClass, Segment, segments_of
from diffseg.io.volume import named

_MAKER = "napari-diffseg"
_LONGEST_LABEL = 64
_PLAIN, _UNICODE = ("ISO_IR 100", "ISO_IR 192"), "ISO_IR 192"
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip


def refuse_unfit(path: Path, origin: Origin) -> None:
    """Raise CaseError where no SEG can be written: another format of scan, or highdicom is missing."""
    if not origin.files:
        raise CaseError(
            f"{named(path)} cannot be written, since a DICOM-SEG belongs to a DICOM series and this scan is none; save "
            "the mask as .nii.gz, .nrrd or .mha."
        )
    if find_spec("highdicom") is None:
        raise CaseError(
            f"{named(path)} cannot be written without highdicom; install it with "
            "pip install 'napari-diffseg[dicom-seg]', or save the mask as .nii.gz."
        )


def write_dicom_seg(temporary: Path, labels: Labels, origin: Origin, classes: Sequence[NamedClass] = ()) -> None:
    """Write labels in file order, (column, row, slice), one binary segment per class. Raises CaseError."""
    planes = origin_now(origin)
    segments = segments_of(labels, classes)
    if not segments:
        raise CaseError("The mask is empty and no class has a name, so a DICOM-SEG would hold nothing; draw first.")
    thickness_mm = float(np.linalg.norm(origin.affine[:3, 2]))
    sources = [_source(path, thickness_mm) for path in origin.files]
    frames = labels.transpose(2, 1, 0)
    if len(sources) == 1 and len(planes) > 1:  # back to the order of the frames in their file
        frames = frames[np.argsort([plane.frame for plane in planes])]
    masks = np.stack([frames == segment.label for segment in segments], axis=-1).astype(np.uint8)
    try:
        _made(sources, masks, segments).save_as(temporary)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # what highdicom misses in a header
        # Its own words may repeat the header's.
        raise CaseError(
            "The slices' headers lack what a DICOM-SEG must say, or say it in a wrong way; save the mask as .nii.gz."
        ) from error


def _source(path: Path, thickness_mm: float) -> Any:
    """A slice without its pixels, with something for whatever anonymising took out that a SEG must say."""
    with silent("pydicom"):
        found = pydicom.dcmread(path, stop_before_pixels=True)
        for name in _MAY_BE_EMPTY:
            if name not in found:
                setattr(found, name, "")
        if not found.get("SliceThickness"):
            found.SliceThickness = f"{thickness_mm:.10g}"
        if found.get("SpecificCharacterSet") not in _PLAIN:
            found.decode()
            found.SpecificCharacterSet = _UNICODE
        if not found.get("FrameOfReferenceUID"):
            found.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(found.get("SeriesInstanceUID"))])
    return found


def _made(sources: Sequence[Any], masks: NDArray[np.uint8], segments: Sequence[Segment]) -> Any:
    """The SEG of masks (frame, row, column, segment)."""
    import highdicom

    with silent("pydicom"):
        return highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=masks,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_described(number, one) for number, one in enumerate(segments, start=1)],
            series_instance_uid=highdicom.UID(),
            series_number=1,
            sop_instance_uid=highdicom.UID(),
            instance_number=1,
            manufacturer=_MAKER,
            manufacturer_model_name=_MAKER,
            software_versions=diffseg.__version__,
            device_serial_number="1",
            content_label="SEGMENTATION",
            series_description="Segmentation",
            omit_empty_frames=bool(masks.any()),
        )


def _described(number: int, segment: Segment) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    made_by = highdicom.AlgorithmIdentificationSequence(
        name=_MAKER, family=codes.DCM.ArtificialIntelligence, version=diffseg.__version__
    )
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:_LONGEST_LABEL],
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=made_by,
        display_color=highdicom.color.CIELabColor.from_rgb(*(round(255 * value) for value in segment.rgb)),
    )
