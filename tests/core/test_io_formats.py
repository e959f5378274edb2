"""Files of all formats: those of other projects as their manifest says, and masks that two programs read alike."""

from __future__ import annotations

import ast
import csv
import gzip
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image

from diffseg.card import ClassInfo
from diffseg.case import Case
from diffseg.errors import CaseError
from diffseg.io import LABEL_SUFFIXES, read_case, read_labels, write_labels
from diffseg.io.metaimage import open_metaimage
from diffseg.io.nrrd import open_nrrd
from scans import affine_of, orientations, rotation, save_nifti, sheared

FORMATS = Path("data/formats")
CLASSES = (
    ClassInfo("background", "#000000"),
    ClassInfo("liver", "#e69f00"),
    ClassInfo("the  spleen", "#56b4e9"),
)
# Voxel volumes in one colour space are no scan, and neither is half a file or four slices at one place.
REFUSED = {
    "derived/rgb24.nii.gz": "colours",
    "derived/truncated.nii.gz": "cut short",
    "dicom/truncated_slice.dcm": "cut short",
    "dicom/ct_same_position/": "all lie at one position",
}


def manifest() -> list[dict[str, str]]:
    """The rows of the manifest; none without the shared folder."""
    shared = Path(os.environ.get("DIFFSEG_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    path = shared / FORMATS / "manifest.csv"
    return list(csv.DictReader(path.open(newline=""))) if path.is_file() else []


def sentence(call: Any, *arguments: Any) -> str:
    """The one sentence with which a call refuses."""
    with pytest.raises(CaseError) as refusal:
        call(*arguments)
    text = str(refusal.value)
    assert text.endswith(".") and "\n" not in text and len(text) < 400
    return text


@pytest.mark.parametrize("row", manifest(), ids=lambda row: row["file"])
def test_every_file_behaves_as_the_manifest_says(row: dict[str, str], shared_dir: Path) -> None:
    path = shared_dir / FORMATS / row["file"]
    if row["file"] in REFUSED:
        assert "error" in row["expect"]
        assert REFUSED[row["file"]] in sentence(read_case, [path])
        return
    assert row["expect"] == "ok"
    case = read_case([path])
    if path.is_dir() or path.suffix == ".dcm":
        as_dicom_says(case, path, row)
        return
    shape, spacing = ast.literal_eval(row["shape"]), ast.literal_eval(row["spacing"])
    assert len(case.channels) == int(np.prod(shape[3:]))
    axes = row["axes"] or "LPS"
    order = [next(i for i, letter in enumerate(axes) if letter in pair) for pair in ("IS", "PA", "LR")]
    stored = [shape[i] for i in order]
    assert case.grid.shape == (tuple(stored) if shape[2] > 1 else tuple(stored[1:]))
    assert case.spacing_mm == pytest.approx([spacing[i] for i in order][-case.ndim :], rel=1e-3)
    holes = int(row["nonfinite"] or 0)
    assert len(case.notes) == (holes > 0) and (not holes or str(holes) in case.notes[0])
    # Float32 holds values of some thousands to 1e-4; what was no number became the smallest one.
    assert (case.image.min(), case.image.max()) == pytest.approx((float(row["min"]), float(row["max"])), rel=1e-6)
    total = case.image.size - holes
    mean = (case.image.sum(dtype=np.float64) - holes * float(row["min"])) / total
    assert mean == pytest.approx(float(row["mean"]), abs=1e-3)


def as_dicom_says(case: Case, path: Path, row: dict[str, str]) -> None:
    """Every slice lies where its own header says, with the values that pydicom and its own slope give."""
    frames = case.origin.to_file(case.image[0])
    if path.is_file():
        assert frames.mean() == pytest.approx(float(row["mean"]), abs=1e-6)
        return
    stored = []
    for file in sorted(path.iterdir()):
        header = pydicom.dcmread(file)
        place = np.diag([-1, -1, 1]) @ np.array(header.ImagePositionPatient, float)
        index = np.linalg.solve(case.origin.affine, [*place, 1])[:3]
        assert index == pytest.approx([0, 0, round(index[2])], abs=0.02)
        stored.append(header.pixel_array)
        scaled = header.pixel_array * float(header.get("RescaleSlope") or 1) + float(
            header.get("RescaleIntercept") or 0
        )
        np.testing.assert_allclose(frames[:, :, round(index[2])].T, scaled, rtol=1e-6)
    assert len(stored) == frames.shape[2]
    assert (np.min(stored), np.max(stored)) == (float(row["min"]), float(row["max"]))
    rows_mm, columns_mm = ast.literal_eval(row["spacing"])
    assert np.linalg.norm(case.origin.affine[:3, :2], axis=0) == pytest.approx([columns_mm, rows_mm], rel=1e-3)


def test_one_anatomy_in_four_formats_is_one_scan(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / FORMATS / "derived"
    reference = read_case([folder / "reference.nii.gz"])
    plain = nib.load(folder / "reference.nii.gz")
    nib.save(plain, tmp_path / "packed.nii.zst")
    nib.save(nib.MGHImage(np.asarray(plain.dataobj).astype(np.float32), plain.affine), tmp_path / "brain.mgz")
    for path in (folder / "volume.mha", folder / "volume.nrrd", tmp_path / "packed.nii.zst", tmp_path / "brain.mgz"):
        other = read_case([path])
        np.testing.assert_array_equal(other.image, reference.image, err_msg=path.name)
        # The file formats keep float64, NIfTI float32.
        assert other.grid.same_as(reference.grid, 1e-4), path


def itk_voxels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Array (X, Y, Z) and 4 x 4 from index to RAS mm as SimpleITK reads a file."""
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return SimpleITK.GetArrayFromImage(image).T, np.diag([-1.0, -1, 1, 1]) @ affine


def nrrd_voxels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same as pynrrd reads it."""
    array, header = nrrd.read(str(path))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = header["space directions"].T, header["space origin"]
    assert header["space"] == "left-posterior-superior"
    return array, np.diag([-1.0, -1, 1, 1]) @ affine


def nifti_voxels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same as nibabel reads it."""
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def metaimage_voxels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same by reading the text of the header and unpacking what follows it."""
    head, packed = path.read_bytes().split(b"ElementDataFile = LOCAL\n", 1)
    field = dict(line.split(" = ") for line in head.decode().splitlines())
    shape = [int(n) for n in field["DimSize"].split()]
    affine = np.eye(4)
    turn = np.array(field["TransformMatrix"].split(), float).reshape(3, 3)
    affine[:3, :3] = turn.T * np.array(field["ElementSpacing"].split(), float)
    affine[:3, 3] = np.array(field["Offset"].split(), float)
    kind = {"MET_UCHAR": np.uint8, "MET_USHORT": np.uint16}[field["ElementType"]]
    return np.frombuffer(zlib.decompress(packed), kind).reshape(shape, order="F"), np.diag([-1.0, -1, 1, 1]) @ affine


READERS = {
    ".nii.gz": (nifti_voxels, itk_voxels),
    ".nrrd": (nrrd_voxels, itk_voxels),
    ".seg.nrrd": (nrrd_voxels, itk_voxels),
    ".mha": (metaimage_voxels, itk_voxels),
}


def in_the_world(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """RAS mm and label of every labelled voxel, in an order that does not depend on the file's axes."""
    index = np.argwhere(array)
    points = np.c_[(np.c_[index, np.ones(len(index))] @ affine.T)[:, :3], array[tuple(index.T)]]
    return points[np.lexsort(np.rint(points * 50).T)]


def labels_like(case: Case, rng: np.random.Generator, most: int = 2) -> np.ndarray:
    return rng.integers(0, most + 1, case.grid.shape).astype(np.uint8 if most < 256 else np.uint16)


def same_everywhere(case: Case, labels: np.ndarray, folder: Path, tolerance_mm: float, skip_itk: bool = False) -> None:
    """Each format, read by two programs, has every label at the place where the scan has the voxel."""
    index = np.argwhere(labels)
    points = np.c_[case.grid.world(index), labels[tuple(index.T)]]
    expected = points[np.lexsort(np.rint(points * 50).T)]
    for suffix, readers in READERS.items():
        path = folder / f"mask{suffix}"
        write_labels(path, labels, case, CLASSES)
        np.testing.assert_array_equal(read_labels(path, case.grid), labels)
        for reader in readers:
            if reader is itk_voxels and skip_itk:
                continue
            array, affine = reader(path)
            assert array.dtype == labels.dtype
            found = in_the_world(array.reshape((*array.shape, 1)[:3]), affine)
            np.testing.assert_allclose(found, expected, atol=tolerance_mm, err_msg=f"{suffix} {reader.__name__}")


@pytest.mark.parametrize("directions", list(orientations())[::8])
def test_masks_of_every_format_lie_on_the_scan_for_two_other_readers(
    directions: np.ndarray, tmp_path: Path, rng: np.random.Generator
) -> None:
    oblique = rotation(rng) @ directions
    for number, matrix in enumerate((directions, oblique)):
        scan = save_nifti(tmp_path / f"scan{number}.nii", rng.normal(size=(4, 5, 6)), affine_of(matrix), codes=(1, 0))
        case = read_case([scan])
        # SimpleITK's NIfTI direction is float32; corners lie within 100 mm.
        same_everywhere(case, labels_like(case, rng), tmp_path, 1e-4)


def test_sheared_scans_many_labels_and_planes_are_written_too(tmp_path: Path, rng: np.random.Generator) -> None:
    scan = save_nifti(tmp_path / "s.nii", rng.normal(size=(4, 5, 6)), affine_of(sheared(rng)), codes=(1, 0))
    case = read_case([scan])
    same_everywhere(case, labels_like(case, rng, 900), tmp_path, 1e-4, skip_itk=True)
    flat = read_case(
        [save_nifti(tmp_path / "flat.nii", rng.normal(size=(4, 5, 1)), affine_of(np.eye(3)), codes=(1, 0))]
    )
    labels = labels_like(flat, rng)
    for suffix in (".nrrd", ".mha", ".seg.nrrd"):
        write_labels(tmp_path / f"flat{suffix}", labels, flat)
        np.testing.assert_array_equal(read_labels(tmp_path / f"flat{suffix}", flat.grid), labels)


def test_pictures_take_masks_in_every_format(tmp_path: Path, rng: np.random.Generator) -> None:
    Image.fromarray(rng.integers(0, 255, (6, 9)).astype(np.uint8)).save(tmp_path / "picture.png")
    case = read_case([tmp_path / "picture.png"])
    labels = labels_like(case, rng)
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        write_labels(tmp_path / f"mask{suffix}", labels, case)
        np.testing.assert_array_equal(read_labels(tmp_path / f"mask{suffix}", case.grid), labels)


def test_scans_of_other_formats_give_masks_of_other_formats(
    shared_dir: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = shared_dir / FORMATS
    names = (
        "derived/volume.nrrd",
        "derived/volume.mha",
        "dicom/mr_oblique",
        "dicom/mr_rle",
        "real/BallBinary30x30x30.nhdr",
    )
    for number, name in enumerate(names):
        case = read_case([folder / name])
        (tmp_path / str(number)).mkdir()
        sparse = labels_like(case, rng) * (rng.random(case.grid.shape) < 0.001)
        same_everywhere(case, sparse.astype(np.uint8), tmp_path / str(number), 1e-3)


def test_a_segmentation_of_slicer_has_names_colours_and_one_label_each(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    case = read_case([save_nifti(tmp_path / "scan.nii", rng.normal(size=(4, 5, 6)))])
    labels = np.zeros(case.grid.shape, np.uint8)
    labels[1:3, 2:4, 1:3] = 1
    labels[0, 0, 0] = 5
    write_labels(tmp_path / "mask.seg.nrrd", labels, case, CLASSES)
    header = nrrd.read_header(str(tmp_path / "mask.seg.nrrd"))
    said = [(header[f"Segment{n}_Name"], header[f"Segment{n}_LabelValue"]) for n in range(3)]
    assert said == [("liver", "1"), ("the spleen", "2"), ("label 5", "5")]
    red, green, blue = map(float, header["Segment1_Color"].split())
    assert (red, green, blue) == pytest.approx((0x56 / 255, 0xB4 / 255, 0xE9 / 255), abs=1e-5)
    assert "Segment3_Name" not in header
    again = (tmp_path / "mask.seg.nrrd").read_bytes()
    write_labels(tmp_path / "mask.seg.nrrd", labels, case, CLASSES)
    assert (tmp_path / "mask.seg.nrrd").read_bytes() == again


def write_layers(path: Path, layers: np.ndarray, segments: list[tuple[int, int]], start: tuple[float, ...]) -> Path:
    """A segmentation of layers (M, X, Y, Z) as 3D Slicer writes one, with ``(layer, value)`` of each segment."""
    directions = np.vstack([np.full(3, np.nan), np.eye(3)])
    header: dict[str, Any] = {
        "space": "left-posterior-superior",
        "kinds": ["list", "domain", "domain", "domain"],
        "space directions": directions,
        "space origin": np.array(start),
        "encoding": "gzip",
    }
    for number, (layer, value) in enumerate(segments):
        header |= {f"Segment{number}_ID": f"s{number}", f"Segment{number}_Layer": layer}
        header |= {f"Segment{number}_LabelValue": value}
    nrrd.write(str(path), layers, header)
    return path


def test_cropped_layers_of_a_segmentation_lie_on_the_scan_and_overlaps_are_refused(tmp_path: Path) -> None:
    scan = save_nifti(tmp_path / "scan.nii", np.zeros((8, 9, 10), np.float32), np.diag([-1.0, -1, 1, 1]))
    case = read_case([scan])
    layers = np.zeros((2, 3, 3, 3), np.uint8)
    layers[0, 0, 1, 2], layers[1, 2, 1, 0] = 1, 1
    path = write_layers(tmp_path / "two.seg.nrrd", layers, [(0, 1), (1, 1)], (4, 5, 6))
    found = read_labels(path, case.grid)
    stored = case.origin.to_file(found)
    assert stored[4, 6, 8] == 1 and stored[6, 6, 6] == 2 and np.count_nonzero(stored) == 2
    assert "outside the scan" in sentence(
        read_labels, write_layers(tmp_path / "far.seg.nrrd", layers, [(0, 1), (1, 1)], (7, 5, 6)), case.grid
    )
    assert "between the scan's voxels" in sentence(
        read_labels, write_layers(tmp_path / "half.seg.nrrd", layers, [(0, 1), (1, 1)], (4.5, 5, 6)), case.grid
    )
    layers[1, 0, 1, 2] = 1
    path = write_layers(tmp_path / "over.seg.nrrd", layers, [(0, 1), (1, 1)], (4, 5, 6))
    assert "overlap in 1 voxels" in sentence(read_labels, path)


def test_damage_under_a_checksum_is_refused_and_so_is_more_than_was_promised(shared_dir: Path, tmp_path: Path) -> None:
    folder = shared_dir / FORMATS / "derived"
    for name, opened in (("volume.mha", open_metaimage), ("volume.nrrd", open_nrrd)):
        whole = (folder / name).read_bytes()
        path = tmp_path / name
        for damage in ("cut", "flipped"):
            raw = bytearray(whole)
            raw[50_000:50_020] = bytes(255 - byte for byte in raw[50_000:50_020])
            path.write_bytes(whole[: len(whole) * 9 // 10] if damage == "cut" else raw)
            assert "cut short" in sentence(opened, path)
        path.write_bytes(re.sub(rb"60 56 20", rb"60 56 19", whole))
        assert "cut short" in sentence(opened, path)
        path.write_bytes(re.sub(rb"60 56 20", rb"60000 56000 20000", whole))
        assert "cut short" in sentence(opened, path)
    packed = gzip.compress(np.zeros((2, 2, 2), np.uint8).tobytes())
    head = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: gzip\n"
    (tmp_path / "plain.nrrd").write_bytes(head + b"\n" + packed)
    assert read_case([tmp_path / "plain.nrrd"]).spacing_mm == (1, 1, 1)
    (tmp_path / "away.nhdr").write_bytes(head + b"data file: ../../etc/passwd\n\n")
    assert "folders" in sentence(read_case, [tmp_path / "away.nhdr"])
    (tmp_path / "alone.nhdr").write_bytes(head + b"data file: gone.raw\n\n")
    assert "'gone.raw'" in sentence(read_case, [tmp_path / "alone.nhdr"])


@pytest.mark.parametrize("name", ["scan.xyz", "no_suffix", "notes.txt"])
def test_unknown_formats_are_named_with_what_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"something else" * 30)
    assert "DICOM" in sentence(read_case, [tmp_path / name])


def test_what_can_be_written_is_what_is_listed(tmp_path: Path) -> None:
    case = read_case([save_nifti(tmp_path / "scan.nii", np.zeros((3, 4, 5), np.float32))])
    labels = np.ones(case.grid.shape, np.uint8)
    for suffix in LABEL_SUFFIXES:
        if suffix != ".dcm":
            write_labels(tmp_path / f"mask{suffix}", labels, case)
    assert "belongs to a DICOM series" in sentence(write_labels, tmp_path / "mask.dcm", labels, case)
    for name in ("mask.nhdr", "mask.png", "mask"):
        assert ".seg.nrrd" in sentence(write_labels, tmp_path / name, labels, case)
        assert not (tmp_path / name).exists()


def test_opening_any_file_does_not_start_torch(shared_dir: Path) -> None:
    folder = shared_dir / FORMATS
    files = [
        folder / name for name in ("dicom/mr_rle", "dicom/seg_liver.dcm", "derived/volume.mha", "derived/volume.nrrd")
    ]
    code = (
        "import sys\nfrom pathlib import Path\nfrom diffseg.io import read_case\n"
        f"for name in {[str(file) for file in files]!r}:\n    read_case([Path(name)])\n"
        "assert 'torch' not in sys.modules and 'highdicom' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
