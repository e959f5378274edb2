"""Saliency methods are scored slice by slice, all by the same rules."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from diffseg import evaluate_saliency as es
from diffseg.checkpoint import Checkpoint, load_checkpoint
from diffseg.errors import CaseError, PlanError
from diffseg.saliency import Models, run
from image_models import image_card, save_tiny
from saliency_oracle import (
    TIMES,
    PlantedClassifier,
    PlantedDenoiser,
    healthy_image,
    lesion_image,
    lesion_masks,
)

PLACES = (0, None, 7)  # where each slice has its lesion
KNOBS: dict[str, dict[str, Any]] = {"cdm": {"q": 300, "r": 10}, "cg-cdm": {"q": 300, "scale": 0.1}}
DRAWS = 4  # after which the exact models have no doubt left


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One volume of three slices, two of them with a lesion."""
    images = np.stack([(healthy_image() if p is None else lesion_image(p))[0].numpy() for p in PLACES])
    masks = np.stack([np.zeros((16, 16), bool) if p is None else lesion_masks()[p].numpy() for p in PLACES])
    for name, values in (("images", images), ("labels", masks.astype(np.uint8))):
        (tmp_path / name).mkdir()
        # Display order runs from superior, so the affine turns all three axes over.
        nib.save(nib.Nifti1Image(values.T, np.diag([-2.0, -2.0, -2.0, 1.0])), tmp_path / name / "one.nii.gz")
    return tmp_path


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """A checkpoint behind whose card the exact models answer."""
    monkeypatch.setattr(run, "models_of", lambda *_: Models(TIMES, PlantedDenoiser(), PlantedClassifier().eval()))
    card = image_card(saliency={"cdm": {"r": 2, "draws": 3}})
    save_tiny(tmp_path / "m.safetensors", card)
    return load_checkpoint(tmp_path / "m.safetensors")


def test_the_exact_models_find_the_planted_lesions(folder: Path, checkpoint: Checkpoint) -> None:
    scores = list(es.evaluate_saliency(checkpoint, None, folder, ["one"], ["cdm", "cg-cdm"], KNOBS, draws=DRAWS))
    assert [(s.method, s.slice) for s in scores] == [(m, z) for m in ("cdm", "cg-cdm") for z in range(3)]
    for score in scores:
        if PLACES[score.slice] is None:
            assert score.true == 0 and math.isnan(score.dice) and math.isnan(score.hd95_mm)
        else:
            assert (score.dice, score.iou, score.hd95_mm) == (1, 1, 0), score
            assert score.shared == score.found == score.true == 25
        assert score.passes == DRAWS * 10 * (2 if score.method == "cdm" else 4) and score.seconds > 0


def test_the_cards_settings_hold_unless_others_are_given(folder: Path, checkpoint: Checkpoint) -> None:
    def passes(settings: dict[str, Any], **choices: Any) -> float:
        found = es.evaluate_saliency(checkpoint, None, folder, ["one"], ["cdm"], settings, **choices)
        return next(found).passes

    assert passes({}) == 2 * 2 * 3, "two walks of r = 2 steps, drawn three times"
    assert passes({"cdm": {"r": 5}}, draws=1) == 2 * 5


def test_choices_for_all_methods_reach_the_run(folder: Path, checkpoint: Checkpoint) -> None:
    with pytest.raises(PlanError, match="otsu-average"):
        list(es.evaluate_saliency(checkpoint, None, folder, ["one"], ["cdm"], KNOBS, threshold="mean"))


def test_a_case_without_masks_is_refused(folder: Path, checkpoint: Checkpoint) -> None:
    (folder / "labels" / "one.nii.gz").unlink()
    with pytest.raises(CaseError):
        list(es.evaluate_saliency(checkpoint, None, folder, ["one"], ["cdm"], KNOBS))


def score(method: str, number: int, shared: int, found: int, true: int, seconds: float) -> es.SaliencyScore:
    overlap = 2 * shared / (found + true) if true else math.nan
    distance = math.nan if not true else (3.0 if found else math.inf)
    return es.SaliencyScore(
        "c", number, method, overlap, overlap / (2 - overlap), distance, shared, found, true, seconds, 8
    )


def test_the_summary_weighs_slices_alike_and_the_volume_by_pixels() -> None:
    scores = [
        *(score("cg-cdm", 0, 8, 10, 10, 2.0), score("cg-cdm", 1, 0, 0, 10, 2.0), score("cg-cdm", 2, 0, 20, 0, 2.0)),
        *(
            score("grad-cam", 0, 2, 10, 10, 0.1),
            score("grad-cam", 1, 0, 5, 10, 0.1),
            score("grad-cam", 2, 0, 9, 0, 0.1),
        ),
        *(score("layer-cam", 0, 1, 10, 10, 0.1), score("cg-diff", 0, 5, 10, 10, 30.0)),
    ]
    result = es.summary(scores, replace(image_card(), name="m"))
    ours = result["methods"]["cg-cdm"]
    assert (result["slices"], result["with_lesion"]) == (3, 2)
    assert ours["dice"]["mean"] == pytest.approx(0.4) and ours["dice"]["std"] == pytest.approx(0.4)
    assert ours["hd95_mm"] == {"mean": 3.0, "std": 0.0, "left_out": 1}
    assert ours["volume_dice"] == pytest.approx(16 / 50), "false pixels of the healthy slice count"
    assert result["cg_cdm"]["best_cam"] == "grad-cam" and result["cg_cdm"]["dice_over_best_cam"] == pytest.approx(4)
    assert result["cg_cdm"]["times_faster_than_cg_diff"] == pytest.approx(15)
    text = es.table(result)
    assert "4.00 times the Dice of grad-cam" in text and "15.0 times faster" in text and "(1 empty)" in text


def test_missing_methods_leave_the_comparison_open() -> None:
    result = es.summary([score("cdm", 0, 8, 10, 10, 2.0)], image_card())
    assert set(result["cg_cdm"].values()) == {None} and "times" not in es.table(result)
