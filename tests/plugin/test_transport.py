"""The trajectory's verbs: going on, branching, seeds, memory, export."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffseg.nets.unet import UNet
from napari_diffseg import commands, recording, transport
from napari_diffseg.runs import live
from napari_diffseg.session import Session
from tiny_session import open_session


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return open_session(tmp_path)


def text(session: Session) -> str:
    return "" if session.message is None else session.message.text


def test_play_goes_on_where_a_run_was_stopped_and_gives_the_same_mask(session: Session) -> None:
    commands.play(session)
    whole = session.trajectory
    commands.reset(session)
    commands.step_once(session)
    commands.cancel(session)
    begun = session.trajectory
    commands.play(session)
    view = session.trajectory
    assert view is not None and begun is not None and whole is not None
    assert view.run_id == begun.run_id and view.x0 is begun.x0, "the same run, in the same layers"
    np.testing.assert_array_equal(view.x, whole.x)
    np.testing.assert_array_equal(view.x0, whole.x0)
    np.testing.assert_allclose(view.changes[1:], whole.changes[1:])


def test_a_stopped_run_of_other_settings_is_not_taken_up(session: Session) -> None:
    commands.step_once(session)
    commands.cancel(session)
    before = session.trajectory
    commands.set_settings(session, seed=1)
    commands.play(session)
    assert session.trajectory is not None and before is not None and session.trajectory.run_id != before.run_id


def test_step_shows_the_next_state_and_computes_only_the_newest(session: Session) -> None:
    commands.advance(session)
    commands.advance(session)
    commands.step_back(session)
    assert session.trajectory is not None and (session.step, session.trajectory.done) == (1, 2)
    commands.advance(session)
    assert (session.step, session.trajectory.done) == (2, 2)
    commands.advance(session)
    assert (session.step, session.trajectory.done) == (3, 3)
    run = session.trajectory.run_id
    commands.advance(session)
    assert session.trajectory.run_id == run, "a finished mask is not thrown away by one step more"


def test_a_branch_has_the_same_past_another_future_and_its_own_volume(session: Session) -> None:
    commands.play(session)
    commands.show_step(session, 1)
    assert commands.branch_here(session)
    first, (branch,) = session.trajectory, session.branches
    assert first is not None and (branch.letter, branch.slot, branch.view.seed) == ("B", 1, first.seed + 1)
    np.testing.assert_array_equal(branch.view.x[:2], first.x[:2])
    assert (branch.view.x[2] != first.x[2]).any()
    # The state of step 1 is the same, and so is the mask seen in it.
    np.testing.assert_array_equal(branch.view.x0[2], first.x0[2])
    assert branch.view.changes[:2] == pytest.approx(first.changes[:2], nan_ok=True)
    assert branch.view.done == 3 and branch.view.volume_ml is not None and first.volume_ml is not None
    assert session.snapshot is not None and len(session.snapshot) == 1, "a branch is no member of the ensemble"
    assert session.step == 3, "the view follows"


def test_a_waiting_run_can_be_branched_and_goes_on_afterwards(session: Session) -> None:
    commands.step_once(session)
    assert session.job.state == "paused"
    commands.branch_here(session)
    assert session.job.state == "idle" and session.trajectory is not None
    assert session.trajectory.done == 1 and session.branches[0].view.done == 3 and session.step == 3
    assert "press Play, or go back" in session.blockers("branch")[0], "there is no state to branch from"
    commands.play(session)
    assert session.trajectory.done == 3 and len(session.branches) == 1


def test_a_finished_branch_can_be_made_editable(session: Session) -> None:
    commands.play(session)
    commands.show_step(session, 1)
    commands.branch_here(session)
    assert dict(session.sources())["branch:B"] == "branch B · seed 43 from step 1"
    assert commands.promote(session, "branch:B") and session.mask is not None
    view = session.branches[0].view
    assert view.mask is not None and view.roi is not None
    np.testing.assert_array_equal(session.mask.labels[view.roi.slices], view.mask)
    assert session.mask.source == "branch B · seed 43 from step 1"


def test_no_branch_after_the_last_noise(session: Session) -> None:
    commands.play(session)
    commands.show_step(session, 2)
    assert not commands.branch_here(session) and "go back to step 1 or before" in text(session)
    assert session.branches == ()


def test_branches_have_letters_and_seeds_of_their_own_until_there_are_no_more(session: Session) -> None:
    commands.play(session)
    for _ in transport.LETTERS:
        commands.show_step(session, 0)
        assert commands.branch_here(session)
    assert [b.letter for b in session.branches] == list("BCDEF")
    assert len({b.view.seed for b in session.branches}) == 5
    commands.show_step(session, 0)
    assert not commands.branch_here(session) and "remove one" in text(session)
    commands.remove_branch(session, "C")
    assert commands.branch_here(session, seed=7) and session.branches[1].letter == "C"
    assert session.branches[1].view.seed == 7


def test_a_branch_of_a_run_that_was_closed_is_computed_from_its_noise(session: Session) -> None:
    commands.play(session)
    commands.show_step(session, 1)
    commands.branch_here(session, seed=9)
    expected = session.branches[0].view.x0.copy()
    commands.remove_branch(session, "B")
    commands.grow_ensemble(session, 1)
    opened = live(session).opened
    assert opened is not None
    opened.forget()
    commands.show_step(session, 1)
    commands.branch_here(session, seed=9)
    np.testing.assert_array_equal(session.branches[0].view.x0, expected)


def test_a_new_trajectory_and_a_new_scan_have_no_branches(session: Session) -> None:
    commands.play(session)
    commands.show_step(session, 0)
    commands.branch_here(session)
    commands.set_settings(session, seed=3)
    commands.play(session)
    assert session.branches == ()
    commands.show_step(session, 0)
    commands.branch_here(session)
    session.case = None
    assert session.branches == ()


def test_a_seed_that_is_not_locked_is_used_once(session: Session) -> None:
    commands.play(session)
    commands.reset(session)
    commands.play(session)
    assert session.settings.seed == 42
    commands.lock_seed(session, False)
    commands.reset(session)
    commands.play(session)
    assert session.settings.seed == 43 and session.trajectory is not None and session.trajectory.seed == 43
    commands.set_settings(session, seed=5)
    commands.play(session)
    assert session.settings.seed == 5, "one that was just chosen is new"


def test_long_runs_keep_only_some_steps_and_stay_within_their_memory(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.play(session)
    assert session.trajectory is not None
    voxels = session.trajectory.x[0].size
    commands.reset(session)
    monkeypatch.setattr(recording, "TRAJECTORY_BYTES", 4 * voxels * recording.VOXEL_BYTES)
    commands.set_settings(session, steps=10)
    commands.play(session)
    view = session.trajectory
    assert view is not None and view.numbers == (0, 4, 8, 10) and view.done == view.total == 3
    assert view.x.nbytes + view.x0.nbytes <= recording.TRAJECTORY_BYTES
    assert len(view.changes) == 3 and view.steps == 10 and view.times[-1] == 0
    commands.show_step(session, 1)
    commands.branch_here(session)
    assert session.branches[0].words.endswith("from step 4")
    monkeypatch.setattr(transport, "ALL_BYTES", 2 * recording.TRAJECTORY_BYTES)
    commands.show_step(session, 1)
    assert not commands.branch_here(session) and "MB" in text(session)


def test_reset_and_closing_free_the_states_and_buffers(session: Session) -> None:
    commands.play(session)
    commands.show_step(session, 0)
    commands.branch_here(session)
    assert session.trajectory is not None
    refs = [weakref.ref(session.trajectory.x), weakref.ref(session.branches[0].view.x0)]
    opened = live(session).opened
    assert opened is not None and opened.kept.nbytes > 0
    commands.reset(session)
    gc.collect()
    assert opened.kept.nbytes == 0 and opened.last is None and [ref() for ref in refs] == [None, None]
    commands.play(session)
    commands.shutdown(session)
    assert live(session).opened is None


@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_the_trajectory_is_exported_with_its_branches(session: Session, tmp_path: Path, suffix: str) -> None:
    commands.play(session)
    alone, both = tmp_path / f"alone{suffix}", tmp_path / f"both{suffix}"
    assert commands.export_trajectory(session, alone)
    commands.show_step(session, 0)
    commands.branch_here(session)
    assert commands.export_trajectory(session, both) and "Exported both" in text(session)
    with Image.open(alone) as one, Image.open(both) as two:
        assert getattr(two, "n_frames", 1) == (4 if suffix == ".gif" else 1)
        assert two.height > 1.2 * one.height


def test_an_export_that_cannot_be_written_is_one_sentence(session: Session, tmp_path: Path) -> None:
    commands.play(session)
    commands.export_trajectory(session, tmp_path / "missing" / "run.gif")
    assert "could not be written" in text(session) and session.job.state == "idle"
    assert not commands.export_trajectory(session, tmp_path / "run.avi") and ".gif, .mp4, .png" in text(session)


def paused_branch(session: Session) -> None:
    """A branch of the finished trajectory that waits after its first own step."""
    commands.set_settings(session, steps=5)
    commands.play(session)
    commands.show_step(session, 1)

    def wait() -> None:
        if session.branches and session.branches[0].view.done == 2:
            session.events.branches.disconnect(wait)
            commands.pause(session)

    session.events.branches.connect(wait)
    commands.branch_here(session)
    assert session.job.state == "paused" and session.branches[0].view.done == 2 == session.step


def test_step_goes_on_with_the_branch_that_waits(session: Session) -> None:
    paused_branch(session)
    commands.advance(session)
    assert session.job.state == "paused" and session.branches[0].view.done == 3 == session.step
    commands.step_back(session)
    commands.advance(session)
    assert session.branches[0].view.done == 3, "shown again, not computed"
    commands.resume(session)
    assert session.job.state == "idle" and session.branches[0].view.done == 5


def test_a_branch_that_waits_can_be_removed_or_dropped_with_all(session: Session) -> None:
    paused_branch(session)
    commands.remove_branch(session, "B")
    assert session.branches == () and session.job.state == "idle" and session.trajectory is not None
    paused_branch(session)
    commands.reset(session)
    assert session.branches == () and session.trajectory is None and session.job.state == "idle"
    paused_branch(session)
    commands.shutdown(session)
    assert session.job.state == "idle" and live(session).opened is None


def test_memory_running_out_in_a_branch_is_one_sentence_and_it_can_be_tried_again(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands.play(session)
    commands.show_step(session, 1)

    def full(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(UNet, "forward", full)
        commands.branch_here(session)
    assert "Memory ran out" in text(session) and session.job.state == "idle"
    commands.remove_branch(session, "B")
    assert commands.branch_here(session) and session.branches[0].view.done == 3
