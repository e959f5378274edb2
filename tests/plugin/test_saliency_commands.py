"""Saliency by commands, with layers in a viewer without a window."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from diffseg.__main__ import main
from diffseg.checkpoint import load_checkpoint
from diffseg.errors import PlanError
from diffseg.grid import Box
from diffseg.replay import read_record
from diffseg.saliency.otsu import otsu
from diffseg.saliency.run import SaliencyRun
from diffseg.saliency_plan import ExplainPlan
from image_models import classifier_card, image_card, save_pair
from napari_diffseg import commands, opening, pace, saliency_commands, saliency_job, sync
from napari_diffseg.layerdata import own
from napari_diffseg.session import Session
from oracle import save_tiny, tiny_card
from plugin_cases import gradient
from scans import save_nifti

QUICK = {"q": 60, "r": 3}


@pytest.fixture(autouse=True)
def unknown_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No pace is known, and none is kept."""
    monkeypatch.setattr(saliency_commands, "paces", pace.Paces(tmp_path / "cache" / "pace.json"))


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


def ready(viewer: Any, folder: Path, shape: tuple[int, int, int] = (20, 24, 3), **hints: Any) -> Session:
    """A scan and a pair of tiny models, and few steps."""
    model, _ = save_pair(folder)
    rng = np.random.default_rng(0)
    values = gradient(shape) / 1000 + rng.random(shape)
    session = sync.attach(viewer)
    session.inline = True
    path = save_nifti(folder / "T1.nii.gz", values.astype(np.float32), np.diag([-1.0, -1, -1, 1]))
    commands.open_files(session, [path])
    commands.set_settings(session, device="cpu")
    assert saliency_commands.choose_hint_model(session, model)
    saliency_commands.set_method(session, "cdm")
    saliency_commands.set_hints(session, knobs=QUICK, **hints)
    return session


def role(viewer: Any, name: str) -> Any:
    (layer,) = [layer for layer in viewer.layers if own(layer).get("role") == name]
    return layer


def test_the_map_of_a_region_is_that_of_the_core_and_lies_where_the_region_lies(
    viewer: ViewerModel, tmp_path: Path
) -> None:
    session = ready(viewer, tmp_path)
    commands.place_region(session, Box((1, 4, 0), (3, 24, 16)))
    assert saliency_commands.explain(session), session.message
    view, cut, case = session.saliency, session.cut, session.case
    assert view is not None and cut is not None and case is not None and view.whole
    model = load_checkpoint(tmp_path / "tiny.safetensors")
    plan = ExplainPlan("tiny", model.sha256, (), "cdm", QUICK, roi="1:3,4:24,0:16", device="cpu")
    run = SaliencyRun(plan, case, model)
    *_, last = run.explain()
    expected = run.explanation(last)
    np.testing.assert_array_equal(view.map, expected.map)
    np.testing.assert_array_equal(cut.mask, expected.mask)
    assert view.passes == last.passes == 2 * 3 * 2, "two slices, three steps, two walks"
    image, contour = role(viewer, "saliency"), role(viewer, "cut")
    assert tuple(image.contrast_limits) == (0, 1) and image.colormap.name.startswith("inferno")
    assert (image.data.min(), image.data.max()) == (0, 1)
    assert tuple(image.translate) == tuple(contour.translate) == (1, 4, 0)
    assert contour.contour > 0 and [la.name for la in (image, contour)] == ["T1 · saliency", "T1 · saliency > Otsu"]


