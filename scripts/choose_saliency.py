"""Choose the settings of saliency methods on development slices: painted lesions, whose masks are known.

    python scripts/choose_saliency.py MODEL CLASSIFIER FOLDER METHOD [KEY=A,B,...]... [--draws=N] [--cases=N] [--csv=F]

FOLDER has images/, labels/ and split.json with the development slices on its list "validation". Every combination of
the values is tried; the table is sorted by mean Dice over slices with a lesion, with Otsu's threshold per slice.
"""

from __future__ import annotations

import csv
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffseg.checkpoint import Checkpoint, image_input, load_checkpoint
from diffseg.io import read_case
from diffseg.layouts import find_layout
from diffseg.metrics.overlap import dice
from diffseg.preprocess import prepare
from diffseg.saliency.method import Question
from diffseg.saliency.otsu import cut_slices
from diffseg.saliency.run import method_of, models_of


def development(folder: Path, model: Checkpoint, most: int) -> tuple[Question, NDArray[np.bool_]]:
    """The first ``most`` development slices that have a lesion, as a question, and their masks ``(N, H, W)``."""
    layout, images, masks = find_layout(folder), [], []
    for name in json.loads((folder / "split.json").read_text(encoding="utf-8"))["validation"]:
        case = read_case(layout.images(name, model.card.channels), layout.raters(name), model.card.channels)
        mask = next(iter(case.raters.values())) > 0
        if mask.any() and len(images) < most:
            images.append(image_input(model.card, torch.as_tensor(prepare(case, model.card.rule, None).image)[None])[0])
            masks.append(mask)
    return Question(torch.stack(images), tuple(range(len(images)))), np.stack(masks)


def parsed(arguments: list[str]) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Values to try by knob, and the options."""
    grid: dict[str, list[Any]] = {}
    for text in (a for a in arguments if not a.startswith("--")):
        key, _, values = text.partition("=")
        grid[key] = [value_of(v) for v in values.split(",")]
    return grid, dict(a.removeprefix("--").split("=", 1) for a in arguments if a.startswith("--"))


def value_of(text: str) -> Any:
    """A number or a truth value where the text is one, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> None:
    """See the module."""
    model, classifier = (load_checkpoint(Path(p)) for p in sys.argv[1:3])
    grid, options = parsed(sys.argv[5:])
    asked, masks = development(Path(sys.argv[3]), model, int(options.get("cases", 60)))
    rows: list[dict[str, Any]] = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        method = method_of(sys.argv[4], settings)
        *_, last = method.explain(models_of(method, model, classifier), asked, 0, int(options.get("draws", 1)), 10)
        found = cut_slices(last.map.numpy()).mask
        scores = [dice(f, m) for f, m in zip(found, masks, strict=True)]
        total = 2 * (found & masks).sum() / (found.sum() + masks.sum())
        row = {"dice": round(float(np.mean(scores)), 4), "dice_all": round(float(total), 4)}
        rows.append({"method": sys.argv[4], "draws": options.get("draws", 1), **settings, **row})
        rows[-1]["seconds"] = round(last.seconds / len(masks), 3)
        print(rows[-1], flush=True)
    rows.sort(key=lambda r: -r["dice"])
    if "csv" in options:
        with Path(options["csv"]).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    print("best:", rows[0])


if __name__ == "__main__":
    main()
