"""Small untrained image models and classifiers as checkpoints, for tests of whole explanations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from diffseg.card import Card
from diffseg.preprocess import ImageRule
from oracle import save_tiny, tiny_card

NETWORK = {"base": 32, "widths": [32, 32], "blocks": [1, 1], "scale_shift": True, "heads": 2}


def image_card(channels: int = 1, **changes: Any) -> Card:
    """An image diffusion model with two labels, on images as they are."""
    card = tiny_card(spatial=2, channels=channels)
    return replace(
        card,
        name="tiny-image",
        architecture="guided-unet",
        network=NETWORK | {"inputs": channels, "outputs": channels, "labels": 2},
        schedule="guided",
        schedule_settings={"count": 1000},
        prediction="eps",
        codec="image",
        codec_settings={"channels": channels},
        task="image",
        labels=("normal", "lesion"),
        rule=ImageRule(None, (0, 100), "none", 4),
        **changes,
    )


def classifier_card(channels: int = 1, **changes: Any) -> Card:
    """A classifier of the same images."""
    network = NETWORK | {"inputs": channels, "outputs": 2, "pool": "adaptive"}
    card = image_card(channels, **changes)
    return replace(card, name="tiny-classifier", architecture="guided-classifier", network=network, task="classifier")


def save_pair(folder: Path, channels: int = 1) -> tuple[Path, Path]:
    """An image model, and its classifier under the name by which it is found beside it."""
    model, classifier = folder / "tiny.safetensors", folder / "tiny-classifier.safetensors"
    save_tiny(model, image_card(channels))
    save_tiny(classifier, classifier_card(channels), seed=1)
    return model, classifier
