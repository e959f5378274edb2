"""The command line on real files: what it writes, what it says, and how it fails."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from diffseg.__main__ import main
from oracle import save_tiny

AFFINE = np.array([[0.0, 0.0, 1.2, -10.0], [-0.9, 0.1, 0.0, 20.0], [0.1, 1.1, 0.0, 5.0], [0.0, 0.0, 0.0, 1.0]])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An oblique, permuted 22 x 18 x 20 scan with two raters beside it."""
    rng = np.random.default_rng(0)
    image = nib.Nifti1Image(rng.normal(500, 100, (22, 18, 20)).astype(np.int16), AFFINE)
    image.set_sform(AFFINE, code=2)
    nib.save(image, tmp_path / "scan.nii.gz")
    for r in (1, 2):
        mask = np.zeros((22, 18, 20), np.uint8)
        mask[5 : 12 + r, 4:12, 6:14] = 1
        mask[5 : 12 + r, 8:12, 6:14] = 2
        nib.save(nib.Nifti1Image(mask, AFFINE), tmp_path / f"rater{r}.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def read(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def test_sample_writes_every_file_on_the_scans_own_grid(scan: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    raters = [tmp_path / "rater1.nii.gz", tmp_path / "rater2.nii.gz"]
    assert run("sample", scan, "-m", model, "-o", out, "-n", 3, "--rater", raters[0], "--rater", raters[1]) == 0
    names = {p.name for p in out.iterdir()}
    maps = {"mean_background", "mean_anterior", "mean_posterior", "variance", "entropy", "ged_map"}
    assert {f"{m}.nii.gz" for m in maps} < names
    fixed = {"members.nii.gz", "consensus_inner.nii.gz", "consensus_outer.nii.gz", "mode_1.nii.gz"}
    assert fixed | {"modes.json", "plan.json", "metrics.json"} < names
    for path in out.glob("*.nii.gz"):
        image = nib.load(path)
        assert image.shape[:3] == (22, 18, 20)
        np.testing.assert_array_equal(image.affine, nib.load(scan).affine)
        assert int(image.header["sform_code"]) == 2
    members = nib.load(out / "members.nii.gz")
    assert members.shape == (22, 18, 20, 3) and members.get_data_dtype() == np.uint8
    stack = read(out / "members.nii.gz")
    np.testing.assert_allclose(read(out / "mean_anterior.nii.gz"), (stack == 1).mean(-1), atol=1e-6)
    modes = json.loads((out / "modes.json").read_text())
    assert sum(m["frequency"] for m in modes) == pytest.approx(1)
    np.testing.assert_array_equal(read(out / "mode_1.nii.gz"), stack[..., modes[0]["medoid"]])
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["samples"] == 3 and metrics["raters"] == 2


def test_a_region_confines_the_mask_and_the_same_seed_repeats_it(scan: Path, model: Path, tmp_path: Path) -> None:
    for out in ("a", "b"):
        assert run("sample", scan, "-m", model, "-o", tmp_path / out, "-n", 1, "--roi", "2:14,3:15,4:12") == 0
    a, b = (read(tmp_path / out / "members.nii.gz") for out in "ab")
    np.testing.assert_array_equal(a, b)
    assert 0 < np.count_nonzero(a) <= 12 * 12 * 8
    assert run("sample", scan, "-m", model, "-o", tmp_path / "c", "-n", 1, "--seed", 1, "--roi", "2:14,3:15,4:12") == 0
    assert (read(tmp_path / "c" / "members.nii.gz") != a).any()


def test_the_trajectory_ends_in_the_first_member(scan: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("sample", scan, "-m", model, "-o", out, "-n", 1, "--steps", 4, "--trajectory") == 0
    states = sorted(out.glob("trajectory_*.nii.gz"))
    assert len(states) == 5
    last, member = read(states[-1]), read(out / "members.nii.gz")[..., 0]
    # The field is 2 P(foreground) - 1; resampling aside, where it is below -1/3 the background has over 2/3.
    assert (member[last < -1 / 3] == 0).all()


def test_measure_prints_both_ged_estimators_and_json(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    masks = ["--sample", tmp_path / "rater1.nii.gz", "--rater", tmp_path / "rater1.nii.gz", tmp_path / "rater2.nii.gz"]
    assert run("measure", *masks, "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["samples"] == 1 and record["raters"] == 2
    assert run("measure", *masks) == 0
    text = capsys.readouterr().out
    assert "GED" in text and "N = 1" in text


BAD = {
    "missing": "does not exist",
    "truncated": "damaged or cut short",
    "four_d": "is 4D and holds 3 volumes",
    "zero_bytes": "is empty",
    "text": "no known format",
}


def bad_scan(kind: str, folder: Path, scan: Path) -> Path:
    path = folder / f"{kind}.nii.gz"
    data = np.ones((8, 8, 8), np.float32)
    if kind == "truncated":
        path.write_bytes(scan.read_bytes()[: scan.stat().st_size // 2])
    elif kind == "four_d":
        nib.save(nib.Nifti1Image(np.stack([data] * 3, -1), AFFINE), path)
    elif kind == "zero_bytes":
        path.touch()
    elif kind == "text":
        path = folder / "notes.txt"
        path.write_text("hello")
    return path


@pytest.mark.parametrize("kind", BAD)
def test_bad_scans_give_one_sentence_and_nothing_is_written(
    kind: str, scan: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    assert run("sample", bad_scan(kind, tmp_path, scan), "-m", model, "-o", out) == 2
    error = capsys.readouterr().err
    assert BAD[kind] in error and error.count("\n") == 1
    assert not out.exists() and not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["-n", "0"], "at least 1 is needed"),
        (["--steps", "1"], "this schedule takes"),
        (["--roi", "5:2,0:4,0:4"], "5:2"),
        (["--roi", "900:950,0:4,0:4"], "900:950"),
        (["--roi", "all"], "all"),
        (["--sampler", "euler"], "no sampler called 'euler'"),
        (["--device", "tpu"], "tpu"),
        (["--seed", "-1"], "0 or more"),
    ],
)
def test_bad_settings_give_one_sentence(
    extra: list[str], words: str, scan: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("sample", scan, "-m", model, "-o", tmp_path / "out", *extra) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_voxels_that_are_no_numbers_are_told_and_do_no_harm(
    scan: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    image = nib.load(scan)
    data = image.get_fdata(dtype=np.float32)
    data[2, 2, 2:4] = np.nan, np.inf
    nib.save(nib.Nifti1Image(data, image.affine), tmp_path / "holes.nii.gz")
    assert run("sample", tmp_path / "holes.nii.gz", "-m", model, "-o", tmp_path / "out", "-n", "1") == 0
    assert "2 voxels of 'holes.nii.gz' were no finite numbers" in capsys.readouterr().err


def test_wrong_channels_and_models_give_one_sentence(
    scan: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    other = tmp_path / "other.nii.gz"
    other.write_bytes(scan.read_bytes())
    assert run("sample", scan, other, "-m", model, "-o", tmp_path / "out") == 2
    assert "expects 1 channel" in capsys.readouterr().err
    assert run("sample", scan, scan, "-m", model, "-o", tmp_path / "out") == 2
    assert "given 2 times" in capsys.readouterr().err
    assert run("sample", scan, "-m", "no-such-model", "-o", tmp_path / "out") == 2
    assert "no-such-model" in capsys.readouterr().err
    evil = tmp_path / "evil.pt"
    evil.write_bytes(pickle.dumps({"a": 1}))
    assert run("sample", scan, "-m", evil, "-o", tmp_path / "out") == 2
    assert "can run code" in capsys.readouterr().err


def test_a_folder_with_other_files_is_left_alone_and_an_old_result_is_replaced(
    scan: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    assert run("sample", scan, "-m", model, "-o", out, "-n", 1) == 2
    assert "already holds other files" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["thesis.txt"]
    (out / "thesis.txt").unlink()
    assert run("sample", scan, "-m", model, "-o", out, "-n", 2) == 0
    assert run("sample", scan, "-m", model, "-o", out, "-n", 1) == 0
    assert read(out / "members.nii.gz").shape[-1] == 1


def test_models_shows_the_card_of_a_file(model: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("models", model) == 0
    text = capsys.readouterr().out
    assert "anterior, posterior" in text and "ddpm, 3 steps" in text


def test_wrong_usage_exits_with_two_and_one_line_in_a_real_process(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "diffseg", "sample"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_help_and_models_do_not_import_torch() -> None:
    code = "import sys; from diffseg.__main__ import parser; parser(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_interrupted_run_leaves_nothing(
    scan: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diffseg.outputs.write_json", interrupted)
    assert run("sample", scan, "-m", model, "-o", tmp_path / "out", "-n", 1) == 130
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
