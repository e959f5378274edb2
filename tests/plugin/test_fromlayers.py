"""Layers as cases: ours come back as they were, those of others keep their place and say what was assumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from napari.layers import Image, Labels, Layer, Points

from diffseg.errors import CaseError
from diffseg.io import write_labels
from napari_diffseg import layerdata, reader
from napari_diffseg.fromlayers import case_from_layers, labels_on, world_matrix
from plugin_cases import case_of, gradient, scan_file


def layers_of(data: list[layerdata.LayerData]) -> list[Any]:
    return [Layer.create(*each) for each in data]


def test_the_layers_of_a_case_give_that_very_case(tmp_path: Path) -> None:
    case = case_of((4, 5, 6), channels=2)
    first, second = layers_of(layerdata.scan_layers(case))
    assert case_from_layers([first, second]).case is case
    turned = case_from_layers([second, first]).case
    assert turned is not case and (turned.image[0] == case.image[1]).all() and turned.channels == ("C1", "C0")
    (layer,) = layers_of(reader.read(str(scan_file(tmp_path / "a.nii"))))
    assert case_from_layers([layer]).files == (tmp_path / "a.nii",)


def test_scans_opened_one_by_one_become_channels_of_one_case(tmp_path: Path) -> None:
    a, b = scan_file(tmp_path / "flair.nii"), scan_file(tmp_path / "t1.nii")
    layers = layers_of(reader.read([str(a), str(b)]))
    found = case_from_layers(layers)
    assert found.case.channels == ("flair", "t1") and found.files == (a, b)
    other = scan_file(tmp_path / "small.nii", (4, 5, 6))
    with pytest.raises(CaseError, match="different grids"):
        case_from_layers([layers[0], *layers_of(reader.read(str(other)))])


def test_raters_are_taken_from_labels_layers_on_the_same_grid(tmp_path: Path) -> None:
    scan, mask = scan_file(tmp_path / "scan.nii"), tmp_path / "r1_mask.nii"
    case = reader.read(str(scan))[0][1]["metadata"][layerdata.KEY]["case"]
    labels = (gradient(case.grid.shape) % 3).astype(np.uint8)
    write_labels(mask, labels, case)
    layers = layers_of(reader.read([str(scan), str(mask)]))
    found = case_from_layers(layers[:1], layers[1:])
    assert (found.case.raters["r1_mask"] == labels).all() and found.case.grid.same_as(case.grid)
    assert found.files == (scan,) and found.rater_files == (mask,)


def test_a_mask_of_another_place_in_the_patient_is_refused_though_both_are_shown_alike(
    tmp_path: Path,
) -> None:
    scan = scan_file(tmp_path / "scan.nii")
    elsewhere = np.diag([-1.0, -1.0, -1.0, 1.0])
    elsewhere[0, 3] = 25.0
    case = reader.read(str(scan_file(tmp_path / "other.nii", affine=elsewhere)))[0][1]["metadata"]
    write_labels(tmp_path / "r1_mask.nii", np.ones((18, 24, 20), np.uint8), case[layerdata.KEY]["case"])
    layers = layers_of(reader.read([str(scan), str(tmp_path / "r1_mask.nii")]))
    assert (layers[0].scale == layers[1].scale).all() and (layers[0].translate == layers[1].translate).all()
    with pytest.raises(CaseError, match="does not lie on the scan's grid"):
        case_from_layers(layers[:1], layers[1:])


def test_a_plain_layer_becomes_a_case_with_its_own_place_and_says_what_was_assumed(tmp_path: Path) -> None:
    data = gradient((5, 6, 7))
    layer = Image(data, name="T1", scale=(3.0, 1.5, 0.5), translate=(10, 20, 30), units="mm")
    found = case_from_layers([layer])
    assert "unknown" in found.note and "3 × 1.5 × 0.5 mm" in found.note
    assert (found.case.image[0] == data).all() and found.case.spacing_mm == (3.0, 1.5, 0.5)
    assert found.case.grid.world((1, 2, 3)) == pytest.approx((-31.5, -23.0, -13.0))
    assert found.frame.matrix == pytest.approx(world_matrix(layer))
    write_labels(tmp_path / "m.nii", (data % 4).astype(np.uint8), found.case)
    saved = nib.load(tmp_path / "m.nii")
    assert saved.shape == (7, 6, 5), "NIfTI counts x first"
    assert (np.asarray(saved.dataobj) == (data % 4).T).all()
    assert saved.affine == pytest.approx(
        np.array([[-0.5, 0, 0, -30], [0, -1.5, 0, -20], [0, 0, -3, -10], [0, 0, 0, 1]])
    )


def test_asking_again_for_the_same_plain_layer_gives_the_same_case_until_it_changes() -> None:
    layer = Image(gradient((5, 6, 7)), name="T1")
    case = case_from_layers([layer]).case
    assert case_from_layers([layer]).case is case
    layer.scale = (2, 1, 1)
    moved = case_from_layers([layer]).case
    assert moved is not case and moved.spacing_mm == (2.0, 1.0, 1.0)
    layer.data = gradient((5, 6, 7)) + 1
    assert case_from_layers([layer]).case is not moved


def test_a_layer_with_reversed_axes_is_read_so_that_the_patient_is_not_mirrored() -> None:
    data = gradient((5, 6, 7))
    layer = Image(data, scale=(-3.0, 1.0, -1.0), translate=(12, 0, 6), name="S A R")
    found = case_from_layers([layer])
    assert (found.case.image[0] == data[::-1, :, ::-1]).all()
    # The voxel of the case lies in the world where the layer shows the same value.
    for voxel in ((0, 0, 0), (4, 2, 1)):
        mirrored = (4 - voxel[0], voxel[1], 6 - voxel[2])
        world = found.frame.matrix @ np.array([*voxel, 1.0])
        assert tuple(world[:3]) == pytest.approx(layer.data_to_world(mirrored))
    # A mask drawn on a new layer of the same kind comes back in the order of the case.
    drawn = Labels((data % 3).astype(np.uint8), scale=layer.scale, translate=layer.translate)
    assert (labels_on(found.case, found.frame, drawn) == drawn.data[::-1, :, ::-1]).all()


def test_lengths_in_other_units_become_millimetres() -> None:
    layer = Image(gradient((4, 5, 6)), scale=(2000.0, 500.0, 500.0), units="um")
    found = case_from_layers([layer])
    assert found.case.spacing_mm == pytest.approx((2.0, 0.5, 0.5))
    assert found.frame.matrix == pytest.approx(world_matrix(layer)), "results lie in the layer's own units"


def test_a_flat_image_becomes_a_two_dimensional_case(tmp_path: Path) -> None:
    layer = Image(gradient((5, 7)), scale=(0.5, 0.25), name="slice")
    found = case_from_layers([layer])
    assert found.case.ndim == 2 and found.case.spacing_mm == (0.5, 0.25)
    assert (found.case.image[0] == layer.data).all() and found.frame.matrix.shape == (3, 3)
    write_labels(tmp_path / "m.nii", np.ones((5, 7), np.uint8), found.case)
    assert nib.load(tmp_path / "m.nii").shape == (7, 5, 1)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Image(np.zeros((4, 4, 3), np.uint8), rgb=True, name="photo"), "no grey-value image"),
        (Labels(np.zeros((4, 4), int), name="mask"), "no grey-value image"),
        (Points(np.zeros((2, 3)), name="points"), "no grey-value image"),
        (Image(np.zeros((2, 3, 4, 5)), name="film"), "no plain 2D or 3D image"),
        (Image(np.array([[1.0, np.nan], [2.0, 3.0]]), name="holes"), "1 voxels that are no finite numbers"),
    ],
)
def test_what_is_no_scan_is_refused_in_a_sentence(layer: Layer, words: str) -> None:
    with pytest.raises(CaseError, match=words) as caught:
        case_from_layers([layer])
    assert repr(layer.name) in str(caught.value) and str(caught.value).endswith(".")


def test_choosing_nothing_is_refused_in_a_sentence() -> None:
    with pytest.raises(CaseError, match="choose one Image layer per channel"):
        case_from_layers([])


def test_masks_on_another_grid_are_refused() -> None:
    case = case_of((4, 5, 6), (2.0, 1.0, 1.0))
    frame = layerdata.frame_of(case)
    good = Labels(np.ones((4, 5, 6), np.uint16) * 300, scale=(2, 1, 1))
    assert labels_on(case, frame, good).dtype == np.uint16
    for bad in (
        Labels(np.ones((4, 5, 7), np.uint8), scale=(2, 1, 1)),
        Labels(np.ones((4, 5, 6), np.uint8)),
        Labels(np.ones((4, 5, 6), np.uint8), scale=(2, 1, 1), translate=(0, 0.5, 0)),
        Labels(np.ones((5, 6), np.uint8)),
    ):
        with pytest.raises(CaseError, match="scan's grid"):
            labels_on(case, frame, bad)
    with pytest.raises(CaseError, match="below 0"):
        labels_on(case, frame, Labels(np.full((4, 5, 6), -1), scale=(2, 1, 1)))
    with pytest.raises(CaseError, match="no Labels layer"):
        labels_on(case, frame, Image(np.ones((4, 5, 6))))
