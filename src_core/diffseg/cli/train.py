"""``diffseg train CONFIG.toml``: train a model; a run that was stopped goes on with ``--resume``.

The file needs ``out``, ``data.folder`` and ``model.name``; see ``diffseg.recipe`` for what the rest becomes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from diffseg.splits import read_names
from diffseg.train_plan import TrainPlan

HELP = "train a model as a TOML file says"
SECONDS_BETWEEN_LINES = 10.0


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options."""
    sub.add_argument("config", type=Path, metavar="CONFIG.toml")
    sub.add_argument("--resume", action="store_true", help="go on from the last saved state")
    sub.add_argument("--device", default="auto", help="auto, cuda, mps or cpu (default auto)")


def run(options: argparse.Namespace) -> None:
    """Train, printing a line now and then."""
    from diffseg.devices import choose_device  # torch, only now
    from diffseg.recipe import prepare_plan
    from diffseg.train import fit

    print("Reading the cases …", flush=True)
    plan = prepare_plan(options.config, options.resume)
    print(described(plan), flush=True)
    last = 0.0
    for step in fit(plan, choose_device(options.device), options.resume):
        if step.validation or step.done == step.total or time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            losses = ", ".join(f"{name} {value:.3f}" for name, value in step.losses.items())
            checked = "".join(f"; validation {name} {value:.3f}" for name, value in step.validation.items())
            print(f"update {step.done}/{step.total}: {losses}{checked}; {duration(step.seconds_left)} left", flush=True)
    print(f"Model written to {plan.out / (plan.model.name + '.safetensors')}")


def duration(seconds: float) -> str:
    """A time to wait, in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def described(plan: TrainPlan) -> str:
    """What is going to be trained, on one line."""
    train, validation = (len(names) for names in read_names(plan.data.split).values())
    classes = ", ".join(c.name for c in plan.model.classes) or "no classes"
    patch = "×".join(str(side) for side in plan.fit.patch)
    return (
        f"{plan.model.name}: {plan.model.spatial}D, {classes}; {train} cases to train on, {validation} to validate "
        f"with; {plan.fit.updates} updates of {plan.fit.batch} patches of {patch}"
    )
