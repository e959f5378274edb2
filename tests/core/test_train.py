"""Training: closed forms of its parts, learning, and exact resumption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from diffseg.checkpoint import load_checkpoint
from diffseg.errors import CaseError, PlanError
from diffseg.train import fit, rate_at
from diffseg.train_plan import AugmentPlan, DataPlan, FitPlan, TrainPlan, read_train_plan
from oracle import tiny_card

pytest.importorskip("monai", reason="training needs the extra 'train'")


def write_cases(folder: Path, names: tuple[str, ...] = ("a", "b", "c", "d")) -> None:
    """Bright boxes on a dim ground, labelled 1, with a brighter core labelled 2."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name in names:
        labels = np.zeros((16, 16, 16), np.uint8)
        x, y, z = rng.integers(2, 6, 3)
        labels[x : x + 8, y : y + 8, z : z + 8] = 1
        labels[x + 2 : x + 6, y + 2 : y + 6, z + 2 : z + 6] = 2
        image = (100.0 * labels + rng.normal(0, 5, labels.shape)).astype(np.float32)
        nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "images" / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / "labels" / f"{name}.nii.gz")
    (folder / "split.json").write_text(json.dumps({"train": names[:-1], "validation": names[-1:]}))


def plan(folder: Path, out: str, **changes: object) -> TrainPlan:
    fit_plan = FitPlan(updates=6, batch=2, patch=(16, 16, 16), warmup=2, save_every=3, validate_every=6)
    data = DataPlan(folder, folder / "split.json")
    return TrainPlan(folder / out, data, replace(fit_plan, **changes), tiny_card(), AugmentPlan())


def test_learning_rate_warms_up_and_ends_at_its_last_value() -> None:
    p = FitPlan(updates=110, warmup=10, rate=1.0, rate_end=0.1)
    assert rate_at(p, 0) == pytest.approx(0.1)
    assert rate_at(p, 9) == pytest.approx(1.0)
    assert rate_at(p, 60) == pytest.approx(0.55)
    assert rate_at(p, 110) == pytest.approx(0.1)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    write_cases(tmp_path)
    whole = list(fit(plan(tmp_path, "whole"), torch.device("cpu")))
    killed = fit(plan(tmp_path, "killed"), torch.device("cpu"))
    for _ in range(4):  # saved after 3; the fourth update is lost with the kill
        next(killed)
    killed.close()  # type: ignore[attr-defined]
    rest = list(fit(plan(tmp_path, "killed"), torch.device("cpu"), resume=True))
    assert [s.done for s in rest] == [4, 5, 6]
    assert rest[-1].losses == whole[-1].losses
    a, b = (load_checkpoint(tmp_path / out / "tiny.safetensors").network for out in ("whole", "killed"))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("prediction", ["x0", "v", "eps"])
def test_training_lowers_the_loss_for_every_head(tmp_path: Path, prediction: str) -> None:
    write_cases(tmp_path)
    p = plan(tmp_path, "run", updates=60, warmup=5, rate=5e-3, save_every=60, validate_every=60)
    steps = list(fit(replace(p, model=replace(p.model, prediction=prediction)), torch.device("cpu")))
    first, last = (np.mean([s.losses["total"] for s in part]) for part in (steps[:5], steps[-5:]))
    assert last < 0.8 * first
    assert set(steps[-1].validation) == {"anterior", "posterior"}


def test_training_uses_no_global_randomness(tmp_path: Path) -> None:
    write_cases(tmp_path)
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        losses.append([s.losses["total"] for s in fit(plan(tmp_path, f"run{seed}"), torch.device("cpu"))])
    assert losses[0] == losses[1]


def test_unusable_data_are_named(tmp_path: Path) -> None:
    write_cases(tmp_path)
    (tmp_path / "labels" / "a.nii.gz").unlink()
    with pytest.raises(CaseError, match=r"a\.nii\.gz is missing"):
        next(fit(plan(tmp_path, "run"), torch.device("cpu")))
    (tmp_path / "split.json").write_text(json.dumps({"train": ["b"], "validation": ["b"]}))
    with pytest.raises(PlanError, match="in training and in validation"):
        next(fit(plan(tmp_path, "run"), torch.device("cpu")))
    with pytest.raises(PlanError, match="no saved run"):
        (tmp_path / "split.json").write_text(json.dumps({"train": ["b"], "validation": ["c"]}))
        next(fit(plan(tmp_path, "run"), torch.device("cpu"), resume=True))


def test_a_wrong_configuration_is_told_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    with pytest.raises(PlanError, match="no training configuration"):
        read_train_plan(path)
    path.write_text("out = [")
    with pytest.raises(PlanError, match="no valid TOML"):
        read_train_plan(path)
    path.write_text('out = "x"')
    with pytest.raises(PlanError, match="data: field required"):
        read_train_plan(path)


def test_the_shipped_configuration_is_readable() -> None:
    path = Path(__file__).parents[2] / "configs" / "hippocampus-3d.toml"
    read = read_train_plan(path)
    assert read.model.name == "hippocampus-3d"
    split = json.loads(read.data.split.read_text())
    assert (len(split["train"]), len(split["validation"])) == (151, 38)
