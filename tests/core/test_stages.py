"""How members were really drawn: noted down, put together, and done again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from out_of_memory import scan
from rig.scarce import Failing

from diffseg.checkpoint import Checkpoint, load_checkpoint
from diffseg.errors import PlanError
from diffseg.plan import plan_for
from diffseg.run import Run
from diffseg.stages import Stage, StageLog
from oracle import save_tiny, tiny_card


def test_neighbours_drawn_alike_are_told_as_one_and_read_back() -> None:
    log = StageLog()
    for member in range(6):
        log.note(member, Stage(0, 0, "cuda", 8))
    log.note(3, Stage(0, 0, "cpu", 1, windowed=True, step=2))
    log.note(4, Stage(0, 0, "cpu", 1, windowed=True))
    log.note(5, Stage(0, 0, "cpu", 1, windowed=True))
    log.note(0, Stage(0, 0, "cuda", 8, step=1, seed=9))
    late = Stage(3, 3, "cpu", 1, windowed=True, step=2)
    told = (
        *(Stage(0, 2, "cuda", 8), Stage(3, 3, "cuda", 8), late),
        *(Stage(4, 5, "cpu", 1, windowed=True), Stage(0, 0, "cuda", 8, step=1, seed=9)),
    )
    assert log.stages(6) == told and StageLog(told).stages(6) == told
    assert log.stages(2) == (Stage(0, 1, "cuda", 8), told[-1])
    assert log.at(3, 1) == Stage(0, 0, "cuda", 8) and log.change(3) == 2 and log.change(3, 2) is None
    assert log.at(6) is None and log.at(1, seed=9) is None


def test_what_is_drawn_again_from_an_earlier_step_takes_the_place_of_what_came_after() -> None:
    log = StageLog((Stage(0, 0, "cuda", 8), Stage(0, 0, "cpu", step=4)))
    log.note(0, Stage(0, 0, "cuda", 8, step=2))
    assert log.stages(1) == (Stage(0, 0, "cuda", 8),)


@pytest.mark.parametrize("change", [{"last": -1}, {"last": 10**9}, {"first": 2}, {"batch": 0}, {"step": -1}])
def test_a_stage_that_no_run_has_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(PlanError, match="as it was written"):
        Stage(**{"first": 0, "last": 1, "device": "cpu", **change})  # type: ignore[arg-type]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    save_tiny(tmp_path / "tiny.safetensors", replace(tiny_card(), window=(12, 12, 12)))
    return load_checkpoint(tmp_path / "tiny.safetensors")


def test_a_trajectory_that_memory_changed_on_its_way_is_drawn_again_with_the_same_change(
    checkpoint: Checkpoint,
) -> None:
    case = scan((20, 12, 12), 0)
    plan = plan_for(checkpoint.card, checkpoint.sha256, (), device="cpu", members=2)
    whole = list(Run(plan, case, checkpoint).trajectory())[-1].x
    run = Run(plan, case, checkpoint)
    with Failing(lambda number: number == 150, lambda: torch.OutOfMemoryError("CUDA out of memory")):
        changed = list(run.trajectory())[-1].x
    assert not torch.equal(changed, whole)
    record = run.record(2)
    assert [(s.step > 0, s.windowed) for s in record.ran] == [(False, False), (True, True)]
    again = Run(record, case, checkpoint)
    assert torch.equal(list(again.trajectory())[-1].x, changed)
    # The first member is drawn like its trajectory, the second, of which nothing is told, in one piece.
    ensemble = again.ensemble()
    list(again.grow(ensemble, 2))
    fresh = Run(plan, case, checkpoint)
    expected = fresh.ensemble()
    list(fresh.grow(expected, 2))
    assert np.array_equal(ensemble.snapshot().member(0), run.mask(changed))
    assert np.array_equal(ensemble.snapshot().member(1), expected.snapshot().member(1))
    assert [(s.first, s.step > 0, s.windowed) for s in again.record(2).ran] == [
        *((0, False, False), (0, True, True), (1, False, False))
    ]


def test_memory_that_runs_out_again_while_a_record_is_followed_is_told_and_noted(checkpoint: Checkpoint) -> None:
    case = scan((20, 12, 12), 0)
    plan = plan_for(checkpoint.card, checkpoint.sha256, (), device="cpu")
    record = replace(plan, ran=(Stage(0, 3, "cpu", 4),))
    run = Run(record, case, checkpoint)
    with Failing(lambda number: number == 40, MemoryError):
        notes = [g.note for g in run.grow(run.ensemble(), 4) if g.note]
    assert notes == ["Memory ran out with 4 members at a time; going on with 2."]
    assert [(s.first, s.last, s.batch) for s in run.record(4).ran] == [(0, 3, 2)]
