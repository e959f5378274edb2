"""A model's card: all that is known of a checkpoint besides its weights. Free of torch.

House format: one ``.safetensors`` file whose metadata entry ``diffseg`` holds the card as JSON.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from diffseg.errors import CheckpointError
from diffseg.preprocess import ImageRule
from diffseg.records import from_json

METADATA_KEY = "diffseg"
# 1: house models. 2: also converted ones (codec, image input, task, labels).
FORMAT = 2
# A header larger than this is not a card but damage or an attack.
LARGEST_HEADER_BYTES = 16_000_000
# Beyond these a card is damaged: voxels along a side of a window, denoising steps, values of a uint8 label.
LARGEST_SIDE = 65_536
MOST_STEPS = 100_000
MOST_CLASSES = 256


@dataclass(frozen=True)
class ClassInfo:
    """One class of a mask: its name and its colour as ``#rrggbb``."""

    name: str
    color: str


# What a network does: denoise a mask given an image, denoise an image, or name the class of a noised image.
Task = Literal["mask", "image", "classifier"]


@dataclass(frozen=True)
class ImageInput:
    """How a prepared image becomes the network's: ``(image - mean) / std``, then ``repeat`` copies of its
    channels.

    ``mean`` and ``std`` hold one number for all channels or one for each channel of the network.
    """

    repeat: int = 1
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.repeat < 1 or min(map(abs, self.std), default=0.0) == 0 or not self.mean:
            raise CheckpointError(f"An image cannot be repeated {self.repeat} times and divided by {self.std}.")


@dataclass(frozen=True)
class Card:
    """Description of a model, as stored in its checkpoint.

    ``classes[0]`` is the background. ``window`` is the side in voxels of the model's grid that it was made
    for, in display axes. ``quality`` maps a measure's name (with unit) to its value on the data named in
    ``training``. ``prediction`` names the head, ``codec`` how labels become numbers, each with its settings.
    ``labels`` are the image-level labels that a conditional image model or a classifier knows, in the order
    of the network. ``source`` says what a converted model was made from. ``saliency`` holds settings chosen for this
    model, by saliency method: its knobs, and maybe ``draws``.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    title: str
    description: str
    architecture: str
    network: dict[str, Any]
    schedule: str
    schedule_settings: dict[str, Any]
    prediction: str
    channels: tuple[str, ...]
    classes: tuple[ClassInfo, ...]
    rule: ImageRule
    window: tuple[int, ...]
    sampler: str
    sampler_settings: dict[str, Any]
    steps: int
    licence: str = ""
    citation: str = ""
    training: str = ""
    quality: dict[str, float] = field(default_factory=dict)
    format: int = FORMAT
    task: Task = "mask"
    prediction_settings: dict[str, Any] = field(default_factory=dict)
    codec: str = "onehot"
    codec_settings: dict[str, Any] = field(default_factory=dict)
    image: ImageInput = field(default_factory=ImageInput)
    labels: tuple[str, ...] = ()
    source: str = ""
    saliency: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse numbers that no model has, before anything is made of them."""
        sides = 2 <= len(self.window) <= 3 and all(1 <= side <= LARGEST_SIDE for side in self.window)
        counts = self.classes and self.channels and 1 <= self.steps <= MOST_STEPS
        if not sides or not counts or len(self.classes) > MOST_CLASSES:
            raise CheckpointError(
                f"The card of {self.name[:40]!r} describes no model: its window is {self.window}, with "
                f"{len(self.classes)} classes, {len(self.channels)} channels and {self.steps} steps; get it again."
            )

    @property
    def spatial(self) -> int:
        """2 for a slice model, 3 for a volume model."""
        return len(self.window)

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """Voxel size of the model's grid in display axes; None where it takes the scan's own."""
        return self.rule.spacing_mm


def read_card(path: Path) -> tuple[Card, str]:
    """The card of a house checkpoint and the SHA-256 of the whole file; no weights are loaded.

    Raises:
        CheckpointError: the file is missing, no safetensors file, or carries no card of ours.
    """
    return card_of(path), sha256(path)


def card_of(path: Path) -> Card:
    """The card alone: only the file's header is read, so this takes no longer for a large model.

    Raises:
        CheckpointError: as ``read_card``.
    """
    refuse_foreign(path)
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > LARGEST_HEADER_BYTES:
                raise ValueError("header too large")
            header = json.loads(file.read(size))
        text = header.get("__metadata__", {}).get(METADATA_KEY)
        if not isinstance(text, str | None):
            raise ValueError("metadata is text")
    except OSError as bad:
        raise CheckpointError(f"{path} cannot be read ({bad.strerror}); check the path and its permissions.") from None
    except (struct.error, ValueError, AttributeError, RecursionError):
        raise CheckpointError(f"{path} is not a whole .safetensors file; copy or download it again.") from None
    if text is None:
        raise CheckpointError(
            f"{path} is a .safetensors file without a diffseg card; convert it with 'diffseg convert' first."
        )
    refuse_newer(path, text)
    return from_json(Card, text, f"The card in {path}", CheckpointError)


def refuse_newer(path: Path, text: str) -> None:
    """Raise ``CheckpointError`` for a card of a format that this version does not know."""
    try:
        found = json.loads(text).get("format", FORMAT)
    except (ValueError, AttributeError, RecursionError):
        return  # no card at all: reading it says what is wrong
    if isinstance(found, int) and found > FORMAT:
        raise CheckpointError(
            f"{path} has format {found}, but this version of diffseg reads up to {FORMAT}; update napari-diffseg."
        )


def refuse_foreign(path: Path) -> None:
    """Raise ``CheckpointError`` for what is no house checkpoint by its name; nothing is opened."""
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint at {path}; give a .safetensors file or a shipped model's name.")
    if path.suffix.lower() != ".safetensors":
        raise CheckpointError(
            f"{path.name} is not a .safetensors checkpoint, and files of its kind can run code when opened; "
            "convert it with 'diffseg convert' first."
        )


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
