"""The mask that a person corrects: how it is saved. No torch, no Qt.

Beside ``<name>.nii.gz`` lies ``<name>.plan.json``: what the mask was made from, who wrote how much of it, its volume,
and the plan of the run behind it; see ``diffseg.mask_file``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffseg.card import ClassInfo
from diffseg.case import Case
from diffseg.errors import CaseError
from diffseg.io import write_labels
from diffseg.io.atomic import suffix_of
from diffseg.io.formats import LABEL_SUFFIXES
from diffseg.mask_file import MaskPlan, MaskStart, labels_hash, write_mask
from diffseg.plan import InputFile, input_file, versions
from diffseg.sparse import occupied
from napari_diffseg.mask_edit import ORIGIN_WORDS, origin_in
from napari_diffseg.mask_starts import source_words
from napari_diffseg.session import Session
from napari_diffseg.state import MaskState

if TYPE_CHECKING:
    from diffseg.plan import SamplePlan
    from diffseg.saliency_plan import ExplainPlan


def target(path: Path, session: Session) -> Path:
    """The file to write: with a suffix, in an existing folder that may be written to, and never the scan
    itself.

    Raises:
        CaseError: the sentence that says why not.
    """
    sources = [*session.files, *session.rater_files]
    if session.mask is not None:
        sources += files_of(session.mask.case)
    return checked(path, sources)


def files_of(case: Case) -> list[Path]:
    """The files that a scan was read from, every slice of a series."""
    return [*case.origin.files, *([] if case.origin.path is None else [case.origin.path])]


def checked(path: Path, sources: Sequence[Path]) -> Path:
    """As ``target``, with the files that must not be overwritten."""
    path = Path(path).expanduser()
    if not path.name.lower().endswith(LABEL_SUFFIXES):
        path = path.with_name(path.name + LABEL_SUFFIXES[0])
    if any(_same_file(path, source) for source in sources):
        raise CaseError(f"{path} is the scan or a reader's mask itself and is never overwritten; choose another name.")
    refuse_folder(path)
    return path


def _same_file(path: Path, source: Path) -> bool:
    """Also through links, and where the system takes no notice of capitals."""
    try:
        return path.samefile(source)
    except OSError:
        return path.resolve() == source.resolve()


def refuse_folder(path: Path) -> None:
    """Raise ``CaseError`` unless a file can be written in the folder of ``path``."""
    if not path.parent.is_dir():
        raise CaseError(f"There is no folder {path.parent}; make it first or choose another.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise CaseError(f"{path} cannot be written; choose a file name in a folder that you may write to.")


def write(path: Path, labels: np.ndarray, mask: MaskState, scan: Sequence[Path] = ()) -> list[Path]:
    """Save ``labels (*S)`` of ``mask`` and the record beside them; returns both paths. ``scan`` are the scan's files,
    by default those that the case names.

    Raises:
        CaseError: the file cannot be written; an older one is then unchanged.
    """
    origin = origin_in(replace(mask, labels=labels))
    record = describe(labels, mask.case, mask.plan, mask.source, mask.edited, mask.begun)
    record = replace(
        record,
        start=record.start if mask.start is None else replace(record.start, sha256=labels_hash(mask.start)),
        origins={words: int(n) for words, n in zip(ORIGIN_WORDS, voxels_by_label(origin), strict=False) if n},
        inputs=inputs_of(mask, scan),
    )
    return write_mask(path, labels, mask.case, record, mask.classes)


def write_origin(path: Path, labels: np.ndarray, mask: MaskState) -> Path:
    """Save who wrote each voxel of ``labels (*S)`` as ``<name>.origin.nii.gz`` beside the mask; returns its path.

    Raises:
        CaseError: the file cannot be written.
    """
    beside = origin_path(path)
    write_labels(beside, origin_in(replace(mask, labels=labels)), mask.case)
    return beside


def origin_path(path: Path) -> Path:
    """``<name>.origin.nii.gz`` of ``<name>.nii.gz``."""
    return path.with_name(path.name.removesuffix(suffix_of(path)) + ".origin" + LABEL_SUFFIXES[0])


def inputs_of(mask: MaskState, scan: Sequence[Path]) -> tuple[InputFile, ...]:
    """The scan's files with their hashes: those of the plan where it has them."""
    if mask.plan is not None and mask.plan.inputs:
        return tuple(mask.plan.inputs)
    return tuple(input_file(path) for path in dict.fromkeys(scan or files_of(mask.case)) if path.is_file())


def write_with_record(
    path: Path,
    labels: np.ndarray,
    case: Case,
    plan: SamplePlan | ExplainPlan | None,
    source: str,
    edited: bool | None,
    begun: MaskStart | None = None,
    classes: Sequence[ClassInfo] = (),
) -> list[Path]:
    """As ``write``, for labels that are no mask of a session; ``edited`` is None where nobody knows."""
    return write_mask(path, labels, case, describe(labels, case, plan, source, edited, begun), classes)


def describe(
    labels: np.ndarray,
    case: Case,
    plan: SamplePlan | ExplainPlan | None,
    source: str,
    edited: bool | None,
    begun: MaskStart | None,
) -> MaskPlan:
    """The record of a mask that began as ``begun``, where that is known. It holds no header text and no name of a
    layer, so nothing that could name a patient.
    """
    counts = {str(k): int(n) for k, n in enumerate(voxels_by_label(labels)) if k and n}
    return MaskPlan(
        source_words(begun, source),
        begun or MaskStart("layer"),
        edited,
        plan,
        voxels=counts,
        volume_ml={k: round(n * case.grid.voxel_ml, 6) for k, n in counts.items()},
        versions=versions(),
        saved_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def voxels_by_label(labels: np.ndarray) -> np.ndarray:
    """How many voxels have each label from 0 to the highest; slice by slice, which takes little memory."""
    count = int(labels.max(initial=0)) + 1
    return np.sum([np.bincount(part.reshape(-1), minlength=count) for part in labels], axis=0)


def words(mask: MaskState) -> str:
    """Size of a mask in voxels and ml, per class where there are several."""
    labels = mask.labels[occupied(mask.labels)]
    voxels = int(np.count_nonzero(labels))
    text = f"{voxels:,} voxels, {size(voxels * mask.case.grid.voxel_ml, mask.case.ndim)}"
    names = {k: info.name for k, info in enumerate(mask.classes) if k}
    if len(names) > 1 and voxels:
        volumes = {n: np.count_nonzero(labels == k) * mask.case.grid.voxel_ml for k, n in names.items()}
        each = (f"{n} {size(volume, mask.case.ndim)}" for n, volume in volumes.items())
        text += f": {', '.join(each)}"
    return text


def size(volume_ml: float, axes: int) -> str:
    """``ml`` of a scan with so many axes: for a flat one its area, since a pixel counts as 1 mm thick."""
    return ml(volume_ml) if axes > 2 else f"{float(f'{1000 * volume_ml:.2g}'):g} mm²"


def ml(volume_ml: float) -> str:
    """A volume in words, two significant digits: ``1.8 ml``."""
    return f"{float(f'{volume_ml:.2g}'):g} ml"
