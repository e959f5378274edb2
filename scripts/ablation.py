"""Ablations at one small budget: trains the variants of a recipe, measures each, and prints one table.

    python scripts/ablation.py configs/ablations/NAME.toml              train and measure what is missing, print
    python scripts/ablation.py configs/ablations/NAME.toml --only 2     one variant, counted from 1
    python scripts/ablation.py configs/ablations/NAME.toml --table      print only

A variant is the configuration ``base`` with the tables ``common`` and its own laid over it; a table ``network``
replaces the whole network. A run that was stopped goes on where it was saved. The time is that of the processor, so
that runs beside others compare.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from diffseg.devices import choose_device
from diffseg.train import fit
from diffseg.train_plan import TrainPlan, plan_of, read_toml

# Figures of ``diffseg evaluate --json`` by their path in it, and their headings.
HEADINGS = {
    "dice": "Dice",
    "hd95_mm": "HD95 (mm)",
    "sets.ged": "GED, papers' estimator",
    "sets.ged_unbiased": "GED, self-pairs left out",
    "sets.mean_dice": "mean Dice of all pairs",
    "sets.empty_members": "empty masks (%)",
    "sets.empty_raters": "of the raters (%)",
}


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``below`` with the values of ``above`` laid over it, table by table."""
    both = dict(below)
    for name, value in above.items():
        inner = None if name == "network" else below.get(name)
        both[name] = merged(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return both


class Study:
    """The variants of one table file."""

    def __init__(self, path: Path) -> None:
        self.settings = read_toml(path)
        self.home = path.resolve().parent
        self.base_path = (self.home / self.settings["base"]).resolve()
        self.base = read_toml(self.base_path)
        self.out = (self.home / self.settings["out"]).resolve()
        self.variants: list[dict[str, Any]] = self.settings["variant"]

    def folder(self, number: int) -> Path:
        """Where variant ``number`` (from 1) lies."""
        return self.out / f"{number:02d}"

    def plan(self, number: int) -> TrainPlan:
        """The training plan of a variant."""
        variant = {k: v for k, v in self.variants[number - 1].items() if k != "name"}
        values = merged(merged(self.base, self.settings.get("common", {})), variant)
        values["out"] = str(self.folder(number))
        return plan_of(values, self.variants[number - 1]["name"], self.base_path.parent)

    def run(self, number: int, device: str) -> None:
        """Train and measure one variant, unless its result is there."""
        result = self.folder(number) / "result.json"
        if result.exists():
            return
        plan = self.plan(number)
        seconds = self.train(plan, device)
        measured = self.measure(plan, device)
        cost = {"name": self.variants[number - 1]["name"], "updates": plan.fit.updates, "train_cpu_s": seconds}
        result.write_text(json.dumps(cost | {"measured": measured}, indent=1), encoding="utf-8")

    def train(self, plan: TrainPlan, device: str) -> float:
        """Processor seconds of training, those before an interruption included."""
        clock = plan.out / "cpu_s.txt"
        before = float(clock.read_text()) if clock.exists() else 0.0
        began = time.process_time()
        for step in fit(plan, choose_device(device), resume=(plan.out / "state.pt").is_file()):
            if step.done % plan.fit.save_every == 0 or step.done == step.total:
                clock.write_text(str(before + time.process_time() - began))
                print(f"{plan.out.name}: {step.done}/{step.total}, {step.losses['total']:.4f}", flush=True)
        return before + time.process_time() - began

    def measure(self, plan: TrainPlan, device: str) -> dict[str, Any]:
        """What ``diffseg evaluate`` says of the trained model on the validation cases."""
        model = plan.out / f"{plan.model.name}.safetensors"
        command = [sys.executable, "-m", "diffseg", "evaluate", "-m", str(model), "--data", str(plan.data.folder)]
        command += ["--split", str(plan.data.split), "--device", device, "--json", *self.settings["evaluate"]]
        told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return told

    def table(self) -> str:
        """The results as a Markdown table."""
        columns = self.settings["columns"]
        lines = [f"| variant | updates | CPU min | {' | '.join(HEADINGS[c] for c in columns)} |"]
        lines.append("|---" * (3 + len(columns)) + "|")
        for number, variant in enumerate(self.variants, 1):
            path = self.folder(number) / "result.json"
            if not path.exists():
                lines.append(f"| {variant['name']} | not run |{' |' * (1 + len(columns))}")
                continue
            row = json.loads(path.read_text(encoding="utf-8"))
            cells = [figure(row["measured"], column) for column in columns]
            lines.append(f"| {row['name']} | {row['updates']} | {row['train_cpu_s'] / 60:.0f} | {' | '.join(cells)} |")
        return "\n".join(lines)


def figure(measured: dict[str, Any], column: str) -> str:
    """One figure of an evaluation, the mean over cases."""
    value: Any = measured
    for part in column.split("."):
        value = value[part]
    number = value["mean"] if isinstance(value, dict) else value
    return f"{number:.1f}" if "(%)" in HEADINGS[column] else f"{number:.3f}"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("table", type=Path)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of variants, from 1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--table", action="store_true", dest="print_only", help="print what there is")
    options = parser.parse_args()
    study = Study(options.table)
    for number in [] if options.print_only else options.only or range(1, len(study.variants) + 1):
        study.run(number, options.device)
    print(study.table())


if __name__ == "__main__":
    main()
