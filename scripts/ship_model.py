"""Put a trained model into sample_data/models: half-precision weights, and its measured quality on its card.

    python scripts/ship_model.py configs/NAME.toml
    diffseg evaluate -m NAME --data FOLDER --split SPLIT.json --json > evaluation.json
    python scripts/ship_model.py configs/NAME.toml evaluation.json

The evaluation is thus of the very weights that ship, rounding included.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from diffseg.checkpoint import load_checkpoint, save_checkpoint
from diffseg.train_plan import read_train_plan


def quality_of(evaluation: Path) -> dict[str, float]:
    """Mean Dice and HD95 of each class and over all, from the output of ``diffseg evaluate --json``."""
    result = json.loads(evaluation.read_text(encoding="utf-8"))
    rows = {f"Dice {name}": row["dice"]["mean"] for name, row in result["classes"].items()}
    rows |= {f"HD95 {name} (mm)": row["hd95_mm"]["mean"] for name, row in result["classes"].items()}
    rows |= {"Dice": result["dice"], "HD95 (mm)": result["hd95_mm"], "cases": result["cases"]}
    return {name: round(value, 4) for name, value in rows.items()}


def main() -> None:
    """See the module."""
    plan = read_train_plan(Path(sys.argv[1]))
    trained = load_checkpoint(plan.out / f"{plan.model.name}.safetensors")
    quality = quality_of(Path(sys.argv[2])) if len(sys.argv) > 2 else {}
    card = replace(plan.model, quality=quality)
    out = Path(__file__).parent.parent / "sample_data" / "models" / f"{card.name}.safetensors"
    save_checkpoint(out, card, trained.network, torch.float16)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {quality or 'quality not measured yet'}")


if __name__ == "__main__":
    main()
