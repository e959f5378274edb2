"""The verbs, on a real scan file with a small untrained model, without windows or threads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from napari.layers import Image, Labels

from diffseg.checkpoint import load_checkpoint
from diffseg.grid import Box
from diffseg.plan import SamplePlan, plan_for
from diffseg.records import from_dict
from diffseg.run import Run
from diffseg.sample import Step
from diffseg.trajectory import read_field
from diffseg.zoo import SampleScan, find_sample
from image_models import save_pair
from napari_diffseg import commands, opening, sampling
from napari_diffseg.runs import live
from napari_diffseg.session import Session
from oracle import save_tiny, tiny_card
from plugin_cases import gradient, scan_file
from scans import affine_of, rotation, save_nifti

# In display order (z, y, x); not symmetric.
SHAPE = (18, 24, 20)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_tiny(tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def scan(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Noise on an oblique grid whose shape in display order is that of ``SHAPE`` in some order."""
    data = rng.normal(size=(20, 24, 18)).astype(np.float32)
    return save_nifti(tmp_path / "T1.nii.gz", data, affine_of(rotation(rng), (1.0, 1.0, 1.0)))


@pytest.fixture
def session(scan: Path, model: Path) -> Session:
    session = Session(inline=True)
    assert commands.open_files(session, [scan], channels=["T1"])
    assert commands.choose_model(session, model)
    assert commands.set_settings(session, seed=5, device="cpu")
    return session


def text(session: Session) -> str:
    return session.message.text if session.message is not None else ""


def reference(session: Session, members: int) -> list[np.ndarray]:
    """The masks that the core draws for the same settings, without the plugin."""
    assert session.model_path is not None and session.case is not None
    checkpoint = load_checkpoint(session.model_path)
    roi = None if session.roi is None else str(session.roi)
    plan = plan_for(checkpoint.card, checkpoint.sha256, (), seed=5, device="cpu", roi=roi)
    run = Run(plan, session.case, checkpoint)
    ensemble = run.ensemble()
    for _ in run.grow(ensemble, members):
        pass
    return [ensemble.snapshot().member(i) for i in range(members)]


def test_opening_a_scan_tells_its_size_and_remembers_its_file(session: Session, scan: Path) -> None:
    assert session.case is not None and session.files == (scan,) and session.case.channels == ("T1",)
    assert session.roi is None, "a scan hardly larger than the window is segmented whole"
    commands.open_files(session, [scan])
    assert text(session).startswith("T1: ") and text(session).endswith(" voxels of 1 × 1 × 1 mm.")


def test_large_scans_begin_with_the_models_window_in_the_middle(tmp_path: Path, model: Path) -> None:
    session = Session(inline=True)
    commands.choose_model(session, model)
    commands.open_files(session, [scan_file(tmp_path / "large.nii", (40, 50, 60))])
    assert session.roi == Box((22, 17, 12), (38, 33, 28))
    commands.place_region(session, Box((50, 40, 30), (90, 90, 90)))
    assert session.roi == Box((50, 40, 30), (60, 50, 40)), "cut to the scan"
    commands.place_region(session, Box((70, 0, 0), (90, 9, 9)))
    assert "outside the scan" in text(session) and session.roi == Box((50, 40, 30), (60, 50, 40))
    commands.centre_region(session, (0, 0, 59))
    assert session.roi == Box((0, 0, 24), (16, 16, 40))
    commands.place_region(session, None)
    assert session.roi is None
    commands.play(session)
    assert session.message is not None and session.message.kind == "info", "the whole scan is denoised by windows"
    assert session.snapshot is not None and session.snapshot.shape == (60, 50, 40)


def test_files_that_cannot_be_read_leave_the_old_scan_in_place(session: Session, tmp_path: Path) -> None:
    case = session.case
    assert commands.open_files(session, [tmp_path / "missing.nii"]), "the job began"
    assert session.case is case and session.message is not None and session.message.kind == "error"
    assert "missing.nii" in text(session) and session.job.state == "idle"


def test_a_model_that_would_run_code_is_refused_and_the_old_one_kept(session: Session, tmp_path: Path) -> None:
    before = session.model
    (tmp_path / "evil.pt").write_bytes(b"\x80\x04cos\nsystem\n.")
    assert not commands.choose_model(session, tmp_path / "evil.pt")
    assert "can run code" in text(session) and session.model is before
    assert not commands.choose_model(session, "no-such-model")
    assert "no-such-model" in text(session)


