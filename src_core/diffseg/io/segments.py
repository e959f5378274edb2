"""Segments of one segmentation: named classes, several layers of them as one label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import CaseError
from diffseg.io.volume import named

# Okabe and Ito's hues, for labels that no class names.
_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#f0e442")


class NamedClass(Protocol):
    """What a class of a model tells of itself."""

    @property
    def name(self) -> str: ...
    @property
    def color(self) -> str: ...


@dataclass(frozen=True)
class Segment:
    """A label that is written with a name and a colour, red, green and blue in [0, 1]."""

    label: int
    name: str
    rgb: tuple[float, float, float]


def segments_of(labels: NDArray[Any], classes: Sequence[NamedClass]) -> list[Segment]:
    """One segment per foreground class, whether or not it occurs, then per further label, in the order of labels."""
    present = {int(value) for value in np.unique(labels)}
    found = []
    for label in sorted((present | set(range(len(classes)))) - {0}):
        known = classes[label] if label < len(classes) else None
        color = known.color if known is not None else _COLORS[(label - 1) % len(_COLORS)]
        red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
        name = " ".join(known.name.split()) if known is not None else f"label {label}"
        found.append(Segment(label, name, (red, green, blue)))
    return found


def merged(path: Path, layers: Sequence[NDArray[np.bool_]], numbers: Sequence[int]) -> NDArray[np.uint16]:
    """One label map of several masks of one shape, each with its number.

    Raises CaseError where two masks claim the same voxel: one of them would be lost without a word.
    """
    labels = np.zeros(layers[0].shape, np.uint16)
    doubly = 0
    for layer, number in zip(layers, numbers, strict=True):
        doubly += int(np.count_nonzero(labels[layer]))
        labels[layer] = number
    if doubly:
        raise CaseError(
            f"{named(path)} has segments that overlap in {doubly} voxels, and a voxel has one label here; save the "
            "segments as files of their own."
        )
    return labels
