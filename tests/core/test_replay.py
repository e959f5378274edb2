"""Recorded plans run again: the same bits, or in words how far from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from diffseg.__main__ import main
from diffseg.cleaning import without_small
from diffseg.ensemble import Ensemble
from diffseg.errors import PlanError
from diffseg.io import read_case, write_labels
from diffseg.mask_file import MaskPlan, MaskStart, labels_hash, mask_plan_to_json, read_mask_plan, write_mask
from diffseg.plan import input_file
from diffseg.replay import dice, read_record
from diffseg.replay_start import of_ensemble
from image_models import save_pair
from memory import run_out_once
from oracle import save_tiny, tiny_card

AFFINE = np.array([[0.0, 0.0, 1.2, -10.0], [-0.9, 0.1, 0.0, 20.0], [0.1, 1.1, 0.0, 5.0], [0.0, 0.0, 0.0, 1.0]])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An oblique, permuted scan in a folder whose name is not ASCII."""
    values = np.random.default_rng(0).normal(500, 100, (22, 18, 20)).astype(np.int16)
    (tmp_path / "größe").mkdir()
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "größe" / "scan.nii.gz")
    return tmp_path / "größe" / "scan.nii.gz"


@pytest.fixture
def sampled(scan: Path, tmp_path: Path) -> Path:
    """A run of three members, and its model one folder up."""
    save_tiny(tmp_path / "tiny.safetensors")
    out = tmp_path / "out"
    assert run("sample", scan, "-m", tmp_path / "tiny.safetensors", "-o", out, "-n", 3, "--seed", 5) == 0
    return out


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def damaged(path: Path, voxels: int = 1) -> None:
    """Another label in some voxels of a file."""
    image = nib.load(path)
    values = np.asanyarray(image.dataobj).copy()
    flat = values.reshape(-1)
    flat[:voxels] = flat[:voxels] + 1 if values.dtype.kind == "f" else np.where(flat[:voxels], 0, 1)
    nib.save(nib.Nifti1Image(values, image.affine, image.header), path)


