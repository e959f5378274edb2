"""DICOM series as scans, DICOM segmentations as masks, and masks as DICOM segmentations."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file
from pydicom.uid import HTJ2KLossless, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless

from dicom_files import BIRTH, PATIENT, UPRIGHT, write_frames, write_series, write_slice
from diffseg.card import ClassInfo
from diffseg.case import Case
from diffseg.errors import CaseError
from diffseg.io import read_case, read_labels, read_scan, write_labels
from diffseg.io.dicom import read_pixels
from scans import rotation

CLASSES = (ClassInfo("background", "#000000"), ClassInfo("liver", "#e69f00"), ClassInfo("nodule", "#56b4e9"))


def sentence(call: Any, *arguments: Any) -> str:
    """The one sentence with which a call refuses."""
    with pytest.raises(CaseError) as refusal:
        call(*arguments)
    text = str(refusal.value)
    assert text.endswith(".") and "\n" not in text and len(text) < 500 and PATIENT not in text
    return text


def volume(shape: tuple[int, ...] = (5, 6, 7)) -> np.ndarray:
    """A different number in every voxel."""
    return np.arange(np.prod(shape)).reshape(shape) - 50


def oblique(rng: np.random.Generator) -> np.ndarray:
    return rotation(rng)[:2]


def lies_where_the_slices_say(case: Case, stored: np.ndarray, directions: np.ndarray) -> None:
    """Every voxel of (slice, row, column), 0.75 x 1.5 x 2.5 mm, at its place in the patient."""
    normal = np.cross(*directions)
    shown = case.image[0]
    for index in np.argwhere(shown == shown)[:: shown.size // 17]:
        slice_, row, column = np.argwhere(stored == shown[tuple(index)])[0]
        lps = (
            np.array([-10.0, 20, 30])
            + directions[0] * 0.75 * column
            + directions[1] * 1.5 * row
            + normal * 2.5 * slice_
        )
        np.testing.assert_allclose(case.grid.world(index), lps * (-1, -1, 1), atol=1e-5)


@pytest.mark.parametrize("turned", [False, True])
def test_a_folder_or_any_file_of_it_is_the_whole_series(turned: bool, tmp_path: Path, rng: np.random.Generator) -> None:
    directions = oblique(rng) if turned else UPRIGHT
    stored = volume()
    paths = write_series(tmp_path / "series", stored, directions=directions, RescaleSlope=1, RescaleIntercept=0)
    write_series(tmp_path / "other", volume() + 9, series="1.2.4")
    (tmp_path / "series" / "notes.txt").write_text("not a slice")
    (tmp_path / "series" / "a.png").write_bytes(b"no picture")
    for given in ([tmp_path / "series"], [paths[3]], paths[::-1]):
        case, files = read_scan(given)
        lies_where_the_slices_say(case, stored, directions)
        assert files == (tuple(paths),) and case.origin.files == tuple(paths) and case.origin.path == paths[0]
        assert case.image.shape[1:] == case.grid.shape and case.name == case.channels[0] == "series"
    assert len(read_scan(paths[1:4])[1][0]) == 3, "exactly the slices that were named"
    if not turned:
        assert read_case([paths[0], tmp_path / "other"]).channels == ("series", "other")


def test_several_series_in_a_folder_are_listed_and_one_file_chooses(tmp_path: Path) -> None:
    first = write_series(tmp_path / "mixed", volume())
    for number, path in enumerate(write_series(tmp_path / "b", volume((2, 4, 4)), series="1.2.4", SeriesNumber=8)):
        path.rename(tmp_path / "mixed" / f"second{number}.dcm")
    text = sentence(read_case, [tmp_path / "mixed"])
    assert "2 DICOM series" in text and "3 (CT): 5 of 7 x 6" in text and "8 (CT): 2 of 4 x 4" in text
    assert read_case([first[2]]).grid.shape == (5, 6, 7)
    assert read_case([tmp_path / "mixed" / "second1.dcm"]).grid.shape == (2, 4, 4)
    nested = tmp_path / "disc"
    nested.mkdir()
    write_series(nested / "S1", volume())
    assert read_case([nested]).grid.shape == (5, 6, 7), "slices may lie one folder deeper"
    assert "no DICOM images" in sentence(read_case, [tmp_path / "b"])


def test_named_files_of_two_series_are_two_channels(tmp_path: Path) -> None:
    ones = write_series(tmp_path / "t1", volume())
    twos = write_series(tmp_path / "flair", volume() * 2, series="1.2.4")
    case, files = read_scan([*ones, *twos])
    assert case.channels == ("t1", "flair") and [set(group) for group in files] == [set(ones), set(twos)]
    np.testing.assert_array_equal(case.image[1], case.image[0] * 2)
    assert read_scan([twos[0], ones[0]])[1] == (tuple(twos), tuple(ones))


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "one position": ({"along": np.zeros(5)}, "all lie at one position"),
    "copies": ({"along": np.array([0, 2.5, 2.5, 5, 7.5])}, "only 4 lie at different positions"),
    "two volumes": ({"along": np.array([0, 0, 2.5, 2.5, 5])}, "only 3 lie at different positions"),
    "a slice missing": ({"along": np.array([0, 2.5, 5, 10, 12.5])}, "1 slices are missing"),
    "three slices missing": ({"along": np.array([0, 2.5, 5, 7.5, 17.5])}, "3 slices are missing"),
    "uneven": ({"along": np.array([0, 2.5, 5, 8.1, 10.6])}, "unevenly spaced (2.5 to 3.1 mm)"),
    "tilted": ({"shift_mm": 2.5 * np.tan(np.radians(12))}, "tilted by 12.0 degrees"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_slices_that_make_no_volume_get_one_sentence(fault: str, tmp_path: Path, rng: np.random.Generator) -> None:
    settings, words = FAULTS[fault]
    for number, directions in enumerate((UPRIGHT, oblique(rng))):
        write_series(tmp_path / str(number), volume(), directions=directions, **settings)
        assert words in sentence(read_case, [tmp_path / str(number)])


def test_rounded_positions_are_no_fault(tmp_path: Path, rng: np.random.Generator) -> None:
    stored = volume((40, 3, 4))
    along = np.round(np.arange(40) * 1.3333, 2)
    write_series(tmp_path / "series", stored, along, oblique(rng).round(5))
    spacing = sorted(read_case([tmp_path / "series"]).spacing_mm)
    assert spacing == pytest.approx([0.75, 1.3333, 1.5], rel=1e-3)


def test_each_slice_has_its_own_scale(tmp_path: Path) -> None:
    stored = volume((2, 3, 4))
    (tmp_path / "pet").mkdir()
    write_slice(tmp_path / "pet" / "a", stored[0], np.array([0.0, 0, 0]), RescaleSlope=0.5, RescaleIntercept=3)
    write_slice(tmp_path / "pet" / "b", stored[1], np.array([0.0, 0, 2]), RescaleSlope=2, RescaleIntercept=-1)
    found = read_case([tmp_path / "pet"])
    frames = found.origin.to_file(found.image[0]).transpose(2, 1, 0)
    np.testing.assert_allclose(frames, [stored[0] * 0.5 + 3, stored[1] * 2 - 1])


def test_frames_of_one_file_are_a_volume_in_the_order_of_their_places(tmp_path: Path, rng: np.random.Generator) -> None:
    directions = oblique(rng)
    stored = volume()
    path = write_frames(tmp_path / "enhanced.dcm", stored, [2, 0, 4, 1, 3], directions)
    case = read_case([path])
    lies_where_the_slices_say(case, stored * 2 - 5, directions)
    assert case.name == "enhanced" and case.origin.files == (path,)


def test_an_image_without_a_place_is_a_plane_and_films_colours_and_mosaics_are_refused(tmp_path: Path) -> None:
    plane = write_slice(tmp_path / "xray.dcm", volume((6, 7)), None, PixelSpacing=None, ImagerPixelSpacing=[0.2, 0.3])
    assert read_case([plane]).spacing_mm == pytest.approx((0.2, 0.3)) and read_case([plane]).name == "xray"
    film = write_slice(tmp_path / "film.dcm", volume(), None, series="1.9", NumberOfFrames=5)
    assert "5 frames without their places" in sentence(read_case, [film])
    colour = write_slice(tmp_path / "c.dcm", volume((6, 21)), None, series="1.8", SamplesPerPixel=3, Columns=7)
    assert "in colour" in sentence(read_case, [colour])
    mosaic = write_slice(
        tmp_path / "m.dcm", volume((6, 7)), None, series="1.7", ImageType=["ORIGINAL", "PRIMARY", "MOSAIC"]
    )
    assert "mosaic" in sentence(read_case, [mosaic])


LOSSLESS = ("JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless")


def compressed(path: Path, syntax: str) -> None:
    """Rewrite a slice with another transfer syntax, which is one of GDCM's names."""
    gdcm = pytest.importorskip("gdcm")
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_a_series_compressed_without_loss_is_the_same_scan(
    syntax: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    stored = rng.integers(-1024, 3000, (4, 36, 40))
    slopes = {"RescaleSlope": 2.0, "RescaleIntercept": -7.0}
    plain, packed = (write_series(tmp_path / name, stored, **slopes) for name in ("plain", "packed"))
    for path in packed:
        compressed(path, syntax)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_encapsulated
    one, two = read_case([plain[0].parent]), read_case([packed[0].parent])
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.grid.affine, two.grid.affine)
    assert set(np.unique(two.image)) == set(np.unique(stored * 2.0 - 7))
    other = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(packed[2])))[0]
    np.testing.assert_array_equal(read_pixels(packed[2])[0] * 2 - 7, other)


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm"])
def test_what_other_programs_compressed_without_loss_is_read_as_they_wrote_it(name: str) -> None:
    if "RLE" not in name:
        pytest.importorskip("gdcm")
    found, plain = (Path(str(get_testdata_file(n, download=False))) for n in (name, "MR_small.dcm"))
    np.testing.assert_array_equal(read_pixels(found), read_pixels(plain))


