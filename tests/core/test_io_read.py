"""Reading scans and masks."""

from __future__ import annotations

import gzip
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from diffseg.errors import CaseError
from diffseg.io import read_case, read_labels, read_members
from scans import affine_of, head, orientations, patch_header, save_nifti


def refused(*arguments: Any, **named: Any) -> str:
    """The one sentence with which `read_case` refuses."""
    with pytest.raises(CaseError) as refusal:
        read_case(*arguments, **named)
    sentence = str(refusal.value)
    assert sentence.endswith(".") and "\n" not in sentence and len(sentence) < 300
    return sentence


def test_files_of_one_anatomy_show_one_anatomy(shared_dir: Path) -> None:
    folder = shared_dir / "data/formats"
    reference = read_case([folder / "derived/reference.nii.gz"])
    for name in (
        "stored_lps.nii.gz",
        "big_endian.nii",
        "nifti2.nii.gz",
        "pair.hdr",
        "pair.img",
        "scl_slope.nii.gz",
    ):
        other = read_case([folder / "derived" / name])
        np.testing.assert_array_equal(other.image, reference.image, err_msg=name)
        assert other.grid.same_as(reference.grid), name
    left, right = (read_case([folder / f"real/avg152_{side}.nii.gz"]) for side in ("LR", "RL"))
    np.testing.assert_array_equal(left.image, right.image)
    assert left.grid.same_as(right.grid)


@pytest.mark.parametrize("directions", list(orientations())[::3])
def test_a_head_is_never_mirrored_however_it_is_stored(directions: np.ndarray, tmp_path: Path) -> None:
    phantom, marks = head()
    stored = nib.Nifti1Image(phantom, np.diag([1.0, 2.0, 3.0, 1.0]))
    target = nib.orientations.io_orientation(affine_of(directions))
    path = tmp_path / "head.nii.gz"
    nib.save(stored.as_reoriented(target), path)
    case = read_case([path])
    image = case.image[0]
    middle = np.array(image.shape) // 2
    # Right of the patient is the first column, front the first row, top the first slice.
    assert image[middle[0], middle[1], 0] == 100
    assert image[middle[0], 0, middle[2]] == 101
    assert image[0, middle[1], middle[2]] == 102
    for value, voxel in zip((100, 101, 102), marks.values(), strict=True):
        shown = np.argwhere(image == value)[0]
        np.testing.assert_allclose(case.grid.world(shown), voxel * (1, 2, 3), atol=1e-5)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_every_stored_type_and_byte_order_is_read_and_scaled(
    dtype: str, byte_order: str, tmp_path: Path
) -> None:
    stored = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(np.dtype(dtype).newbyteorder(byte_order))
    header = nib.Nifti1Header(endianness=byte_order)
    header.set_data_dtype(stored.dtype)
    header.set_slope_inter(0.25, -7.0)
    image = nib.Nifti1Image(stored, np.eye(4), header)
    path = tmp_path / "typed.nii.gz"
    nib.save(image, path)
    assert nib.load(path).header.endianness == byte_order
    case = read_case([path])
    assert case.image.dtype == np.float32 and case.image.flags.c_contiguous
    expected = nib.load(path).get_fdata()
    np.testing.assert_array_equal(case.origin.to_file(case.image[0]), expected.astype(np.float32))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("stored_shape", "shown_shape"),
    [
        ((7, 5), (5, 7)),
        ((7, 5, 1), (5, 7)),
        ((7, 5, 1, 1), (5, 7)),
        ((7, 5, 3), (3, 5, 7)),
        ((7, 5, 3, 1), (3, 5, 7)),
        ((7, 5, 3, 1, 1), (3, 5, 7)),
        ((1, 5, 3), (3, 5, 1)),
    ],
)
def test_planes_volumes_and_trailing_single_axes(
    stored_shape: tuple[int, ...], shown_shape: tuple[int, ...], suffix: str, tmp_path: Path
) -> None:
    values = np.arange(np.prod(stored_shape), dtype=np.int16).reshape(stored_shape)
    case = read_case([save_nifti(tmp_path / f"plane{suffix}", values)])
    assert case.grid.shape == shown_shape
    squeezed = values.reshape(stored_shape[:3])
    turned = squeezed.transpose(*range(squeezed.ndim - 1, -1, -1))[(slice(None, None, -1),) * squeezed.ndim]
    np.testing.assert_array_equal(case.image[0], turned.reshape(shown_shape))


@pytest.mark.parametrize(("code", "factor"), [(0, 1.0), (1, 1000.0), (2, 1.0), (3, 0.001)])
def test_the_unit_of_length_in_the_header_is_respected(code: int, factor: float, tmp_path: Path) -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    path = save_nifti(tmp_path / "units.nii", np.zeros((3, 4, 5), np.uint8), affine, xyzt_units=code)
    assert read_case([path]).spacing_mm == pytest.approx([4 * factor, 3 * factor, 2 * factor], rel=1e-6)