def test_a_run_gives_the_same_bits_again_also_after_everything_was_moved(
    sampled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path.with_name(tmp_path.name + " moved")
    tmp_path.rename(home)
    assert run("replay", home / "out" / "plan.json", "-m", home / "tiny.safetensors") == 0
    said = capsys.readouterr().out
    assert "The same bits." in said and "members.nii.gz" in said and "DIFFERS" not in said
    home.rename(tmp_path)


def test_other_results_are_told_file_by_file_with_their_dice(
    sampled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged(sampled / "members.nii.gz", 3)
    damaged(sampled / "variance.nii.gz")
    (sampled / "entropy.nii.gz").unlink()
    (sampled / "modes.json").write_text("[]")
    before = {p.name: p.read_bytes() for p in sampled.iterdir()}
    assert run("replay", sampled, "-m", tmp_path / "tiny.safetensors") == 1
    told = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if "DIFFERS" in line}
    assert set(told) == {"members.nii.gz", "variance.nii.gz", "entropy.nii.gz", "modes.json"}
    assert "Dice 0.9" in told["members.nii.gz"] and "3 voxels" in told["members.nii.gz"]
    assert "missing" in told["entropy.nii.gz"] and "largest difference 1" in told["variance.nii.gz"]
    assert {p.name: p.read_bytes() for p in sampled.iterdir()} == before  # replaying writes nothing


def test_a_run_that_fell_back_to_windows_is_drawn_again_in_windows(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path / "tiny.safetensors", replace(tiny_card(), window=(12, 12, 12)))
    arguments = ("sample", scan, "-m", tmp_path / "tiny.safetensors", "-n", 3, "--roi", "0:18,0:12,0:12", "-o")
    assert run(*arguments, tmp_path / "whole") == 0
    with monkeypatch.context() as patched:
        short = run_out_once(patched, 1)
        assert run(*arguments, tmp_path / "out") == 0
    assert not short
    whole, out = (np.asanyarray(nib.load(tmp_path / n / "members.nii.gz").dataobj) for n in ("whole", "out"))
    same = [bool((whole[..., m] == out[..., m]).all()) for m in range(3)]
    assert same == [True, False, False]
    ran = json.loads((tmp_path / "out" / "plan.json").read_text())["ran"]
    assert [(s["first"], s["last"], s["device"], s["windowed"]) for s in ran] == [
        *((0, 0, "cpu", False), (1, 2, "cpu", True))
    ]
    assert run("replay", tmp_path / "out", "-m", tmp_path / "tiny.safetensors") == 0
    assert run("replay", tmp_path / "out", "-m", tmp_path / "tiny.safetensors", "--device", "cpu") == 0
    assert "DIFFERS" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("model", "give its file with -m"),
        ("input", "has changed since"),
        ("gone", "is not there"),
        ("plan", "no readable plan"),
        ("kind", "is no plan of"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_a_sentence(
    sampled: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: str, words: str
) -> None:
    if fault == "input":
        damaged(scan)
    elif fault == "gone":
        scan.unlink()
    elif fault == "plan":
        (sampled / "plan.json").write_bytes(b"\xff")
    elif fault == "kind":
        (sampled / "plan.json").write_text('{"kind": ["sample"]}')
    model = () if fault == "model" else ("-m", tmp_path / "tiny.safetensors")
    assert run("replay", sampled / "plan.json", *model) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_saliency_map_gives_the_same_bits_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.random.default_rng(0).random((14, 6, 12)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "scan.nii.gz")
    model, out = save_pair(tmp_path)[0], tmp_path / "out"
    assert run("saliency", tmp_path / "scan.nii.gz", "-m", model, "-o", out, "--q", 100, "--r", 2) == 0
    assert run("replay", out, "-m", model) == 0
    damaged(out / "saliency_otsu.nii.gz")
    assert run("replay", out, "-m", model) == 1
    assert "saliency_otsu.nii.gz" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["mode:1", "member:2", "mean", "inner", "outer"])
def test_the_part_of_a_mask_that_a_model_drew_is_drawn_again(
    sampled: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    plan, case = read_record(sampled / "plan.json"), read_case([scan])
    stack = np.moveaxis(np.asanyarray(nib.load(sampled / "members.nii.gz").dataobj), -1, 0)
    ensemble = Ensemble(3, case.grid.shape)
    for number, member in enumerate(stack):
        ensemble.add(case.origin.to_display(np.asarray(member)), number)
    start = of_ensemble(ensemble.snapshot(), key, case.grid.voxel_ml)
    edited = start.copy()
    edited[3:5, 3:5, 3:5] = 1
    record = MaskPlan(key, MaskStart(key, labels_hash(start), 3), True, plan)  # type: ignore[arg-type]
    path, beside = write_mask(tmp_path / "mask.nii.gz", edited, case, record)
    assert run("replay", beside, "-m", tmp_path / "tiny.safetensors") == 0
    assert "between start and mask" in capsys.readouterr().out
    damaged(path)
    assert run("replay", beside, "-m", tmp_path / "tiny.safetensors") == 1
    assert "changed since it was saved" in capsys.readouterr().out
    other = replace(read_mask_plan(beside), start=replace(record.start, sha256="0" * 64))
    beside.write_text(mask_plan_to_json(other, tmp_path))
    assert run("replay", beside, "-m", tmp_path / "tiny.safetensors") == 1


def test_a_mask_that_no_model_began_is_only_compared_with_its_hash(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = read_case([scan])
    record = MaskPlan("an empty mask", MaskStart("empty"), True, inputs=(input_file(scan),))
    path, beside = write_mask(tmp_path / "mask.nii.gz", np.zeros(case.grid.shape, np.uint8), case, record)
    assert run("replay", beside) == 0
    assert "no model drew it" in capsys.readouterr().out
    write_labels(path, np.ones(case.grid.shape, np.uint8), case)
    assert run("replay", beside) == 1


def test_a_member_that_post_processing_emptied_is_found_empty_again(rng: np.random.Generator) -> None:
    ensemble = Ensemble(2, (4, 8, 8))
    large, small = np.zeros((4, 8, 8), np.uint8), np.zeros((4, 8, 8), np.uint8)
    large[:2], small[0, 0, :3] = 1, 1
    for number, labels in enumerate((large, small, large)):
        ensemble.add(labels, number)
    snapshot = without_small(ensemble.snapshot())
    assert not of_ensemble(snapshot, "member:1", 1.0).any() and of_ensemble(snapshot, "mode:1", 1.0).sum() == 128
    for key in ("mode:9", "member:3", "member:-1", "rater", "mode:x"):
        with pytest.raises(PlanError):
            of_ensemble(snapshot, key, 1.0)


def test_dice_of_labels_is_the_mean_over_those_that_either_has() -> None:
    a, b = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])
    assert dice(a, b) == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert dice(a * 0, b * 0) == 1 and dice(a, b * 0) == 0


def test_a_plan_file_and_a_mask_are_told_apart(sampled: Path) -> None:
    assert json.loads((sampled / "plan.json").read_text())["kind"] == "sample"
    assert read_record(sampled) == read_record(sampled / "plan.json")
