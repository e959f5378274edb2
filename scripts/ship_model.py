"""Put a trained model into sample_data/models: half-precision weights, and its measured quality on its card.

    python scripts/ship_model.py configs/NAME.toml
    diffseg evaluate -m NAME --data FOLDER --split SPLIT.json --json > evaluation.json
    python scripts/ship_model.py configs/NAME.toml evaluation.json

The evaluation is thus of the very weights that ship, rounding included. Several evaluations may be given; written as
WORDS=evaluation.json the words go before the names of its figures, for example "real CT=real.json".
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from diffseg.checkpoint import load_checkpoint, save_checkpoint
from diffseg.train_plan import read_train_plan

# Figures of sets of masks that a card names, and how; N is the number of masks.
SETS = {
    "ged": "GED({N})",
    "ged_unbiased": "GED({N}) without self-pairs",
    "mean_dice": "Dice of pairs",
    "matched_iou": "matched IoU",
    "empty_members": "empty masks (%)",
    "empty_raters": "empty masks of raters (%)",
}


def quality_of(result: dict[str, Any]) -> dict[str, float]:
    """The means in the output of ``diffseg evaluate --json``, for mask models and for image models."""
    if "methods" in result:
        rows = {f"Dice {method}": row["dice"]["mean"] for method, row in result["methods"].items()}
        rows |= {"slices with a lesion": result["with_lesion"]}
    else:
        rows = {f"Dice {name}": row["dice"]["mean"] for name, row in result["classes"].items()}
        rows |= {f"HD95 {name} (mm)": row["hd95_mm"]["mean"] for name, row in result["classes"].items()}
        if len(result["classes"]) > 1:
            rows |= {"Dice": result["dice"], "HD95 (mm)": result["hd95_mm"]}
        sets, n = result.get("sets", {}), result.get("members")
        rows |= {title.format(N=n): sets[name]["mean"] for name, title in SETS.items() if sets}
        rows |= {"cases": result["cases"]}
    return {name: round(value, 4) for name, value in rows.items() if value is not None}


def qualities(arguments: list[str]) -> dict[str, float]:
    """The figures of all evaluations, ``[WORDS=]FILE``."""
    found: dict[str, float] = {}
    for argument in arguments:
        words, _, path = argument.rpartition("=")
        figures = quality_of(json.loads(Path(path).read_text(encoding="utf-8")))
        found |= {f"{words}: {name}" if words else name: value for name, value in figures.items()}
    return found


def main() -> None:
    """See the module."""
    plan = read_train_plan(Path(sys.argv[1]))
    trained = load_checkpoint(plan.out / f"{plan.model.name}.safetensors")
    quality = qualities(sys.argv[2:])
    card = replace(plan.model, quality=quality)
    out = Path(__file__).parent.parent / "sample_data" / "models" / f"{card.name}.safetensors"
    save_checkpoint(out, card, trained.network, torch.float16)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {quality or 'quality not measured yet'}")


if __name__ == "__main__":
    main()