WITHOUT = """
import sys
from pathlib import Path
sys.modules.update(dict.fromkeys(("gdcm", "jpeg_ls", "pylibjpeg", "openjpeg", "libjpeg", "rle"), None))
from diffseg.errors import CaseError
from diffseg.io import read_case
for path in sys.argv[1:]:
    try:
        print(read_case([Path(path)]).image.shape)
    except CaseError as error:
        print(error)
"""


def test_without_the_decoder_the_refusal_names_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    plain = write_slice(tmp_path / "a" / "plain.dcm", volume((6, 7)), np.zeros(3))
    paths = [plain]
    for name, syntax in (("lossless", JPEGLosslessSV1), ("ls", JPEGLSLossless), ("fast", HTJ2KLossless)):
        path = tmp_path / name / "slice.dcm"
        path.parent.mkdir()
        packed_as(plain, path, syntax)
        paths.append(path)
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT, *map(str, paths)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said[0] == "(1, 6, 7)" and len(said) == 4
    for text, words in zip(said[1:3], ("JPEG Lossless", "JPEG-LS Lossless"), strict=True):
        assert text.startswith(f"'slice.dcm' is compressed as {words}") and "is not installed" in text
        assert text.endswith(
            "install it with pip install 'napari-diffseg[dicom-jpeg]', or export the series uncompressed."
        )
    assert "High-Throughput" in said[3] and said[3].endswith("which is not read; export it uncompressed.")


