"""An explanation: a plan brought to life on one case, as an iterator of frozen records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseg.case import Case
from diffseg.checkpoint import Checkpoint, image_input
from diffseg.devices import choose_device, release_memory
from diffseg.errors import CaseError, CheckpointError, DeviceError, PlanError
from diffseg.fallback import memory_told
from diffseg.guidance import NetworkImageDenoiser, time_table
from diffseg.noise import Level, NoiseSchedule, TableSchedule
from diffseg.preprocess import Prepared, prepare
from diffseg.records import from_dict
from diffseg.saliency.method import SALIENCY, WORDS, Models, Question, SaliencyMethod, SaliencyStep
from diffseg.saliency.otsu import THRESHOLDS, cut_map
from diffseg.saliency_plan import ExplainPlan

# Images looked at together. A CPU gains little from batches, and smaller ones answer sooner.
BATCH = {"cuda": 16}
CPU_BATCH = 4
# Time steps of a schedule that is not a table; Q and the other steps are counted in these.
STEPS = 1000


@dataclass(frozen=True, eq=False)
class Explanation:
    """The result on the region of the case: ``map`` float32 and ``mask`` uint8, ``(*roi)``.

    ``thresholds (Z,)`` are those of the slices (one in 2D).
    """

    map: NDArray[np.float32]
    mask: NDArray[np.uint8]
    thresholds: NDArray[np.float64]


class SaliencyRun:
    """One plan on one case. Iterators may be closed at any step; nothing of torch's state stays open.

    A volume is a stack of slices along z, each explained by itself.
    """

    def __init__(
        self, plan: ExplainPlan, case: Case, checkpoint: Checkpoint, classifier: Checkpoint | None = None
    ) -> None:
        """Prepare the slices and the method. ``classifier`` is the second model of guided methods.

        Raises:
            PlanError, CaseError, CheckpointError, DeviceError: one sentence on what does not fit.
        """
        refuse_other_file(plan.model, plan.model_sha256, checkpoint)
        if classifier is not None and plan.classifier_sha256 is not None:
            refuse_other_file(str(plan.classifier), plan.classifier_sha256, classifier)
        refuse_other_channels(case, checkpoint)
        self.plan, self.case, self.checkpoint, self.classifier = plan, case, checkpoint, classifier
        self.method = method_of(plan.method, plan.settings)
        THRESHOLDS[plan.threshold]  # an unknown one is told before anything is computed
        self.models = models_of(self.method, checkpoint, classifier)
        self.method.refuse(self.models)
        self.prepared: Prepared = prepare(case, checkpoint.card.rule, plan.box, checkpoint.card.spatial)
        self.device = choose_device(plan.device)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Places of the slices in the scan along z, whatever the region; 0 for a 2D image."""
        if self.case.ndim == 2:
            return (0,)
        first = round(self.prepared.offset[0])
        return tuple(range(first, first + self.prepared.image.shape[1]))

    def question(self) -> Question:
        """The slices on the device, and what is asked about them."""
        image = torch.as_tensor(self.prepared.image)
        stack = image[None] if self.case.ndim == 2 else image.movedim(1, 0)
        stack = image_input(self.checkpoint.card, stack).to(self.device)
        return Question(stack, self.numbers, self.plan.target, self.plan.background)

    def explain(self) -> Iterator[SaliencyStep]:
        """Maps on the model's grid, ever better.

        When memory runs out batches are halved, then the CPU takes over from the start; ``note`` says so.

        Raises:
            DeviceError: even one slice does not fit.
        """
        try:
            yield from self._explain()
        except DeviceError:
            if self.device.type == "cpu":
                raise
        else:
            return
        before, self.device = self.device, torch.device("cpu")
        release_memory()
        note = f"The memory of {before.type.upper()} is too small for one slice; starting again on the CPU."
        for step in self._explain():
            yield replace(step, note=step.note or note)
            note = ""

    def _explain(self) -> Iterator[SaliencyStep]:
        with memory_told(self.prepared.image.shape[1:]):
            for checkpoint in (self.checkpoint, self.classifier):
                if checkpoint is not None:
                    checkpoint.network.to(self.device)
            batch = BATCH.get(self.device.type, CPU_BATCH)
            yield from self.method.explain(self.models, self.question(), self.plan.seed, self.plan.draws, batch)

    @property
    def record(self) -> ExplainPlan:
        """The plan, with the device on which it was carried out."""
        return replace(self.plan, ran=str(self.device))

    def on_scan(self, maps: Tensor) -> NDArray[np.float32]:
        """Maps ``(N, H, W)`` of all slices on the model's grid, as a field ``(*roi)`` of the case."""
        values = maps.numpy()
        return self.prepared.restore(values if self.case.ndim == 2 else values[None])[0]

    def explanation(self, step: SaliencyStep) -> Explanation:
        """Map and mask on the scan's own grid, from a step that need not be the last.

        The threshold is taken after the way back, so that the mask is exactly the voxels of the map above it.
        """
        with memory_told(self.prepared.image.shape[1:]):
            mean, first = (self.on_scan(m) for m in (step.map, step.first))
            cut = cut_map(mean, first, self.plan.threshold, largest=self.plan.component == "largest")
            return Explanation(mean, cut.mask.astype(np.uint8), cut.thresholds)


