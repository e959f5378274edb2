"""Whole explanations: from files to files, and what is said when something does not fit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from diffseg.__main__ import main
from diffseg.checkpoint import load_checkpoint
from diffseg.errors import CheckpointError, DeviceError, PlanError
from diffseg.io import read_case
from diffseg.noise import CosineSchedule, TableSchedule
from diffseg.saliency import SaliencyStep
from diffseg.saliency.otsu import cut_slices, largest_component
from diffseg.saliency.run import SaliencyRun, times_of
from diffseg.saliency_plan import ExplainPlan, read_explain_plan
from image_models import image_card, save_pair
from oracle import save_tiny, tiny_card

AFFINE = np.array([[0.0, 0.0, 1.2, -10.0], [-0.9, 0.1, 0.0, 20.0], [0.1, 1.1, 0.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
QUICK = ("--q", 100, "--r", 2)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An oblique, permuted 14 x 6 x 12 scan with values in [0, 1]."""
    values = np.random.default_rng(0).random((14, 6, 12)).astype(np.float32)
    image = nib.Nifti1Image(values, AFFINE)
    image.set_sform(AFFINE, code=2)
    nib.save(image, tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_pair(tmp_path)[0]


def run(*arguments: object) -> int:
    return main(["saliency", *(str(a) for a in arguments)])


def read(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)


def test_the_map_and_mask_lie_on_the_scans_own_grid(scan: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(scan, "-m", model, "-o", out, *QUICK) == 0
    assert {p.name for p in out.iterdir()} == {"saliency.nii.gz", "saliency_otsu.nii.gz", "plan.json"}
    for path in out.glob("*.nii.gz"):
        image = nib.load(path)
        assert image.shape == (14, 6, 12)
        np.testing.assert_array_equal(image.affine, nib.load(scan).affine)
        assert int(image.header["sform_code"]) == 2
    assert nib.load(out / "saliency_otsu.nii.gz").get_data_dtype() == np.uint8
    case = read_case([scan])
    shown = case.origin.to_display(read(out / "saliency.nii.gz"))
    mask = case.origin.to_display(read(out / "saliency_otsu.nii.gz"))
    np.testing.assert_array_equal(mask, cut_slices(shown).mask)


def test_the_plan_names_every_setting_and_repeats_the_map(scan: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ("--draws", 2, "--seed", 3, "--tau", 0.9, "--set", "stride=5", "--largest")
    assert run(scan, "-m", model, "-o", out, *QUICK, *asked) == 0
    plan = read_explain_plan(out / "plan.json")
    assert plan.settings == {"q": 100, "r": 2, "tau": 0.9, "stride": 5, "mixture": "embedding", "scale": 10.0}
    assert (plan.draws, plan.seed, plan.component, plan.method) == (2, 3, "largest", "cg-cdm")
    assert json.loads((out / "plan.json").read_text())["inputs"][0]["path"] == "../scan.nii.gz"
    job = opened(plan, scan, model, model.with_name("tiny-classifier.safetensors"))
    *_, last = job.explain()
    again = job.explanation(last)
    case = read_case([scan])
    np.testing.assert_array_equal(again.map, case.origin.to_display(read(out / "saliency.nii.gz")))
    np.testing.assert_array_equal(again.mask, case.origin.to_display(read(out / "saliency_otsu.nii.gz")))
    for part, values, threshold in zip(again.mask, again.map, again.thresholds, strict=True):
        np.testing.assert_array_equal(part, largest_component(values > threshold))


def test_settings_on_the_models_card_hold_unless_others_are_asked_for(scan: Path, tmp_path: Path) -> None:
    model = tmp_path / "tuned.safetensors"
    save_tiny(model, image_card(saliency={"cdm": {"q": 50, "r": 3, "draws": 2}}))
    plans = []
    for out, asked in ((tmp_path / "card", ()), (tmp_path / "own", ("--r", 1, "--draws", 1))):
        assert run(scan, "-m", model, "-o", out, "--method", "cdm", *asked) == 0
        plan = read_explain_plan(out / "plan.json")
        plans.append((plan.settings["q"], plan.settings["r"], plan.draws, plan.settings["tau"]))
    assert plans == [(50, 3, 2, 0.95), (50, 1, 1, 0.95)]


def opened(plan: ExplainPlan, scan: Path, model: Path, classifier: Path | None = None) -> SaliencyRun:
    guide = None if classifier is None else load_checkpoint(classifier)
    return SaliencyRun(plan, read_case([scan]), load_checkpoint(model), guide)


def planned(model: Path, **choices: Any) -> ExplainPlan:
    sha256 = load_checkpoint(model).sha256
    settings = {"method": "cdm", "settings": {"q": 100, "r": 2}} | choices
    return ExplainPlan(model="tiny-image", model_sha256=sha256, inputs=(), **settings)


def test_a_slice_has_the_same_map_in_any_region(scan: Path, model: Path) -> None:
    whole = opened(planned(model), scan, model)
    shape = whole.case.grid.shape
    part = opened(planned(model, roi=f"2:4,0:{shape[1]},0:{shape[2]}"), scan, model)
    assert part.numbers == (2, 3)
    maps = [job.explanation(list(job.explain())[-1]).map for job in (whole, part)]
    # The noise hangs on the slice's number; rounding differs with the batch.
    np.testing.assert_allclose(maps[1], maps[0][2:4], atol=1e-3 * float(np.abs(maps[0]).max()))


def test_any_step_can_be_shown_on_the_scan(scan: Path, model: Path) -> None:
    job = opened(planned(model, draws=2), scan, model)
    for step in job.explain():
        shown = job.explanation(step)
        assert shown.map.shape == shown.mask.shape == job.case.grid.shape
        assert np.isfinite(shown.map).all()


def test_a_2d_image_has_one_slice(model: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((13, 10)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "s.nii")
    out = tmp_path / "out"
    assert run(tmp_path / "s.nii", "-m", model, "-o", out, "--method", "cdm", *QUICK) == 0
    assert read(out / "saliency.nii.gz").shape == (13, 10)
    assert set(np.unique(read(out / "saliency_otsu.nii.gz"))) == {0, 1}


@pytest.mark.skipif(find_spec("pytorch_grad_cam") is None, reason="class activation maps need the extra cam")
def test_a_classifier_alone_is_enough_for_activation_maps(scan: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    classifier = model.with_name("tiny-classifier.safetensors")
    assert run(scan, "-m", classifier, "-o", out, "--method", "layer-cam", "--set", "layer=input_blocks.1") == 0
    values = read(out / "saliency.nii.gz")
    assert values.min() >= 0 and 0.9 < values.max() <= 1


def test_colour_networks_get_copies_of_the_grey_channel(scan: Path, tmp_path: Path) -> None:
    card = image_card(3)
    card = replace(card, channels=("image",), image=replace(card.image, repeat=3))
    save_tiny(tmp_path / "rgb.safetensors", card)
    job = opened(planned(tmp_path / "rgb.safetensors"), scan, tmp_path / "rgb.safetensors")
    images = job.question().images
    assert images.shape[1] == 3 and torch.equal(images[:, 0], images[:, 2])
    *_, last = job.explain()
    assert bool(last.map.any())


def test_a_respaced_schedule_still_has_all_its_time_steps() -> None:
    times = times_of(TableSchedule(respacing="ddim50"))
    assert [level.told for level in times] == list(range(1000))
    assert len(times_of(CosineSchedule())) == 1000


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--method", "lime"), "There is no saliency method called 'lime'"),
        (("--set", "steps=3"), "has no setting 'steps'; it has: q, r, tau, stride, mixture, scale"),
        (("--tau", "1"), "tau is 1"),
        (("--q", "2000"), "time steps 0 to 999"),
        (("--target", "0"), "compared with itself"),
        (("--target", "4"), "no class 4"),
        (("--draws", "0"), "0 draws"),
        (("--seed", "-1"), "seed is -1"),
        (("--threshold", "half"), "no threshold called 'half'"),
        (("--set", "mixture=wine"), "mixture"),
    ],
)
def test_what_does_not_fit_ends_in_one_sentence(
    scan: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], sentence: str
) -> None:
    out = tmp_path / "out"
    assert run(scan, "-m", model, "-o", out, *options) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1
    assert not out.exists()


def test_a_missing_classifier_is_asked_for(scan: Path, model: Path, tmp_path: Path, capsys: Any) -> None:
    model.with_name("tiny-classifier.safetensors").unlink()
    assert run(scan, "-m", model, "-o", tmp_path / "out") == 2
    assert "no tiny-classifier.safetensors beside the model; give one with --classifier" in capsys.readouterr().err
    assert run(scan, "-m", model, "-o", tmp_path / "out", "--method", "cdm", *QUICK) == 0


def test_models_that_are_no_image_models_are_refused(scan: Path, model: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.safetensors"
    save_tiny(mask, tiny_card(spatial=2))
    with pytest.raises(PlanError, match="draws masks, but a saliency map needs an image diffusion model"):
        opened(planned(mask), scan, mask)
    with pytest.raises(PlanError, match="is no classifier"):
        opened(planned(model), scan, model, model)
    save_pair(tmp_path / "three", channels=3)
    with pytest.raises(PlanError, match=r"sees 3 channel\(s\), but tiny-image draws images of 1"):
        opened(planned(model), scan, model, tmp_path / "three" / "tiny-classifier.safetensors")
    with pytest.raises(CheckpointError, match="another file"):
        opened(replace(planned(model), model_sha256="0" * 64), scan, model)


def test_a_device_too_small_for_one_slice_hands_over_to_the_cpu(
    scan: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = opened(planned(model), scan, model)
    explain = job._explain

    def small() -> Iterator[SaliencyStep]:
        if job.device.type != "cpu":
            raise DeviceError("Memory ran out")
        return explain()

    monkeypatch.setattr(job, "_explain", small)
    job.device = torch.device("cuda")
    steps = list(job.explain())
    assert "starting again on the CPU" in steps[0].note and steps[1].note == ""
    assert steps[-1].done == steps[-1].total
