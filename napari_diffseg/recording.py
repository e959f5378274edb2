"""One trajectory as it is recorded: buffers of bounded size that the job's thread fills, slot by slot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffseg.run import Run
from diffseg.sample import Step
from diffseg.trajectory import changed_voxels, class_field, kept_slots
from napari_diffseg.state import Request, TrajectoryView

# Both buffers of one trajectory together; of longer or larger runs every n-th step is kept.
TRAJECTORY_BYTES = 512 * 2**20
# x_t and x̂0 in float16.
VOXEL_BYTES = 4


def begun(run: Run, request: Request, run_id: int, member: int = 0) -> TrajectoryView:
    """A trajectory with its starting noise in slot 0 and nothing else."""
    voxels = int(np.prod(run.shape))
    numbers = kept_slots(run.steps, voxels * VOXEL_BYTES, TRAJECTORY_BYTES)
    slots = (len(numbers), *run.shape)
    x = np.full(slots, -1, np.float16)
    x[0] = _noisy(run, run.initial((member,)))
    # No mask is seen before the first step.
    x0 = np.full(slots, -1, np.float16)
    return TrajectoryView(
        run_id,
        x,
        x0,
        done=0,
        total=len(numbers) - 1,
        offset=tuple(float(v) for v in run.prepared.offset),
        step=tuple(float(v) for v in run.prepared.step),
        times=tuple(run.levels[k].t for k in numbers),
        log_snr=tuple(run.levels[k].log_snr for k in numbers),
        changes=(),
        member=member,
        seed=run.plan.seed,
        numbers=numbers,
        request=request,
    )


def branched(view: TrajectoryView, slot: int, seed: int) -> TrajectoryView:
    """A trajectory of its own that has the same past up to ``slot``."""
    x, x0 = np.full_like(view.x, -1), np.full_like(view.x0, -1)
    x[: slot + 1], x0[: slot + 1] = view.x[: slot + 1], view.x0[: slot + 1]
    return replace(view, x=x, x0=x0, done=slot, changes=view.changes[:slot], seed=seed, volume_ml=None, mask=None)


class Recorder:
    """Takes the steps of a run, in order, and hands back the trajectory as far as it has come."""

    def __init__(self, run: Run, view: TrajectoryView, x0: Tensor | None = None) -> None:
        """``x0 (1, K, *W)`` is the clean mask of the newest slot, if there is one."""
        self.run, self.view = run, view
        self._slots = {number: slot for slot, number in enumerate(view.numbers)}
        self._before = None if x0 is None else self._probabilities(x0)
        self._voxel_ml = run.case.grid.voxel_ml * float(np.prod(run.prepared.step))

    def add(self, step: Step) -> TrajectoryView:
        """Fills the step's slot, which is not on display yet; nothing for a step that is not kept."""
        slot = self._slots.get(step.done)
        if slot is None:
            return self.view
        view, p = self.view, self._probabilities(step.x0)
        view.x[slot], view.x0[slot] = _noisy(self.run, step.x), class_field(p)
        before, self._before = self._before, p
        change = float("nan") if before is None else changed_voxels(before, p) * self._voxel_ml
        self.view = replace(view, done=slot, changes=(*view.changes[: slot - 1], change))
        return self.view

    def finish(self, mask: NDArray[np.uint8]) -> TrajectoryView:
        """Notes the finished mask ``(*roi)`` and its volume."""
        volume = float(np.count_nonzero(mask)) * self.run.case.grid.voxel_ml
        self.view = replace(self.view, volume_ml=volume, mask=mask, roi=self.run.prepared.roi)
        return self.view

    def _probabilities(self, x0: Tensor) -> NDArray[np.float32]:
        return np.asarray(self.run.codec.probabilities(x0.float())[0].cpu().numpy())


def _noisy(run: Run, x: Tensor) -> NDArray[np.float32]:
    """Clipped because noise reaches far beyond [-1, 1], which is all that is shown."""
    return np.asarray(np.clip(run.display(x), -1, 1))
