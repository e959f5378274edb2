"""A model's card: all that is known of a checkpoint besides its weights. Free of torch.

House format: one ``.safetensors`` file whose metadata entry ``diffseg`` holds the card as JSON.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from diffseg.errors import CheckpointError
from diffseg.preprocess import ImageRule
from diffseg.records import from_json

METADATA_KEY = "diffseg"
FORMAT = 1
# A header larger than this is not a card but damage or an attack.
LARGEST_HEADER_BYTES = 16_000_000


@dataclass(frozen=True)
class ClassInfo:
    """One class of a mask: its name and its colour as ``#rrggbb``."""

    name: str
    color: str


@dataclass(frozen=True)
class Card:
    """Description of a model, as stored in its checkpoint.

    ``classes[0]`` is the background. ``window`` is the side in voxels of the model's grid that it was made
    for, in display axes. ``quality`` maps a measure's name (with unit) to its value on the data named in
    ``training``.
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
    refuse_foreign(path)
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > LARGEST_HEADER_BYTES:
                raise ValueError("header too large")
            header = json.loads(file.read(size))
        text = header.get("__metadata__", {}).get(METADATA_KEY)
    except OSError as bad:
        raise CheckpointError(f"{path} cannot be read ({bad.strerror}); check the path and its permissions.") from None
    except (struct.error, ValueError, AttributeError):
        raise CheckpointError(f"{path} is not a whole .safetensors file; copy or download it again.") from None
    if text is None:
        raise CheckpointError(
            f"{path} is a .safetensors file without a diffseg card; convert it with 'diffseg convert' first."
        )
    return from_json(Card, text, f"The card in {path}", CheckpointError), sha256(path)


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