def method_of(name: str, settings: dict[str, Any]) -> SaliencyMethod:
    """The method called ``name`` with these knobs, the others at their defaults.

    Raises:
        PlanError: an unknown method or knob, or a value that it refuses.
    """
    kind = SALIENCY[name]
    known = [f.name for f in fields(kind)]
    for key in settings:
        if key not in known:
            raise PlanError(f"The method {name} has no setting {key!r}; it has: {', '.join(known)}.")
    return from_dict(kind, settings, f"The method {name}", PlanError)


def models_of(method: SaliencyMethod, checkpoint: Checkpoint, classifier: Checkpoint | None) -> Models:
    """The models that a method may ask, from one or two checkpoints.

    ``checkpoint`` may itself be a classifier, which is all that activation maps need.

    Raises:
        PlanError: a model that draws masks, or two models that do not see the same image.
        CheckpointError: a network whose output is no noise of an image.
    """
    for each in filter(None, (checkpoint, classifier)):
        if each.card.task == "mask":
            needed = " and ".join(WORDS[need] for need in method.needs)
            raise PlanError(f"{each.card.name} draws masks, but a saliency map needs {needed}; choose another model.")
        if each.card.spatial != 2:
            raise PlanError(f"{each.card.name} takes volumes, but saliency needs a slice model; choose another model.")
    if classifier is not None:
        refuse_pair(checkpoint, classifier)
    named = classifier or checkpoint
    guide = named.network if named.card.task == "classifier" else None
    return Models(times_of(checkpoint.schedule), denoiser_of(checkpoint), guide)


def denoiser_of(checkpoint: Checkpoint) -> NetworkImageDenoiser | None:
    """The image model of a checkpoint; None for a classifier."""
    if checkpoint.card.task != "image":
        return None
    labels = int(checkpoint.card.network.get("labels", 0))
    return NetworkImageDenoiser(checkpoint.network, labels, checkpoint.head, checkpoint.codec)


def times_of(schedule: NoiseSchedule) -> tuple[Level, ...]:
    """The level of every time step: those of a table, respaced or not, or 1000 of a continuous schedule."""
    if isinstance(schedule, TableSchedule):
        schedule = replace(schedule, respacing="")
    return time_table(schedule, int(getattr(schedule, "count", STEPS)))


def refuse_pair(checkpoint: Checkpoint, classifier: Checkpoint) -> None:
    """Raise ``PlanError`` unless the second model is a classifier of the images that the first one draws."""
    if classifier.card.task != "classifier":
        raise PlanError(f"{classifier.card.name} is no classifier of noised images; give another --classifier.")
    if len(classifier.card.channels) * classifier.card.image.repeat != checkpoint.codec.channels:
        raise PlanError(
            f"The classifier {classifier.card.name} sees {len(classifier.card.channels)} channel(s), but "
            f"{checkpoint.card.name} draws images of {checkpoint.codec.channels}; give a classifier of the same images."
        )


def refuse_other_channels(case: Case, checkpoint: Checkpoint) -> None:
    """Raise ``CaseError`` unless the case has the channels of the model."""
    card = checkpoint.card
    if len(case.image) != len(card.channels):
        raise CaseError(
            f"{card.name} expects {len(card.channels)} channel(s) ({', '.join(card.channels)}), but the case has "
            f"{len(case.image)} ({', '.join(case.channels)}); give one image per channel, in that order."
        )


def refuse_other_file(name: str, sha256: str, checkpoint: Checkpoint) -> None:
    """Raise ``CheckpointError`` unless the checkpoint is the file that the plan names."""
    if sha256 != checkpoint.sha256:
        raise CheckpointError(
            f"The plan was made with another file of {name} (SHA-256 {sha256[:12]}…, this one "
            f"{checkpoint.sha256[:12]}…); give the checkpoint that it names."
        )
