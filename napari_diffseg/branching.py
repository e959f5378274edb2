"""What a branch's job yields. Made in the job's thread from the core's steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from napari_diffseg.recording import Recorder, branched
from napari_diffseg.sampling import Opened, open_run
from napari_diffseg.state import Branch, TrajectoryView


@dataclass(frozen=True, eq=False)
class BranchUpdate:
    """Progress of a branch; each record stands for all earlier ones."""

    done: int
    total: int
    opened: Opened
    branch: Branch


def branch_off(
    first: TrajectoryView, letter: str, slot: int, seed: int, opened: Opened | None
) -> Iterator[BranchUpdate]:
    """The branch ``letter`` of the trajectory ``first`` after ``slot``, step by step.

    ``opened`` serves if it belongs to the same run; else the model is loaded again and the way to ``slot`` computed
    again, to the same bits.
    """
    assert first.request is not None
    opened = open_run(first.request, opened)
    run, number = opened.run, first.number(slot)
    branch = Branch(letter, slot, branched(first, slot, seed))
    kept = opened.kept.before(number)
    yield BranchUpdate(0 if kept is None else kept.done, run.steps, opened, branch)
    seen, recorder = None if kept is None else kept.x0, None
    for step in run.branch(number, seed, first.member, kept):
        if step.done <= number:
            opened.kept.add(step)
            seen = step.x0
        else:
            recorder = recorder or Recorder(run, branch.view, seen)
            view = recorder.add(step)
            if step.done == step.total:
                view = recorder.finish(run.mask(step.x0))
            branch = replace(branch, view=view)
        yield BranchUpdate(step.done, run.steps, opened, branch)
