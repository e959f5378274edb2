"""Redraw around strokes: what a person painted or erased is fixed, a local box around it is drawn again.

Three ways lead to an alternative, and each one says which it was:

``followed``  borders move with the strokes as they vary together among the members of an ensemble (``diffseg.shapes``);
              no network pass
``drawn``     that mask is noised to one of the last levels and denoised again, the strokes, everything outside the box
              and what lies further than ``band`` from its borders being known (``diffseg.known_region``); ``passes``
              network passes
``nearest``   the member of the ensemble that agrees with most strokes, the strokes laid on top

A drawing that the strokes had to be forced upon, since the model by itself would have given most of them another class,
is left out and no other is begun; the nearest members take its place. Fixed voxels are exact, outside the box nothing
changes, and towards its faces borders go over into those of the mask as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from diffseg.cost import is_whole
from diffseg.denoise import Denoiser, Prediction
from diffseg.devices import is_out_of_memory
from diffseg.ensemble import Snapshot
from diffseg.errors import DeviceError, PlanError
from diffseg.grid import Box
from diffseg.known_region import KnownRegion, Resampling, stream
from diffseg.noise import Level
from diffseg.registry import check_knobs, knob
from diffseg.run import Run
from diffseg.sample import noised
from diffseg.shapes import Kinship, Labels, distances, followed, tapered
from diffseg.strokes import Alternative, Method, Strokes, agreement, around, by_agreement, members_in, ramp

# Network passes of one drawing, at most.
MOST_PASSES = 10
GIVEN_UP = "Memory ran out while the model was drawing; these alternatives come from the masks that are there."

# What the network drew, and the share of the strokes that it agrees with.
Drawing: TypeAlias = tuple[Labels, Method, float]


@dataclass(frozen=True)
class RedrawPlan:
    """Settings; lengths count in voxels, the smallest side of an anisotropic one being 1."""

    alternatives: int = knob(4, low=1, high=16, help="Answers to choose from, at most")
    passes: int = knob(3, low=1, high=MOST_PASSES, help="Denoising steps of a drawing; more forget more of the mask")
    resamplings: int = knob(1, low=1, high=MOST_PASSES, help="Times that each step is repeated")
    band: float = knob(1.5, low=0.5, high=1000, unit="voxels", help="How far from the borders classes may change")
    margin: float = knob(16.0, low=1, high=1000, unit="voxels", help="How far around the strokes is drawn again")
    taper: float = knob(4.0, low=1, high=100, unit="voxels", help="Width of the seam to the mask around")
    agrees: float = knob(0.5, low=0, high=1, help="Share of the strokes that the model itself must draw alike")
    seed: int = knob(0, low=0, high=2**31 - 1, help="The same seed gives the same drawings")
    order: tuple[Method, ...] = ("followed", "drawn", "nearest")
    kinship: Kinship = field(default_factory=Kinship)

    def __post_init__(self) -> None:
        check_knobs(self)
        if self.passes * self.resamplings > MOST_PASSES:
            raise PlanError(
                f"{self.passes} steps repeated {self.resamplings} times are more than {MOST_PASSES} network passes; "
                "take fewer of either."
            )


@dataclass(frozen=True, eq=False)
class Redrawing:
    """Progress: ``done`` of ``total`` network passes and lookups, and all alternatives so far, the default first.

    ``note`` says what changed when memory ran out; it stays in the records after that.
    """

    done: int
    total: int
    box: Box
    alternatives: tuple[Alternative, ...] = ()
    note: str = ""


def box_of(strokes: Strokes, sides: tuple[float, ...], plan: RedrawPlan) -> Box:
    """The box that is drawn again: around the strokes that are not answered yet, or around all if there are none.

    Raises:
        PlanError: no strokes at all.
    """
    box = around(strokes.new, sides, plan.margin) or around(strokes.fixed, sides, plan.margin)
    if box is None:
        raise PlanError("Nothing was painted or erased yet: correct a part of the mask first, then redraw around it.")
    return box


def local_run(run: Run, box: Box) -> Run:
    """``run`` itself where one pass over its region is a single one and ``box`` lies inside, else a run of the same
    plan on a region of the model's window around ``box``."""
    roi, card = run.prepared.roi, run.checkpoint.card
    contained = all(a <= c and d <= b for a, b, c, d in zip(roi.start, roi.stop, box.start, box.stop, strict=True))
    if contained and run.case.ndim == card.spatial and is_whole(run.shape, card.window):
        return run
    shape, own = run.case.grid.shape, run.case.spacing_mm
    thick = run.case.ndim - card.spatial
    mm = (*own[:thick], *(card.spacing_mm or own[thick:]))
    window = (*box.shape[:thick], *card.window)
    wide = [max(round(w * m / o), b) for w, m, o, b in zip(window, mm, own, box.shape, strict=True)]
    centre = [(a + b - 1) / 2 for a, b in zip(box.start, box.stop, strict=True)]
    region = Box.centred(centre, wide, shape)
    return Run(replace(run.plan, roi=str(region), ran=()), run.case, run.checkpoint)


