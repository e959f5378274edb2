"""What a folder stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_files import write_series
from diffseg.errors import CaseError
from diffseg.io.folders import files_of
from scans import save_nifti


def test_a_folder_without_slices_is_the_scans_and_masks_in_it(tmp_path: Path) -> None:
    names = ("b.nii.gz", "a.mha", ".hidden.nii", "a.plan.json", "notes.txt", "pair.hdr", "pair.img", "deep/c.nii")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in files_of(tmp_path)] == ["a.mha", "b.nii.gz", "pair.hdr"]
    assert files_of(tmp_path / "b.nii.gz") == (tmp_path / "b.nii.gz",)


def test_a_folder_of_slices_or_of_nothing_is_itself(tmp_path: Path) -> None:
    series, empty = tmp_path / "series", tmp_path / "empty"
    write_series(series, np.arange(24).reshape(2, 3, 4))
    save_nifti(series / "a.nii", np.zeros((2, 3, 4), np.int16))
    empty.mkdir()
    assert files_of(series) == (series,) and files_of(empty) == (empty,)


def test_a_data_set_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for number in range(25):
        (tmp_path / f"{number}.nii").write_bytes(b"x")
    with pytest.raises(CaseError, match="holds 25 scans and masks; give the files of one scan"):
        files_of(tmp_path)
