"""Files as layers: what is a scan, what is a mask, and one sentence for what is neither."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer
from napari.utils.notifications import Notification, notification_manager
from npe2 import PluginManifest
from PIL import Image

import napari_diffseg
from dicom_files import write_series
from diffseg.io import LABEL_SUFFIXES, is_mask
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


def test_medical_names_are_claimed_and_pictures_left_to_napari(tmp_path: Path) -> None:
    for ours in ("a/T1.NII.GZ", ["a.nii", "b.nii.gz"], "a.seg.nrrd", "a.mha", "a.mgz", "a.nii.zst", "IM1.DCM"):
        assert reader.get_reader(ours) is not None
    for other in ("a.gz", "a.nii.txt", "folder", "a.hdr", ["a.nii", "b.png"], "a.tif", str(tmp_path)):
        assert reader.get_reader(other) is None
    save_nifti(tmp_path / "pair.hdr", np.zeros((3, 4, 5), np.int16), image_class=nib.Nifti1Pair)
    (tmp_path / "landsat.hdr").write_text("ENVI")
    assert reader.get_reader(str(tmp_path / "pair.hdr")) is not None
    assert reader.get_reader(str(tmp_path / "landsat.hdr")) is None
    write_series(tmp_path / "disc" / "series", gradient((3, 4, 5)))
    assert reader.get_reader(str(tmp_path / "disc")) is not None


def test_the_manifest_offers_this_reader_for_each_of_its_formats_and_for_folders(tmp_path: Path) -> None:
    manifest = PluginManifest.from_file(Path(napari_diffseg.__file__).parent / "napari.yaml")
    (offered,) = manifest.contributions.readers or ()
    assert {pattern.removeprefix("*") for pattern in offered.filename_patterns} >= {
        suffix for suffix in reader.SUFFIXES if suffix.count(".") == 1
    }
    assert offered.accepts_directories
    (saves,) = manifest.contributions.writers or ()
    assert set(saves.filename_extensions) == set(LABEL_SUFFIXES)


def test_a_folder_and_a_slice_of_it_are_one_scan_and_further_slices_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_series(tmp_path / "series", gradient((3, 4, 5)))
    monkeypatch.setattr("napari.current_viewer", lambda: None)
    for given in (tmp_path / "series", paths[1]):
        ((image, look, kind),) = reader.read(str(given))
        assert kind == "image" and look["name"] == "series" and image.shape == (3, 4, 5)
    viewer = ViewerModel()
    viewer.add_layer(Layer.create(image, look, kind))
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    # napari opens files that are dropped together one by one.
    assert reader.read(str(paths[2])) == NOTHING


def test_a_cropped_segmentation_is_laid_on_the_scan_that_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = ViewerModel()
    scan = save_nifti(tmp_path / "scan.nii", gradient((8, 9, 10)), np.diag([-1.0, -1, 1, 1]))
    header = {"space": "left-posterior-superior", "space directions": np.eye(3), "space origin": np.array([4.0, 5, 6])}
    header |= {"Segment0_ID": "a", "Segment0_LabelValue": 1}
    nrrd.write(str(tmp_path / "drawn.seg.nrrd"), np.ones((2, 2, 2), np.uint8), header)
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    ((alone, _, kind),) = reader.read(str(tmp_path / "drawn.seg.nrrd"))
    assert kind == "labels" and alone.shape == (2, 2, 2)
    viewer.add_layer(Layer.create(*reader.read(str(scan))[0]))
    ((laid, look, _),) = reader.read(str(tmp_path / "drawn.seg.nrrd"))
    case = look["metadata"][KEY]["case"]
    assert np.argwhere(case.origin.to_file(laid)).min(axis=0).tolist() == [4, 5, 6] and laid.sum() == 8


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
    assert [is_mask(path, named=False) for path in paths] == [True, False, False]
    assert not any(is_mask(path) for path in paths)


def test_pictures_of_black_and_white_or_few_numbers_are_masks_beside_a_scan(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    y, x = np.mgrid[:64, :64]
    disc = np.where((y - 20) ** 2 + (x - 40) ** 2 < 90, np.uint8(255), np.uint8(0))
    dark = np.where(rng.random((64, 64)) < 0.02, rng.integers(60, 200, (64, 64)), rng.integers(0, 30, (64, 64)))
    pictures = {
        "a.png": (disc, True),
        "bits.png": (disc > 0, True),
        "classes.tif": (disc // 255 * 3, True),
        "soft.jpg": (disc, True),
        "empty.png": (disc * 0, True),
        "noise.png": (rng.integers(0, 256, (64, 64)).astype(np.uint8), False),
        "fluorescence.png": (dark.astype(np.uint8), False),
        "fluorescence.jpg": (dark.astype(np.uint8), False),
    }
    for name, (values, expected) in pictures.items():
        Image.fromarray(values).save(tmp_path / name)
        assert is_mask(tmp_path / name, named=False) is expected, name


def test_the_readers_masks_of_real_pictures_are_told_from_the_pictures(shared_dir: Path) -> None:
    told = {True: 0, False: 0}
    for folder in sorted((shared_dir / "data/multirater/lidc_ct_slices").iterdir()):
        for path in folder.glob("*.png"):
            told[is_mask(path, named=False)] += 1
            assert is_mask(path, named=False) is (path.name != "image.png"), path
    assert told == {True: 56, False: 14}


@pytest.mark.parametrize("columns", [1, 3, 4])
def test_scans_of_few_columns_are_no_colours(columns: int, tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "thin.nii", gradient((columns, 6, 5)))
    layer = Layer.create(*reader.read(str(path))[0])
    assert layer.ndim == 3 and not layer.rgb


def test_two_dimensional_files_are_read(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "slice.nii", gradient((6, 5, 1)))
    ((data, look, _),) = reader.read(str(path))
    assert data.shape == (5, 6) and look["axis_labels"] == ("y", "x")


def test_unusable_files_are_told_in_one_sentence_and_leave_no_layer(tmp_path: Path, told: list[str]) -> None:
    whole = scan_file(tmp_path / "whole.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty_mask.nii").write_bytes(b"")
    save_nifti(tmp_path / "film.nii", np.zeros((4, 4, 4, 65), np.uint8))
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


def test_a_folder_of_one_scan_is_read_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari.current_viewer", lambda: None)
    save_nifti(tmp_path / "t1.nii", gradient((3, 4, 5)))
    save_nifti(tmp_path / "t1_mask.nii", np.ones((3, 4, 5), np.uint8))
    (tmp_path / "notes.txt").write_text("-")
    assert reader.get_reader(str(tmp_path)) is not None
    assert [(look["name"], kind) for _, look, kind in reader.read(str(tmp_path))] == [
        ("t1", "image"), ("t1_mask", "labels"),
    ]  # fmt: skip