def redraw(
    run: Run,
    strokes: Strokes,
    snapshot: Snapshot | None = None,
    roi: Box | None = None,
    plan: RedrawPlan | None = None,
) -> Iterator[Redrawing]:
    """Alternatives as they are found, each a new record with all before it; the last record holds them in order.

    ``strokes`` lie on the grid of the run's case; ``snapshot`` is the ensemble on its region ``roi``, if there is one.
    Alternatives that equal an earlier one are left out, so there may be fewer than were asked for, but always one.
    When memory runs out a drawing is begun again with fewer slices at a time, then in windows, then on the CPU, as
    members of ``Run.grow`` are; where even that does not do, the answers that need no network are all there is.

    Raises:
        PlanError: no strokes, or of another shape than the case. CaseError, DeviceError: as ``Run``.
    """
    plan = plan or RedrawPlan()
    if strokes.now.shape != run.case.grid.shape:
        raise PlanError(
            f"The mask has {strokes.now.shape} voxels, the scan {run.case.grid.shape}; give the mask of this scan."
        )
    yield from _Work(run, strokes, snapshot, roi, plan).records()


class _Work:
    """One redraw under way."""

    def __init__(
        self, run: Run, strokes: Strokes, snapshot: Snapshot | None, roi: Box | None, plan: RedrawPlan
    ) -> None:
        self.plan, self.classes = plan, run.codec.classes
        smallest = min(run.case.spacing_mm)
        self.sides = tuple(mm / smallest for mm in run.case.spacing_mm)
        self.box = box_of(strokes, self.sides, plan)
        self.run = local_run(run, self.box)
        self.all = strokes
        local = strokes.inside(self.box)
        # What the model has no class for is none of its business.
        foreign = local.now >= self.classes
        self.strokes = replace(local, fixed=local.fixed | foreign)
        self.weight = ramp(self.box, Box.whole(run.case.grid.shape), self.sides, plan.taper)
        self.members = members_in(snapshot, roi, self.box)
        self.found: list[Alternative] = []
        self.note = ""

    def records(self) -> Iterator[Redrawing]:
        """See ``redraw``."""
        each = self.plan.passes * self.plan.resamplings
        draws = max(0, self.plan.alternatives - 1 - bool(self.members)) or (not self.members)
        done, total = 0, draws * each + 2
        yield Redrawing(done, total, self.box)
        base = self._followed()
        self._take(base, "followed")
        yield self._record(1, total)
        for number in range(draws):
            drawn = None
            for done, drawn in self._in_memory(base, number, 1 + number * each):
                if drawn is not None:
                    self._take(*drawn)
                yield self._record(min(done, total - 1), total)
            if drawn is None:
                break
        self._nearest()
        yield self._record(total, total)

    def _record(self, done: int, total: int) -> Redrawing:
        ordered = sorted(self.found, key=lambda a: self.plan.order.index(a.method))
        return Redrawing(done, total, self.box, tuple(ordered), self.note)

    def _in_memory(self, base: Labels, number: int, done: int) -> Iterator[tuple[int, Drawing | None]]:
        """Network passes after those ``done`` before, and what they came to; begun again by the run's own smaller means
        when memory runs out, and given up when nothing smaller is left.
        """
        while True:
            try:
                yield from enumerate(self._drawn(base, number), done + 1)
                return
            except (RuntimeError, MemoryError, DeviceError) as error:
                # A mask that does not fit is a DeviceError already.
                if not isinstance(error, DeviceError) and not is_out_of_memory(error):
                    raise
            try:
                self.note = self.run.shrink(1)
            except DeviceError:
                self.note = GIVEN_UP
                yield done, None
                return
            yield done, None

    def _take(self, labels: Labels, method: Method, agrees: float | None = None) -> bool:
        """Fit an answer ``(*box)`` into the mask, unless there is one like it or there are enough."""
        own = agreement(labels, self.strokes) if agrees is None else agrees
        now, fixed = self.strokes.now, self.strokes.fixed
        labels = np.where(fixed, now, labels)
        labels = np.where(fixed, now, tapered(labels, now, self.weight, self.classes, self.sides)).astype(np.uint8)
        if len(self.found) >= self.plan.alternatives or any(np.array_equal(labels, a.labels) for a in self.found):
            return False
        self.found.append(Alternative(self.box, labels, method, own))
        return True

    def _followed(self) -> Labels:
        before, now = (np.where(a < self.classes, a, 0) for a in (self.strokes.before, self.strokes.now))
        return followed(before, now, self.strokes.fixed, self.members, self.classes, self.sides, self.plan.kinship)

    def _nearest(self) -> None:
        """As many members as there is room for, the best first; one in any case, none where there are none."""
        room = max(1, self.plan.alternatives - len(self.found))
        for position in by_agreement(self.members, self.strokes):
            room -= self._take(self.members[position], "nearest")
            if room <= 0:
                return

    def _drawn(self, base: Labels, number: int) -> Iterator[Drawing | None]:
        """None after each network pass, at last the drawing if it agrees with the strokes."""
        run = self.run
        labels = np.where(self.all.now < self.classes, self.all.now, 0).astype(np.uint8)
        labels[self.box.slices] = base
        known = np.ones(labels.shape, np.uint8)
        far = np.abs(distances(base, self.classes, self.sides)).min(axis=0) > self.plan.band
        known[self.box.slices] = self.strokes.fixed | far
        values = run.codec.encode(torch.as_tensor(run.prepared.encode_labels(labels).astype(np.int64))[None])
        values = values.to(run.device)
        mask = torch.as_tensor(run.prepared.encode_labels(known) > 0)[None, None]
        noise = stream(replace(run.noise((number,)), seed=self.plan.seed), "redraw")
        start = max(0, run.steps - self.plan.passes)
        heard = _Heard(run.fresh_denoiser())
        sampler = KnownRegion(run.sampler, mask, values, Resampling(self.plan.resamplings))
        x = noised(values, noise, run.levels, start)
        for step in sampler.steps(heard, x, noise, run.levels, start):
            if step.done < step.total:
                yield None
        assert heard.x0 is not None
        raw = self._cut(run.mask(heard.x0))
        agrees = agreement(raw, self.strokes)
        yield (self._cut(run.mask(step.x0)), "drawn", agrees) if agrees >= self.plan.agrees else None

    def _cut(self, labels: Labels) -> Labels:
        """The box out of labels on the run's region."""
        start = self.run.prepared.roi.start
        within = zip(self.box.start, self.box.stop, start, strict=True)
        return np.ascontiguousarray(labels[tuple(slice(a - o, b - o) for a, b, o in within)])


@dataclass(eq=False)
class _Heard:
    """A denoiser that remembers what it last saw, before anything was put into it."""

    inner: Denoiser
    x0: Tensor | None = None

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        seen = self.inner(x, level)
        self.x0 = seen.x0
        return seen
