"""Training as an iterator: every update is a record, and a killed run goes on where it was saved.

Update k draws its cases, its augmentation, its times and its noise from generators seeded by (seed, k), so
an interrupted and resumed run does the same work as one that was not interrupted.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diffseg.checkpoint import build_network, build_schedule, save_checkpoint
from diffseg.codec import MaskCodec
from diffseg.data import Augmenter, Example, load_example, read_names
from diffseg.denoise import HEADS, NetworkDenoiser
from diffseg.errors import PlanError
from diffseg.losses import cross_entropy, dice_loss
from diffseg.metrics.overlap import dice
from diffseg.nets.blocks import channels_last
from diffseg.noise import CLEAN
from diffseg.records import from_dict
from diffseg.sample import SAMPLERS, Noise
from diffseg.train_plan import FitPlan, TrainPlan


@dataclass(frozen=True)
class TrainStep:
    """One update. ``losses`` by name; ``validation`` (mean foreground Dice by class name) when it was measured."""

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


class Objective:
    """The loss of one update: noising, recycling, the network, and the weighted losses.

    References:
        Fu et al. 2023 (ImgX-DiffSeg): recycling from the next level; Fu et al. 2024 (MELBA): from the noisiest.
    """

    def __init__(self, plan: TrainPlan) -> None:
        card = plan.model
        self.fit = plan.fit
        self.codec = MaskCodec(len(card.classes))
        self.schedule = build_schedule(card)
        self.head = HEADS[card.prediction]()
        levels = [v for v in self.schedule.levels(plan.fit.diffusion_steps) if v is not CLEAN]
        self.times = np.array([v.t for v in reversed(levels)])

    def times_of(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Time of each sample and the noisier time that its recycled mask is predicted from."""
        pick = torch.randint(len(self.times), (batch,), generator=generator)
        t = torch.as_tensor(self.times)[pick]
        u = torch.rand(batch, generator=generator, dtype=torch.float64)
        anywhere = torch.rand(batch, generator=generator) < self.fit.uniform_fraction
        t = torch.where(anywhere, u, t)
        gap = float(np.diff(self.times).max())
        before = torch.ones_like(t) if self.fit.recycling == "max" else (t + gap).clamp(max=1)
        return t, before

    def noised(self, x0: Tensor, t: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``(x_t, eps, alpha, sigma)`` with fresh noise; amplitudes broadcast against ``x``."""
        alpha, sigma = (
            torch.as_tensor(a, dtype=torch.float32, device=x0.device).view(-1, *[1] * (x0.ndim - 1))
            for a in self.schedule.at(t.numpy())
        )
        eps = torch.randn(x0.shape, generator=generator).to(x0.device)
        return alpha * x0 + sigma * eps, eps, alpha, sigma

    def predict(self, net: nn.Module, x: Tensor, t: Tensor, image: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """``(x0hat, raw output)`` in float32."""
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.fit.autocast):
            out = net(x, t.float().to(x.device), image).float()
        return self.head.x0(out, x, alpha, sigma, self.codec), out

    def __call__(self, net: nn.Module, image: Tensor, labels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The weighted losses by name, and their sum as ``total``."""
        x0 = self.codec.encode(labels)
        t, before = self.times_of(len(labels), generator)
        start = x0
        if self.fit.recycling != "none":
            with torch.no_grad():
                x, _, alpha, sigma = self.noised(x0, before, generator)
                start, _ = self.predict(net, x, before, image, alpha, sigma)
        x, eps, alpha, sigma = self.noised(start, t, generator)
        x0hat, out = self.predict(net, x, t, image, alpha, sigma)
        p = self.codec.probabilities(x0hat)
        losses = {
            "dice": self.fit.dice * dice_loss(p, labels),
            "cross_entropy": self.fit.cross_entropy * cross_entropy(p, labels),
        }
        target = self.head.target(x0, (x - alpha * x0) / sigma, alpha, sigma)
        if target is not None:
            losses["mse"] = self.fit.mse * (out - target).square().mean()
        losses["total"] = torch.stack(list(losses.values())).sum()
        return losses


class Trainer:
    """Network, its running average, optimiser and data of one run; see ``fit``."""

    def __init__(self, plan: TrainPlan, device: torch.device) -> None:
        self.plan, self.device = plan, device
        split = read_names(plan.data.split)
        self.train = [load_example(plan.data.folder, n, plan.model) for n in split["train"]]
        names = split["validation"][: plan.fit.validate_cases]
        self.validation = [load_example(plan.data.folder, n, plan.model) for n in names]
        self.augmenter = Augmenter(plan.augment, plan.fit.patch)
        self.objective = Objective(plan)
        self.memory_format = channels_last(plan.model.spatial)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(plan.fit.seed, "weights"))
            self.network = build_network(plan.model).to(device)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=plan.fit.rate, weight_decay=plan.fit.weight_decay)
        self.done = 0

    def update(self) -> dict[str, float]:
        """One optimiser update; returns the losses."""
        fit, k = self.plan.fit, self.done
        chooser = np.random.default_rng(seed_of(fit.seed, k, "cases"))
        examples = [self.train[i] for i in chooser.choice(len(self.train), fit.batch, replace=len(self.train) < fit.batch)]
        image, labels = self.augmenter.draw(examples, seed_of(fit.seed, k, "augment"))
        image = image.to(self.device, memory_format=self.memory_format)
        generator = torch.Generator().manual_seed(seed_of(fit.seed, k, "noise"))
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(fit, k)
        self.network.train()
        losses = self.objective(self.network, image, labels.to(self.device), generator)
        self.optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), fit.clip_norm)
        self.optimizer.step()
        self.done += 1
        # Early on a long average would remember the random start.
        decay = min(fit.ema, (1 + self.done) / (10 + self.done))
        torch._foreach_lerp_(list(self.average.parameters()), [p.detach() for p in self.network.parameters()], 1 - decay)
        return {name: float(value.detach()) for name, value in losses.items()}

    def validate(self) -> dict[str, float]:
        """Mean Dice by class of the averaged network, one DDIM sample a case, on the first validation cases."""
        card = self.plan.model
        rows = [self._dice_of(e, k) for k, e in enumerate(self.validation)]
        names = [c.name for c in card.classes[1:]]
        return {name: float(np.nanmean([r[i] for r in rows])) for i, name in enumerate(names)}

    def _dice_of(self, example: Example, member: int) -> list[float]:
        card, codec = self.plan.model, self.objective.codec
        image = torch.as_tensor(example.image)[None].to(self.device, memory_format=self.memory_format)
        denoiser = NetworkDenoiser(self.average, image, self.objective.head, codec)
        sampler = from_dict(SAMPLERS[card.sampler], card.sampler_settings, "Sampler", PlanError)
        noise = Noise(self.plan.fit.seed, (member,))
        x = noise.draw(0, (codec.classes, *image.shape[2:]), self.device)
        for step in sampler.steps(denoiser, x, noise, self.objective.schedule.levels(card.steps)):
            x = step.x0
        got = codec.labels(x)[0].cpu().numpy()
        return [dice(got == k, example.labels == k) for k in range(1, codec.classes)]

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
        torch.save(state, out / "state.part")
        os.replace(out / "state.part", out / "state.pt")
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
        writer.writerow([step.done, f"{step.seconds:.1f}", f"{step.rate:.3g}", *(f"{v:.5f}" for v in step.losses.values()), validation])
