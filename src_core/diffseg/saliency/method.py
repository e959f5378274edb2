"""What every saliency method shares: its question, its models, its records and the loop over slices and draws.

A method looks at slices ``(N, C, H, W)`` and says, pixel by pixel, how much they speak for a class. It is a
frozen dataclass of knobs; ``explain`` is an iterator of frozen records whose map sharpens until it is final.

Symbols: ``B`` images of one batch, ``C`` channels, ``H``, ``W`` rows and columns, ``D`` draws of noise.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from diffseg.devices import is_out_of_memory, release_memory
from diffseg.errors import DeviceError, PlanError
from diffseg.guidance import ImageDenoiser
from diffseg.noise import Level
from diffseg.registry import Registry, check_knobs
from diffseg.sample import Noise

Need = Literal["denoiser", "classifier"]
# What each model that a method may need is, in words.
WORDS: dict[Need, str] = {"denoiser": "an image diffusion model", "classifier": "a classifier of noised images"}


@dataclass(frozen=True, eq=False)
class Models:
    """The networks that may be asked. ``times[i]`` is the level of time step ``i``, the least noisy first."""

    times: tuple[Level, ...]
    denoiser: ImageDenoiser | None = None
    classifier: nn.Module | None = None


@dataclass(frozen=True, eq=False)
class Question:
    """Slices ``images (N, C, H, W)`` on the model's grid, and which class is looked for against which.

    ``numbers`` are the slices' places in the scan; the noise of a slice hangs on its number and on nothing else.
    """

    images: Tensor
    numbers: tuple[int, ...]
    target: int = 1
    background: int = 0

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.images) != len(self.numbers):
            raise PlanError(
                f"Slices (N, C, H, W) with N numbers are expected, not {tuple(self.images.shape)} with "
                f"{len(self.numbers)} numbers."
            )
        if self.target == self.background:
            raise PlanError(f"Class {self.target} cannot be compared with itself; choose another background class.")


@dataclass(frozen=True, eq=False)
class SaliencyStep:
    """Progress of an explanation: ``done`` of ``total`` units of work.

    ``map (N, H, W)`` float32 on the CPU is the mean over the finished draws; of a slice whose first draw is under
    way its partial map, and 0 where none has begun. ``first (N, H, W)`` is the map of draw 0 alone. ``draws``
    counts the draws that are complete for all slices. ``passes`` are forward passes of a network for one image,
    ``seconds`` those spent computing. ``note`` is a sentence for the person, usually empty.
    """

    done: int
    total: int
    map: Tensor
    first: Tensor
    draws: int
    passes: int
    seconds: float
    note: str = ""


@dataclass(frozen=True, eq=False)
class Partial:
    """A map ``(B, H, W)`` under way, and the forward passes per image that this step of it took."""

    map: Tensor
    passes: int


@dataclass(frozen=True)
class SaliencyMethod(ABC):
    """A way to make saliency maps; see the module.

    ``needs`` names the models it asks, ``range`` the values that its final map may take, ``unit`` their unit.
    With ``random`` false the map does not depend on noise, and one draw is made whatever was asked for.
    """

    needs: ClassVar[tuple[Need, ...]]
    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    unit: ClassVar[str] = ""
    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_knobs(self)

    @abstractmethod
    def units(self, models: Models) -> int:
        """Number of partial maps that ``partials`` gives for a batch."""

    @abstractmethod
    def passes(self, models: Models) -> int:
        """Forward passes of a network that one draw of one image takes, told without making any.

        Only ``models.times`` and the layers of ``models.classifier`` are asked, so networks without weights do.
        """

    @abstractmethod
    def partials(self, models: Models, x: Tensor, noise: Tensor, question: Question) -> Iterator[Partial]:
        """Maps of the batch ``x (B, C, H, W)``, each better than the one before; the last is final.

        ``noise`` has the shape of ``x``. An image's map depends on that image and its noise only.
        """

    def explain(
        self, models: Models, question: Question, seed: int = 0, draws: int = 1, batch: int = 8
    ) -> Iterator[SaliencyStep]:
        """The maps of all slices, averaged over ``draws`` of noise, ``batch`` images at a time.

        Slices come first: draw 0 of all of them is finished before draw 1 begins. When memory runs out the
        batch is halved, which changes no result beyond rounding.

        Raises:
            PlanError: a model that the method needs is missing, or settings that do not fit it.
            DeviceError: memory runs out with a single image.
        """
        self.refuse(models, draws, batch)
        draws = draws if self.random else 1
        todo = [(d, n) for d in range(draws) for n in range(len(question.images))]
        state = _Tally(question, draws, len(todo) * self.units(models))
        while todo:
            part, note = todo[:batch], ""
            try:
                yield from self._batch(models, question, seed, part, state)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                release_memory()
                if len(part) == 1:
                    raise _too_large(question) from None
                batch = len(part) // 2
                note = f"Memory ran out with {len(part)} images at a time; going on with {batch}."
            else:
                todo = todo[len(part) :]
            state.note = note

    def _batch(
        self, models: Models, question: Question, seed: int, part: Sequence[tuple[int, int]], state: _Tally
    ) -> Iterator[SaliencyStep]:
        """One batch of (draw, slice) pairs; the tally is changed only when it is complete."""
        x = question.images[[n for _, n in part]]
        noise = torch.zeros_like(x)
        if self.random:
            numbers = [(d, question.numbers[n]) for d, n in part]
            noise = torch.cat([Noise(seed, (d,)).draw(n, x.shape[1:], x.device) for d, n in numbers])
        units = self.units(models)
        passes, seconds = 0, 0.0
        begin = time.perf_counter()
        for k, partial in enumerate(self.partials(models, x, noise, question), start=1):
            maps = partial.map.detach().float().cpu()
            passes += partial.passes * len(part)
            seconds += time.perf_counter() - begin
            step = state.step(part, maps, k * len(part), passes, seconds, finished=k == units)
            if k == units:
                state.add(part, step)
            yield step
            begin = time.perf_counter()

    def refuse(self, models: Models, draws: int = 1, batch: int = 1) -> None:
        """Raise ``PlanError`` unless the method can work with these models."""
        for need in self.needs:
            if getattr(models, need) is None:
                raise PlanError(f"This saliency method needs {WORDS[need]}; give one, or choose another method.")
        if draws < 1 or batch < 1:
            raise PlanError(f"At least 1 draw and 1 image at a time are needed, not {draws} and {batch}.")


SALIENCY: Registry[type[SaliencyMethod]] = Registry("saliency method")


class _Tally:
    """Means over finished draws. Nothing is changed in place, so kept steps stay valid."""

    def __init__(self, question: Question, draws: int, total: int) -> None:
        n, _, h, w = question.images.shape
        self.mean = self.first = torch.zeros(n, h, w)
        self.count = [0] * n
        self.draws, self.total = draws, total
        self.done, self.passes, self.seconds = 0, 0, 0.0
        self.note = ""

    def step(
        self, part: Sequence[tuple[int, int]], maps: Tensor, done: int, passes: int, seconds: float, finished: bool
    ) -> SaliencyStep:
        """The record of the finished batches and of one under way, or just finished."""
        mean, first = self.mean.clone(), self.first
        for n in {n for _, n in part}:
            # Half a draw would only dilute whole ones.
            if finished or self.count[n] == 0:
                rows = [k for k, (_, m) in enumerate(part) if m == n]
                mean[n] = (self.count[n] * mean[n] + maps[rows].sum(dim=0)) / (self.count[n] + len(rows))
        rows = [k for k, (d, _) in enumerate(part) if d == 0]
        if rows:
            first = first.index_copy(0, torch.tensor([part[k][1] for k in rows]), maps[rows])
        done += self.done
        draws = (done if finished else self.done) * self.draws // self.total
        passes, seconds = self.passes + passes, self.seconds + seconds
        return SaliencyStep(done, self.total, mean, first, draws, passes, seconds, self.note)

    def add(self, part: Sequence[tuple[int, int]], step: SaliencyStep) -> None:
        """Count a finished batch, whose last record is ``step``."""
        for _, n in part:
            self.count[n] += 1
        self.mean, self.first = step.map, step.first
        self.done, self.passes, self.seconds = step.done, step.passes, step.seconds


def _too_large(question: Question) -> DeviceError:
    side = "×".join(str(n) for n in question.images.shape[2:])
    return DeviceError(
        f"Memory ran out with one slice of {side} pixels; close other programs or choose a smaller region."
    )