def packed_as(plain: Path, path: Path, syntax: str, **tags: Any) -> Path:
    """A slice that claims to be compressed, and is not really."""
    slices = pydicom.dcmread(plain)
    slices.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 not really"])
    slices["PixelData"].is_undefined_length = True
    slices.file_meta.TransferSyntaxUID = syntax
    for name, value in tags.items():
        setattr(slices, name, value)
    slices.save_as(path)
    return path


def test_compressions_that_no_installable_decoder_reads_are_refused_without_naming_one(tmp_path: Path) -> None:
    plain = write_slice(tmp_path / "plain.dcm", volume((6, 7)), np.zeros(3))
    video = packed_as(plain, tmp_path / "video.dcm", "1.2.840.10008.1.2.4.103", SeriesInstanceUID="1.5")
    assert "export it uncompressed" in sentence(read_case, [video])
    deep = packed_as(plain, tmp_path / "deep.dcm", JPEGExtended12Bit, SeriesInstanceUID="1.6", BitsStored=12)
    if find_spec("libjpeg") is None:
        assert "JPEG Extended" in (text := sentence(read_case, [deep])) and "of 12 bits" in text and "pip" not in text
    lossless = packed_as(plain, tmp_path / "lossless.dcm", JPEGLosslessSV1, SeriesInstanceUID="1.7")
    if find_spec("gdcm") is not None:
        assert "cut short" in sentence(read_case, [lossless])


