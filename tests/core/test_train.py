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
from diffseg.objectives import ClassifierObjective, MaskObjective
from diffseg.train import Trainer, fit, rate_at
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


def supervised_weakly(folder: Path, task: str, **changes: object) -> TrainPlan:
    """A class-conditional image model, or a classifier, of slices of the volumes of ``write_cases``."""
    network: dict[str, object] = {"inputs": 1, "outputs": 2, "base": 32, "widths": [32, 32], "blocks": [1, 1]}
    network |= {"labels": 2} if task == "image" else {"pool": "adaptive"}
    card = replace(
        tiny_card(spatial=2, classes=2),
        task=task,
        architecture="guided-unet" if task == "image" else "guided-classifier",
        network=network,
        schedule="guided",
        schedule_settings={"betas": "cosine"},
        prediction="eps",
        prediction_settings={"learned_variance": task == "image"},
        codec="image",
        labels=("normal", "lesion"),
    )
    settings: dict[str, object] = {
        "patch": (16, 16),
        "batch": 4,
        "diffusion_steps": 1000,
        "uniform_fraction": 0.0,
        "mse": 1.0,
        "bound": 1.0 if task == "image" else 0.0,
        "rate": 3e-3,
    }
    weak = plan(folder, f"{task}-run", **(settings | changes))
    return replace(weak, model=card, augment=AugmentPlan(affine_probability=0.0, gamma_probability=0.0))


def test_image_models_and_classifiers_learn_from_slices_and_can_be_loaded(tmp_path: Path) -> None:
    write_cases(tmp_path)
    runs = {}
    for task, updates in (("image", 25), ("classifier", 80)):
        p = supervised_weakly(tmp_path, task, updates=updates, save_every=updates, validate_every=updates, ema=0.9)
        runs[task] = list(fit(p, torch.device("cpu")))
        checkpoint = load_checkpoint(p.out / "tiny.safetensors")
        assert (checkpoint.card.task, checkpoint.card.labels) == (task, ("normal", "lesion"))
        first, last = (np.mean([s.losses["total"] for s in part]) for part in (runs[task][:5], runs[task][-5:]))
        assert last < 0.95 * first, task
    assert set(runs["image"][-1].losses) == {"mse", "bound", "total"}
    # The network starts at 0, whose squared error of the noise is 1.
    assert runs["image"][-1].validation["noise error"] < 0.9
    # Half of the slices have the structure, so guessing is right half of the time.
    assert runs["classifier"][-1].validation["accuracy"] > 0.7


def test_an_image_model_resumes_exactly(tmp_path: Path) -> None:
    write_cases(tmp_path)
    p = supervised_weakly(tmp_path, "image", updates=4, save_every=2, validate_every=4)
    whole = list(fit(p, torch.device("cpu")))
    killed = fit(replace(p, out=tmp_path / "killed"), torch.device("cpu"))
    for _ in range(3):
        next(killed)
    killed.close()  # type: ignore[attr-defined]
    rest = list(fit(replace(p, out=tmp_path / "killed"), torch.device("cpu"), resume=True))
    assert rest[-1].losses == whole[-1].losses
    assert rest[-1].validation == whole[-1].validation


def test_masks_train_with_learned_variance_and_with_self_conditioning(tmp_path: Path) -> None:
    write_cases(tmp_path, ("a", "b"))
    weak = supervised_weakly(tmp_path, "image")
    network = weak.model.network | {"inputs": 2, "labels": 0}
    binary = replace(weak.model, task="mask", network=network, codec="binary", labels=(), steps=4)
    settings = {"updates": 2, "validate_every": 2, "dice": 0.0, "cross_entropy": 0.0}
    for mask in tmp_path.glob("labels/*.nii.gz"):
        nib.save(nib.Nifti1Image((np.asarray(nib.load(mask).dataobj) > 0).astype(np.uint8), np.eye(4)), mask)
    last = list(fit(replace(weak, model=binary, fit=replace(weak.fit, **settings)), torch.device("cpu")))[-1]
    assert set(last.losses) == {"mse", "bound", "total"}
    assert 0 <= last.validation["anterior"] <= 1

    card = tiny_card()
    aware = replace(card, network=card.network | {"image_channels": 4})
    p = replace(plan(tmp_path, "aware", self_condition=0.5, recycling="none", updates=2, validate_every=2), model=aware)
    assert 0 <= list(fit(p, torch.device("cpu")))[-1].validation["anterior"] <= 1