def test_the_threshold_moves_in_place_and_goes_back_to_each_rule(viewer: ViewerModel, tmp_path: Path) -> None:
    session = ready(viewer, tmp_path, draws=2)
    saliency_commands.explain(session)
    contour, view = role(viewer, "cut"), session.saliency
    assert view is not None
    saliency_commands.set_threshold(session, 0.75)
    assert session.cut is not None and session.cut.own and session.cut.line == pytest.approx(0.75)
    assert role(viewer, "cut") is contour and contour.name.endswith("> 0.75")
    # Both sides of the comparison are float32 or rounded to it, so voxels at the very threshold may differ.
    assert np.count_nonzero(contour.data != (view.shown > 0.75)) <= 1
    saliency_commands.set_hints(session, largest=True)
    assert session.cut.own and session.cut.mask.sum() <= (view.shown > 0.75).sum() + 1
    saliency_commands.set_hints(session, largest=False, threshold="otsu-volume")
    assert not session.cut.own
    assert session.cut.line == pytest.approx(view.to_unit(otsu(view.map)))
    saliency_commands.set_hints(session, threshold="otsu-slice")
    np.testing.assert_array_equal(session.cut.mask, [m > otsu(f) for m, f in zip(view.first, view.first, strict=True)])
    saliency_commands.set_threshold(session, 0.2)
    saliency_commands.set_threshold(session, None)
    assert not session.cut.own


def test_the_outline_becomes_a_mask_only_when_asked_and_saves_its_plan(viewer: ViewerModel, tmp_path: Path) -> None:
    session = ready(viewer, tmp_path)
    saliency_commands.explain(session)
    assert [key for key, _ in session.sources()] == ["empty", "saliency"]
    assert commands.promote(session, "saliency") and session.mask is not None and session.cut is not None
    np.testing.assert_array_equal(session.mask.labels, session.cut.mask)
    assert [c.name for c in session.mask.classes] == ["background", "lesion"]
    assert commands.save_mask(session, tmp_path / "mask.nii.gz")
    record = json.loads((tmp_path / "mask.plan.json").read_text())
    assert record["plan"]["kind"] == "saliency" and record["plan"]["settings"]["q"] == 60
    saliency_commands.set_threshold(session, 0.5)
    assert [name for name, _ in session.cut.dice] == [saliency_commands.MASK]