def test_nothing_of_the_patient_is_kept_and_a_nifti_mask_names_nobody(tmp_path: Path) -> None:
    write_series(tmp_path / "series", volume())
    case = read_case([tmp_path / "series"])
    assert PATIENT not in repr(case) and BIRTH not in repr(case.origin)
    for suffix in (".nii", ".nrrd", ".seg.nrrd", ".mha"):
        write_labels(tmp_path / f"mask{suffix}", np.ones(case.grid.shape, np.uint8), case, CLASSES)
        raw = (tmp_path / f"mask{suffix}").read_bytes()
        assert not any(text in raw for text in (b"Doe", b"4711", BIRTH.encode(), b"1.2.3"))


def test_damaged_slices_are_read_or_refused_but_never_crash(tmp_path: Path, rng: np.random.Generator) -> None:
    paths = write_series(tmp_path / "series", volume((3, 4, 5)))
    whole = np.frombuffer(paths[1].read_bytes(), np.uint8)
    outcomes = set()
    for trial in range(150):
        damaged = whole.copy()
        spots = rng.integers(128, len(whole), rng.integers(1, 8))
        damaged[spots] = rng.integers(0, 256, len(spots))
        paths[1].write_bytes(damaged[: None if trial % 3 else rng.integers(0, len(damaged))].tobytes())
        for given in ([tmp_path / "series"], [paths[1]]):
            try:
                read_case(given)
                outcomes.add("read")
            except CaseError as refusal:
                outcomes.add("refused")
                assert str(refusal).endswith(".") and "\n" not in str(refusal)
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("bits", [[12, 12], None])
def test_a_file_that_tells_nothing_sensible_of_its_bits_is_read_or_refused(tmp_path: Path, bits: Any) -> None:
    paths = write_series(tmp_path / "series", volume((3, 4, 5)))
    found = pydicom.dcmread(paths[0])
    found.BitsStored = bits
    found.save_as(paths[0])
    with pytest.raises(CaseError, match="cut short|damaged"):
        read_case([tmp_path / "series"])


# ---- segmentations ----


def drawn(case: Case, rng: np.random.Generator) -> np.ndarray:
    """Two labels, in some slices only."""
    labels = rng.integers(0, 3, case.grid.shape).astype(np.uint8)
    slices = case.origin.to_file(labels)
    slices[:, :, [0, 3]] = 0
    return labels