def test_each_update_learns_from_one_rater(tmp_path: Path) -> None:
    write_cases(tmp_path, ("a", "b"))
    labels = tmp_path / "labels"
    (labels / "a").mkdir()
    for rater in (1, 2):  # rater 1 says class 1 everywhere, rater 2 class 2
        values = np.full((16, 16, 16), rater, np.uint8)
        nib.save(nib.Nifti1Image(values, np.eye(4)), labels / "a" / f"{rater}.nii.gz")
    (labels / "a.nii.gz").unlink()
    p = replace(plan(tmp_path, "run", batch=1), augment=AugmentPlan(affine_probability=0.0))
    trainer = Trainer(p, torch.device("cpu"))
    drawn = [trainer.batch(k).labels.unique().tolist() for k in range(20)]
    assert sorted({tuple(values) for values in drawn}) == [(1,), (2,)]
    again = Trainer(p, torch.device("cpu"))
    assert [again.batch(k).labels.unique().tolist() for k in range(20)] == drawn


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
    shipped = (Path(__file__).parents[2] / "configs" / "hippocampus-3d.toml").read_text()
    path.write_text(shipped.replace("[model]", '[model]\ntask = "masks"'))
    with pytest.raises(PlanError, match="model.task"):
        read_train_plan(path)
    path.write_text(shipped.replace("[fit]", '[fit]\nweighting = "snrr"'))
    with pytest.raises(PlanError, match="no weighting called 'snrr'"):
        next(fit(read_train_plan(path), torch.device("cpu")))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"self_condition": 1.5}, "fit.self_condition is 1.5, but must be between 0 and 1"),
        ({"bound": -1.0}, "fit.bound is -1.0, but must be at least 0"),
        ({"batch": 0}, "fit.batch is 0, but must be at least 1"),
        ({"patch": (16, 16)}, "3D patches with sides that are multiples of 2"),
        ({"patch": (16, 16, 15)}, "3D patches with sides that are multiples of 2"),
    ],
)
def test_settings_out_of_range_are_told_before_the_first_update(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    write_cases(tmp_path)
    with pytest.raises(PlanError, match=says):
        next(fit(plan(tmp_path, "run", **changes), torch.device("cpu")))


def test_the_task_of_the_card_chooses_what_is_learned(tmp_path: Path) -> None:
    write_cases(tmp_path)
    path = tmp_path / "train.toml"
    text = (Path(__file__).parents[2] / "configs" / "hippocampus-3d.toml").read_text()
    text = text.replace("../../shared/data/volumes3d/hippocampus", ".").replace("hippocampus-3d.split", "split")
    path.write_text(text)
    assert isinstance(Trainer(read_train_plan(path), torch.device("cpu")).objective, MaskObjective)
    path.write_text(text.replace("[model]", '[model]\ntask = "classifier"\nlabels = ["normal", "lesion"]'))
    assert isinstance(Trainer(read_train_plan(path), torch.device("cpu")).objective, ClassifierObjective)


def test_the_shipped_configuration_is_readable() -> None:
    path = Path(__file__).parents[2] / "configs" / "hippocampus-3d.toml"
    read = read_train_plan(path)
    assert read.model.name == "hippocampus-3d"
    split = json.loads(read.data.split.read_text())
    assert (len(split["train"]), len(split["validation"])) == (151, 38)
