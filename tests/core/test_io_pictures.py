"""PNG, JPEG and TIFF pictures as scans and masks, and results of them as NIfTI."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diffseg.errors import CaseError
from diffseg.io import read_case, read_labels, write_labels, write_map


def save(path: Path, values: NDArray, **options: object) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


def refused(path: Path) -> str:
    """The one sentence with which a mask is refused."""
    with pytest.raises(CaseError) as refusal:
        read_labels(path)
    sentence = str(refusal.value)
    assert sentence.endswith(".") and "\n" not in sentence and path.name in sentence
    return sentence


@pytest.fixture
def disc() -> NDArray[np.uint8]:
    """A small structure on black, 0 and 255, off the centre and of unequal sides."""
    y, x = np.mgrid[:48, :64]
    return np.where((y - 14) ** 2 + (1.7 * (x - 45)) ** 2 < 60, np.uint8(255), np.uint8(0))


def test_a_picture_says_that_its_scale_is_not_known(tmp_path: Path, disc: NDArray[np.uint8]) -> None:
    (note,) = read_case([save(tmp_path / "a.png", disc)]).notes
    assert "1 mm" in note


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_pixel_comes_back_where_it_was_when_results_are_read(
    tmp_path: Path, dtype: type, suffix: str, rng: np.random.Generator
) -> None:
    values = rng.integers(0, np.iinfo(dtype).max, (7, 11)).astype(dtype)
    case = read_case([save(tmp_path / f"scan{suffix}", values)])
    np.testing.assert_array_equal(case.image[0], values)
    assert case.spacing_mm == (1.0, 1.0) and case.name == "scan"
    mask = np.zeros((7, 11), np.uint8)
    mask[2, 9] = 1
    write_labels(tmp_path / "mask.nii.gz", mask, case)
    write_map(tmp_path / "map.nii.gz", case.image[0], case)
    stored = nib.load(tmp_path / "mask.nii.gz")
    assert stored.shape == (11, 7) and np.argwhere(np.asarray(stored.dataobj)).tolist() == [[9, 2]]
    again = read_case([tmp_path / "map.nii.gz"], [tmp_path / "mask.nii.gz"])
    np.testing.assert_array_equal(again.image[0], values)
    np.testing.assert_array_equal(again.raters["mask"], mask)
    # A NIfTI result also belongs to the picture it was made from.
    read_labels(tmp_path / "mask.nii.gz", case.grid)
    assert case.grid.same_as(again.grid)


def test_members_of_a_picture_lie_on_a_fourth_axis(tmp_path: Path) -> None:
    case = read_case([save(tmp_path / "scan.png", np.zeros((4, 6), np.uint8))])
    write_labels(tmp_path / "members.nii.gz", np.ones((3, 4, 6), np.uint8), case)
    assert nib.load(tmp_path / "members.nii.gz").shape == (6, 4, 1, 3)


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_jpeg_masks_are_cut_where_the_ringing_does_not_matter(
    tmp_path: Path, disc: NDArray[np.uint8], quality: int
) -> None:
    path = save(tmp_path / "mask.jpg", disc, quality=quality)
    assert (np.asarray(Image.open(path)) > 0).sum() > 1.5 * (disc > 0).sum(), "there is ringing to withstand"
    found = read_labels(path)
    assert found.dtype == np.uint8 and set(np.unique(found)) == {0, 1}
    assert (found != (disc > 0)).sum() <= 0.05 * (disc > 0).sum()


def test_black_and_white_means_0_and_1_and_small_numbers_are_labels(tmp_path: Path, disc: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(read_labels(save(tmp_path / "a.png", disc)), disc > 0)
    np.testing.assert_array_equal(read_labels(save(tmp_path / "bits.png", disc > 0)), disc > 0)
    np.testing.assert_array_equal(read_labels(save(tmp_path / "b.png", disc // 255 * 2)), (disc > 0) * 2)
    for suffix in (".png", ".jpg"):
        assert not read_labels(save(tmp_path / f"empty{suffix}", np.zeros_like(disc))).any()


def test_what_is_no_mask_is_told_in_a_sentence(tmp_path: Path, rng: np.random.Generator) -> None:
    scan = rng.integers(0, 256, (32, 32)).astype(np.uint8)
    assert "is no mask" in refused(save(tmp_path / "scan.png", scan))
    assert "is no mask" in refused(save(tmp_path / "deep.png", scan.astype(np.uint16) * 200))
    assert "does not keep label numbers" in refused(save(tmp_path / "classes.jpg", np.full((32, 32), 2, np.uint8)))
    assert "is no mask" in refused(save(tmp_path / "fractions.tif", np.full((8, 8), 0.5, np.float32)))


def test_three_equal_channels_are_grey_and_colour_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    grey = rng.integers(0, 256, (16, 16)).astype(np.uint8)
    opaque = np.full_like(grey, 255)
    for name, planes in (("rgb", [grey] * 3), ("rgba", [grey] * 3 + [opaque]), ("la", [grey, opaque])):
        np.testing.assert_array_equal(
            read_case([save(tmp_path / f"{name}.png", np.dstack(planes))]).image[0], grey, err_msg=name
        )
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_case([tmp_path / "palette.png"]).image[0], grey)
    assert "is in colour" in refused(save(tmp_path / "colour.png", np.dstack([grey, grey, grey.T])))
    assert "partly transparent" in refused(save(tmp_path / "glass.png", np.dstack([grey] * 4)))


def test_damaged_missing_and_many_paged_pictures_are_told_in_a_sentence(tmp_path: Path) -> None:
    page = Image.fromarray(np.zeros((8, 8), np.uint8))
    page.save(tmp_path / "pages.tif", save_all=True, append_images=[page])
    assert "several pages" in refused(tmp_path / "pages.tif")
    whole = save(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 99, (64, 64)).astype(np.uint8))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:900])
    assert "damaged" in refused(tmp_path / "cut.png")
    (tmp_path / "empty.jpg").touch()
    assert "damaged" in refused(tmp_path / "empty.jpg")
    assert "does not exist" in refused(tmp_path / "no.png")
    with pytest.raises(CaseError, match="64 x 64"):
        read_case([save(tmp_path / "small.png", np.zeros((8, 8), np.uint8))], [whole])
