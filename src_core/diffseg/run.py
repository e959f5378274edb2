"""A sampling run: a plan brought to life on one case, as iterators of frozen records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseg.branch import refuse_branch, stochastic
from diffseg.case import Case
from diffseg.checkpoint import Checkpoint, refuse_other_task
from diffseg.cost import is_whole, pieces
from diffseg.denoise import Denoiser
from diffseg.devices import choose_device, is_out_of_memory, release_memory
from diffseg.ensemble import Ensemble, Snapshot
from diffseg.errors import CaseError, CheckpointError, DeviceError, PlanError
from diffseg.fallback import Means, means_on, memory_told, smaller
from diffseg.plan import SamplePlan
from diffseg.preprocess import Prepared, prepare
from diffseg.records import from_dict
from diffseg.sample import SAMPLERS, Noise, Sampler, Step
from diffseg.self_condition import SelfConditioned, is_self_conditioned
from diffseg.stages import Stage, StageLog
from diffseg.windows import SliceNoise, Slicewise, Windowed


@dataclass(frozen=True, eq=False)
class Growth:
    """Progress of a growing ensemble: ``done`` of ``total`` network passes counted per member.

    ``step`` is the newest denoising step (its batch is ``members``); ``snapshot`` is set when members were finished,
    else None. ``note`` is a sentence for the person, usually empty.
    """

    done: int
    total: int
    members: tuple[int, ...]
    step: Step
    snapshot: Snapshot | None = None
    note: str = ""


class Run:
    """One plan on one case. Iterators may be closed at any step; nothing of torch's state stays open."""

    def __init__(
        self, plan: SamplePlan, case: Case, checkpoint: Checkpoint, autocast: torch.dtype | None = None
    ) -> None:
        """Prepare the image and the sampler; ``autocast`` is the type of the network's arithmetic, float32 if None.

        Raises:
            PlanError, CaseError, CheckpointError, DeviceError: one sentence on what does not fit.
        """
        card = checkpoint.card
        if plan.model_sha256 != checkpoint.sha256:
            raise CheckpointError(
                f"The plan was made with another file of {plan.model} (SHA-256 {plan.model_sha256[:12]}…, this one "
                f"{checkpoint.sha256[:12]}…); give the checkpoint that it names."
            )
        refuse_misfit(case, checkpoint)
        self.plan, self.case, self.checkpoint = plan, case, checkpoint
        self.codec = checkpoint.codec
        self.levels = checkpoint.schedule.levels(plan.steps)
        self.sampler: Sampler = from_dict(SAMPLERS[plan.sampler], plan.sampler_settings, "The sampler", PlanError)
        self.prepared: Prepared = prepare(case, card.rule, plan.box, card.spatial)
        self.shape = self.prepared.image.shape[1:]
        self.means = self._own = means_on(choose_device(plan.device))
        # What the plan tells of members drawn before, and what is known by now.
        self._told, self._log = StageLog(plan.ran), StageLog(plan.ran)
        self._note = ""
        self._autocast = autocast
        self._denoiser: Denoiser | None = None

    @property
    def device(self) -> torch.device:
        """Where it computes; changes when memory runs out."""
        return self.means.device

    def record(self, members: int) -> SamplePlan:
        """The plan of so many members, with how they were really drawn."""
        return replace(self.plan, members=members, ran=self._log.stages(members))

    def take_note(self) -> str:
        """The sentence on the last change that memory forced upon a trajectory, once; empty if there was none."""
        note, self._note = self._note, ""
        return note

    @property
    def steps(self) -> int:
        """Network passes per member."""
        return len(self.levels) - 1

    @property
    def denoiser(self) -> Denoiser:
        """The model bound to this image, on ``device``; made when first needed.

        A region of a few model windows is denoised whole, a larger one by overlapping windows; a slice
        model goes through a volume slice by slice.
        """
        if self._denoiser is None:
            self.checkpoint.network.to(self.device)
            image = torch.as_tensor(self.prepared.image)[None].to(self.device)
            stacked = self.case.ndim > self.checkpoint.card.spatial
            self._denoiser = Slicewise(self._bind, image, self.means.slices) if stacked else self._bind(image)
        return self._denoiser

    def _bind(self, image: Tensor) -> Denoiser:
        window = self.checkpoint.card.window
        if is_whole(image.shape[2:], window) and not self.means.windowed:
            return self.checkpoint.denoiser(image, self._autocast)
        bind = partial(self.checkpoint.denoiser, autocast=self._autocast)
        return Windowed(bind, image, window, halo=min(window) // 8)

    @property
    def windows(self) -> int:
        """Model windows per network pass; 1 where the region is denoised whole. Tells the cost of a run beforehand."""
        return pieces(self.shape, self.checkpoint.card.window)[0]

    def initial(self, members: tuple[int, ...] = (0,)) -> Tensor:
        """The noise that these members start from, ``(B, K, *W)``."""
        return self.noise(members).draw(0, (self.codec.channels, *self.shape), self.device)

    def noise(self, members: tuple[int, ...], seed: int | None = None) -> Noise:
        """The members' noise, of the plan's seed unless another is given."""
        seed = self.plan.seed if seed is None else seed
        if self.case.ndim > self.checkpoint.card.spatial:
            return SliceNoise(seed, members, self.plan.slice_correlation)
        return Noise(seed, members)

    def trajectory(self, member: int = 0, start: Step | None = None, seed: int | None = None) -> Iterator[Step]:
        """The steps of one member: from noise, or on from a kept ``start``, to the same bits.

        With another ``seed`` it is a branch: the same state (the member's own noise without ``start``), and from there
        on the noise of that seed, as ``diffseg.branch`` says.

        When memory runs out it goes on from the last step by smaller means; ``take_note`` has the sentence.

        Raises:
            DeviceError: nothing smaller is left.
        """
        while True:
            try:
                for step in self._trajectory(member, start, seed):
                    start = step
                    yield step
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._note = self.shrink(1)

    def _trajectory(self, member: int, start: Step | None, seed: int | None) -> Iterator[Step]:
        """In stretches between the steps at which, as the plan's record tells, other means were used."""
        until: int | None = -1
        while until is not None:
            first = 0 if start is None else start.done
            self._begin((member,), first, seed)
            until = self._told.change(member, first, seed)
            until = None if until is None or until >= self.steps else until
            x = self.initial((member,)) if start is None else start.x.to(self.device)
            previous = None if start is None else start.x0.to(self.device)
            denoiser = self._denoiser_after(previous)
            sampler = self.sampler if seed is None else stochastic(self.sampler)
            noise = self.noise((member,), seed)
            for start in sampler.steps(denoiser, x, noise, self.levels, first, previous):
                yield start
                if start.done == until:
                    break

    def _begin(self, members: tuple[int, ...], step: int = 0, seed: int | None = None) -> None:
        """Go over to the means by which the first member was drawn before, if it was, and note down those that
        there are.
        """
        if self._told:
            told = self._told.at(members[0], step, seed)
            means = self._own if told is None else self._as_told(told)
            if means != self.means:
                self.means, self._denoiser = means, None
        way = Stage(0, 0, str(self.device), self.means.members, self.means.slices, self.means.windowed, step, seed)
        for member in members:
            self._log.note(member, way)

    def _as_told(self, told: Stage) -> Means:
        """The means of a record; a device that is not here is replaced by the one that the plan asks for."""
        try:
            device = choose_device(told.device)
        except DeviceError:
            return replace(self._own, slices=told.slices, windowed=told.windowed)
        return Means(device, told.batch, told.slices, told.windowed)

    def _batch(self, todo: list[int]) -> tuple[int, ...]:
        """The members that are drawn next: as many as there is room for, all of which the plan's record tells the
        same.
        """
        told = self._told.at(todo[0])
        means = self._own if told is None else self._as_told(told)
        most = means.members if self._told else self.means.members
        alike = takewhile(lambda m: self._told.at(m) == told, todo[:most])
        return tuple(alike) if self._told.change(todo[0]) is None else (todo[0],)

    def branch(self, step: int, seed: int, member: int = 0, kept: Step | None = None) -> Iterator[Step]:
        """Another ending of a member's trajectory after ``step``, with the noise of ``seed``.

        ``kept`` is a state of that trajectory at or before ``step``; what lies between is computed again and yielded
        first, as are all steps up to ``step`` without it.

        Raises:
            PlanError: no noise is added after ``step``.
        """
        refuse_branch(step, self.steps)
        start = kept
        if step > (0 if start is None else start.done):
            for start in self.trajectory(member, kept):
                yield start
                if start.done == step:
                    break
        yield from self.trajectory(member, start, seed)

    def fresh_denoiser(self) -> Denoiser:
        """The denoiser for a trajectory of its own, with nothing remembered of another one."""
        return self._denoiser_after(None)

    def _denoiser_after(self, previous: Tensor | None) -> Denoiser:
        """The denoiser of one trajectory; a self-conditioned one remembers, so every trajectory gets its own."""
        if is_self_conditioned(self.checkpoint.card):
            self._denoiser = None
            if isinstance(self.denoiser, SelfConditioned):
                self.denoiser.previous = previous
        return self.denoiser

    def ensemble(self) -> Ensemble:
        """An empty ensemble on the region of the case."""
        return Ensemble(self.codec.classes, self.prepared.roi.shape)

    def grow(self, ensemble: Ensemble, target: int) -> Iterator[Growth]:
        """Add members until there are ``target``; those already present are not drawn again.

        When memory runs out the batch is halved, then windows are used, then the CPU; each change is told in ``note``.

        Raises:
            DeviceError: even one member does not fit.
        """
        todo = [m for m in range(target) if m not in ensemble.ids]
        total, note = len(todo) * self.steps, ""
        last: Growth | None = None
        while todo:
            members, done = self._batch(todo), total - len(todo) * self.steps
            failed = False
            try:
                for last in self._grow_batch(ensemble, members, done, total, note):
                    note = ""
                    yield last
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = True
            # Some members of a batch may have been finished before memory ran out.
            todo = [m for m in todo if m not in ensemble.ids]
            if failed and todo:
                note = self.shrink(len(members))
            elif failed and last is not None:
                yield replace(last, done=total, snapshot=ensemble.snapshot())

    def _grow_batch(
        self, ensemble: Ensemble, members: tuple[int, ...], done: int, total: int, note: str
    ) -> Iterator[Growth]:
        for step in self._drawn(members):
            snapshot = None
            if step.done == step.total:
                for m, x0 in zip(members, step.x0, strict=True):
                    ensemble.add(self._mask(x0[None]), m)
                snapshot = ensemble.snapshot()
            yield Growth(done + step.done * len(members), total, members, step, snapshot, note)
            note = ""

    def _drawn(self, members: tuple[int, ...]) -> Iterator[Step]:
        if self._told.change(members[0]) is not None:
            yield from self._trajectory(members[0], None, None)
            return
        self._begin(members)
        denoiser = self._denoiser_after(None)
        yield from self.sampler.steps(denoiser, self.initial(members), self.noise(members), self.levels)

    def shrink(self, members: int) -> str:
        """Go over to the next smaller means after memory ran out with so many members at a time; the sentence that
        says so. Raises ``DeviceError`` when nothing smaller is left.
        """
        release_memory()
        window = self.checkpoint.card.window
        whole = is_whole(self.shape[-len(window) :], window)
        self.means, note = smaller(self.means, members, self.shape, window, whole)
        # What there was room for before there is none for now.
        self._own, self._told, self._denoiser = self.means, StageLog(), None
        return note

    def mask(self, x0: Tensor) -> NDArray[np.uint8]:
        """Labels on the region of the case, ``(*roi)`` uint8, from ``x0 (1, K, *W)`` on the model's window.

        Raises ``CheckpointError`` when ``x0`` is not finite, which a mask would not show, and ``DeviceError`` when
        memory runs out.

        Probabilities, not labels, are brought back to the scan's grid, so that resampled borders stay smooth.
        """
        with memory_told(self.shape):
            return self._mask(x0)

    def _mask(self, x0: Tensor) -> NDArray[np.uint8]:
        if not bool(x0.isfinite().all()):  # probabilities would turn it into background
            raise CheckpointError(
                f"{self.plan.model} answered with values that are no finite numbers; its weights are damaged, or the "
                "scan is far from what it was made for."
            )
        p = self.codec.probabilities(x0.float())[0].cpu().numpy()
        return np.asarray(self.prepared.restore(p).argmax(axis=0), dtype=np.uint8)

    def display(self, x: Tensor) -> NDArray[np.float32]:
        """One member's field to look at, ``(*W)``: -1 background, +1 foreground; ``x (1, K, *W)``."""
        return self.codec.foreground(x.float())[0].cpu().numpy()


def refuse_misfit(case: Case, checkpoint: Checkpoint) -> None:
    """Raise ``CaseError`` unless the case has the model's dimensions and channels."""
    card = checkpoint.card
    refuse_other_task(card)
    if case.ndim < card.spatial:
        raise CaseError(
            f"{card.name} takes {card.spatial}D images, but this one is {case.ndim}D; choose another model or image."
        )
    if len(case.image) != len(card.channels):
        raise CaseError(
            f"{card.name} expects {len(card.channels)} channel(s) ({', '.join(card.channels)}), but the case has "
            f"{len(case.image)} ({', '.join(case.channels)}); give one image per channel, in that order."
        )
