"""Data folders: which layout they have, which files belong to a case, and what is said of wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffseg.data import load_examples
from diffseg.errors import CaseError
from diffseg.io import read_case
from diffseg.layouts import LidcLayout, NiftiLayout, find_layout
from oracle import tiny_card


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def lidc_case(folder: Path, raters: int = 4, suffix: str = ".jpg", number: int = 0) -> None:
    """A noisy 32 x 32 slice with one disc per rater, each larger than the one before."""
    folder.mkdir(parents=True)
    y, x = np.mgrid[:32, :32]
    image = np.random.default_rng(number).integers(0, 256, (32, 32)).astype(np.uint8)
    Image.fromarray(image).save(folder / f"image_{number}{suffix}")
    for r in range(raters):
        mask = ((y - 10) ** 2 + (x - 20) ** 2 < (4 + r) ** 2).astype(np.uint8) * 255
        Image.fromarray(mask).save(folder / f"label{r}_{suffix}")


def test_layouts_are_told_apart_by_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "one/images/a.nii.gz", "two/images/a/T1.nii.gz", "three/p/c/image_7.jpg", "four/c/image_.PNG")
    kinds = {name: type(find_layout(tmp_path / name)) for name in ("one", "two", "three", "four")}
    assert kinds == {"one": NiftiLayout, "two": NiftiLayout, "three": LidcLayout, "four": LidcLayout}


def test_other_folders_are_told_with_what_they_hold_and_what_belongs_there(tmp_path: Path) -> None:
    touch(tmp_path, "x/images/a.png", "x/masks/a.png")
    with pytest.raises(CaseError) as refusal:
        find_layout(tmp_path / "x")
    sentence = str(refusal.value)
    for words in ("x holds images/, masks/", "images/<case>.nii.gz", "label0_.jpg"):
        assert words in sentence
    assert "\n" not in sentence and sentence.count(".  ") == 0
    with pytest.raises(CaseError, match="no data folder at"):
        find_layout(tmp_path / "y")


def test_lidc_cases_are_named_by_their_folders_and_raters_sorted_by_number(tmp_path: Path) -> None:
    for name in ("b/000002", "b/000001", "a"):
        lidc_case(tmp_path / name)
    layout = find_layout(tmp_path)
    assert layout.names() == ["a", "b/000001", "b/000002"]
    touch(tmp_path / "many", "image_1.jpg", *(f"label{k}_.jpg" for k in range(11)))
    raters = [p.name for p in layout.raters("many")]
    assert raters == [f"label{k}_.jpg" for k in range(11)], "10 comes after 9"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_lidc_case_becomes_an_example_with_all_raters(tmp_path: Path, suffix: str) -> None:
    for number, raters in enumerate((4, 2)):
        lidc_case(tmp_path / "p" / str(number), raters, suffix, number)
    card = tiny_card(spatial=2, classes=2)
    four, two = load_examples(tmp_path, ["p/0", "p/1"], card)
    assert (four.labels.shape, two.labels.shape) == ((4, 32, 32), (2, 32, 32))
    assert four.labels.dtype == np.uint8 and four.image.shape == (1, 32, 32)
    y, x = np.mgrid[:32, :32]
    for r, mask in enumerate(four.labels):
        disc = (y - 10) ** 2 + (x - 20) ** 2 < (4 + r) ** 2
        assert (mask != disc).sum() <= (0.05 * disc.sum() if suffix == ".jpg" else 0)
    with pytest.raises(CaseError, match="2D with 1 channel.* 3D images"):
        load_examples(tmp_path, ["p/0"], replace(card, window=(16, 16, 16)))


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda case: (case / "label2_.jpg").unlink(), r"label0_\.jpg, label1_\.jpg, label3_\.jpg, but the masks"),
        (lambda case: [p.unlink() for p in case.glob("label*")], "holds no label files"),
        (lambda case: touch(case, "image_1.png"), r"holds 2 files called image_<n>\.jpg"),
        (lambda case: case.rename(case.with_name("other")), "no folder"),
    ],
)
def test_wrong_lidc_folders_are_told_in_a_sentence(
    tmp_path: Path, break_it: Callable[[Path], object], says: str
) -> None:
    lidc_case(tmp_path / "p" / "c")
    break_it(tmp_path / "p" / "c")
    layout = LidcLayout(tmp_path)
    with pytest.raises(CaseError, match=says):
        layout.images("p/c", ()), layout.raters("p/c")


def test_wrong_nifti_folders_are_told_in_a_sentence(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.nii.gz")
    layout = NiftiLayout(tmp_path)
    with pytest.raises(CaseError, match=r"labels holds no \.nii\.gz files"):
        layout.names()
    touch(tmp_path, "labels/a_r1.nii.gz")
    with pytest.raises(CaseError, match=r"a_r1\.nii\.gz lies beside it: put the files of several raters into"):
        layout.raters("a")
    (tmp_path / "labels" / "a").mkdir()
    with pytest.raises(CaseError, match=r"holds no \.nii\.gz files"):
        layout.raters("a")
    touch(tmp_path, "labels/a/1.nii.gz", "labels/a.nii.gz")
    with pytest.raises(CaseError, match="has both .* put all raters into the folder"):
        layout.raters("a")
    touch(tmp_path, "images/a/T1.nii.gz")
    with pytest.raises(CaseError, match="has both .* keep one of them"):
        layout.images("a", ("T1",))
    with pytest.raises(CaseError, match=r"b is to be used, but .*b\.nii\.gz is missing"):
        layout.images("b", ("T1",))


def test_real_slices_of_four_raters_are_read(shared_dir: Path, tmp_path: Path) -> None:
    source = shared_dir / "data" / "multirater" / "lidc_ct_slices"
    for case in sorted(source.iterdir())[:3]:
        (tmp_path / case.name).mkdir()
        (tmp_path / case.name / "image_1.png").write_bytes((case / "image.png").read_bytes())
        for r in range(4):
            (tmp_path / case.name / f"label{r}_.png").write_bytes((case / f"rater{r + 1}.png").read_bytes())
    layout = find_layout(tmp_path)
    for name in layout.names():
        case = read_case(layout.images(name, ()), layout.raters(name))
        assert case.grid.shape == (128, 128) and list(case.raters) == ["label0_", "label1_", "label2_", "label3_"]
        for r, mask in enumerate(case.raters.values(), start=1):
            original = np.asarray(Image.open(source / name / f"rater{r}.png"))
            np.testing.assert_array_equal(mask, original > 127)