def test_the_sform_is_used_then_the_qform_then_the_voxel_size(tmp_path: Path) -> None:
    data = np.zeros((3, 4, 5), np.uint8)
    image = nib.Nifti1Image(data, None)
    image.header.set_sform(np.diag([2.0, 2, 2, 1]), code=4)
    image.header.set_qform(np.diag([3.0, 3, 3, 1]), code=1)
    for codes, spacing in (((4, 1), 2.0), ((0, 1), 3.0), ((0, 0), 3.0)):
        image.header["sform_code"], image.header["qform_code"] = codes
        nib.save(image, tmp_path / "codes.nii")
        assert read_case([tmp_path / "codes.nii"]).spacing_mm == pytest.approx((spacing,) * 3)


def test_channels_and_raters_are_read_in_order_and_named(tmp_path: Path) -> None:
    values = {name: np.full((4, 5, 6), number, np.int16) for number, name in enumerate(("t1", "flair"))}
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    paths = [save_nifti(tmp_path / f"{name}.nii.gz", data) for name, data in values.items()]
    masks = [save_nifti(tmp_path / folder / "mask.nii", np.full((4, 5, 6), 3, np.uint8)) for folder in "ab"]
    case = read_case(paths, masks)
    assert (
        case.channels == ("t1", "flair") and list(case.raters) == ["mask", "mask (2)"] and case.name == "t1"
    )
    assert [float(channel.max()) for channel in case.image] == [0, 1]
    assert all(labels.dtype == np.uint8 and (labels == 3).all() for labels in case.raters.values())
    assert read_case(paths, channels=["T1", "FLAIR"]).channels == ("T1", "FLAIR")
    assert "2 images" in refused(paths, channels=["T1"])
    assert "No image" in refused([])