@pytest.mark.parametrize("frames", [False, True])
def test_a_dicom_segmentation_lies_on_the_scan_for_other_readers(
    frames: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    highdicom = pytest.importorskip("highdicom")
    directions = oblique(rng)
    if frames:
        case = read_case([write_frames(tmp_path / "enhanced.dcm", volume(), [2, 0, 4, 1, 3], directions)])
    else:
        write_series(tmp_path / "series", volume(), directions=directions)
        case = read_case([tmp_path / "series"])
    labels = drawn(case, rng)
    write_labels(tmp_path / "mask.dcm", labels, case, CLASSES)
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.dcm", case.grid), labels)
    seg = highdicom.seg.segread(tmp_path / "mask.dcm")
    assert [seg.get_segment_description(n).SegmentLabel for n in (1, 2)] == ["liver", "nodule"]
    found = seg.get_volume(combine_segments=True)
    index = np.argwhere(found.array)
    lps = np.c_[index, np.ones(len(index))] @ found.affine.T
    voxels = np.rint(np.linalg.solve(case.grid.affine, (lps * (-1, -1, 1, 1)).T)[:3].T).astype(int)
    again = np.zeros_like(labels)
    again[tuple(voxels.T)] = found.array[tuple(index.T)]
    np.testing.assert_array_equal(again, labels)
    # A SEG belongs to the patient's study, so it names the patient as the slices do, and refers to them.
    assert seg.PatientName == PATIENT and seg.StudyInstanceUID == "1.2"
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3"


def test_labels_without_classes_and_empty_masks_become_segments_too(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    write_series(tmp_path / "series", volume())
    case = read_case([tmp_path / "series"])
    labels = np.zeros(case.grid.shape, np.uint8)
    assert "hold nothing" in sentence(write_labels, tmp_path / "mask.dcm", labels, case)
    write_labels(tmp_path / "mask.dcm", labels, case, CLASSES)
    assert not read_labels(tmp_path / "mask.dcm", case.grid).any()
    labels[1, 2, 3] = 7
    write_labels(tmp_path / "mask.dcm", labels, case)
    # Segments are numbered from 1.
    np.testing.assert_array_equal(read_labels(tmp_path / "mask.dcm", case.grid), labels == 7)


def test_what_keeps_a_segmentation_from_being_written_is_told_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("highdicom")
    paths = write_series(tmp_path / "series", volume())
    case = read_case([tmp_path / "series"])
    labels = np.ones(case.grid.shape, np.uint8)
    target = tmp_path / "mask.dcm"
    write_labels(target, labels, case)
    before = target.read_bytes()
    paths[2].rename(tmp_path / "away")
    assert "no longer where it was" in sentence(write_labels, target, labels, case)
    (tmp_path / "away").rename(paths[2])
    write_series(tmp_path / "series", volume(), np.arange(5) * 3.0)
    assert "have changed" in sentence(write_labels, target, labels, case)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    assert "napari-diffseg[dicom-seg]" in sentence(write_labels, target, labels, case)
    assert target.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_every_real_series_takes_a_segmentation(shared_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    # Anonymising took out what DICOM wants, and one has no character set, one an unusual one.
    for name in ("ct_17_slices", "ct_3_slices", "mr_oblique", "mr_rle", "mr_non_isotropic_scaled"):
        case = read_case([shared_dir / "data/formats/dicom" / name])
        labels = np.zeros(case.grid.shape, np.uint8)
        labels[1:3, 5:20, 3:4], labels[0, 0, 0] = 1, 2
        write_labels(tmp_path / "mask.dcm", labels, case)
        np.testing.assert_array_equal(read_labels(tmp_path / "mask.dcm", case.grid), labels)


def test_a_segmentation_of_others_is_laid_on_its_scan(shared_dir: Path) -> None:
    folder = shared_dir / "data/formats/dicom"
    case = read_case([folder / "ct_3_slices"], [folder / "seg_liver.dcm"])
    liver = case.raters["seg_liver"]
    assert liver.mean() == pytest.approx(0.136182, abs=1e-6)
    stored = pydicom.dcmread(folder / "seg_liver.dcm")
    frames = case.origin.to_file(liver).transpose(2, 1, 0)
    for group, pixels in zip(stored.PerFrameFunctionalGroupsSequence, stored.pixel_array, strict=True):
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float) * (-1, -1, 1)
        k = round(np.linalg.solve(case.origin.affine, [*place, 1])[2])
        np.testing.assert_array_equal(frames[k], pixels)


def test_another_reader_finds_nifti_masks_of_a_series_on_the_series(tmp_path: Path, rng: np.random.Generator) -> None:
    write_series(tmp_path / "series", volume(), directions=oblique(rng))
    case = read_case([tmp_path / "series"])
    labels = drawn(case, rng)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    scan = reader.Execute()
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        write_labels(tmp_path / f"mask{suffix}", labels, case)
        mask = SimpleITK.ReadImage(str(tmp_path / f"mask{suffix}"))
        assert mask.GetSize() == scan.GetSize()
        for point in ((0, 0, 0), tuple(n - 1 for n in scan.GetSize())):
            np.testing.assert_allclose(
                mask.TransformIndexToPhysicalPoint(point), scan.TransformIndexToPhysicalPoint(point), atol=1e-3
            )
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(mask).T, case.origin.to_file(labels))
