"""Training data: raters, channels, slices and image-level classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from diffseg.card import Card
from diffseg.data import Augmenter, Example, Pick, cut_anywhere, load_case, load_examples, picked
from diffseg.errors import CaseError, PlanError
from diffseg.layouts import NiftiLayout
from diffseg.train_plan import AugmentPlan
from oracle import tiny_card

pytest.importorskip("monai", reason="training needs the extra 'train'")


def save(path: Path, array: NDArray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, -1.0, -1.0, 1.0])), path)


def volume(folder: Path, name: str = "a") -> None:
    """Sixteen slices along the file's last axis; the label 1 is in slice 3, counted from above, only."""
    image = np.random.default_rng(0).normal(size=(16, 16, 16)).astype(np.float32)
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[4:8, 4:8, 3] = 1
    save(folder / "images" / f"{name}.nii.gz", image)
    save(folder / "labels" / f"{name}.nii.gz", labels)


def slice_card(**changes: object) -> Card:
    return replace(tiny_card(spatial=2), **changes)


def test_raters_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    volume(tmp_path)
    (tmp_path / "labels" / "a.nii.gz").unlink()
    for rater, label in (("second", 2), ("first", 1)):
        save(tmp_path / "labels" / "a" / f"{rater}.nii.gz", np.full((16, 16, 16), label, np.uint8))
    (example,) = load_case(NiftiLayout(tmp_path), "a", tiny_card())
    assert example.labels.shape == (2, 16, 16, 16)
    assert [int(np.unique(rater).item()) for rater in example.labels] == [1, 2]


def test_every_rater_is_drawn_equally_often_and_the_same_for_the_same_seed() -> None:
    image = np.zeros((1, 2, 2), np.float32)
    example = Example("a", image, np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8))
    draws = [int(picked([example], 1, seed)[0].labels[0, 0, 0]) for seed in range(2000)]
    # Each rater 500 times on average, with a standard deviation of 19.
    assert all(abs(n - 500) < 80 for n in Counter(draws).values())
    assert draws[:50] == [int(picked([example], 1, seed)[0].labels[0, 0, 0]) for seed in range(50)]


def test_several_raters_of_an_image_are_different_ones_as_far_as_there_are() -> None:
    labels = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    example = Example("a", np.zeros((1, 2, 2), np.float32), labels)
    for seed in range(20):
        drawn = picked([example], 1, seed, raters=5)[0].labels[:, 0, 0].tolist()
        assert sorted(drawn[:3]) == [0, 1, 2] and drawn[3:] == drawn[:2]


def test_no_case_is_drawn_twice_in_a_batch_while_there_are_enough() -> None:
    image, labels = np.zeros((1, 2, 2), np.float32), np.zeros((1, 2, 2), np.uint8)
    examples = [Example(str(k), image, labels) for k in range(4)]
    for seed in range(20):
        assert len({p.example.name for p in picked(examples, 4, seed)}) == 4
    assert len(picked(examples, 6, 0)) == 6


def test_channels_are_read_from_files_named_after_the_models(tmp_path: Path) -> None:
    volume(tmp_path)
    (tmp_path / "images" / "a.nii.gz").unlink()
    ramp = np.linspace(0, 1, 16, dtype=np.float32)
    rising, falling = (np.broadcast_to(r, (16, 16, 16)).copy() for r in (ramp, ramp[::-1]))
    save(tmp_path / "images" / "a" / "C1.nii.gz", falling)
    save(tmp_path / "images" / "a" / "C0.nii.gz", rising)
    (example,) = load_case(NiftiLayout(tmp_path), "a", tiny_card(channels=2))
    assert example.image[0, 0, 0, 0] < 0 < example.image[1, 0, 0, 0], "z runs with the ramp"
    with pytest.raises(CaseError, match=r"C2\.nii\.gz is missing"):
        load_case(NiftiLayout(tmp_path), "a", tiny_card(channels=3))


def test_a_slice_model_gets_every_slice_of_a_volume(tmp_path: Path) -> None:
    volume(tmp_path)
    examples = load_case(NiftiLayout(tmp_path), "a", slice_card())
    assert [e.image.shape for e in examples] == [(1, 16, 16)] * 16
    assert [k for k, e in enumerate(examples) if e.kind_of(e.labels)] in ([3], [12])
    whole = load_case(NiftiLayout(tmp_path), "a", tiny_card())[0]
    np.testing.assert_array_equal(np.stack([e.labels[0] for e in examples]), whole.labels[0])
    np.testing.assert_allclose(np.stack([e.image[0] for e in examples]), whole.image[0], atol=1e-6)


