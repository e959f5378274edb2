"""Short configurations: what the data decide, what is written, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diffseg.__main__ import main
from diffseg.card import read_card
from diffseg.cli.train import duration
from diffseg.errors import PlanError
from diffseg.recipe import PATCH_VOXELS, prepare_plan, stride_for, window_for
from diffseg.splits import draw_split
from diffseg.train_plan import read_train_plan

SHORT = 'out = "run"\n[data]\nfolder = "data"\n[model]\nname = "mine"\n'


def slices(folder: Path, patients: int = 5, raters: int = 3, side: int = 32) -> None:
    """Two slices a patient; a bright disc that each rater draws a little larger."""
    y, x = np.mgrid[:side, :side]
    for number in range(2 * patients):
        case = folder / f"p{number // 2}" / f"{number:03d}"
        case.mkdir(parents=True)
        distance = (y - 12 - number % 4) ** 2 + (x - 16) ** 2
        Image.fromarray(np.where(distance < 36, 200, 40).astype(np.uint8)).save(case / "image_0.png")
        for r in range(raters):
            Image.fromarray((distance < (5 + r) ** 2).astype(np.uint8) * 255).save(case / f"label{r}_.png")


def volumes(folder: Path, shapes: list[tuple[int, int, int]], spacing_mm: float = 2.0) -> None:
    """File axes run x, y, z; the last file axis is the slices'."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for k, shape in enumerate(shapes):
        affine = np.diag([-1.0, -1.0, spacing_mm, 1.0])
        labels = np.zeros(shape, np.uint8)
        labels[2:6, 2:6, 2:6] = 1 + k % 2
        image = (labels * 50 + np.arange(shape[0])[:, None, None]).astype(np.float32)
        nib.save(nib.Nifti1Image(image, affine), folder / "images" / f"v{k}.nii.gz")
        nib.save(nib.Nifti1Image(labels, affine), folder / "labels" / f"v{k}.nii.gz")


def config(tmp_path: Path, more: str = "") -> Path:
    path = tmp_path / "short.toml"
    path.write_text(SHORT + more)
    return path


def test_slices_of_several_raters_become_a_2d_model_that_keeps_their_frequencies(tmp_path: Path) -> None:
    slices(tmp_path / "data")
    plan = prepare_plan(config(tmp_path))
    card = plan.model
    assert card.window == plan.fit.patch == (32, 32) and card.spacing_mm is None
    assert [c.name for c in card.classes] == ["background", "structure"]
    assert card.network["classes"] == card.network["image_channels"] == 1 and card.codec == "binary"
    assert (card.schedule, card.sampler, card.steps) == ("cosine", "ddpm", 10)
    assert (plan.fit.dice, plan.fit.cross_entropy, plan.fit.mse) == (0, 1, 0)
    assert plan.fit.recycling == "none" and plan.augment.flip_left_right
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert len(split["validation"]) == 2 and len(split["train"]) == 8
    assert {n.split("/")[0] for n in split["train"]}.isdisjoint(n.split("/")[0] for n in split["validation"])


def test_volumes_of_one_rater_become_a_3d_model_at_their_median_spacing(tmp_path: Path) -> None:
    volumes(tmp_path / "data", [(20, 24, 30)] * 4)
    plan = prepare_plan(config(tmp_path))
    assert plan.model.spacing_mm == (2.0, 1.0, 1.0)
    assert plan.model.window == plan.fit.patch == (32, 24, 20) and plan.augment.place == "centre"
    assert len(plan.model.classes) == 3 and plan.fit.recycling == "max" and not plan.augment.flip_left_right


def test_volumes_of_few_slices_become_a_slice_model(tmp_path: Path) -> None:
    volumes(tmp_path / "data", [(40, 32, 7)] * 3)
    plan = prepare_plan(config(tmp_path))
    assert plan.model.window == (32, 40) and plan.model.spacing_mm == (1.0, 1.0)


def test_large_cases_are_cut_into_patches_anywhere() -> None:
    assert window_for((512, 512)) == (192, 192)
    assert window_for((400, 100, 100)) == (56, 56, 56)
    assert window_for((128, 128)) == (128, 128)


@given(st.lists(st.integers(4, 700), min_size=2, max_size=3))
def test_windows_suit_their_network_and_hold_the_image_where_they_may(shape: list[int]) -> None:
    window = window_for(shape)
    assert all(side > 0 and side % stride_for(window) == 0 for side in window)
    assert math.prod(window) <= PATCH_VOXELS[len(shape)]
    # Rounded up, no side is longer by 16 or more.
    small = math.prod(side + 15 for side in shape) <= PATCH_VOXELS[len(shape)]
    assert not small or all(w >= s for w, s in zip(window, shape, strict=True))