def test_choosing_the_same_model_again_costs_no_results(session: Session, model: Path) -> None:
    commands.play(session)
    snapshot = session.snapshot
    commands.choose_model(session, model)
    assert session.snapshot is snapshot and snapshot is not None
    other = model.with_name("other.safetensors")
    save_tiny(other, seed=1)
    commands.choose_model(session, other)
    assert session.snapshot is None and session.trajectory is None and session.checkpoint is None


def test_play_shows_every_step_and_ends_in_the_mask_of_member_zero(session: Session) -> None:
    seen: list[int] = []
    session.events.trajectory.connect(lambda view: seen.append(view.done))
    commands.play(session)
    view = session.trajectory
    assert view is not None and seen == [0, 1, 2, 3] and session.step == 3
    assert view.x.dtype == np.float16 and np.abs(view.x).max() <= 1
    assert np.isnan(view.changes[0]) and all(c > 0 for c in view.changes[1:]) and len(view.changes) == 3
    assert view.times[0] == 1.0 and view.log_snr[-1] == np.inf and len(view.times) == 4
    assert session.snapshot is not None and len(session.snapshot) == 1
    assert (session.snapshot.member(0) == reference(session, 1)[0]).all()
    # The last step returns the clean mask itself; x is its foreground, x0 tells the classes apart as well.
    for k, same in ((3, True), (2, False)):
        _, certain = read_field(view.x0[k], 3)
        assert np.allclose(2 * certain - 1, view.x[k], atol=0.01) is same
    assert text(session).startswith("One mask: ")


def test_stepping_reaches_exactly_what_playing_reaches(session: Session) -> None:
    commands.play(session)
    played = session.trajectory
    commands.reset(session)
    assert session.trajectory is None and session.step == 0
    for done in (1, 2):
        commands.step_once(session)
        assert session.trajectory is not None and session.trajectory.done == done
        assert session.job.state == "paused"
    commands.step_once(session)
    assert session.job.state == "idle" and session.trajectory is not None and played is not None
    assert (session.trajectory.x0 == played.x0).all() and (session.trajectory.x == played.x).all()
    assert session.trajectory.run_id != played.run_id


def test_the_ensemble_keeps_the_first_mask_and_equals_the_cores(session: Session) -> None:
    commands.play(session)
    sizes: list[int] = []
    session.events.snapshot.connect(lambda snapshot: sizes.append(len(snapshot)))
    commands.grow_ensemble(session, 4)
    assert session.snapshot is not None and session.snapshot.ids == (0, 1, 2, 3)
    for i, expected in enumerate(reference(session, 4)):
        assert (session.snapshot.member(i) == expected).all()
    assert sizes[-1] == 4 and session.maps is not None and session.maps.members == 4
    assert session.plan is not None and session.plan.members == 4 and session.plan.seed == 5
    assert text(session).startswith("4 masks in ")
    commands.grow_ensemble(session, 3)
    assert len(session.snapshot) == 4 and "already" in text(session)


def test_growing_without_a_first_mask_begins_with_member_zero(session: Session) -> None:
    commands.grow_ensemble(session, 2)
    assert session.snapshot is not None and session.snapshot.ids == (0, 1)
    assert (session.snapshot.member(1) == reference(session, 2)[1]).all()


def test_other_settings_begin_another_ensemble(session: Session) -> None:
    commands.grow_ensemble(session, 3)
    commands.set_settings(session, seed=6)
    commands.grow_ensemble(session, 2)
    assert session.snapshot is not None and len(session.snapshot) == 2
    assert session.plan is not None and session.plan.seed == 6


def test_a_run_that_is_cancelled_keeps_what_is_finished_and_can_be_taken_up(session: Session) -> None:
    commands.step_once(session)
    commands.cancel(session)
    assert session.job.state == "idle" and text(session) == "First mask was stopped."
    assert session.trajectory is not None and session.trajectory.done == 1 and session.snapshot is None
    commands.play(session)
    assert session.trajectory.done == 3 and session.snapshot is not None


def test_stopping_another_run_before_its_first_mask_keeps_the_ensemble_there_is(session: Session) -> None:
    commands.grow_ensemble(session, 2)
    before = session.snapshot
    commands.set_settings(session, seed=6)
    commands.step_once(session)
    commands.cancel(session)
    assert session.snapshot is before and session.plan is not None and session.plan.seed == 5