def test_image_level_classes_come_from_the_table_or_else_from_the_masks(tmp_path: Path) -> None:
    volume(tmp_path)
    card = slice_card(task="classifier", labels=("normal", "lesion"))
    assert sum(e.kind_of(e.labels[0]) for e in load_examples(tmp_path, ["a"], card)) == 1
    (tmp_path / "labels.csv").write_text("case,label\na,lesion\n")
    (tmp_path / "labels" / "a.nii.gz").unlink()  # not needed with a table
    assert sum(e.kind_of(e.labels[0]) for e in load_examples(tmp_path, ["a"], card)) == 16
    with pytest.raises(CaseError, match="no line for it"):
        load_examples(tmp_path, ["b"], card)
    (tmp_path / "labels.csv").write_text("case,label\na,tumour\n")
    with pytest.raises(PlanError, match="'tumour', but the model's are normal, lesion"):
        load_examples(tmp_path, ["a"], card)
    (tmp_path / "labels.csv").write_text("name,class\na,1\n")
    with pytest.raises(PlanError, match="columns case,label"):
        load_examples(tmp_path, ["a"], card)
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(PlanError, match="3 labels, which masks cannot tell"):
        load_examples(tmp_path, ["a"], replace(card, labels=("a", "b", "c")))


def test_structures_of_any_number_make_a_slice_abnormal(tmp_path: Path) -> None:
    volume(tmp_path)
    save(tmp_path / "labels" / "a.nii.gz", np.full((16, 16, 16), 255, np.uint16) * 10)
    card = slice_card(task="classifier", labels=("normal", "lesion"))
    assert all(e.kind_of(e.labels[0]) for e in load_examples(tmp_path, ["a"], card))
    with pytest.raises(CaseError, match="the label 2550, but the model has 3 classes"):
        load_case(NiftiLayout(tmp_path), "a", tiny_card())


def test_images_of_other_dimensions_than_the_models_are_told(tmp_path: Path) -> None:
    volume(tmp_path)
    with pytest.raises(CaseError, match="3D with 1 channel.* 3D images with 2"):
        load_case(NiftiLayout(tmp_path), "a", tiny_card(channels=2))


def test_patches_are_cut_anywhere_inside_and_often_round_a_structure() -> None:
    image = np.arange(40 * 60, dtype=np.float32).reshape(1, 40, 60)
    labels = np.zeros((1, 40, 60), np.uint8)
    labels[0, 2:4, 50:54] = 2
    pick = picked([Example("a", image, labels)], 1, 0)[0]
    corners, hits = [], 0
    chooser = np.random.default_rng(0)
    for _ in range(1000):
        cut = cut_anywhere(pick, (16, 16), chooser)
        assert cut.labels.shape == (1, 24, 24) and cut.example.image.shape == (1, 24, 24)
        patch, mask = cut.example.image[0, 4:20, 4:20], cut.labels[0, 4:20, 4:20]
        y, x = divmod(int(patch[0, 0]), 60)
        np.testing.assert_array_equal(patch, image[0, y : y + 16, x : x + 16])
        np.testing.assert_array_equal(mask, labels[0, y : y + 16, x : x + 16])
        corners.append((y, x))
        hits += bool(mask.any())
    assert np.min(corners, 0).tolist() == [0, 0] and np.max(corners, 0).tolist() == [24, 44]
    # Half of them by intention, 8 % of the others by chance: 540 with a standard deviation of 16.
    assert 480 < hits < 600


def test_patches_of_small_images_keep_them_in_the_middle_and_label_nothing_beyond() -> None:
    labels = np.ones((1, 8, 30), np.uint8)
    pick = Pick(Example("a", 7 * labels.astype(np.float32), labels), labels)
    cut = cut_anywhere(pick, (16, 16), np.random.default_rng(0))
    assert (cut.example.image == 7).all()
    rows = cut.labels[0, :, 12]
    assert rows.sum() == 8 and rows[8:16].all()


def test_drawing_in_the_centre_is_what_shipped_configurations_do(tmp_path: Path) -> None:
    volume(tmp_path)
    picks = picked(load_case(NiftiLayout(tmp_path), "a", tiny_card()), 1, 0)
    still = AugmentPlan(affine_probability=0, gamma_probability=0, noise_probability=0, bias_probability=0)
    image, labels = Augmenter(still, (16, 16, 16)).draw(picks, 3)
    np.testing.assert_array_equal(image[0], picks[0].example.image)
    np.testing.assert_array_equal(labels[0], picks[0].labels)
