"""``diffseg models [PATH]``: the shipped checkpoints, or one that is given, with their cards."""

from __future__ import annotations

import argparse
from pathlib import Path

from diffseg.card import Card, read_card
from diffseg.zoo import find_model, shipped_models

HELP = "list shipped checkpoints, or show the card of one or of a folder of them"


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options."""
    sub.add_argument("path", nargs="?", help="a .safetensors checkpoint, a folder of them, or a shipped model's name")


def run(options: argparse.Namespace) -> None:
    """Print one card after the other."""
    if options.path is None:
        paths = list(shipped_models().values())
    elif Path(options.path).is_dir():
        paths = sorted(Path(options.path).glob("*.safetensors"))
    else:
        paths = [find_model(options.path)]
    if not paths:
        print("No checkpoints here.")
    for path in paths:
        card, digest = read_card(path)
        print(describe(card, path, digest))


def describe(card: Card, path: Path, digest: str) -> str:
    """The card in words, a line each."""
    spacing = "the scan's own" if card.spacing_mm is None else " × ".join(f"{s:g}" for s in card.spacing_mm) + " mm"
    rows = {
        "file": f"{path} ({path.stat().st_size / 1e6:.1f} MB, SHA-256 {digest[:12]})",
        "channels": ", ".join(card.channels),
        "classes": ", ".join(c.name for c in card.classes),
        "grid": f"{card.spatial}D, {spacing}; made for {'×'.join(str(w) for w in card.window)} voxels",
        "sampling": f"{card.sampler}, {card.steps} steps",
        "training": card.training,
        "quality": ", ".join(f"{name} {value:g}" for name, value in card.quality.items()),
        "licence": card.licence,
        "cite": card.citation,
    }
    lines = [f"{card.name}: {card.title}", f"  {card.description}"]
    return "\n".join(lines + [f"  {name:9} {value}" for name, value in rows.items() if value]) + "\n"
