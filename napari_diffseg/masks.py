"""The mask that a person corrects: how it is saved. No torch, no Qt.

Beside ``<name>.nii.gz`` lies ``<name>.plan.json``: what the mask was made from, whether it was edited, its
volume, and the plan of the run behind it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffseg.case import Case
from diffseg.errors import CaseError
from diffseg.io import write_labels
from diffseg.io.atomic import suffix_of, write_text
from diffseg.plan import plan_to_json, versions
from diffseg.saliency_plan import ExplainPlan, explain_plan_to_json
from napari_diffseg.session import Session
from napari_diffseg.state import MaskState

if TYPE_CHECKING:
    from diffseg.plan import SamplePlan

SUFFIXES = (".nii.gz", ".nii")


def target(path: Path, session: Session) -> Path:
    """The file to write: with a suffix, in an existing folder that may be written to, and never the scan
    itself.

    Raises:
        CaseError: the sentence that says why not.
    """
    sources = [*session.files, *session.rater_files]
    if session.mask is not None and session.mask.case.origin.path is not None:
        sources.append(session.mask.case.origin.path)
    return checked(path, sources)


def checked(path: Path, sources: Sequence[Path]) -> Path:
    """As ``target``, with the files that must not be overwritten."""
    path = Path(path).expanduser()
    if not path.name.lower().endswith(SUFFIXES):
        path = path.with_name(path.name + ".nii.gz")
    if any(path.resolve() == source.resolve() for source in sources):
        raise CaseError(f"{path} is the scan or a reader's mask itself and is never overwritten; choose another name.")
    refuse_folder(path)
    return path


def refuse_folder(path: Path) -> None:
    """Raise ``CaseError`` unless a file can be written in the folder of ``path``."""
    if not path.parent.is_dir():
        raise CaseError(f"There is no folder {path.parent}; make it first or choose another.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise CaseError(f"{path} cannot be written; choose a file name in a folder that you may write to.")


def write(path: Path, labels: np.ndarray, mask: MaskState) -> list[Path]:
    """Save ``labels (*S)`` and the record beside them; returns both paths.

    Raises:
        CaseError: the file cannot be written; an older one is then unchanged.
    """
    return write_with_record(path, labels, mask.case, mask.plan, mask.source, mask.edited)


def write_with_record(
    path: Path, labels: np.ndarray, case: Case, plan: SamplePlan | ExplainPlan | None, source: str, edited: bool | None
) -> list[Path]:
    """As ``write``, for labels that are no mask of a session; ``edited`` is None where nobody knows."""
    record = describe(labels, case, plan, source, edited, path)
    beside = sidecar(path)
    write_labels(path, labels, case)
    write_text(beside, json.dumps(record, indent=2, allow_nan=False) + "\n")
    return [path, beside]


def sidecar(path: Path) -> Path:
    """``<name>.plan.json`` of ``<name>.nii.gz``."""
    return path.with_name(path.name.removesuffix(suffix_of(path)) + ".plan.json")


def describe(
    labels: np.ndarray,
    case: Case,
    plan: SamplePlan | ExplainPlan | None,
    source: str,
    edited: bool | None,
    path: Path,
) -> dict[str, Any]:
    """The record of a saved mask, in plain values; no header text, so nothing that could name a patient."""
    counts = {str(k): int(n) for k, n in zip(*np.unique(labels, return_counts=True), strict=True) if k}
    return {
        "kind": "mask",
        "file": path.name,
        "saved_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": source,
        "edited": edited,
        "voxels": counts,
        "volume_ml": {k: round(n * case.grid.voxel_ml, 6) for k, n in counts.items()},
        "plan": None if plan is None else json.loads(_json(plan, path.parent)),
        "versions": versions(),
    }


def _json(plan: SamplePlan | ExplainPlan, folder: Path) -> str:
    return explain_plan_to_json(plan, folder) if isinstance(plan, ExplainPlan) else plan_to_json(plan, folder)


def words(mask: MaskState) -> str:
    """Size of a mask in voxels and ml, per class where there are several."""
    voxels = int(np.count_nonzero(mask.labels))
    text = f"{voxels:,} voxels, {size(voxels * mask.case.grid.voxel_ml, mask.case.ndim)}"
    names = {k: info.name for k, info in enumerate(mask.classes) if k}
    if len(names) > 1 and voxels:
        volumes = {n: np.count_nonzero(mask.labels == k) * mask.case.grid.voxel_ml for k, n in names.items()}
        each = (f"{n} {size(volume, mask.case.ndim)}" for n, volume in volumes.items())
        text += f": {', '.join(each)}"
    return text


def size(volume_ml: float, axes: int) -> str:
    """``ml`` of a scan with so many axes: for a flat one its area, since a pixel counts as 1 mm thick."""
    return ml(volume_ml) if axes > 2 else f"{float(f'{1000 * volume_ml:.2g}'):g} mm²"


def ml(volume_ml: float) -> str:
    """A volume in words, two significant digits: ``1.8 ml``."""
    return f"{float(f'{volume_ml:.2g}'):g} ml"
