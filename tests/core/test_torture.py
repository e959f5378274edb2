"""Small parts of the long harnesses in ``torture/``, so that a change which breaks them is noticed at once."""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path

import disks
import hostile_checkpoints
import mutated_files
import orientations
import out_of_memory
import pytest
from rig.corpus import data_kinds, dicom_kinds, further_kinds, itk_kinds, model_kinds
from rig.workers import Worker


@pytest.mark.parametrize("family", ["data", "models"])
def test_damaged_files_are_read_or_refused_in_a_sentence(family: str) -> None:
    data = chain(data_kinds(), itk_kinds(), further_kinds(), dicom_kinds())
    kinds = list(model_kinds() if family == "models" else data)
    # Not more than a crash and a hang need to be told apart: the machine of a test may be busy.
    with Worker(family, limit_s=20.0) as worker:
        for kind in kinds:
            for verdict in mutated_files.judge(worker, kind, 0, iter(range(4)), None):
                assert verdict["outcome"] in ("read", "refused"), (kind.name, verdict)


def test_files_that_unpack_to_gigabytes_are_refused() -> None:
    with Worker("data", limit_s=30.0) as worker:
        found = [verdict["outcome"] for verdict in mutated_files.judge_bombs(worker)]
    assert found == ["refused", "refused", "refused", "read", "read", "refused"]


def test_no_checkpoint_runs_anything(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["hostile_checkpoints.py"])
    monkeypatch.setattr(hostile_checkpoints, "WAYS", ("load", "tensors cimd"))
    assert hostile_checkpoints.main() == 0, capsys.readouterr().out


def test_memory_may_run_out_at_any_operation(tmp_path: Path) -> None:
    model = out_of_memory.tiny(tmp_path, "whole", window=(12, 12, 12))
    scan = out_of_memory.scan((20, 12, 12), 0)
    assert out_of_memory.every_operation("grown", out_of_memory.sampled(model, scan), 3) == 0
    assert out_of_memory.every_operation("stepped", out_of_memory.stepped(model, scan), 2) == 0


def test_ever_smaller_processors_lead_to_batches_then_windows_then_the_cpu(tmp_path: Path) -> None:
    model = out_of_memory.tiny(tmp_path, "gpu", window=(12, 12, 12))
    scan = out_of_memory.scan((20, 12, 12), 0)
    assert out_of_memory.smaller_processors(model, scan, members=2, sizes=(80_000, 40_000, 0)) == 0


def test_orientations_are_read_shown_saved_and_seen_alike_by_other_programs(tmp_path: Path) -> None:
    cases = list(orientations.every())
    for case in cases[::19]:
        found = orientations.judged(case, tmp_path, 0)
        assert not any(found.values()), (str(case), found)


def test_a_disk_that_fills_up_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    for writer in disks.writers(0, tmp_path):
        folder = tmp_path / writer.name
        folder.mkdir()
        assert set(disks.full_disk(writer, folder, 4)) <= {"written", "refused"}
        assert set(disks.forbidden(writer, folder)) == {"refused"}


def test_every_name_is_written_or_refused_in_a_sentence(tmp_path: Path) -> None:
    assert set(disks.named(0, tmp_path)) <= {"written", "refused"}
