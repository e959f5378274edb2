"""Evaluation of mask models: figures against brute force, what is left out, and both layouts."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffseg.__main__ import main
from diffseg.case import Case, origin_of
from diffseg.errors import PlanError
from diffseg.evaluate import SET_FIGURES, case_names, score, set_figures, summary, table
from image_models import save_pair
from oracle import save_tiny, tiny_card


def discs(radii: tuple[int, ...], side: int = 24) -> list[np.ndarray]:
    """Discs about one centre; radius 0 is an empty mask."""
    y, x = np.mgrid[:side, :side]
    return [((y - 11) ** 2 + (x - 12) ** 2 < r**2).astype(np.uint8) for r in radii]


def case_of(raters: list[np.ndarray]) -> Case:
    origin = origin_of((24, 24), np.diag([-1.0, -1.0, 1.0, 1.0]))
    image = np.zeros((1, 24, 24), np.float32)
    return Case(image, origin.display_grid(), ("C0",), {str(k): r for k, r in enumerate(raters)}, origin, "c")


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """1 - IoU, 0 for two empty masks."""
    union = np.logical_or(a, b).sum()
    return 1 - np.logical_and(a, b).sum() / union if union else 0.0


def test_set_figures_are_those_of_the_definitions() -> None:
    masks, raters = discs((0, 4, 6, 7, 0)), discs((5, 6, 0, 8))
    found = set_figures(masks, raters, 2)
    cross = np.mean([distance(a, b) for a, b in product(masks, raters)])
    inner = [np.array([[distance(a, b) for a in group] for b in group]) for group in (masks, raters)]
    assert found["ged"] == pytest.approx(2 * cross - inner[0].mean() - inner[1].mean())
    others = [d[~np.eye(len(d), dtype=bool)].mean() for d in inner]
    assert found["ged_unbiased"] == pytest.approx(2 * cross - sum(others))
    overlaps = [1 - distance(a, b) for a, b in product(masks, raters)]
    assert found["mean_dice"] == pytest.approx(np.mean([2 * j / (1 + j) for j in overlaps]))
    assert (found["empty_members"], found["empty_raters"]) == (pytest.approx(40), pytest.approx(25))
    assert set(found) == set(SET_FIGURES)


def test_perfect_sets_have_the_best_figures() -> None:
    raters = discs((4, 5, 6, 7))
    found = set_figures(raters, raters, 2)
    assert found["ged"] == pytest.approx(0) and found["matched_iou"] == pytest.approx(1)
    assert found["insight_combined_sensitivity"] == found["insight_d_max"] == 1


def test_the_majority_is_scored_and_means_leave_out_what_is_undefined() -> None:
    card = tiny_card(spatial=2, classes=2)
    right = score("a", discs((6,))[0], discs((6, 6, 6)), case_of(discs((6, 0))), 2)
    assert right.dice == (0.5,) and right.hd95_mm == (0.0,), "an empty rater has Dice 0 and no distance"
    nothing = score("b", discs((0,))[0], discs((0, 0, 0)), case_of(discs((0, 0))), 2)
    assert np.isnan(nothing.dice[0]) and nothing.sets["ged"] == 0
    result = summary([right, nothing], card)
    assert result["dice"] == 0.5 and result["classes"]["anterior"]["dice"]["left_out"] == 1
    assert result["sets"]["empty_members"]["mean"] == 50 and result["sets"]["empty_members"]["std"] == 50
    text = table(result)
    assert "GED(3), papers' estimator" in text and "3 masks a case, 2 rater(s)" in text


def test_one_mask_and_one_rater_give_the_plain_table() -> None:
    scores = [score(str(k), discs((6,))[0], discs((6,)), case_of(discs((r,))), 2) for k, r in enumerate((6, 0))]
    result = summary(scores, tiny_card(spatial=2, classes=2))
    assert "sets" not in result and "GED" not in table(result)
    assert table(result).splitlines()[2].split()[:2] == ["anterior", "0.500"]
    assert "(1 left out)" in table(result)


def test_one_mask_against_several_raters_has_no_unbiased_estimate_and_says_so() -> None:
    one = score("a", discs((6,))[0], discs((6,)), case_of(discs((6, 5))), 2)
    line = next(x for x in table(summary([one], tiny_card(spatial=2, classes=2))).splitlines() if "self-pairs" in x)
    assert "undefined" in line and "1 left out" in line


def test_a_limit_takes_cases_from_the_whole_list(tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": [], "validation": [f"c{k}" for k in range(10)]}))
    assert case_names(tmp_path, split, 4) == ["c0", "c3", "c6", "c9"]
    assert len(case_names(tmp_path, split, 99)) == 10
    with pytest.raises(PlanError, match="at least 1"):
        case_names(tmp_path, split, 0)


def write_pictures(folder: Path, radii: tuple[int, ...], rng: np.random.Generator) -> None:
    """Two noisy cases in the LIDC layout, with one rater per radius."""
    for name in ("p0/0", "p1/1"):
        (folder / name).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (24, 24)).astype(np.uint8)).save(folder / name / "image_1.png")
        for r, mask in enumerate(discs(radii)):
            Image.fromarray(mask * 255).save(folder / name / f"label{r}_.png")


def test_a_folder_of_pictures_is_evaluated_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture, rng: np.random.Generator
) -> None:
    write_pictures(tmp_path / "data", (5, 0, 6), rng)
    save_tiny(tmp_path / "tiny.safetensors", tiny_card(spatial=2, classes=2))
    arguments = ["evaluate", "-m", str(tmp_path / "tiny.safetensors"), "--data", str(tmp_path / "data"), "-n", "3"]
    assert main([*arguments, "--device", "cpu", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["cases"] == 2 and result["members"] == 3 and result["raters"] == [3]
    assert result["sets"]["empty_raters"]["mean"] == pytest.approx(100 / 3)
    by_case = [c["sets"]["ged"] for c in result["by_case"]]
    assert result["sets"]["ged"]["mean"] == pytest.approx(np.mean(by_case))
    assert main([*arguments, "--device", "cpu"]) == 0
    assert "matched IoU" in capsys.readouterr().out


def test_image_models_are_judged_by_their_maps(
    tmp_path: Path, capsys: pytest.CaptureFixture, rng: np.random.Generator
) -> None:
    write_pictures(tmp_path / "data", (6,), rng)
    model, classifier = save_pair(tmp_path)
    arguments = ["evaluate", "-m", str(model), "--data", str(tmp_path / "data"), "--device", "cpu"]
    assert main([*arguments, "--method", "cdm", "--method", "cg-cdm", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["methods"]) == ["cdm", "cg-cdm"] and result["slices"] == 2
    classifier.rename(tmp_path / "guide.safetensors")
    assert main([*arguments, "--method", "cg-cdm"]) == 2
    assert "there is no tiny-classifier.safetensors beside the model" in capsys.readouterr().err
    assert main([*arguments, "--method", "cg-cdm", "--classifier", str(tmp_path / "guide.safetensors")]) == 0
    assert "cg-cdm" in capsys.readouterr().out
    assert main([*arguments, "--method", "cgcdm"]) == 2
    assert "cgcdm" in capsys.readouterr().err
