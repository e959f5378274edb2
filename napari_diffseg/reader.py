"""NIfTI files as layers, for napari's File > Open and drag and drop. No torch, no Qt.

A file is a Labels layer if its header says so (intent code "label"), or if it holds whole numbers, at most
256 different ones, and its name speaks of a label, mask or segmentation. Everything else is an Image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from diffseg.case import Case
from diffseg.errors import CaseError
from diffseg.io import read_case
from diffseg.io.nifti import open_volume
from napari_diffseg.layerdata import LayerData, label_layers, scan_layers

SUFFIXES = (".nii", ".nii.gz")
MOST_LABELS = 256
FEW_LABELS = 16
# "t1_seg", "mask-2", "labels"; not "segment of a name" like "massage".
LABEL_NAME = re.compile(r"(?<![a-z])(label|mask|seg)(s|map|mentation|mentations)?(?![a-z])", re.IGNORECASE)
LABEL_INTENT = "label"

Reader = Callable[[str | Sequence[str]], list[LayerData]]


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """The reader, if every path ends like a NIfTI file."""
    return read if all(p.lower().endswith(SUFFIXES) for p in _paths(path)) else None


def read(path: str | Sequence[str]) -> list[LayerData]:
    """One layer per file. A file that cannot be used is told in one sentence and leaves no layer."""
    layers: list[LayerData] = []
    for each in _paths(path):
        try:
            layers += read_file(Path(each))
        except CaseError as error:
            _tell(str(error))
    # napari's sign for "read, but there is nothing to show"; an empty list would make it try other readers.
    return layers or [(None,)]  # type: ignore[list-item]


def read_file(path: Path) -> list[LayerData]:
    """The layers of one file; CaseError in one sentence for what is no scan and no mask."""
    if not is_labels(path):
        return scan_layers(read_case([path]))
    volume = open_volume(path)
    labels = volume.labels()
    name = read_name(path)
    # A case without channels: where the mask lies, so that it can be saved there again.
    empty = np.empty((0, *labels.shape), np.float32)
    return label_layers(Case(empty, volume.grid, (), {name: labels}, volume.origin, name))


def is_labels(path: Path, named: bool = True) -> bool:
    """See the module; False for a file that cannot be read at all.

    With ``named`` False the name does not matter, but then there may only be a few different values: the rule for
    files that come together with a scan.
    """
    try:
        image: Any = nib.load(path)
        intent, whole = image.header.get_intent()[0], np.issubdtype(image.get_data_dtype(), np.integer)
        if intent == LABEL_INTENT:
            return True
        called = bool(LABEL_NAME.search(path.name))
        if not whole or (named and not called):
            return False
        return len(np.unique(np.asanyarray(image.dataobj))) <= (MOST_LABELS if called else FEW_LABELS)
    except Exception:  # noqa: BLE001 - the core says what is wrong with the file, in words
        return False


def read_name(path: Path) -> str:
    """The file's name without its suffix."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def _paths(path: str | Sequence[str]) -> list[str]:
    return [str(path)] if isinstance(path, str | Path) else [str(p) for p in path]


def _tell(sentence: str) -> None:
    from napari.utils.notifications import show_error  # napari is there, or nobody would read layers

    show_error(sentence)
