"""Runs on real code paths with a tiny model: determinism, resuming, geometry, memory, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffseg.case import Case, origin_of
from diffseg.checkpoint import Checkpoint, load_checkpoint
from diffseg.errors import CaseError, CheckpointError, DeviceError, PlanError
from diffseg.plan import SamplePlan, plan_for, plan_to_json, read_plan
from diffseg.run import Run
from oracle import save_tiny, tiny_card


def case(shape: tuple[int, ...] = (20, 24, 18), channels: int = 1) -> Case:
    image = np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32)
    origin = origin_of(shape[::-1], np.diag([-1.0, -1.0, -1.0, 1.0]))
    return Case(image, origin.display_grid(), tuple(f"C{i}" for i in range(channels)), {}, origin, "scan")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    # With windows of 20 voxels the case of most tests is denoised in one piece.
    save_tiny(tmp_path / "tiny.safetensors", replace(tiny_card(), window=(20, 20, 20)))
    return load_checkpoint(tmp_path / "tiny.safetensors")


def opened(checkpoint: Checkpoint, **choices: Any) -> Run:
    plan = plan_for(checkpoint.card, checkpoint.sha256, (), device="cpu", **choices)
    return Run(plan, case(), checkpoint)


def drain(run: Run, target: int) -> Any:
    ensemble = run.ensemble()
    records = list(run.grow(ensemble, target))
    return ensemble.snapshot(), records


def test_members_are_the_same_whatever_the_target_and_after_continuing(checkpoint: Checkpoint) -> None:
    run = opened(checkpoint)
    all_at_once, records = drain(run, 4)
    assert [r.done for r in records] == list(range(1, 13)) and records[-1].total == 12
    assert [r.snapshot is not None for r in records] == [False, False, True] * 4
    ensemble = opened(checkpoint).ensemble()
    for target in (1, 4):
        for _ in opened(checkpoint).grow(ensemble, target):
            pass
    continued = ensemble.snapshot()
    for i in range(4):
        assert (all_at_once.member(i) == continued.member(i)).all()
    # Members of a random untrained net are neither empty nor all alike, or this test would prove nothing.
    assert 0 < all_at_once.iou[0, 1] < 1


def test_the_trajectory_of_a_member_ends_in_its_mask(checkpoint: Checkpoint) -> None:
    run = opened(checkpoint)
    snapshot, _ = drain(run, 2)
    *_, last = run.trajectory(member=1)
    assert (run.mask(last.x0) == snapshot.member(1)).all()


def test_a_branch_shares_the_past_and_differs_after_it(checkpoint: Checkpoint) -> None:
    run = opened(checkpoint)
    steps = list(run.trajectory())
    again = list(run.trajectory(start=steps[0]))
    other = list(run.trajectory(start=steps[0], seed=99))
    assert torch.equal(again[-1].x, steps[-1].x)
    assert torch.equal(other[0].x0, steps[1].x0), "the clean mask at the branching step is seen before new noise"
    assert not torch.equal(other[0].x, steps[1].x)


def test_a_region_yields_masks_of_its_size_and_other_seeds_other_masks(checkpoint: Checkpoint) -> None:
    run = opened(checkpoint, roi="3:13,4:20,1:17")
    snapshot, _ = drain(run, 1)
    assert snapshot.shape == (10, 16, 16)
    other, _ = drain(opened(checkpoint, roi="3:13,4:20,1:17", seed=1), 1)
    assert (snapshot.member(0) != other.member(0)).any()


def test_a_large_region_is_denoised_by_windows_of_the_models_size(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    forward = checkpoint.network.forward

    def spy(x: torch.Tensor, t: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(x.shape[2:]))
        return forward(x, t, image)

    monkeypatch.setattr(checkpoint.network, "forward", spy)
    run = Run(plan_for(checkpoint.card, checkpoint.sha256, (), device="cpu"), case((80, 20, 20)), checkpoint)
    next(iter(run.trajectory()))
    assert set(seen) == {(20, 20, 20)} and len(seen) == run.windows == 7


def test_a_slice_model_runs_through_a_volume_with_correlated_noise(tmp_path: Path) -> None:
    card = tiny_card(spatial=2)
    save_tiny(tmp_path / "slice.safetensors", card)
    flat = load_checkpoint(tmp_path / "slice.safetensors")
    run = Run(plan_for(card, flat.sha256, (), device="cpu", slice_correlation=1.0), case((5, 16, 18)), flat)
    x = run.initial()
    assert x.shape == (1, 3, 5, 16, 20) and torch.equal(x[:, :, 0], x[:, :, 4])
    snapshot, _ = drain(run, 2)
    assert snapshot.shape == (5, 16, 18) and run.windows == 5
    # Every slice equals the slice model's answer for that slice alone.
    *_, last = run.trajectory(member=1)
    assert (run.mask(last.x0) == snapshot.member(1)).all()


def test_memory_running_out_in_the_middle_is_told_and_leaves_finished_members(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened(checkpoint)
    ensemble = run.ensemble()
    forward, calls = checkpoint.network.forward, []

    def failing(*args: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args)

    monkeypatch.setattr(checkpoint.network, "forward", failing)
    with pytest.raises(DeviceError, match="smaller region"):
        list(run.grow(ensemble, 3))
    assert len(ensemble) == 1


def test_other_errors_of_the_network_are_not_mistaken_for_memory(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("size mismatch")

    monkeypatch.setattr(checkpoint.network, "forward", broken)
    run = opened(checkpoint)
    with pytest.raises(RuntimeError, match="size mismatch"):
        list(run.grow(run.ensemble(), 1))


def test_what_does_not_fit_is_refused_in_a_sentence(checkpoint: Checkpoint) -> None:
    plan = plan_for(checkpoint.card, checkpoint.sha256, (), device="cpu")
    with pytest.raises(CaseError, match=r"expects 1 channel\(s\) \(C0\), but the case has 2"):
        Run(plan, case(channels=2), checkpoint)
    with pytest.raises(CaseError, match="takes 3D images"):
        flat = np.zeros((1, 8, 8), np.float32)
        origin = origin_of((8, 8), np.eye(4))
        Run(plan, Case(flat, origin.display_grid(), ("C0",), {}, origin, "slice"), checkpoint)
    with pytest.raises(CheckpointError, match="another file"):
        Run(replace(plan, model_sha256="0" * 64), case(), checkpoint)
    with pytest.raises(PlanError, match="no sampler called 'euler'"):
        Run(replace(plan, sampler="euler"), case(), checkpoint)
    with pytest.raises(PlanError, match="eta"):
        Run(replace(plan, sampler="ddim", sampler_settings={"eta": 3.0}), case(), checkpoint)
    with pytest.raises(DeviceError, match="this machine has only"):
        Run(replace(plan, device="xpu"), case(), checkpoint)


def test_a_plan_survives_json_and_moves_with_its_inputs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scan = tmp_path / "in" / "scan.nii.gz"
    scan.write_bytes(b"x")
    plan = plan_for(tiny_card(), "0" * 64, (scan,), roi="0:8,0:8,0:8", seed=3)
    out = tmp_path / "out"
    out.mkdir()
    (out / "plan.json").write_text(plan_to_json(plan, out))
    assert str(tmp_path) not in (out / "plan.json").read_text()
    assert read_plan(out / "plan.json") == plan
    with pytest.raises(PlanError, match="at least 1"):
        SamplePlan("m", "0", (), steps=5, sampler="ddim", members=0)
