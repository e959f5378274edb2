"""Saving: what is never overwritten, what is asked about, and what the record beside the mask makes possible."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseg.__main__ import main
from diffseg.grid import Box
from diffseg.io import read_labels
from diffseg.mask_file import read_mask_plan, written_here
from memory import run_out_once
from napari_diffseg import commands, mask_edit
from napari_diffseg.session import Session
from oracle import save_tiny, tiny_card
from tiny_session import open_session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """An ensemble of three masks, and the second mode or the first as the mask."""
    made = open_session(tmp_path)
    commands.set_settings(made, device="cpu")
    commands.grow_ensemble(made, 3)
    commands.promote(made, "mode:1")
    return made


def told(session: Session) -> str:
    assert session.message is not None
    return session.message.text


def labels_of(session: Session) -> Any:
    assert session.mask is not None
    return session.mask.labels


def saved(path: Path, session: Session) -> bool:
    assert session.case is not None
    return np.array_equal(read_labels(path, session.case.grid), labels_of(session))


def test_a_file_of_somebody_else_is_replaced_only_when_that_was_said(session: Session, tmp_path: Path) -> None:
    other = tmp_path / "ärztin mask.nii.gz"
    other.write_bytes(b"somebody's work")
    commands.save_mask(session, other)
    assert other.read_bytes() == b"somebody's work" and session.replacing is not None
    assert "not written by DiffSeg" in told(session) and session.mask is not None and session.mask.saved_at is None
    commands.keep_other(session)
    assert session.replacing is None and not commands.replace_other(session)
    commands.save_mask(session, other)
    commands.replace_other(session)
    assert saved(other, session) and session.replacing is None and told(session).startswith("Saved")


def test_a_file_where_the_origin_would_go_is_asked_about_too(session: Session, tmp_path: Path) -> None:
    other = tmp_path / "m.origin.nii.gz"
    other.write_bytes(b"somebody's work")
    commands.save_mask(session, tmp_path / "m.nii.gz", origin=True)
    assert session.replacing is not None and not (tmp_path / "m.nii.gz").exists()
    assert other.read_bytes() == b"somebody's work"
    commands.replace_other(session)
    assert saved(tmp_path / "m.nii.gz", session) and read_labels(other).max() == 0


def test_our_own_mask_is_replaced_without_asking_until_somebody_changes_it(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "m.nii.gz"
    commands.save_mask(session, path)
    labels_of(session)[1, 2, 3] = 2
    commands.save_mask(session, path)
    assert saved(path, session) and session.replacing is None
    path.write_bytes(path.read_bytes() + b"\0")
    commands.save_mask(session, path)
    assert session.replacing is not None and not written_here(path)


def test_the_scan_is_never_overwritten_under_whatever_name(session: Session, tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    before = scan.read_bytes()
    (tmp_path / "link.nii.gz").symlink_to(scan)
    os.link(scan, tmp_path / "hard.nii.gz")
    for name in ("scan.nii.gz", "link.nii.gz", "hard.nii.gz", "../" + tmp_path.name + "/scan.nii.gz"):
        commands.save_mask(session, tmp_path / name, True)
        assert scan.read_bytes() == before and "never overwritten" in told(session)
    assert session.replacing is None


def test_a_place_that_cannot_be_written_is_one_sentence_and_the_mask_stays_unsaved(
    session: Session, tmp_path: Path
) -> None:
    for path in (tmp_path / "missing" / "m.nii.gz", Path("/proc/m.nii.gz")):
        commands.save_mask(session, path)
        assert session.message is not None and session.message.kind == "error"
        assert session.mask is not None and session.mask.dirty and session.mask.path is None


def test_a_mask_of_an_ensemble_whose_memory_ran_out_is_drawn_again_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = open_session(tmp_path)
    save_tiny(tmp_path / "tiny.safetensors", replace(tiny_card(), window=(12, 12, 12)))
    commands.choose_model(session, tmp_path / "tiny.safetensors")
    commands.place_region(session, Box((0, 0, 0), (12, 12, 18)))
    commands.set_settings(session, device="cpu")
    short = run_out_once(monkeypatch, 1)
    commands.grow_ensemble(session, 2)
    # The model is closed and opened again, and one more member is drawn, in one piece.
    commands.shutdown(session)
    commands.grow_ensemble(session, 3)
    assert not short and session.plan is not None
    assert [(s.first, s.last, s.windowed) for s in session.plan.ran] == [(0, 0, False), (1, 1, True), (2, 2, False)]
    commands.promote(session, "member:1")
    commands.save_mask(session, tmp_path / "m.nii.gz")
    model = ["-m", str(tmp_path / "tiny.safetensors")]
    assert main(["replay", str(tmp_path / "m.plan.json"), *model]) == 0
    # Without what the record tells it would be another mask.
    record = json.loads((tmp_path / "m.plan.json").read_text())
    record["plan"]["ran"] = []
    (tmp_path / "m.plan.json").write_text(json.dumps(record))
    assert main(["replay", str(tmp_path / "m.plan.json"), *model]) == 1
    assert "start of the mask" in capsys.readouterr().out


def test_the_record_tells_start_inputs_and_who_wrote_how_much(session: Session, tmp_path: Path) -> None:
    labels_of(session)[0, 0, :4] = 1
    mask_edit.apply(session, Box((1, 1, 1), (2, 2, 4)), np.full((1, 1, 3), 2, np.uint8), "redrawn", "a test")
    commands.save_mask(session, tmp_path / "m.nii.gz", origin=True)
    record = read_mask_plan(tmp_path / "m.plan.json")
    assert record.start.key == "mode:1" and record.start.members == 3 and record.start.share is not None
    assert [Path(f.path).name for f in record.inputs] == ["scan.nii.gz"] and record.plan is not None
    changed = int(np.count_nonzero(labels_of(session)[0, 0, :4] != session.mask.start[0, 0, :4]))  # type: ignore[union-attr,index]
    assert record.origins.get("painted or erased", 0) == changed and record.origins["redrawn"] <= 3
    assert sum(record.origins.values()) == labels_of(session).size
    origin = read_labels(tmp_path / "m.origin.nii.gz")
    np.testing.assert_array_equal(origin, mask_edit.origin_of(session))


@pytest.mark.parametrize("source", ["mode:1", "member:2", "mean", "outer", "trajectory", "branch:B", "empty"])
def test_what_a_mask_began_as_is_drawn_again_to_the_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    session = open_session(tmp_path)
    commands.set_settings(session, device="cpu", sampler="ddpm", sampler_settings={})
    if source in ("trajectory", "branch:B"):
        commands.step_once(session)
        commands.step_once(session)
        if source == "branch:B":
            commands.play(session)
            commands.show_step(session, 1)
            commands.branch_here(session)
    elif source != "empty":
        commands.grow_ensemble(session, 3)
    assert commands.promote(session, source), told(session)
    labels_of(session)[2:4, 2:4, 2:4] = 1
    commands.save_mask(session, tmp_path / "m.nii.gz")
    assert told(session).startswith("Saved")
    assert main(["replay", str(tmp_path / "m.plan.json")]) == 0, capsys.readouterr()
    said = capsys.readouterr().out
    assert "The same bits." in said and (source == "empty" or "start of the mask" in said)
