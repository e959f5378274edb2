"""Redrawing keeps what a person drew and what lies outside its box, within its budget of network passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rig.scarce import pretended_cuda

from diffseg.case import Case, origin_of
from diffseg.checkpoint import load_checkpoint
from diffseg.denoise import Denoiser, Prediction
from diffseg.ensemble import Snapshot
from diffseg.errors import PlanError
from diffseg.fallback import Means
from diffseg.grid import Box
from diffseg.known_region import KnownRegion
from diffseg.noise import Level
from diffseg.plan import plan_for
from diffseg.redraw import MOST_PASSES, RedrawPlan, local_run, redraw
from diffseg.run import Run
from diffseg.sample import Step
from diffseg.strokes import Strokes
from oracle import save_tiny

SHAPE = (16, 18, 20)
# An untrained model agrees with nobody.
PLAN = RedrawPlan(margin=4, taper=2, band=100, alternatives=6, agrees=0)


class Counted:
    """A denoiser that counts its calls, and may answer with one class everywhere."""

    def __init__(self, inner: Denoiser, only: int | None = None) -> None:
        self.inner, self.only, self.calls = inner, only, 0

    def __call__(self, x: object, level: Level) -> Prediction:
        self.calls += 1
        seen = self.inner(x, level)  # type: ignore[arg-type]
        if self.only is None:
            return seen
        x0 = seen.x0.clone().fill_(-1)
        x0[:, self.only] = 1
        return Prediction(x0)


def case_of(shape: tuple[int, ...], seed: int = 0) -> Case:
    origin = origin_of(shape[::-1], np.diag([-1.0, -1.0, -1.0, 1.0]))
    image = np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)
    return Case(image, origin.display_grid(), ("C0",), {}, origin, "scan")


def run_of(folder: Path, shape: tuple[int, ...] = SHAPE) -> Run:
    save_tiny(folder / "tiny.safetensors")
    checkpoint = load_checkpoint(folder / "tiny.safetensors")
    return Run(
        plan_for(checkpoint.card, checkpoint.sha256, (), members=3, steps=6, device="cpu"), case_of(shape), checkpoint
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_of(tmp_path)


def ensemble(run: Run, count: int = 3) -> Snapshot:
    grown = run.ensemble()
    for _ in run.grow(grown, count):
        pass
    return grown.snapshot()


def painted(before: np.ndarray, label: int = 1) -> Strokes:
    """A block of one class, and an older stroke elsewhere."""
    now, fixed = before.copy(), np.zeros(before.shape, bool)
    fixed[6:9, 7:10, 8:12] = True
    now[fixed] = label
    before = before.copy()
    fixed[2, 2, 2] = True
    before[2, 2, 2] = now[2, 2, 2] = 2
    return Strokes(now, before, fixed & (now != before) | (np.indices(now.shape).sum(axis=0) == 6) & fixed)


def whole(strokes: Strokes, box: Box, labels: np.ndarray) -> np.ndarray:
    made = strokes.now.copy()
    made[box.slices] = labels
    return made


def test_every_answer_keeps_the_strokes_and_the_outermost_voxels_of_its_box(run: Run) -> None:
    snapshot = ensemble(run)
    strokes = painted(snapshot.member(0))
    *_, last = redraw(run, strokes, snapshot, run.prepared.roi, PLAN)
    assert last.box == Box((2, 3, 4), (13, 14, 16)) and last.done == last.total
    assert {a.method for a in last.alternatives} == {"followed", "drawn", "nearest"}
    for answer in last.alternatives:
        made = whole(strokes, last.box, answer.labels)
        assert made.max() < 3
        np.testing.assert_array_equal(made[strokes.fixed], strokes.now[strokes.fixed])
        inner = tuple(slice(1, -1) for _ in last.box.shape)
        face = np.ones(last.box.shape, bool)
        face[inner] = False
        np.testing.assert_array_equal(answer.labels[face], strokes.now[last.box.slices][face])
    distinct = {a.labels.tobytes() for a in last.alternatives}
    assert len(distinct) == len(last.alternatives) > 2


def test_the_same_seed_gives_the_same_answers_and_another_one_other_drawings(run: Run) -> None:
    strokes = painted(ensemble(run, 1).member(0))
    first, again, other = (
        [
            a.labels
            for a in list(redraw(run, strokes, plan=replace(PLAN, seed=s)))[-1].alternatives
            if a.method == "drawn"
        ]
        for s in (1, 1, 2)
    )
    assert len(first) > 1
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=False))


@pytest.mark.parametrize(("passes", "resamplings"), [(2, 1), (3, 3)])
def test_a_drawing_takes_no_more_network_passes_than_it_says(run: Run, passes: int, resamplings: int) -> None:
    strokes = painted(ensemble(run, 1).member(0))
    counted = run._denoiser = Counted(run.denoiser)
    plan = replace(PLAN, alternatives=3, passes=passes, resamplings=resamplings)
    list(redraw(run, strokes, plan=plan))
    drawings = 2
    assert counted.calls == drawings * passes * resamplings <= drawings * MOST_PASSES
    with pytest.raises(PlanError, match="network passes"):
        replace(PLAN, passes=6, resamplings=2)


def test_where_the_network_contradicts_the_strokes_the_nearest_member_takes_its_place(run: Run) -> None:
    snapshot = ensemble(run)
    strokes, plan = painted(snapshot.member(0), label=1), replace(PLAN, agrees=0.5)
    run._denoiser = Counted(run.denoiser, only=2)
    methods = [a.method for a in list(redraw(run, strokes, snapshot, run.prepared.roi, plan))[-1].alternatives]
    assert "drawn" not in methods and methods[-1] == "nearest"
    run._denoiser = Counted(run.denoiser, only=1)
    methods = [a.method for a in list(redraw(run, strokes, snapshot, run.prepared.roi, plan))[-1].alternatives]
    assert "drawn" in methods


def test_labels_that_the_model_does_not_know_stay(run: Run) -> None:
    before = np.zeros(SHAPE, np.uint8)
    before[9, 9] = 7
    strokes = painted(before)
    for answer in list(redraw(run, strokes, plan=PLAN))[-1].alternatives:
        assert ((whole(strokes, answer.box, answer.labels) == 7) == (strokes.now == 7)).all()


def test_in_a_large_scan_only_a_window_around_the_strokes_is_computed(tmp_path: Path) -> None:
    run = run_of(tmp_path, (20, 60, 44))
    small = local_run(run, Box((2, 30, 20), (12, 40, 30)))
    assert small.windows == 1 and small.prepared.roi == Box((0, 27, 17), (16, 43, 33))
    before = np.zeros((20, 60, 44), np.uint8)
    before[8, 30:40, 20:30] = 1
    now = before.copy()
    now[8, 40:42, 22:26] = 1
    *_, last = redraw(run, Strokes(now, before, now != before), plan=PLAN)
    assert last.alternatives and last.box == Box((4, 36, 18), (13, 46, 30))
    assert local_run(run_of(tmp_path), Box((2, 3, 4), (13, 14, 16))).shape == (16, 20, 20)


class Short:
    """Stands in for drawing: memory runs out in the second pass, as often as told."""

    def __init__(self, times: int) -> None:
        self.times, self.steps = times, KnownRegion.steps

    def drawing(self, *arguments: Any) -> Iterator[Step]:
        for number, step in enumerate(self.steps(*arguments)):
            if number == 1 and self.times > 0:
                self.times -= 1
                raise MemoryError
            yield step


@pytest.mark.parametrize(
    ("times", "words", "device"), [(1, "windows of 16×16×16", "cuda"), (2, "going on with the CPU", "cpu")]
)
def test_a_drawing_begins_again_by_smaller_means_when_memory_runs_out_and_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, times: int, words: str, device: str
) -> None:
    strokes = painted(ensemble(run, 1).member(0))
    calm = list(redraw(run, strokes, plan=PLAN))
    short = Short(times)
    monkeypatch.setattr(KnownRegion, "steps", lambda *arguments: short.drawing(*arguments))
    with pretended_cuda():
        run.means = Means(torch.device("cuda"), 1)
        records = list(redraw(run, strokes, plan=PLAN))
    assert short.times == 0 and run.device.type == device
    assert words in records[-1].note and not records[1].note
    drawn, before = ([a for a in found[-1].alternatives if a.method == "drawn"] for found in (records, calm))
    assert len(drawn) == len(before) > 1
    if device == "cpu":  # in one piece again, so the same
        assert all(np.array_equal(a.labels, b.labels) for a, b in zip(drawn, before, strict=True))
    assert records[-1].done == records[-1].total == calm[-1].total == max(r.done for r in records)


def test_answers_that_need_no_network_are_left_where_memory_never_suffices(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = ensemble(run)
    short = Short(100)
    monkeypatch.setattr(KnownRegion, "steps", lambda *arguments: short.drawing(*arguments))
    *_, last = redraw(run, painted(snapshot.member(0)), snapshot, run.prepared.roi, PLAN)
    assert "come from the masks that are there" in last.note and short.times == 98
    assert {a.method for a in last.alternatives} == {"followed", "nearest"}


def test_without_strokes_and_on_another_grid_it_says_what_to_do(run: Run) -> None:
    empty = np.zeros(SHAPE, np.uint8)
    with pytest.raises(PlanError, match="correct a part of the mask first"):
        list(redraw(run, Strokes(empty, empty, empty > 0)))
    small = np.zeros((4, 4, 4), np.uint8)
    with pytest.raises(PlanError, match="the mask of this scan"):
        list(redraw(run, Strokes(small, small, small == 0)))