def failing(error: BaseException, after: int) -> Any:
    """A network that works for so many passes."""
    calls = [0]

    def forward(network: torch.nn.Module, *args: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        if calls[0] > after:
            raise error
        return type(network).__wrapped_forward__(network, *args)  # type: ignore[attr-defined]

    return forward


@pytest.fixture
def broken_network(monkeypatch: pytest.MonkeyPatch) -> Any:
    from diffseg.nets.unet import UNet

    def install(error: BaseException, after: int) -> None:
        monkeypatch.setattr(UNet, "__wrapped_forward__", UNet.forward, raising=False)
        monkeypatch.setattr(UNet, "forward", failing(error, after))

    return install


def test_memory_running_out_in_a_trajectory_is_one_sentence_and_buttons_work_again(
    session: Session, broken_network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_network(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), 2)
    commands.play(session)
    assert session.message is not None and session.message.kind == "error"
    assert "Memory ran out" in text(session) and "smaller region" in text(session)
    assert session.trajectory is not None and session.trajectory.done == 2, "finished steps stay"
    assert session.job.state == "idle" and session.blockers("play") == []
    opened = live(session).opened
    assert opened is not None and opened.last is None and opened.run._denoiser is None, "the device is free"
    monkeypatch.undo()
    commands.play(session)
    assert session.snapshot is not None


def test_memory_running_out_in_an_ensemble_keeps_the_members_there_are(
    session: Session, broken_network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_network(torch.OutOfMemoryError("CUDA out of memory"), 7)
    commands.grow_ensemble(session, 4)
    assert session.message is not None and session.message.kind == "error"
    assert session.snapshot is not None and len(session.snapshot) == 2 and session.maps is not None
    assert session.maps.members == 2
    monkeypatch.undo()
    commands.grow_ensemble(session, 4)
    assert session.job.done == 6, "two members of three steps were missing"
    assert len(session.snapshot) == 4


def test_any_other_failure_of_the_network_names_itself(session: Session, broken_network: Any) -> None:
    broken_network(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), 1)
    commands.play(session)
    assert session.message is not None and "mat1 and mat2" in text(session)
    assert "Traceback" in session.message.details and "\n" not in text(session)


def test_verbs_that_cannot_run_say_why_and_do_nothing() -> None:
    session = Session(inline=True)
    for verb in (commands.play, commands.step_once, commands.grow_ensemble, commands.pause, commands.cancel):
        assert not verb(session)
        assert session.message is not None and session.message.kind == "warning"
    assert not commands.promote(session, "empty") and not commands.save_mask(session, "mask.nii")


# ---- the mask ----


@pytest.fixture
def ambiguous(session: Session) -> Session:
    """With an ensemble on a region."""
    commands.place_region(session, Box((1, 2, 1), (17, 18, 17)))
    commands.grow_ensemble(session, 3)
    return session


def whole(session: Session, part: np.ndarray) -> np.ndarray:
    assert session.case is not None and session.maps is not None
    labels = np.zeros(session.case.grid.shape, np.uint8)
    labels[session.maps.roi.slices] = part
    return labels


def test_every_source_on_offer_becomes_a_mask_on_the_whole_scan(ambiguous: Session) -> None:
    s = ambiguous
    assert s.snapshot is not None and s.maps is not None
    members = [s.snapshot.member(i) for i in range(3)]
    votes = np.stack([(np.stack(members) == k).sum(axis=0) for k in range(3)])
    expected = {
        "mean": votes.argmax(axis=0),
        "inner": np.where((votes[1:] == 3).any(axis=0), members[0], 0),
        "empty": np.zeros_like(members[0]),
        **{f"member:{i}": m for i, m in enumerate(members)},
        **{f"mode:{m.index}": members[m.medoid] for m in s.modes},
    }
    offered = dict(s.sources())
    assert expected.keys() | {"outer"} == offered.keys()
    for key in offered:
        assert commands.promote(s, key) and s.mask is not None
        assert s.mask.labels.dtype == np.uint8 and s.mask.source == offered[key]
        if key in expected:
            assert (s.mask.labels == whole(s, expected[key].astype(np.uint8))).all(), key
        else:
            assert (s.mask.labels > 0).sum() >= (votes[1:].max(axis=0) > 0).sum() * 0.99


def test_a_paused_trajectory_can_be_edited_already(session: Session) -> None:
    commands.step_once(session)
    assert dict(session.sources())["trajectory"] == "x̂0 at step 1"
    assert commands.promote(session, "trajectory") and session.mask is not None
    assert session.case is not None and session.mask.labels.shape == session.case.grid.shape
    step: Step | None = live(session).opened.last  # type: ignore[union-attr]
    assert step is not None
    assert (session.mask.labels == live(session).opened.run.mask(step.x0)).all()  # type: ignore[union-attr]


def test_a_labels_layer_can_be_the_start_and_is_copied(session: Session) -> None:
    assert session.case is not None
    layer = Labels(np.full(session.case.grid.shape, 2, np.int64), name="mine", scale=session.case.spacing_mm)
    assert commands.promote(session, layer) and session.mask is not None
    session.mask.labels[0] = 1
    assert (layer.data == 2).all() and session.mask.source == "layer 'mine'" and session.mask.plan is None
    layer.data = np.full(session.case.grid.shape, 700)
    assert not commands.promote(session, layer) and "above 255" in text(session)


def test_what_is_not_there_cannot_be_promoted(ambiguous: Session) -> None:
    assert not commands.promote(ambiguous, "mode:99")
    assert "'mode:99'" in text(ambiguous) and "mode:1" in text(ambiguous)


def test_saving_writes_the_mask_on_the_scans_grid_with_a_plan_that_can_be_run_again(
    ambiguous: Session, scan: Path, tmp_path: Path
) -> None:
    s = ambiguous
    commands.promote(s, "mode:1")
    assert s.mask is not None and s.case is not None
    s.mask.labels[0, 0, :5] = 1
    out = tmp_path / "results"
    out.mkdir()
    assert commands.save_mask(s, out / "mask")
    saved, source = nib.load(out / "mask.nii.gz"), nib.load(scan)
    assert (saved.affine == source.affine).all() and saved.shape == source.shape
    assert saved.header["sform_code"] == source.header["sform_code"]
    assert saved.header["qform_code"] == source.header["qform_code"]
    assert (np.asarray(saved.dataobj) == s.case.origin.to_file(s.mask.labels)).all()
    assert np.asarray(saved.dataobj).dtype == np.uint8
    assert not s.mask.dirty and s.mask.path == out / "mask.nii.gz" and s.mask.saved_at is not None
    voxels = int((s.mask.labels > 0).sum())
    assert f"{voxels:,} voxels" in text(s) and str(out / "mask.nii.gz") in text(s) and " ml" in text(s)
    record = json.loads((out / "mask.plan.json").read_text())
    plan = from_dict(SamplePlan, record["plan"], "plan", ValueError)  # type: ignore[arg-type]
    assert (plan.seed, plan.members, plan.box) == (5, 3, s.roi)
    assert plan.inputs[0].path == "../T1.nii.gz"
    assert {p.name for p in out.iterdir()} == {"mask.nii.gz", "mask.plan.json"}


def test_the_scan_is_never_overwritten(ambiguous: Session, scan: Path, tmp_path: Path) -> None:
    commands.promote(ambiguous, "mean")
    before = scan.read_bytes()
    link = tmp_path / "link.nii.gz"
    link.symlink_to(scan)
    for path in (scan, link, tmp_path / "." / "T1.nii.gz"):
        assert not commands.save_mask(ambiguous, path)
        assert "never overwritten" in text(ambiguous)
    assert scan.read_bytes() == before and ambiguous.mask is not None and ambiguous.mask.dirty


def test_a_place_that_cannot_be_written_is_told(ambiguous: Session, tmp_path: Path) -> None:
    commands.promote(ambiguous, "mean")
    (tmp_path / "taken.nii.gz").mkdir()
    for path in (tmp_path / "no" / "mask.nii", tmp_path / "taken.nii.gz"):
        assert not commands.save_mask(ambiguous, path)
        assert ambiguous.message is not None and ambiguous.message.kind == "error"
    assert not list(tmp_path.glob("*.plan.json"))


def test_a_mask_made_from_a_plain_layer_is_saved_in_its_own_voxels(model: Path, tmp_path: Path) -> None:
    session = Session(inline=True)
    data = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    layer = Image(data, scale=(-2.0, 1.0, 1.0), name="flipped")
    commands.choose_model(session, model)
    assert commands.use_layers(session, [layer]) and "not opened by DiffSeg" in text(session)
    case = session.case
    assert commands.use_layers(session, [layer]) and session.case is case
    commands.play(session)
    commands.promote(session, "mode:1")
    commands.save_mask(session, tmp_path / "m.nii.gz")
    assert session.mask is not None and session.mask.labels.any()
    saved = np.asarray(nib.load(tmp_path / "m.nii.gz").dataobj)
    # In the layer's own order the mask is reversed along z.
    assert (saved == session.mask.labels[::-1].T).all()
    record = json.loads((tmp_path / "m.plan.json").read_text())
    assert record["plan"]["inputs"] == [], "there is no file to name"


# ---- samples, models, closing ----


def test_the_sample_brings_its_region_and_its_model(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    session = Session(inline=True)
    # The shipped model is too slow for a unit test of the wiring.
    monkeypatch.setattr(opening, "models", lambda: {"other": model, "hippocampus-3d": model})
    assert commands.open_sample(session, "hippocampus")
    scan = find_sample("hippocampus")
    assert session.model_path == model and session.roi == scan.roi and session.files == scan.paths
    assert session.case is not None and session.case.channels == scan.channels
    assert not commands.open_sample(session, "femur") and "femur" in text(session)


def test_a_sample_for_hints_brings_its_model_to_the_page_saliency(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, classifier = save_pair(tmp_path)
    flat = save_nifti(tmp_path / "slice.nii.gz", gradient((20, 24, 1)), np.diag([-1.0, -1, -1, 1]))
    sample = SampleScan("hint", "Hint", "", (flat,), (), ("C0",), "tiny", None, "")
    monkeypatch.setattr(opening, "sample_scans", lambda: {"hint": sample})
    monkeypatch.setattr(opening, "find_sample", lambda name: sample)
    monkeypatch.setattr(opening, "hint_models", lambda: {"tiny": path})
    monkeypatch.setattr(opening, "models", dict)
    session = Session(inline=True)
    save_tiny(tmp_path / "volume.safetensors")
    commands.choose_model(session, tmp_path / "volume.safetensors")
    assert commands.open_sample(session, "hint")
    assert session.hint_model is not None and session.hint_model.classifier == classifier
    assert session.model is None, "one for volumes is of no use here"
    assert not session.blockers("hint") and session.window() == (16, 16)


def test_a_fitting_shipped_model_is_taken_with_the_first_scan(
    scan: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiny(tmp_path / "flat.safetensors", tiny_card(spatial=2))
    save_tiny(tmp_path / "hint.safetensors", replace(tiny_card(), task="image"))
    names = {"broken": "no", "flat": "flat", "hint": "hint", "hint-classifier": "hint"}
    shipped = {name: tmp_path / f"{stem}.safetensors" for name, stem in names.items()} | {"tiny": model}
    monkeypatch.setattr(opening, "shipped_models", lambda: shipped)
    assert set(commands.models()) == {"flat", "tiny"}, "models of hints are for the page Saliency"
    session = Session(inline=True)
    commands.open_files(session, [scan])
    assert session.model_path == model and session.blockers("play") == []


def test_closing_stops_a_paused_run_and_lets_go_of_the_model(session: Session) -> None:
    commands.step_once(session)
    closed: list[bool] = []
    run = live(session).opened.run  # type: ignore[union-attr]
    original = run.trajectory

    def watched(*args: Any) -> Iterator[Step]:
        try:
            yield from original(*args)
        finally:
            closed.append(True)

    commands.cancel(session)
    run.trajectory = watched  # type: ignore[method-assign]
    commands.step_once(session)
    commands.shutdown(session)
    assert closed == [True] and session.job.state == "idle"
    assert live(session).opened is None and live(session).job is None and session.checkpoint is None
    commands.shutdown(session)
    assert commands.play(session) and session.snapshot is not None, "a dock that is opened again goes on"


def test_display_toggles_are_plain_choices(session: Session) -> None:
    commands.show_map(session, "variance", True)
    assert session.shown == {"inner", "outer", "variance"}
    commands.show_map(session, "inner", False)
    assert session.shown == {"outer", "variance"}
    with pytest.raises(KeyError):
        commands.show_map(session, "GED", True)
    commands.play(session)
    commands.show_step(session, 99)
    assert session.step == 3
    commands.show_step(session, -1)
    assert session.step == 0
    commands.set_follow(session, False)
    commands.set_follow(session, True)
    assert session.step == 3


def test_maps_are_those_of_the_votes(ambiguous: Session) -> None:
    maps, snapshot = ambiguous.maps, ambiguous.snapshot
    assert maps is not None and snapshot is not None
    foreground = np.stack([snapshot.member(i) > 0 for i in range(3)]).mean(axis=0)
    # 1e-6: float32 thirds.
    assert maps.mean == pytest.approx(foreground, abs=1e-6)
    assert maps.variance.max() <= 0.25 and maps.entropy.max() <= np.log(3) + 1e-6
    again = sampling.maps_of(snapshot, maps.roi, maps.plan)
    assert (again.inner == maps.inner).all() and (again.outer == maps.outer).all()
