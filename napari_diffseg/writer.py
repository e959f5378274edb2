"""Labels layers as NIfTI files on the scan's own grid, for napari's File > Save. No torch, no Qt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffseg.case import Case
from diffseg.errors import CaseError
from napari_diffseg import masks
from napari_diffseg.fromlayers import case_of_labels, labels_on, placed
from napari_diffseg.layerdata import KEY, class_infos, frame_of, own


def write_labels(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write one Labels layer and, beside it, its record; returns the paths written, none if that failed.

    A layer of ours is written on the grid of its scan, results of a region with background around them. A
    layer that the person made is written on the grid of a DiffSeg scan that it covers exactly, if one is
    open, and else on its own. What goes wrong is told in one sentence.
    """
    try:
        return [str(p) for p in save(Path(path), np.asarray(data), meta)]
    except CaseError as error:
        from napari.utils.notifications import show_error  # napari is there, or nobody would save layers

        show_error(str(error))
        return []


def save(path: Path, data: np.ndarray, meta: Mapping[str, Any]) -> list[Path]:
    """As ``write_labels``, but raises CaseError."""
    noted = (meta.get("metadata") or {}).get(KEY) or {}
    if "case" in noted:
        case: Case = noted["case"]
        labels = placed(data, noted.get("roi"), case)
    else:
        case, labels = _unplaced(data, meta)
    target = masks.checked(path, masks.files_of(case) if case.channels else [])
    known = (noted.get("plan"), noted.get("source", "a Labels layer"), noted.get("edited"), noted.get("begun"))
    return masks.write_with_record(target, labels, case, *known, classes=class_infos(meta))


def _unplaced(data: np.ndarray, meta: Mapping[str, Any]) -> tuple[Case, np.ndarray]:
    """A layer that somebody else made."""
    from napari import current_viewer
    from napari.layers import Layer

    layer = Layer.create(data, dict(meta), "labels")
    viewer = current_viewer()
    for scan in [] if viewer is None else list(viewer.layers):
        noted = own(scan)
        if noted.get("role") == "scan":
            case = noted["case"]
            try:
                return case, labels_on(case, noted.get("frame") or frame_of(case), layer)
            except CaseError:
                continue
    case, frame = case_of_labels(layer)
    return case, labels_on(case, frame, layer)