@pytest.mark.parametrize("how", ["rule", "own threshold, largest part", "cg-cdm, two draws", "unfinished"])
def test_a_mask_that_began_as_a_saliency_map_is_drawn_again_from_its_record(
    viewer: ViewerModel, tmp_path: Path, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ready(viewer, tmp_path)
    commands.place_region(session, Box((1, 4, 0), (3, 24, 16)))
    if "cg-cdm" in how:
        saliency_commands.set_method(session, "cg-cdm")
        saliency_commands.set_hints(session, knobs=QUICK, draws=2, threshold="otsu-slice")
    with monkeypatch.context() as patched:
        if how == "unfinished":
            steps = SaliencyRun.explain
            patched.setattr(SaliencyRun, "explain", lambda run: islice(steps(run), 2))
            patched.setattr(saliency_job, "MAP_INTERVAL_S", 0)
        assert saliency_commands.explain(session), session.message
    assert session.saliency is not None and session.saliency.whole == (how != "unfinished")
    if "own" in how:
        saliency_commands.set_hints(session, largest=True)
        saliency_commands.set_threshold(session, 0.3)
    assert commands.promote(session, "saliency"), session.message
    assert session.mask is not None and session.mask.labels.any()
    role(viewer, "mask").data_setitem(tuple(np.array([[0], [0], [0]])), 1)
    (tmp_path / "saved").mkdir()
    assert commands.save_mask(session, tmp_path / "saved" / "mask.nii.gz")
    models = ["-m", str(tmp_path / "tiny.safetensors")]
    if "cg" in how:
        models += ["--classifier", str(tmp_path / "tiny-classifier.safetensors")]
    beside = tmp_path / "saved" / "mask.plan.json"
    assert main(["replay", str(tmp_path / "saved"), *models]) == 0
    said = capsys.readouterr().out
    assert "start of the mask" in said and "DIFFERS" not in said and "between start and mask" in said
    record = json.loads(beside.read_text())
    assert record["plan"]["ran"] == "cpu" and (record["start"]["step"] is not None) == (how == "unfinished")
    # What another threshold outlines is another start.
    record["start"]["threshold"] = 1e9
    beside.write_text(json.dumps(record))
    assert main(["replay", str(beside), *models]) == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_of_several_channels_the_record_names_the_file_that_the_model_looked_at(
    viewer: ViewerModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny(tmp_path / "flair.safetensors", replace(image_card(), channels=("FLAIR",)))
    rng = np.random.default_rng(0)
    scans = [
        save_nifti(tmp_path / f"sub_{name}.nii.gz", rng.random((20, 24, 2)).astype(np.float32), np.eye(4))
        for name in ("T1", "FLAIR")
    ]
    session = sync.attach(viewer)
    session.inline = True
    save_tiny(tmp_path / "both.safetensors", replace(tiny_card(channels=2), channels=("T1", "FLAIR")))
    commands.choose_model(session, tmp_path / "both.safetensors")
    commands.open_files(session, scans)
    commands.set_settings(session, device="cpu")
    assert saliency_commands.choose_hint_model(session, tmp_path / "flair.safetensors")
    saliency_commands.set_method(session, "cdm")
    saliency_commands.set_hints(session, knobs=QUICK)
    assert saliency_commands.explain(session) and session.saliency is not None, session.message
    assert [Path(file.path).name for file in session.saliency.plan.inputs] == ["sub_FLAIR.nii.gz"]
    assert commands.promote(session, "saliency")
    assert commands.save_mask(session, tmp_path / "mask.nii.gz")
    assert main(["replay", str(tmp_path / "mask.plan.json"), "-m", str(tmp_path / "flair.safetensors")]) == 0
    assert "DIFFERS" not in capsys.readouterr().out


def test_a_folder_of_several_masks_is_asked_back(viewer: ViewerModel, tmp_path: Path) -> None:
    session = ready(viewer, tmp_path)
    commands.promote(session, "empty")
    for name in ("a", "b"):
        commands.save_mask(session, tmp_path / f"{name}.nii.gz")
    with pytest.raises(PlanError, match=r"records of 2 masks \(a.plan.json, b.plan.json\); give one"):
        read_record(tmp_path)


def test_readers_are_compared_with_what_is_outlined(viewer: ViewerModel, tmp_path: Path) -> None:
    session = ready(viewer, tmp_path)
    assert session.case is not None
    drawn = np.zeros(session.case.grid.shape, np.uint8)
    session.added_raters = (("R1", drawn),)
    saliency_commands.explain(session)
    assert session.cut is not None
    drawn[...] = session.cut.mask
    saliency_commands.set_threshold(session, None)
    assert session.cut is not None and session.cut.dice == (("R1", 1.0),)


def test_a_removed_layer_stays_away_until_the_next_run(viewer: ViewerModel, tmp_path: Path) -> None:
    session = ready(viewer, tmp_path)
    saliency_commands.explain(session)
    viewer.layers.remove(role(viewer, "cut"))
    saliency_commands.set_threshold(session, 0.3)
    assert not [layer for layer in viewer.layers if own(layer).get("role") == "cut"]
    saliency_commands.explain(session)
    assert role(viewer, "cut") is not None and role(viewer, "saliency") is not None


def test_the_cost_is_told_before_and_the_time_once_it_was_measured(viewer: ViewerModel, tmp_path: Path) -> None:
    session = ready(viewer, tmp_path)
    assert saliency_commands.cost_words(session).startswith("18 forward passes for 3 slices, the time is known after")
    saliency_commands.explain(session)
    view = session.saliency
    assert view is not None and view.passes == 18
    assert "known after" not in saliency_commands.cost_words(session)
    told = saliency_commands.paces.seconds("tiny-image", "cpu", 36, 24 * 20, "cdm")
    assert told == pytest.approx(2 * view.seconds)
    again = pace.Paces(saliency_commands.paces.path)
    assert again.seconds("tiny-image", "cpu", 36, 24 * 20, "cg-cdm") == pytest.approx(2 * view.seconds)
    saliency_commands.set_hints(session, knobs={"q": 2, "r": 30})
    assert "do not fit" in saliency_commands.cost_words(session)


def test_activation_maps_ask_the_classifier_alone(viewer: ViewerModel, tmp_path: Path) -> None:
    if find_spec("pytorch_grad_cam") is None:
        pytest.skip("class activation maps need the extra cam")
    session = ready(viewer, tmp_path)
    saliency_commands.set_method(session, "grad-cam")
    saliency_commands.explain(session)
    view = session.saliency
    assert view is not None and view.plan.model == "tiny-classifier" and view.plan.classifier is None
    assert view.passes == 3 and role(viewer, "saliency").data.shape == (3, 24, 20)


def test_a_run_that_is_stopped_leaves_its_map_so_far(viewer: ViewerModel, tmp_path: Path) -> None:
    session = ready(viewer, tmp_path, draws=4)
    session.events.saliency.connect(lambda view: commands.cancel(session))
    saliency_commands.explain(session)
    assert session.message is not None and session.message.text == "Saliency was stopped."
    assert session.saliency is not None and not session.saliency.whole
    assert session.cut is not None and session.cut.view is session.saliency
    assert commands.promote(session, "saliency")


def test_a_scan_of_the_right_name_finds_the_shipped_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "brain.safetensors"
    save_tiny(path, replace(image_card(), channels=("FLAIR",)))
    monkeypatch.setattr(opening, "hint_models", lambda: {"brain": path})
    session = Session(inline=True)
    for name, found in (("sub_T1.nii.gz", None), ("sub_flair.nii.gz", path)):
        scan = save_nifti(tmp_path / name, gradient((20, 24, 3)), np.diag([-1.0, -1, -1, 1]))
        commands.open_files(session, [scan])
        assert (session.hint_model.path if session.hint_model is not None else None) == found


def test_cards_recommend_a_method_with_its_settings(tmp_path: Path) -> None:
    wishes = {"cg-cdm": {"q": 250, "tau": 0.9, "draws": 4}}
    save_tiny(tmp_path / "wise.safetensors", image_card(saliency=wishes))
    save_tiny(tmp_path / "wise-classifier.safetensors", classifier_card())
    session = Session(inline=True)
    saliency_commands.choose_hint_model(session, tmp_path / "wise.safetensors")
    assert session.hints.method == "cg-cdm" and session.hints.knobs == {"q": 250, "tau": 0.9}
    assert session.hints.draws == 4
    saliency_commands.set_method(session, "cdm")
    assert session.hints.knobs == {} and session.hints.draws == 1


def test_what_does_not_fit_is_said_before_anything_is_loaded(viewer: ViewerModel, tmp_path: Path) -> None:
    session = ready(viewer, tmp_path)
    save_tiny(tmp_path / "mask.safetensors")
    assert not saliency_commands.choose_hint_model(session, tmp_path / "mask.safetensors")
    assert session.message is not None and "draws masks" in session.message.text
    (tmp_path / "alone").mkdir()
    save_tiny(tmp_path / "alone" / "lonely.safetensors", image_card())
    saliency_commands.choose_hint_model(session, tmp_path / "alone" / "lonely.safetensors")
    assert session.hints.method == "cdm", "the best that needs no classifier"
    saliency_commands.set_method(session, "cg-cdm")
    assert "lonely-classifier" in session.blockers("hint")[0]
    saliency_commands.choose_hint_model(session, tmp_path / "tiny-classifier.safetensors")
    assert session.hints.method == "grad-cam"
    saliency_commands.set_method(session, "cdm")
    assert "is a classifier" in session.blockers("hint")[0]
    model = session.hint_model
    assert model is not None
    session.hint_model = replace(model, card=replace(model.card, channels=("T1", "T2")))
    assert "needs T1, T2" in session.blockers("hint")[0]


def test_another_scan_or_model_takes_the_map_away(viewer: ViewerModel, tmp_path: Path) -> None:
    session = ready(viewer, tmp_path)
    saliency_commands.explain(session)
    saliency_commands.choose_hint_model(session, tmp_path / "tiny-classifier.safetensors")
    assert session.saliency is None and session.cut is None
    assert [own(layer)["role"] for layer in viewer.layers] == ["scan"]
