"""``diffseg evaluate``: per-class Dice and HD95 of a model on a folder of labelled cases."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from diffseg.zoo import find_model

HELP = "print per-class Dice and HD95 of a model on labelled cases"


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options."""
    sub.add_argument("-m", "--model", required=True, help="a shipped model's name or a .safetensors file")
    sub.add_argument("--data", required=True, type=Path, metavar="FOLDER", help="folder with images/ and labels/")
    sub.add_argument("--split", type=Path, help="JSON file with the names to use in its list 'validation'")
    sub.add_argument("-n", "--members", type=int, default=1, help="masks per case; their majority is scored too")
    sub.add_argument("--steps", type=int, help="denoising steps (default: the model's)")
    sub.add_argument("--sampler", help="ddim or ddpm (default: the model's)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--device", default="auto")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(options: argparse.Namespace) -> None:
    """Evaluate and print."""
    from diffseg.checkpoint import load_checkpoint  # torch, only now
    from diffseg.evaluate import case_names, evaluate, summary, table
    from diffseg.outputs import plain

    checkpoint = load_checkpoint(find_model(options.model))
    names = case_names(options.data, options.split)
    choices = {k: getattr(options, k) for k in ("members", "steps", "sampler", "seed", "device")}
    scores = []
    with tqdm(total=len(names), unit="case", disable=None, leave=False) as bar:
        for score in evaluate(checkpoint, options.data, names, **choices):
            scores.append(score)
            bar.update()
    result = summary(scores, checkpoint.card)
    print(json.dumps(plain(result), indent=2) if options.json else table(result))
