"""``diffseg evaluate``: the quality of a model on a folder of labelled cases.

Mask models: Dice and HD95 by class, and with several masks or raters GED, matched IoU, Collective Insight and how often
masks are empty. Image models: every saliency method against the masks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from diffseg.errors import PlanError
from diffseg.zoo import find_model

if TYPE_CHECKING:
    from diffseg.checkpoint import Checkpoint

HELP = "print the quality of a model on labelled cases: Dice, HD95, GED, or that of saliency maps"


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options."""
    sub.add_argument("-m", "--model", required=True, help="a shipped model's name or a .safetensors file")
    sub.add_argument("--data", required=True, type=Path, metavar="FOLDER", help="folder of labelled cases")
    sub.add_argument("--split", type=Path, help="JSON file with the names to use in its list 'validation'")
    sub.add_argument("--limit", type=int, metavar="N", help="only N cases, spread evenly")
    sub.add_argument("-n", "--members", type=int, default=1, help="masks per case; their majority is scored too")
    sub.add_argument("--steps", type=int, help="denoising steps (default: the model's)")
    sub.add_argument("--sampler", help="ddim or ddpm (default: the model's)")
    sub.add_argument("--method", action="append", help="saliency method of an image model (default: all); repeatable")
    sub.add_argument("--classifier", help="classifier of an image model (default: MODEL-classifier.safetensors)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--device", default="auto")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(options: argparse.Namespace) -> None:
    """Evaluate and print."""
    from diffseg.checkpoint import load_checkpoint  # torch, only now
    from diffseg.evaluate import case_names
    from diffseg.outputs import plain

    checkpoint = load_checkpoint(find_model(options.model))
    names = case_names(options.data, options.split, options.limit)
    judge = masks if checkpoint.card.task == "mask" else maps
    result, text = judge(checkpoint, names, options)
    print(json.dumps(plain(result), indent=2) if options.json else text)


def masks(checkpoint: Checkpoint, names: list[str], options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The summary of a mask model and its table."""
    from diffseg.evaluate import evaluate, summary, table

    choices = {k: getattr(options, k) for k in ("members", "steps", "sampler", "seed", "device")}
    scores = list(watched(evaluate(checkpoint, options.data, names, **choices), len(names), "case"))
    result = summary(scores, checkpoint.card)
    return result, table(result)


def maps(checkpoint: Checkpoint, names: list[str], options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The summary of the saliency maps of an image model, or of a classifier alone, and its table."""
    from diffseg.evaluate_saliency import METHODS, evaluate_saliency, summary, table
    from diffseg.saliency import SALIENCY

    alone = checkpoint.card.task == "classifier"
    methods = options.method or [m for m in METHODS if not alone or SALIENCY[m].needs == ("classifier",)]
    guided = [m for m in methods if "classifier" in SALIENCY[m].needs]
    classifier = classifier_of(checkpoint, guided[0], options) if guided and not alone else None
    found = evaluate_saliency(
        checkpoint, classifier, options.data, names, methods, seed=options.seed, device=options.device
    )
    result = summary(list(watched(found, None, "slice")), checkpoint.card)
    return result, table(result)


def classifier_of(checkpoint: Checkpoint, method: str, options: argparse.Namespace) -> Checkpoint:
    """The classifier asked for, else the one beside the model; raises ``PlanError`` where there is none."""
    from diffseg.checkpoint import load_checkpoint

    if options.classifier is not None:
        return load_checkpoint(find_model(options.classifier))
    path = checkpoint.path.with_name(f"{checkpoint.path.stem}-classifier{checkpoint.path.suffix}")
    if not path.is_file():
        raise PlanError(
            f"The method {method} needs a classifier, and there is no {path.name} beside the model; give one with "
            "--classifier, or choose --method cdm."
        )
    return load_checkpoint(path)


def watched(scores: Iterator[Any], total: int | None, unit: str) -> Iterator[Any]:
    """The scores, with a progress bar and the time left where somebody watches."""
    return iter(tqdm(scores, total=total, unit=unit, disable=None, leave=False))
