"""What a run does when memory runs out, one case at a time; `torture/out_of_memory.py` tries them all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from out_of_memory import scan
from rig.scarce import Failing

from diffseg.checkpoint import Checkpoint, load_checkpoint
from diffseg.errors import CheckpointError, DeviceError
from diffseg.fallback import Means, means_on, smaller
from diffseg.plan import plan_for
from diffseg.run import Run
from oracle import save_tiny, tiny_card

GPU, CPU = torch.device("cuda"), torch.device("cpu")


def test_less_memory_is_asked_for_in_the_promised_order_and_every_change_is_told() -> None:
    means, seen = means_on(GPU), []
    while True:
        try:
            means, note = smaller(means, means.members, (12, 40, 40), (16, 16), whole=True)
        except DeviceError as error:
            assert "12×40×40" in str(error)
            break
        assert note.endswith(".") and note[0].isupper()
        seen.append((means.device.type, means.members, means.slices, means.windowed))
    on_gpu = [("cuda", n, 16, False) for n in (4, 2, 1)] + [("cuda", 1, n, False) for n in (6, 3, 1)]
    on_cpu = [("cpu", 1, 16, False), *(("cpu", 1, n, False) for n in (6, 3, 1)), ("cpu", 1, 1, True)]
    assert seen == [*on_gpu, ("cuda", 1, 1, True), *on_cpu]


def test_windows_are_not_tried_where_they_would_be_the_whole_region() -> None:
    with pytest.raises(DeviceError, match="one member of 16×16×16"):
        smaller(Means(CPU), 1, (16, 16, 16), (16, 16, 16), whole=True)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    save_tiny(tmp_path / "tiny.safetensors", replace(tiny_card(), window=(12, 12, 12)))
    return load_checkpoint(tmp_path / "tiny.safetensors")


def opened(checkpoint: Checkpoint) -> Run:
    return Run(plan_for(checkpoint.card, checkpoint.sha256, (), device="cpu"), scan((20, 12, 12), 0), checkpoint)


def test_members_finished_before_memory_ran_out_are_kept_and_not_drawn_again(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened(checkpoint)
    run.means = replace(run.means, members=4)
    whole, calls = Run._mask, []

    def failing(self: Run, x0: torch.Tensor) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError
        return whole(self, x0)

    monkeypatch.setattr(Run, "_mask", failing)
    ensemble = run.ensemble()
    records = list(run.grow(ensemble, 4))
    assert sorted(ensemble.ids) == [0, 1, 2, 3] and len(calls) == 5
    assert records[-1].done == records[-1].total
    assert [r.note for r in records if r.note] == ["Memory ran out with 4 members at a time; going on with 2."]


def test_a_trajectory_goes_on_from_its_last_step_and_says_so(checkpoint: Checkpoint) -> None:
    run = opened(checkpoint)
    with Failing(lambda number: number == 150, lambda: torch.OutOfMemoryError("CUDA out of memory")):
        steps = list(run.trajectory())
    assert [s.done for s in steps] == [1, 2, 3]
    assert "windows of 12×12×12" in run.take_note() and run.take_note() == ""


def test_a_member_half_counted_when_memory_ran_out_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffseg.ensemble import Ensemble

    ensemble = Ensemble(3, (4, 4))
    ensemble.add(np.ones((4, 4), np.uint8), 0)
    before = ensemble.snapshot()

    class Short(np.ndarray):
        def __eq__(self, other: object) -> Any:
            if other == 2:
                raise MemoryError
            return super().__eq__(other)

    with pytest.raises(MemoryError):
        ensemble.add(np.ones((4, 4), np.uint8).view(Short), 1)
    assert len(ensemble) == 1 and (ensemble.snapshot().votes == before.votes).all()


def test_answers_that_are_no_numbers_become_no_mask(checkpoint: Checkpoint) -> None:
    run = opened(checkpoint)
    with pytest.raises(CheckpointError, match="no finite numbers"):
        run.mask(torch.full((1, 3, *run.shape), float("nan")))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"widths": [10**9, 10**9]}, "which no network has"),
        ({"blocks": 60_000}, "far larger network"),
        ({"groups": 3}, "cannot be built"),
        ({"widths": [60_000, 60_000], "groups": 1}, "do not fit its card"),
    ],
)
def test_a_card_that_asks_for_another_network_is_refused_before_memory_is_taken(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    from safetensors.torch import load_file, save_file

    from diffseg.card import METADATA_KEY
    from diffseg.records import to_json

    path = tmp_path / "tiny.safetensors"
    card = save_tiny(path)
    wrong = replace(card, network={**card.network, **change})
    save_file(load_file(path), path, metadata={METADATA_KEY: to_json(wrong)})
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(path)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    card = tiny_card()
    save_tiny(tmp_path / "tiny.safetensors", card)
    network = load_checkpoint(tmp_path / "tiny.safetensors").network
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] = float("nan")
    from diffseg.checkpoint import save_checkpoint

    save_checkpoint(tmp_path / "broken.safetensors", card, network)
    with pytest.raises(CheckpointError, match="no finite numbers"):
        load_checkpoint(tmp_path / "broken.safetensors")
