"""A mask on disk with its record: replaced whole, known again, and nothing lost when the disk is full."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kills import torment

from diffseg.case import Case, origin_of
from diffseg.errors import CaseError, PlanError
from diffseg.mask_file import MaskPlan, MaskStart, labels_hash, read_mask_plan, sidecar, write_mask, written_here
from diffseg.plan import InputFile, SamplePlan
from diffseg.saliency_plan import ExplainPlan

SHAPE = (6, 8, 7)
RECORD = MaskPlan("mode 1 (2/3)", MaskStart("mode:1", "ab" * 32, 3, 2), True, origins={"painted": 4})


def case_at(path: Path | None = None) -> Case:
    origin = origin_of(SHAPE[::-1], np.diag([-1.0, -0.9, -2.0, 1.0]), path)
    return Case(np.zeros((1, *SHAPE), np.float32), origin.display_grid(), ("T1",), {}, origin, "scan")


def some_mask(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 3, SHAPE).astype(np.uint8)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 64 bytes; what is beyond fails with an error of the system, as on a full disk.

    That counts for the report of the tests as well, where it goes to a file, and so for nothing but the writing.
    """
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("plan", [None, "sample", "saliency"])
def test_the_record_comes_back_and_moves_with_its_inputs(
    tmp_path: Path, rng: np.random.Generator, plan: str | None
) -> None:
    scan = InputFile(str(tmp_path / "größe" / "scan.nii.gz"), "cd" * 32)
    common = ("tiny", "ef" * 32, (scan,))
    plans = {"sample": SamplePlan(*common, 5, "ddim", seed=7), "saliency": ExplainPlan(*common, "cdm"), None: None}
    record = replace(RECORD, plan=plans[plan], inputs=(scan,))
    home = tmp_path / "größe" / "masks"
    home.mkdir(parents=True)
    path, beside = write_mask(home / "m.nii.gz", some_mask(rng), case_at(), record)
    assert beside.name == "m.plan.json" and str(tmp_path) not in beside.read_text()
    found = read_mask_plan(beside)
    assert found == replace(record, file="m.nii.gz", sha256=found.sha256)
    moved = tmp_path / "elsewhere"
    (tmp_path / "größe").rename(moved)
    assert read_mask_plan(moved / "masks" / "m.plan.json").inputs[0].path == str(moved / "scan.nii.gz")


def test_a_mask_of_ours_is_known_again_and_one_that_somebody_changed_is_not(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "m.nii.gz"
    assert not written_here(path)
    write_mask(path, some_mask(rng), case_at(), RECORD)
    first = path.read_bytes()
    assert written_here(path)
    write_mask(path, some_mask(rng), case_at(), RECORD)
    assert written_here(path)
    path.write_bytes(first)  # as if killed between the record and the mask
    assert written_here(path)
    path.write_bytes(first + b" ")
    assert not written_here(path)
    (tmp_path / "other.nii.gz").write_bytes(first)
    assert not written_here(tmp_path / "other.nii.gz")


def test_a_second_format_of_the_same_name_has_a_record_of_its_own(tmp_path: Path, rng: np.random.Generator) -> None:
    one, _ = write_mask(tmp_path / "m.nii.gz", some_mask(rng), case_at(), RECORD)
    two, beside = write_mask(tmp_path / "m.nii", some_mask(rng), case_at(), RECORD)
    assert beside.name == "m.nii.plan.json"
    assert written_here(one) and written_here(two)
    assert sidecar(one).name == "m.plan.json" and sidecar(two) == beside


def test_a_full_disk_leaves_the_old_mask_and_its_record_as_they_were(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path, old = tmp_path / "m.nii.gz", some_mask(rng)
    write_mask(path, old, case_at(), RECORD)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with full_disk(), pytest.raises(CaseError, match=r"m\.nii\.gz") as refused:
        write_mask(path, some_mask(rng), case_at(), RECORD)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert ".m." not in str(refused.value)  # the temporary name means nothing to a person


def test_what_is_no_record_of_a_mask_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.plan.json").write_text(json.dumps({"kind": "sample"}))
    (tmp_path / "b.plan.json").write_bytes(b"\xff\xfe")
    for name in ("a", "b", "missing"):
        with pytest.raises(PlanError, match=r"\.$"):
            read_mask_plan(tmp_path / f"{name}.plan.json")


def test_the_hash_of_labels_tells_shapes_and_voxels_apart(rng: np.random.Generator) -> None:
    labels = some_mask(rng)
    other = labels.copy()
    other[3, 2, 1] += 1
    hashes = {labels_hash(x) for x in (labels, other, labels.reshape(8, 6, 7), labels.T)}
    assert len(hashes) == 4 and labels_hash(np.asfortranarray(labels)) == labels_hash(labels)


@pytest.mark.parametrize(("kind", "count"), [("save", 12), ("record", 12), ("keep", 1)])
def test_kills_lose_nothing(kind: str, count: int) -> None:
    outcomes, wrong = torment(kind, count, seed=1)
    assert not wrong and sum(outcomes.values()) == count
