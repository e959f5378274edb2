"""The journal of a mask: what it holds after every kind of end."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from diffseg import journal as journal_module
from diffseg.errors import JournalError
from diffseg.journal import MAGIC, Journal, JournalHead, JournalState, changed, read_journal
from diffseg.keeper import Keeper, claim, left_behind, new_claim

SHAPE = (7, 9, 8)
HEAD = JournalHead(SHAPE, files=("/scans/größe 1.nii.gz",), source="mode 1 (19/32)", plan={"seed": 4})


def stroke(labels: np.ndarray, rng: np.random.Generator) -> None:
    """A small box of one class; sometimes what is there already."""
    start = [int(rng.integers(n)) for n in labels.shape]
    box = tuple(slice(a, a + int(rng.integers(1, 4))) for a in start)
    labels[box] = rng.integers(0, 4)


def test_what_was_recorded_is_read_back_with_the_place_where_the_person_was(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    labels = rng.integers(0, 3, SHAPE).astype(np.uint8)
    origin = np.zeros(SHAPE, np.uint8)
    head = JournalHead(SHAPE, ("labels", "origin"), HEAD.files)
    planes = {"labels": labels, "origin": origin}
    kept = Journal(tmp_path / "a.journal", head, planes)
    state = JournalState((3.0, 4.0, 5.0), "axial", 2, {"seed": 7}, selected=2, edited=True)
    for _ in range(40):
        stroke(labels, rng)
        if rng.random() < 0.5:
            planes["origin"] = origin = origin.copy()  # nobody writes to this plane once it was recorded
            stroke(origin, rng)
            kept.record(planes, state)
        else:
            kept.record({"labels": labels}, state)
    assert not kept.record(planes, state)
    found = read_journal(kept.path)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.planes["origin"], origin)
    assert (found.head, found.state, found.whole) == (head, state, True)
    assert found.labels.flags.writeable


def test_boxes_of_changes_hold_every_change_and_only_the_slices_with_one(rng: np.random.Generator) -> None:
    before = rng.integers(0, 3, SHAPE).astype(np.uint8)
    after = before.copy()
    after[1, 2:4, 5] += 1
    after[2, 3, 1] += 1
    after[5, 8, 7] += 1
    boxes = list(changed(after, before))
    assert boxes == [(slice(1, 3), slice(2, 4), slice(1, 6)), (slice(5, 6), slice(8, 9), slice(7, 8))]
    assert list(changed(before, before)) == []
    assert list(changed(after[0], after[0] + np.uint8(1))) == [(slice(0, 9), slice(0, 8))]


def test_cut_short_anywhere_it_gives_the_last_whole_record_or_refuses(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    kept = Journal(tmp_path / "a.journal", HEAD, {"labels": labels})
    states, ends = [labels.copy()], [kept.size]
    for _ in range(6):
        labels[tuple(rng.integers(SHAPE))] += 1
        kept.record({"labels": labels})
        states.append(labels.copy())
        ends.append(kept.size)
    data = kept.path.read_bytes()
    cut = tmp_path / "cut.journal"
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        try:
            found = read_journal(cut)
        except JournalError:
            assert length < ends[0]
            continue
        reached = max((k for k, end in enumerate(ends) if end <= length), default=0)
        np.testing.assert_array_equal(found.labels, states[reached])
        assert found.edits == reached


def test_a_damaged_byte_anywhere_never_gives_a_mask_that_never_was(tmp_path: Path, rng: np.random.Generator) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    kept = Journal(tmp_path / "a.journal", HEAD, {"labels": labels})
    states = {labels.tobytes()}
    for _ in range(6):
        stroke(labels, rng)
        kept.record({"labels": labels})
        states.add(labels.tobytes())
    data = bytearray(kept.path.read_bytes())
    bad = tmp_path / "bad.journal"
    for place in range(len(data)):
        data[place] ^= 1 << int(rng.integers(8))
        bad.write_bytes(data)
        try:
            assert read_journal(bad).labels.tobytes() in states
        except JournalError as error:
            assert str(error).count(".") <= 3 and "recovered" in str(error)
        data = bytearray(kept.path.read_bytes())


@pytest.mark.parametrize("content", [b"", b"DSJ1", MAGIC, b"\x1f\x8b" + bytes(300)])
def test_what_is_no_journal_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.journal").write_bytes(content)
    with pytest.raises(JournalError, match=r"recovered\.$"):
        read_journal(tmp_path / "x.journal")
    with pytest.raises(JournalError):
        read_journal(tmp_path / "missing.journal")


def test_a_mask_that_claims_to_be_larger_than_its_voxels_is_refused_without_the_memory(tmp_path: Path) -> None:
    kept = Journal(tmp_path / "a.journal", JournalHead((2, 2)), {"labels": np.zeros((2, 2), np.uint8)})
    data = kept.path.read_bytes()
    huge = journal_module._record(b"HEAD", b'{"shape": [100000, 100000, 100000]}')
    small = data.index(b"BASE")
    (tmp_path / "b.journal").write_bytes(MAGIC + huge + data[small:])
    with pytest.raises(JournalError):
        read_journal(tmp_path / "b.journal")


def test_a_long_afternoon_does_not_grow_without_end(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "SPARE_BYTES", 2000)
    labels = np.zeros(SHAPE, np.uint8)
    kept = Journal(tmp_path / "a.journal", HEAD, {"labels": labels})
    for _ in range(300):
        stroke(labels, rng)
        kept.record({"labels": labels})
        assert kept.size < 8000
    np.testing.assert_array_equal(read_journal(kept.path).labels, labels)
    assert [p.name for p in tmp_path.iterdir()] == ["a.journal"]


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    kept = Journal(tmp_path / "deep" / "a.journal", HEAD, {"labels": np.zeros(SHAPE, np.uint8)})
    assert kept.path.stat().st_mode & 0o077 == 0 and kept.path.parent.stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot be written"):
        Journal(tmp_path / "file" / "a.journal", HEAD, {"labels": np.zeros(SHAPE, np.uint8)})


# ---- the keeper, and whose journal it is ----


def until(true: object, timeout_s: float = 10.0) -> None:
    end = time.monotonic() + timeout_s
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def ones() -> dict[str, np.ndarray]:
    return {"labels": np.ones(SHAPE, np.uint8)}


def labels_in(keeper: Keeper) -> bytes:
    return read_journal(keeper.path).labels.tobytes() if keeper.path and keeper.path.exists() else b""


def test_every_touch_reaches_the_disk_while_others_go_on_drawing(tmp_path: Path, rng: np.random.Generator) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    keeper = Keeper(HEAD, lambda: {"labels": labels}, JournalState(), folder=tmp_path)
    for _ in range(3):
        stroke(labels, rng)
        keeper.touch()
        until(lambda: labels_in(keeper) == labels.tobytes())
    labels[0] = 9
    keeper.touch(JournalState((1.0, 2.0, 3.0)))
    assert keeper.close(keep=True)  # what was not written yet is written now
    found = read_journal(next(tmp_path.glob("*.journal")))
    np.testing.assert_array_equal(found.labels, labels)
    assert found.state.voxel == (1.0, 2.0, 3.0)


def test_a_journal_that_is_being_written_is_offered_to_nobody_and_afterwards_to_one(tmp_path: Path) -> None:
    labels = np.ones(SHAPE, np.uint8)
    keeper = Keeper(HEAD, lambda: {"labels": labels}, JournalState(), folder=tmp_path)
    until(lambda: labels_in(keeper) != b"")
    assert list(left_behind(tmp_path)) == []
    keeper.close(keep=True)
    mine, *others = left_behind(tmp_path)
    np.testing.assert_array_equal(read_journal(mine.path).labels, labels)
    assert others == [] and list(left_behind(tmp_path)) == []
    mine.release()
    mine, *_ = left_behind(tmp_path)
    mine.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_saved_mask_leaves_no_journal(tmp_path: Path) -> None:
    keeper = Keeper(HEAD, ones, JournalState(), folder=tmp_path)
    keeper.close(keep=False)
    assert list(tmp_path.iterdir()) == []


def test_a_recovered_mask_takes_the_place_of_its_old_journal_once_it_is_on_disk_itself(tmp_path: Path) -> None:
    first = Keeper(HEAD, ones, JournalState(), folder=tmp_path)
    first.close(keep=True)
    old, *_ = left_behind(tmp_path)
    found = read_journal(old.path)
    second = Keeper(found.head, lambda: found.planes, found.state, replaces=old, folder=tmp_path)
    until(lambda: labels_in(second) != b"" and not old.path.exists())
    second.close(keep=True)
    assert len(list(tmp_path.glob("*.journal"))) == 1


def test_trouble_with_the_disk_is_told_once_and_drawing_goes_on(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "file").write_text("")
    keeper = Keeper(HEAD, ones, JournalState(), told.append, folder=tmp_path / "file")
    keeper.touch()
    until(lambda: bool(told))
    keeper.close(keep=True)
    assert len(told) == 1 and "save the mask often" in told[0]


class Owner:
    """Something that can be forgotten."""


def test_a_mask_that_nobody_tells_of_is_looked_at_until_its_owner_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffseg.keeper.WATCH_S", 0.02)
    labels, owner = np.zeros(SHAPE, np.uint8), Owner()
    keeper = Keeper(HEAD, lambda: {"labels": labels}, JournalState(), folder=tmp_path)
    labels[1] = 1
    keeper.watch(labels, lambda: {"labels": labels}, True, owner)
    (path,) = tmp_path.glob("*.journal")
    assert (read_journal(path).labels == labels).all()
    labels[2, 3] = 2
    until(lambda: labels_in(keeper) == labels.tobytes())
    assert not keeper.strayed and not list(left_behind(tmp_path)), "it is still written"
    labels[0] = 3
    del owner
    until(lambda: not keeper._thread.is_alive())
    (left,) = left_behind(tmp_path)
    assert (read_journal(left.path).labels == labels).all()


def test_the_journal_of_a_saved_mask_goes_and_comes_back_with_the_first_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffseg.keeper.WATCH_S", 0.02)
    labels, owner = np.zeros(SHAPE, np.uint8), Owner()
    keeper = Keeper(HEAD, lambda: {"labels": labels}, JournalState(dirty=False), folder=tmp_path)
    keeper.watch(labels, lambda: {"labels": labels}, False, owner)
    time.sleep(0.1)
    assert not list(tmp_path.iterdir()) and not keeper.strayed
    labels[2] = 2
    until(lambda: labels_in(keeper) == labels.tobytes())
    labels[3] = 1
    assert keeper.close(keep=True) and keeper.strayed
    (left,) = left_behind(tmp_path)
    found = read_journal(left.path)
    assert (found.labels == labels).all() and found.state.dirty and found.state.edited


def test_journals_come_newest_first_and_a_closed_one_may_be_held(tmp_path: Path) -> None:
    made = []
    for name in ("20260101T000000-a", "20260102T000000-b"):
        mine = claim(tmp_path / f"{name}.journal")
        assert mine is not None
        Journal(mine.path, HEAD, ones()).close(keep=True)
        mine.release()
        made.append(mine.path)
    held = Keeper(HEAD, ones, JournalState(), folder=tmp_path)
    held.close(keep=True, hold=True)
    claims = list(left_behind(tmp_path))
    assert [c.path for c in claims] == made[::-1]
    held.release()
    assert [c.path for c in left_behind(tmp_path)] == [held.path]
    fresh = new_claim(tmp_path)
    assert fresh.path.suffix == ".journal" and not fresh.path.exists()
