"""Files as layers: what is a scan, what is a mask, and one sentence for what is neither."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.layers import Layer
from napari.utils.notifications import Notification, notification_manager

from napari_diffseg import reader
from napari_diffseg.layerdata import KEY
from plugin_cases import gradient, scan_file
from scans import affine_of, orientations, save_nifti

NOTHING = [(None,)]


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Sentences shown to the person."""
    sentences: list[str] = []

    def keep(notification: Notification) -> None:
        sentences.append(notification.message)

    notification_manager.notification_ready.connect(keep)
    yield sentences
    notification_manager.notification_ready.disconnect(keep)


def test_only_nifti_names_are_claimed() -> None:
    assert reader.get_reader("a/T1.NII.GZ") is not None and reader.get_reader(["a.nii", "b.nii.gz"]) is not None
    for other in ("a.gz", "a.nii.txt", "folder", "a.hdr", ["a.nii", "b.png"]):
        assert reader.get_reader(other) is None


@pytest.mark.parametrize("directions", list(orientations())[::7])
def test_scans_of_any_orientation_are_shown_the_same_way_round(directions: np.ndarray, tmp_path: Path) -> None:
    affine = affine_of(directions)
    path = save_nifti(tmp_path / "scan.nii.gz", gradient((4, 5, 6)), affine)
    ((image, look, kind),) = reader.read(str(path))
    assert kind == "image" and look["name"] == "scan" and min(look["scale"]) > 0
    # A voxel 1 mm further left, posterior or inferior in the patient is further on along x, y or z on screen.
    case = look["metadata"][KEY]["case"]
    step = case.grid.affine[:3, :3] / np.array(look["scale"])
    assert np.allclose(step, -np.eye(3)[::-1])
    file = nib.load(path)
    for voxel in ((0, 0, 0), (1, 2, 3), (3, 4, 5)):
        ras = (file.affine @ [*voxel, 1])[:3]
        index = tuple(np.rint(np.linalg.inv(case.grid.affine) @ [*ras, 1])[:3].astype(int))
        assert image[index] == gradient((4, 5, 6))[voxel]


@pytest.mark.parametrize(
    ("name", "dtype", "kind"),
    [
        ("case1_seg.nii", np.int16, "labels"),
        ("Mask-R2.nii.gz", np.uint8, "labels"),
        ("labels.nii", np.int32, "labels"),
        ("case1-segmentation.nii", np.uint8, "labels"),
        ("T1.nii", np.int16, "image"),
        ("massage.nii", np.uint8, "image"),
        ("unlabelled_scan.nii", np.int16, "image"),
        ("seg_probability.nii", np.float32, "image"),
    ],
)
def test_a_mask_is_told_by_whole_numbers_and_its_name(tmp_path: Path, name: str, dtype: type, kind: str) -> None:
    path = save_nifti(tmp_path / name, (gradient((5, 6, 7)) % 4).astype(dtype), np.diag([-1.0, -1, -1, 1]))
    ((data, look, found),) = reader.read(str(path))
    assert found == kind
    expected = (gradient((5, 6, 7)) % 4).T
    assert (data == expected).all() and Layer.create(data, look, kind).name == look["name"]


def test_the_headers_intent_counts_more_than_the_name(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "t1.nii", (gradient((4, 5, 6)) % 3).astype(np.float32), intent_code=1002)
    assert reader.read(str(path))[0][2] == "labels"


def test_a_scan_with_a_masks_name_but_too_many_values_stays_an_image(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "mask_of_fat.nii", gradient((8, 8, 8)).astype(np.int16))
    assert reader.read(str(path))[0][2] == "image"


def test_beside_a_scan_few_whole_numbers_make_a_mask_whatever_its_name(tmp_path: Path) -> None:
    few, many = np.arange(120).reshape(4, 5, 6) % 16, np.arange(120).reshape(4, 5, 6) % 17
    masks = {"anna": few.astype(np.uint8), "scan": many.astype(np.uint8), "soft": few.astype(np.float32)}
    paths = [save_nifti(tmp_path / f"{name}.nii.gz", values, np.eye(4)) for name, values in masks.items()]
    assert [reader.is_labels(path, named=False) for path in paths] == [True, False, False]
    assert not any(reader.is_labels(path) for path in paths)


def test_two_dimensional_files_are_read(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "slice.nii", gradient((6, 5, 1)))
    ((data, look, _),) = reader.read(str(path))
    assert data.shape == (5, 6) and look["axis_labels"] == ("y", "x")


def test_unusable_files_are_told_in_one_sentence_and_leave_no_layer(tmp_path: Path, told: list[str]) -> None:
    whole = scan_file(tmp_path / "whole.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty_mask.nii").write_bytes(b"")
    save_nifti(tmp_path / "film.nii", np.zeros((4, 4, 4, 3), np.float32))
    save_nifti(tmp_path / "holes.nii", np.full((4, 4, 4), np.nan, np.float32))
    broken = ["cut.nii.gz", "empty_mask.nii", "film.nii", "holes.nii", "missing.nii"]
    for name in broken:
        assert reader.read(str(tmp_path / name)) == NOTHING
    assert len(told) == len(broken)
    for name, sentence in zip(broken, told, strict=True):
        assert name in sentence and "\n" not in sentence and sentence.endswith(".")


def test_good_files_open_although_others_do_not(tmp_path: Path, told: list[str]) -> None:
    good = scan_file(tmp_path / "good.nii")
    layers = reader.read([str(tmp_path / "missing.nii"), str(good)])
    assert [look["name"] for _, look, _ in layers] == ["good"] and len(told) == 1
