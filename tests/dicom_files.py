"""DICOM series made for tests: any direction, spacing and fault, with a patient whose name must stay where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

PATIENT = "Doe^Jane"
BIRTH = "19700101"
UPRIGHT = np.array([[1.0, 0, 0], [0, 1, 0]])


def write_slice(
    path: Path,
    pixels: NDArray[Any],
    position: NDArray[np.float64] | None,
    directions: NDArray[np.float64] = UPRIGHT,
    series: str = "1.2.3",
    syntax: str = ExplicitVRLittleEndian,
    **tags: Any,
) -> Path:
    """One slice of 16 bits, (row, column) or (frame, row, column), in L P S mm; other attributes as they are given."""
    made = FileDataset(str(path), {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = CTImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = PATIENT, "4711", BIRTH, "F"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = "1.2", series, "1.2.9"
    made.Modality, made.SeriesNumber, made.InstanceNumber = "CT", 3, 1
    made.StudyID = made.StudyDate = made.StudyTime = made.AccessionNumber = made.ReferringPhysicianName = ""
    made.Manufacturer, made.PositionReferenceIndicator = "maker", ""
    made.Rows, made.Columns = pixels.shape[-2:]
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.PixelSpacing, made.SliceThickness = [1.5, 0.75], 2.0
    if position is not None:
        made.ImagePositionPatient = [f"{value:.10g}" for value in position]
        made.ImageOrientationPatient = [f"{value:.10g}" for value in np.ravel(directions)]
    made.PixelData = pixels.astype("<i2").tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(made, name)
        else:
            setattr(made, name, value)
    made.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    volume: NDArray[Any],
    along: NDArray[np.float64] | None = None,
    directions: NDArray[np.float64] = UPRIGHT,
    shift_mm: float = 0.0,
    **tags: Any,
) -> list[Path]:
    """One file per slice (slice, row, column) at ``along`` mm on the normal, each ``shift_mm`` further down the rows.

    Files are named in another order than the slices lie.
    """
    folder.mkdir(exist_ok=True, parents=True)
    places = np.arange(len(volume)) * 2.5 if along is None else along
    normal = np.cross(*directions)
    paths = []
    for number, (pixels, place) in enumerate(zip(volume, places, strict=True)):
        position = np.array([-10.0, 20, 30]) + normal * place + directions[1] * shift_mm * number
        path = folder / f"IM{(number * 7) % len(volume):03d}_{number}"
        paths.append(write_slice(path, pixels, position, directions, **tags))
    return paths


def write_frames(path: Path, volume: NDArray[Any], order: list[int], directions: NDArray[np.float64] = UPRIGHT) -> Path:
    """All slices as frames of one file, in this order."""
    normal = np.cross(*directions)

    def item(**tags: Any) -> Sequence:
        made = Dataset()
        for name, value in tags.items():
            setattr(made, name, value)
        return Sequence([made])

    groups = []
    for number in order:
        group = Dataset()
        place = np.array([-10.0, 20, 30]) + normal * 2.5 * number
        group.PlanePositionSequence = item(ImagePositionPatient=[f"{value:.10g}" for value in place])
        groups.append(group)
    shared = Dataset()
    turn = [f"{value:.10g}" for value in np.ravel(directions)]
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=turn)
    shared.PixelMeasuresSequence = item(PixelSpacing=[1.5, 0.75], SliceThickness=2.5)
    shared.PixelValueTransformationSequence = item(RescaleSlope=2, RescaleIntercept=-5, RescaleType="HU")
    return write_slice(
        path,
        volume[order],
        None,
        PixelSpacing=None,
        SliceThickness=None,
        SOPClassUID=EnhancedCTImageStorage,
        NumberOfFrames=len(order),
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(groups),
    )
