"""What was drawn comes back: after a kill, after a close without saving, with everything around it."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot

from diffseg.grid import Box
from diffseg.journal import read_journal
from napari_diffseg import commands, mask_edit, recovery, runs, sync
from napari_diffseg.journaling import journaling
from napari_diffseg.layerdata import own
from napari_diffseg.runs import live
from napari_diffseg.session import Session
from napari_diffseg.widgets.recovery_bar import RecoveryBar
from oracle import save_tiny
from plugin_cases import scan_file
from scans import save_nifti


def attached(folder: Path) -> tuple[ViewerModel, Session]:
    """A new viewer, as after a start."""
    viewer = ViewerModel()
    session = sync.attach(viewer)
    session.inline = True
    return viewer, session


def opened(folder: Path) -> tuple[ViewerModel, Session]:
    viewer, session = attached(folder)
    save_tiny(folder / "tiny.safetensors")
    commands.choose_model(session, folder / "tiny.safetensors")
    commands.open_files(session, [scan_file(folder / "größe 1.nii.gz", (36, 40, 44))])
    commands.set_settings(session, device="cpu", seed=7)
    return viewer, session


def layer_of(viewer: ViewerModel) -> Any:
    return next(layer for layer in viewer.layers if own(layer).get("role") == "mask")


def paint(viewer: ViewerModel, start: tuple[int, ...], stop: tuple[int, ...], label: int) -> None:
    """A box of one label, as one stroke."""
    where = np.meshgrid(*(np.arange(a, b) for a, b in zip(start, stop, strict=True)), indexing="ij")
    layer_of(viewer).data_setitem(tuple(axis.reshape(-1) for axis in where), label)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def on_disk(session: Session) -> Callable[[], bool]:
    """Whether the journal holds what is on the screen."""

    def same() -> bool:
        files = list(Path(os.environ["DIFFSEG_JOURNAL"]).glob("2*.journal"))
        mask = session.mask
        return bool(mask and files) and any(np.array_equal(read_journal(f).labels, mask.labels) for f in files)

    return same


def forget(session: Session) -> None:
    """As the system does for a program that was killed: its locks go, nothing else happens."""
    held = journaling(session)
    keeper = held._keeper
    assert keeper is not None
    keeper.close(keep=True)
    held._keeper = held._planes = None


@pytest.fixture
def drawn(tmp_path: Path) -> Iterator[tuple[ViewerModel, Session]]:
    """A mask from a mode, with a redrawn part and strokes."""
    viewer, session = opened(tmp_path)
    commands.grow_ensemble(session, 3)
    commands.show_mode(session, 1)
    commands.promote(session, "mode:1")
    mask_edit.apply(session, Box((20, 20, 20), (22, 22, 22)), np.full((2, 2, 2), 1, np.uint8), "redrawn", "a test")
    paint(viewer, (20, 20, 20), (21, 23, 23), 2)
    commands.look_at(session, (9, 20, 20))
    yield viewer, session
    runs.shutdown(session)


def test_after_a_kill_mask_slice_mode_seed_and_who_wrote_what_come_back(
    drawn: tuple[ViewerModel, Session], tmp_path: Path
) -> None:
    _, before = drawn
    until(on_disk(before))
    assert before.mask is not None and before.view is not None
    origin, voxel = mask_edit.origin_of(before), before.view.centre_voxel()
    forget(before)
    viewer, session = attached(tmp_path)
    recovery.look(session)
    assert session.offer is not None and session.offer.more == 0
    assert "größe 1.nii.gz" in recovery.offer_words(session.offer)
    assert recovery.recover(session)
    mask = session.mask
    assert mask is not None and mask is not before.mask
    np.testing.assert_array_equal(mask.labels, before.mask.labels)
    np.testing.assert_array_equal(mask_edit.origin_of(session), origin)
    assert layer_of(viewer).data is mask.labels
    assert mask.source.startswith("mode 1") and mask.plan == before.mask.plan and mask.begun == before.mask.begun
    assert session.settings == before.settings and session.mode == 1 and session.roi == before.roi
    assert session.view is not None and voxel is not None
    assert session.view.centre_voxel()[0] == voxel[0]  # type: ignore[index]
    assert session.offer is None and mask.dirty and mask.edited
    # The old journal goes as soon as the recovered mask has one of its own.
    until(lambda: len(list(Path(os.environ["DIFFSEG_JOURNAL"]).glob("2*.journal"))) == 1)
    runs.shutdown(session)


def test_undo_and_edits_of_tools_reach_the_journal_as_strokes_do(drawn: tuple[ViewerModel, Session]) -> None:
    viewer, session = drawn
    layer_of(viewer).undo()
    until(on_disk(session))
    mask_edit.apply(session, Box((1, 1, 1), (3, 3, 3)), np.full((2, 2, 2), 2, np.uint8), "cleaned", "a test")
    until(on_disk(session))
    layer_of(viewer).redo()
    until(on_disk(session))


def test_closing_without_saving_keeps_what_was_drawn_and_saving_first_keeps_nothing(
    drawn: tuple[ViewerModel, Session], tmp_path: Path, journals: Path
) -> None:
    viewer, session = drawn
    runs.shutdown(session)
    assert len(list(journals.glob("2*.journal"))) == 1
    again = sync.attach(viewer)  # the same mask in the same viewer: nothing to offer
    recovery.look(again)
    assert again is session and session.offer is None
    commands.save_mask(session, tmp_path / "m.nii.gz")
    runs.shutdown(session)
    assert not list(journals.glob("2*"))


def test_what_is_drawn_after_the_dock_was_closed_is_in_the_journal_and_is_taken_up_again(
    drawn: tuple[ViewerModel, Session], tmp_path: Path, journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffseg.keeper.WATCH_S", 0.05)
    viewer, session = drawn
    commands.save_mask(session, tmp_path / "m.nii.gz")
    runs.shutdown(session)
    assert not list(journals.glob("2*"))
    paint(viewer, (1, 1, 1), (4, 4, 4), 2)
    until(on_disk(session))
    # Another window is not offered what is still on the screen of this one.
    _, other = attached(tmp_path)
    recovery.look(other)
    assert other.offer is None
    again = sync.attach(viewer)
    assert again is session and session.mask is not None and session.mask.dirty and session.mask.edited
    assert (mask_edit.origin_of(session)[1:4, 1:4, 1:4] == mask_edit.PAINTED).all()
    paint(viewer, (5, 5, 5), (7, 7, 7), 1)
    until(on_disk(session))
    until(lambda: len(list(journals.glob("2*.journal"))) == 1)
    runs.shutdown(session)
    viewer.layers.clear()
    viewer.add_image(np.zeros((2, 2)))  # napari remembers the layer that was chosen last
    gc.collect()
    until(lambda: not live(session).journal._planes.left._thread.is_alive())
    recovery.look(other)
    assert other.offer is not None and other.offer.state.dirty
    assert np.array_equal(read_journal(other.offer.claim.path).labels, session.mask.labels)
    runs.shutdown(other)


def killed(tmp_path: Path, then: Callable[[ViewerModel, Session], None]) -> Session:
    """A child opens a scan, draws a cube of 6 voxels a side, does something else and kills itself; the session of the
    next start, with the mask recovered."""
    scan = scan_file(tmp_path / "scan.nii.gz", (36, 40, 44))
    child = os.fork()
    if child == 0:
        try:
            viewer, session = attached(tmp_path)
            commands.open_files(session, [scan])
            commands.promote(session, "empty")
            paint(viewer, (3, 3, 3), (9, 9, 9), 1)
            then(viewer, session)
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    _, session = attached(tmp_path)
    recovery.look(session)
    recovery.recover(session)
    return session


def test_a_kill_after_the_dock_was_closed_loses_nothing(tmp_path: Path) -> None:
    def draw_more(viewer: ViewerModel, session: Session) -> None:
        runs.shutdown(session)
        paint(viewer, (20, 3, 3), (26, 9, 9), 1)
        time.sleep(2.0)

    session = killed(tmp_path, draw_more)
    assert session.mask is not None and session.mask.labels.sum() == 2 * 6**3
    runs.shutdown(session)


def test_a_mask_that_nobody_drew_on_leaves_nothing_behind(tmp_path: Path, journals: Path) -> None:
    _, session = opened(tmp_path)
    commands.promote(session, "empty")
    runs.shutdown(session)
    assert not list(journals.iterdir())


def test_two_programs_at_once_leave_each_other_alone(drawn: tuple[ViewerModel, Session], tmp_path: Path) -> None:
    _, first = drawn
    until(on_disk(first))
    _, second = attached(tmp_path)
    recovery.look(second)
    assert second.offer is None
    forget(first)
    recovery.look(second)
    _, third = attached(tmp_path)
    recovery.look(third)
    assert second.offer is not None and third.offer is None  # one of them is asked
    runs.shutdown(second)
    recovery.look(third)
    assert third.offer is not None
    recovery.discard(third)
    assert third.offer is None and not list(Path(os.environ["DIFFSEG_JOURNAL"]).glob("2*"))


def test_a_mask_drawn_before_another_one_was_begun_is_not_lost(
    drawn: tuple[ViewerModel, Session], tmp_path: Path, journals: Path
) -> None:
    _, session = drawn
    commands.promote(session, "empty")
    commands.keep_and_start(session)
    until(lambda: len(list(journals.glob("2*.journal"))) == 2)
    _, other = attached(tmp_path)
    recovery.look(other)
    assert other.offer is None  # it is still there, in the viewer that is open
    runs.shutdown(session)
    recovery.look(other)
    assert other.offer is not None and other.offer.state.edited


@pytest.mark.parametrize("what", ["moved", "other grid"])
def test_a_scan_that_is_gone_or_changed_is_told_and_the_journal_stays(
    drawn: tuple[ViewerModel, Session], tmp_path: Path, journals: Path, what: str
) -> None:
    _, before = drawn
    until(on_disk(before))
    forget(before)
    scan = tmp_path / "größe 1.nii.gz"
    if what == "moved":
        scan.rename(tmp_path / "elsewhere.nii.gz")
    else:
        save_nifti(scan, np.zeros((36, 40, 43), np.float32), np.eye(4))
    _, session = attached(tmp_path)
    recovery.look(session)
    recovery.recover(session)
    assert session.mask is None and session.message is not None and session.message.kind == "error"
    assert len(list(journals.glob("2*.journal"))) == 1


def test_the_line_offers_once_and_discards_only_at_the_second_word(
    qtbot: QtBot, drawn: tuple[ViewerModel, Session], tmp_path: Path
) -> None:
    _, before = drawn
    until(on_disk(before))
    forget(before)
    _, session = attached(tmp_path)
    bar = RecoveryBar(session)
    qtbot.addWidget(bar)
    assert not bar.isVisibleTo(None)
    recovery.look(session)
    assert bar.isVisibleTo(None) and bar.words.text().startswith("An unsaved mask of größe 1.nii.gz")
    bar.discard.click()
    assert session.offer is not None and bar.discard.text() == "Discard for good"
    bar.recover.click()
    assert session.mask is not None and not bar.isVisibleTo(None)
    session.mask = replace(session.mask, dirty=False)
    bar.shutdown()


def test_no_text_of_a_header_and_no_name_of_a_layer_is_in_journal_or_record(tmp_path: Path, journals: Path) -> None:
    import nibabel as nib

    secret = "DOE JANE 1970"
    scan = scan_file(tmp_path / "scan.nii.gz", (36, 40, 44))
    image: Any = nib.load(scan)
    image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    image.header["descrip"], image.header["db_name"], image.header["aux_file"] = secret, secret, secret
    image.header["intent_name"] = secret
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", secret.encode()))
    nib.save(image, scan)
    viewer, session = attached(tmp_path)
    commands.open_files(session, [scan])
    viewer.add_labels(np.ones((44, 40, 36), np.uint8), name=f"{secret} mask")
    commands.promote(session, viewer.layers[-1])
    paint(viewer, (0, 0, 0), (2, 2, 2), 2)
    until(on_disk(session))
    commands.save_mask(session, tmp_path / "m.nii.gz", origin=True)
    assert session.message is not None and session.message.text.startswith("Saved")
    written = [*journals.glob("2*.journal"), tmp_path / "m.plan.json", tmp_path / "m.nii.gz"]
    assert (tmp_path / "m.origin.nii.gz").is_file()
    for path in written:
        content = path.read_bytes() if path.suffix != ".gz" else bytes(nib.load(path).header.binaryblock)
        assert not any(part.encode() in content for part in secret.split()), path.name
    runs.shutdown(session)


def test_a_program_that_was_really_killed_gives_its_mask_back(tmp_path: Path) -> None:
    """Everything in a child that kills itself in the middle of drawing."""
    session = killed(tmp_path, lambda viewer, session: time.sleep(1.0))
    assert session.mask is not None and session.mask.labels.sum() == 6**3
    assert live(session).journal.running
    runs.shutdown(session)