def test_the_written_configuration_is_the_plan_and_what_was_given_stands(tmp_path: Path) -> None:
    slices(tmp_path / "data")
    more = 'classes = ["background", "nodule"]\nsteps = 4\n[model.rule]\nnormalise = "unit"\n[fit]\nupdates = 7\n'
    plan = prepare_plan(config(tmp_path, more + "[augment]\nscale = 0.5\n"))
    assert (plan.model.steps, plan.fit.updates, plan.augment.scale) == (4, 7, 0.5)
    assert [c.name for c in plan.model.classes] == ["background", "nodule"]
    assert plan.model.rule.normalise == "unit" and plan.model.rule.clip_percentiles == (0.5, 99.5)
    again = read_train_plan(tmp_path / "run" / "config.toml")
    assert (again.model, again.fit, again.augment) == (plan.model, plan.fit, plan.augment)
    assert [p.resolve() for p in (again.out, again.data.folder, again.data.split)] == [
        tmp_path / "run",
        tmp_path / "data",
        tmp_path / "run" / "split.json",
    ]


def test_a_resumed_run_keeps_its_data_and_model_but_may_go_on_longer(tmp_path: Path) -> None:
    slices(tmp_path / "data", 4)
    before = prepare_plan(config(tmp_path, "[fit]\nupdates = 5\n"))
    slices(tmp_path / "data" / "later", 5, raters=1, side=64)
    after = prepare_plan(config(tmp_path, "[fit]\nupdates = 9\n"), resume=True)
    assert after.model == before.model and after.fit.updates == 9
    assert after.data.split.read_text().count("later") == 0


def test_a_split_that_is_named_is_used_and_left_alone(tmp_path: Path) -> None:
    slices(tmp_path / "data")
    (tmp_path / "mine.json").write_text('{"train": ["p0/000"], "validation": ["p1/002"]}')
    text = SHORT.replace('"data"\n', '"data"\nsplit = "mine.json"\n')
    (tmp_path / "c.toml").write_text(text)
    plan = prepare_plan(tmp_path / "c.toml")
    assert plan.data.split.resolve() == tmp_path / "mine.json"
    assert plan.model.training.startswith("1 cases")


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ([f"p{k % 7}/{k}" for k in range(50)], 1),
        ([f"all/p{k % 7}/{k}" for k in range(50)], 2),
        ([f"case{k}" for k in range(11)], 1),
        (["a/1", "a/2", "b/1"], 1),
    ],
)
def test_a_split_never_parts_a_patient_and_takes_about_a_fifth(tmp_path: Path, names: list[str], groups: int) -> None:
    split = draw_split(names, tmp_path)
    assert sorted(split["train"] + split["validation"]) == sorted(names)
    patients = [{"/".join(n.split("/")[:groups]) for n in split[side]} for side in ("train", "validation")]
    assert not patients[0] & patients[1] and all(patients)
    assert len(split["validation"]) <= max(0.2 * len(names), 1)
    assert split == draw_split(names[::-1], tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SHORT.replace('name = "mine"', ""), "has no model.name"),
        (SHORT.replace('out = "run"', ""), "has no out"),
        (SHORT.replace('[data]\nfolder = "data"', 'data = "data"'), r"\[data\] is a table"),
        (SHORT + "[fit]\nupdats = 3\n", "updats"),
        (SHORT + 'task = "classifier"\n', "needs a whole configuration"),
        (SHORT + "window = 128\n", "2 or 3 sides"),
        (SHORT + "colour = 1\n", "colour"),
        (SHORT + "[augmnt]\nscale = 1\n", "augmnt"),
    ],
)
def test_wrong_short_configurations_are_told_and_nothing_is_written(tmp_path: Path, text: str, says: str) -> None:
    slices(tmp_path / "data", 2)
    path = tmp_path / "short.toml"
    path.write_text(text)
    with pytest.raises(PlanError, match=says):
        prepare_plan(path)
    assert not (tmp_path / "run").exists()


def test_data_that_no_model_can_be_made_for_are_told(tmp_path: Path) -> None:
    slices(tmp_path / "data", 1)
    (tmp_path / "data" / "p0" / "000").rename(tmp_path / "000")
    with pytest.raises(PlanError, match=r"holds 1 case\(s\), but"):
        prepare_plan(config(tmp_path))
    (tmp_path / "000").rename(tmp_path / "data" / "000")
    for mask in (tmp_path / "data").rglob("label*"):
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(mask)
    with pytest.raises(PlanError, match="largest label in .* is 0"):
        prepare_plan(config(tmp_path))
    assert not (tmp_path / "run").exists()


def test_time_left_is_told_in_the_unit_that_suits_it() -> None:
    assert [duration(s) for s in (0.4, 99.4, 100, 5900, 7500)] == ["0 s", "99 s", "2 min", "98 min", "2 h 5 min"]


def test_a_short_configuration_trains_a_model_that_lists_its_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("monai", reason="training needs the extra 'train'")
    slices(tmp_path / "data")
    path = config(tmp_path, "[fit]\nupdates = 2\nbatch = 2\n")
    assert main(["train", str(path), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "8 cases to train on, 2 to validate with; 2 updates of 2 patches of 32×32" in printed
    assert "validation structure" in printed and "; 0 s left" in printed
    card, _ = read_card(tmp_path / "run" / "mine.safetensors")
    assert card.spatial == 2 and card.channels == ("image",)