def test_a_mask_stored_in_another_orientation_is_laid_over_the_scan(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    labels = rng.integers(0, 4, (4, 5, 6)).astype(np.uint8)
    affine = affine_of(np.eye(3))
    scan = save_nifti(tmp_path / "scan.nii", labels.astype(np.float32), affine)
    turned = nib.Nifti1Image(labels, affine).as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    nib.save(turned, tmp_path / "mask.nii.gz")
    case = read_case([scan], [tmp_path / "mask.nii.gz"])
    np.testing.assert_array_equal(case.raters["mask"], case.image[0])


def test_files_on_another_grid_are_refused_and_rounding_is_not(tmp_path: Path) -> None:
    affine = affine_of(np.eye(3))
    scan = save_nifti(tmp_path / "scan.nii", np.zeros((4, 5, 6), np.int16), affine)
    moved, rounded = affine.copy(), affine.copy()
    moved[0, 3] += 0.4
    rounded[0, 3] += 0.004
    for name, matrix, shape in (
        ("moved", moved, (4, 5, 6)),
        ("short", affine, (4, 5, 5)),
        ("near", rounded, (4, 5, 6)),
    ):
        save_nifti(tmp_path / f"{name}.nii", np.zeros(shape, np.uint8), matrix)
    assert "elsewhere" in refused([scan], [tmp_path / "moved.nii"])
    assert "6 x 5 x 4" in refused([scan, tmp_path / "short.nii"])
    assert list(read_case([scan], [tmp_path / "near.nii"]).raters) == ["near"]


def test_a_label_file_of_another_shape_is_not_paired_silently(shared_dir: Path) -> None:
    folder = shared_dir / "data/formats/derived"
    assert "19 x 56 x 60" in refused([folder / "reference.nii.gz"], [folder / "label_shape_mismatch.nii.gz"])


def test_labels_of_other_tools_are_whole_numbers_again(tmp_path: Path) -> None:
    labels = np.arange(60).reshape(3, 4, 5) % 5
    drifted = save_nifti(tmp_path / "drifted.nii", (labels * 1.000005).astype(np.float64))
    found = read_labels(drifted)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(np.unique(found), np.arange(5))
    scaled = save_nifti(
        tmp_path / "scaled.nii", labels.astype(np.uint8), scl_slope=np.float32(1), scl_inter=2
    )
    assert read_labels(scaled).max() == nib.load(scaled).get_fdata().max()
    many = save_nifti(tmp_path / "many.nii", (labels * 300).astype(np.int32))
    assert read_labels(many).dtype == np.uint16 and read_labels(many).max() == 1200


@pytest.mark.parametrize("value", [0.5, -1, 65536, np.nan, np.inf])
def test_a_file_that_is_no_mask_is_refused(value: float, tmp_path: Path) -> None:
    values = np.ones((3, 4, 5))
    values[1, 2, 3] = value
    path = save_nifti(tmp_path / "mask.nii.gz", values)
    with pytest.raises(CaseError, match=r"no mask|not finite"):
        read_labels(path)


def test_members_are_read_from_a_fourth_axis_and_only_there(tmp_path: Path) -> None:
    members = np.arange(4 * 5 * 6 * 3).reshape(4, 5, 6, 3) % 7
    path = save_nifti(tmp_path / "members.nii.gz", members.astype(np.uint8))
    found = read_members(path)
    single = save_nifti(tmp_path / "one.nii.gz", members[..., 2].astype(np.uint8))
    assert found.shape == (3, 6, 5, 4)
    np.testing.assert_array_equal(found[2], read_labels(single))
    np.testing.assert_array_equal(read_members(single), read_labels(single)[None])
    with pytest.raises(CaseError, match="3 volumes"):
        read_labels(path)


def test_a_constant_image_can_be_read(tmp_path: Path) -> None:
    case = read_case([save_nifti(tmp_path / "flat.nii", np.full((3, 4, 5), 7, np.int16))])
    assert (case.image == 7).all()


def test_unusable_files_get_one_sentence_each(tmp_path: Path) -> None:
    whole = save_nifti(tmp_path / "whole.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20)))
    (tmp_path / "empty.nii.gz").touch()
    (tmp_path / "cut.nii.gz").write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    (tmp_path / "cut.nii").write_bytes(gzip.decompress(whole.read_bytes())[:5000])
    (tmp_path / "text.nii").write_text("not an image" * 100)
    (tmp_path / "scan.dcm").write_bytes(b"DICM")
    (tmp_path / "header.hdr").write_bytes(b"")
    analyze = nib.AnalyzeImage(np.zeros((3, 4, 5), np.int16), np.eye(4))
    nib.save(analyze, tmp_path / "analyze.img")
    expected = {
        "missing.nii.gz": "does not exist",
        "": "folder",
        "empty.nii.gz": "0 bytes",
        "cut.nii.gz": "cut short",
        "cut.nii": "cut short",
        "text.nii": "damaged",
        "scan.dcm": "cannot be read as DICOM",
        "header.hdr": "0 bytes",
        "analyze.img": "no orientation",
    }
    for name, words in expected.items():
        assert words in refused([tmp_path / name]), name


@pytest.mark.parametrize(
    ("field", "value"), [("srow_x", np.nan), ("srow_x", 0.0), ("pixdim", np.inf), ("quatern_b", np.nan)]
)
def test_a_header_without_usable_geometry_is_refused(field: str, value: float, tmp_path: Path) -> None:
    codes = (1, 0) if field == "srow_x" else (0, 1)
    path = save_nifti(tmp_path / "broken.nii", np.zeros((3, 4, 5), np.uint8), codes=codes)
    assert "header" in refused([patch_header(path, **{field: value})])


def test_a_header_that_promises_terabytes_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "bomb.nii.gz", np.zeros((3, 4, 5), np.uint8))
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[42:48] = np.array([32000, 32000, 32000], "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(raw)))
    assert "cut short" in refused([path])


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What nibabel logs, which its own handler would print."""
    logger = logging.getLogger("nibabel.global")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_small_faults_of_a_header_are_neither_logged_nor_fatal(
    tmp_path: Path, logged: pytest.LogCaptureFixture
) -> None:
    path = save_nifti(tmp_path / "odd.nii", np.zeros((3, 4, 5), np.uint8))
    raw = bytearray(path.read_bytes())
    raw[76:80] = np.float32(0.5).tobytes()  # qfac, which must be 1 or -1
    raw[80:84] = np.float32(-1.0).tobytes()  # a negative voxel size
    path.write_bytes(bytes(raw))
    assert read_case([path]).spacing_mm == pytest.approx((1, 1, 1))
    assert not logged.records
    nib.load(path)
    assert logged.records  # others still hear of it


def test_damaged_files_are_read_or_refused_but_never_crash(
    tmp_path: Path, rng: np.random.Generator, logged: pytest.LogCaptureFixture
) -> None:
    source = save_nifti(tmp_path / "source.nii", rng.integers(0, 9, (6, 7, 8)).astype(np.int16))
    original = np.frombuffer(source.read_bytes(), np.uint8)
    target = tmp_path / "damaged.nii"
    outcomes = set()
    for trial in range(400):
        damaged = original.copy()
        spots = rng.integers(0, 352 if trial % 4 else len(damaged), rng.integers(1, 8))
        damaged[spots] = rng.integers(0, 256, len(spots))
        target.write_bytes(damaged[: len(damaged) if trial % 3 else rng.integers(0, len(damaged))].tobytes())
        try:
            with warnings.catch_warnings(record=True) as warned:
                read_case([target])
                read_labels(target)
            outcomes.add("read")
        except CaseError as refusal:
            outcomes.add("refused")
            assert str(refusal).endswith(".") and "\n" not in str(refusal)
        assert not warned
    assert outcomes == {"read", "refused"} and not logged.records
