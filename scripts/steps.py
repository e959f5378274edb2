"""GED and Dice against the number of denoising steps, as a table and a plot.

    python scripts/steps.py --data FOLDER --split SPLIT.json --limit 40 -o OUT \\
        "x, b = 0.1=MODEL.safetensors" "eps, b = 0.1=OTHER.safetensors"

Models are given as TITLE=MODEL, a shipped name or a file. Results are kept in OUT.json, and only what is missing
there is measured; OUT.png is drawn with matplotlib.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from diffseg.checkpoint import load_checkpoint
from diffseg.evaluate import case_names, evaluate, summary
from diffseg.zoo import find_model

STEPS = (2, 3, 5, 10, 20, 50, 100)
FIGURES = {"ged": "GED(16), papers' estimator (less is better)", "mean_dice": "mean Dice of all pairs (more is better)"}


def measured(model: str, steps: int, options: argparse.Namespace) -> dict[str, float]:
    """The figures of one model with so many steps."""
    checkpoint = load_checkpoint(find_model(model))
    names = case_names(options.data, options.split, options.limit)
    choices = {"members": options.members, "steps": steps, "device": options.device}
    sets = summary(list(evaluate(checkpoint, options.data, names, **choices)), checkpoint.card)["sets"]
    return {name: round(sets[name]["mean"], 4) for name in (*FIGURES, "empty_members")}


def collect(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Figures by title and number of steps, measuring what is missing."""
    store = options.out.with_suffix(".json")
    found: dict[str, dict[str, Any]] = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
    for steps in STEPS:
        for title, model in (text.rsplit("=", 1) for text in options.models):
            row = found.setdefault(title, {})
            if str(steps) not in row:
                row[str(steps)] = measured(model, steps, options)
                store.write_text(json.dumps(found, indent=1), encoding="utf-8")
                print(f"{title}, {steps} steps: {row[str(steps)]}", flush=True)
    return found


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """The plot, one panel per figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(FIGURES), figsize=(9, 3.6), constrained_layout=True)
    for panel, (name, words) in zip(panels, FIGURES.items(), strict=True):
        for title, row in found.items():
            panel.plot([int(s) for s in row], [v[name] for v in row.values()], marker="o", label=title)
        panel.set_xscale("log")
        panel.set_xticks(STEPS, [str(s) for s in STEPS])
        panel.set_xticks([], minor=True)
        panel.set_xlabel("denoising steps")
        panel.set_title(words, fontsize=10)
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="GED and Dice against the number of denoising steps")
    parser.add_argument("models", nargs="+", metavar="TITLE=MODEL")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=40)
    parser.add_argument("--members", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    draw(collect(options), options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
