"""Other endings of a trajectory: the same state after step k, new noise from there on.

What a branch is, so that it means the same for every sampler: a draw of the mask given the state, ``p(x_0 | x_k)``.
A sampler that draws noise goes on with the noise of another seed. A deterministic one (DDIM with eta 0, DPM-Solver++)
has one ending per state; its branches go on as DDIM with eta 1, which draws from the model's posterior in every step
and has the same marginals (Song et al. 2021, section 4). Noising the clean mask again to level k would be another
thing: the state itself would change, and the branches would be too narrow, since ``x0hat`` is an average.
"""

from __future__ import annotations

from dataclasses import replace

from diffseg.errors import PlanError
from diffseg.sample import DDIM, Sampler, Step
from diffseg.trajectory import last_branch

# Full states that are kept in memory, so that a branch need not go back to the noise.
KEPT_BYTES = 256 * 2**20


def stochastic(sampler: Sampler) -> Sampler:
    """The sampler that draws the branches of a run with ``sampler``: itself, or DDIM with eta 1 (see the module)."""
    return sampler if sampler.order is None else DDIM(eta=1.0)


def refuse_branch(step: int, steps: int) -> None:
    """Raise ``PlanError`` unless a branch can leave a run of ``steps`` after ``step``."""
    last = last_branch(steps)
    if last < 0:
        raise PlanError(f"A run of {steps} steps adds no noise on its way, so it has no branches; take more steps.")
    if not 0 <= step <= last:
        raise PlanError(f"No noise is added after step {step} of {steps}; branch at step {last} or before.")


class KeptSteps:
    """Full states of one trajectory on the CPU, thinned out so that they stay within ``budget_bytes``.

    Whatever is missing can be computed again from what lies before it, to the same bits.
    """

    def __init__(self, budget_bytes: int = KEPT_BYTES) -> None:
        self.budget_bytes = budget_bytes
        self._every = 1
        self._steps: dict[int, Step] = {}

    @property
    def nbytes(self) -> int:
        """Memory that the kept states take."""
        return sum(s.x.nbytes + s.x0.nbytes for s in self._steps.values())

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of the kept steps, ascending."""
        return tuple(sorted(self._steps))

    def add(self, step: Step) -> None:
        """Keep a step, if it is one of those that are kept; every second one goes when memory is used up."""
        if step.done % self._every:
            return
        self._steps[step.done] = replace(step, x=step.x.cpu(), x0=step.x0.cpu())
        while self._steps and self.nbytes > self.budget_bytes:
            self._every *= 2
            self._steps = {k: s for k, s in self._steps.items() if k % self._every == 0}

    def before(self, step: int) -> Step | None:
        """The newest kept state at or before ``step``; None means the starting noise."""
        return max((s for s in self._steps.values() if s.done <= step), key=lambda s: s.done, default=None)

    def clear(self) -> None:
        """Forget all."""
        self._every = 1
        self._steps.clear()
