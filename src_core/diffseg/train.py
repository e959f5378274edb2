"""Training as an iterator: every update is a record, and a killed run goes on where it was saved.

Update k draws its cases, its augmentation, its times and its noise from generators seeded by (seed, k), so
an interrupted and resumed run does the same work as one that was not interrupted.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from diffseg.checkpoint import build_network, save_checkpoint
from diffseg.data import Augmenter, load_examples, picked
from diffseg.errors import PlanError
from diffseg.io.atomic import atomic_file
from diffseg.nets.blocks import channels_last
from diffseg.objectives import OBJECTIVES, Batch
from diffseg.splits import read_names
from diffseg.train_plan import FitPlan, TrainPlan


@dataclass(frozen=True)
class TrainStep:
    """One update. ``losses`` by name; ``validation`` when it was measured: Dice by class name, or what the task has."""

    done: int
    total: int
    losses: dict[str, float]
    rate: float
    seconds: float
    seconds_left: float
    validation: dict[str, float] = field(default_factory=dict)


def rate_at(plan: FitPlan, update: int) -> float:
    """Learning rate of an update (from 0): linear warm-up, then half a cosine down to ``rate_end``."""
    if update < plan.warmup:
        return plan.rate * (update + 1) / plan.warmup
    u = (update - plan.warmup) / max(1, plan.updates - plan.warmup)
    return plan.rate_end + (plan.rate - plan.rate_end) * (1 + math.cos(math.pi * min(u, 1))) / 2


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part."""
    text = "/".join(str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def refuse_patch(plan: TrainPlan, stride: int) -> None:
    """Raise ``PlanError`` for a patch with other axes than the model, or sides that its network cannot halve."""
    patch, spatial = plan.fit.patch, plan.model.spatial
    if len(patch) != spatial or any(side < 1 or side % stride for side in patch):
        raise PlanError(
            f"fit.patch is {patch}, but the model takes {spatial}D patches with sides that are multiples of {stride}; "
            "correct it."
        )


class Trainer:
    """Network, its running average, optimiser and data of one run; see ``fit``."""

    def __init__(self, plan: TrainPlan, device: torch.device) -> None:
        if device.type == "cuda":
            # Half the memory and about twice the speed there; on CPUs bfloat16 was measured to be slower.
            plan = replace(plan, fit=replace(plan.fit, autocast=True))
        self.plan, self.device = plan, device
        self.objective = OBJECTIVES[plan.model.task](plan)
        split = read_names(plan.data.split)
        self.train = load_examples(plan.data.folder, split["train"], plan.model)
        if not self.train:
            raise PlanError(f"{plan.data.split} names no case to train on; add some.")
        names = split["validation"][: plan.fit.validate_cases]
        self.validation = load_examples(plan.data.folder, names, plan.model)
        self.augmenter = Augmenter(plan.augment, plan.fit.patch)
        self.memory_format = channels_last(plan.model.spatial)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(plan.fit.seed, "weights"))
            self.network = build_network(plan.model).to(device)
        refuse_patch(plan, getattr(self.network, "stride", 1))
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=plan.fit.rate, weight_decay=plan.fit.weight_decay
        )
        self.done = 0

    def update(self) -> dict[str, float]:
        """One optimiser update; returns the losses."""
        fit, k = self.plan.fit, self.done
        batch = self.batch(k)
        generator = torch.Generator().manual_seed(seed_of(fit.seed, k, "noise"))
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(fit, k)
        self.network.train()
        losses = self.objective(self.network, batch, generator)
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), fit.clip_norm)
        self.optimizer.step()
        self.done += 1
        # Early on a long average would remember the random start.
        decay = min(fit.ema, (1 + self.done) / (10 + self.done))
        torch._foreach_lerp_(
            list(self.average.parameters()), [p.detach() for p in self.network.parameters()], 1 - decay
        )
        return {name: float(value.detach()) for name, value in losses.items()}

    def batch(self, update: int) -> Batch:
        """What update ``update`` (from 0) learns from: cases, drawn raters of each, and their augmentation."""
        fit = self.plan.fit
        picks = picked(self.train, fit.batch, seed_of(fit.seed, update, "cases"), fit.draws)
        image, labels = self.augmenter.draw(picks, seed_of(fit.seed, update, "augment"))
        kinds = [p.example.kind_of(cut.numpy()) for p, cut in zip(picks, labels, strict=True)]
        return Batch(image, labels.flatten(0, 1), torch.tensor(kinds)).to(self.device, self.memory_format)

    def validate(self) -> dict[str, float]:
        """What the objective measures of the averaged network on the first validation cases."""
        return self.objective.score(self.average, self.validation, self.device)

    def save(self) -> None:
        """Write ``state.pt`` and the model file, each in one step."""
        out = self.plan.out
        out.mkdir(parents=True, exist_ok=True)
        state = {
            "done": self.done,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_file(out / "state.pt") as temporary:
            torch.save(state, temporary)
        save_checkpoint(out / f"{self.plan.model.name}.safetensors", self.plan.model, self.average)

    def resume(self) -> None:
        """Take up the run saved in ``out``; raises ``PlanError`` where there is none."""
        path = self.plan.out / "state.pt"
        if not path.is_file():
            raise PlanError(f"There is no saved run at {path}; start without --resume.")
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = state["done"]


def fit(plan: TrainPlan, device: torch.device, resume: bool = False) -> Iterator[TrainStep]:
    """Train as planned, yielding every update; state, model and ``log.csv`` are written along the way.

    Raises:
        PlanError, CaseError: before the first update, for unusable settings or data.
    """
    trainer = Trainer(plan, device)
    if resume:
        trainer.resume()
    else:
        (plan.out / "log.csv").unlink(missing_ok=True)
    began, first = time.monotonic(), trainer.done
    while trainer.done < plan.fit.updates:
        losses = trainer.update()
        done = trainer.done
        last = done == plan.fit.updates
        validation = trainer.validate() if trainer.validation and (last or done % plan.fit.validate_every == 0) else {}
        if last or done % plan.fit.save_every == 0:
            trainer.save()
        seconds = time.monotonic() - began
        left = seconds / (done - first) * (plan.fit.updates - done)
        step = TrainStep(done, plan.fit.updates, losses, rate_at(plan.fit, done - 1), seconds, left, validation)
        log(plan.out, step)
        yield step


def log(out: Path, step: TrainStep) -> None:
    """Append the step to ``log.csv``."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "log.csv"
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["update", "seconds", "rate", *step.losses, "validation"])
        validation = " ".join(f"{name}={value:.4f}" for name, value in step.validation.items())
        writer.writerow(
            [
                step.done,
                f"{step.seconds:.1f}",
                f"{step.rate:.3g}",
                *(f"{v:.5f}" for v in step.losses.values()),
                validation,
            ]
        )
