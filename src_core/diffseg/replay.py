"""A recorded plan run again: what it needs, and whether the results are the same to the bit.

Three kinds of records can be replayed: ``plan.json`` of ``diffseg sample`` and of ``diffseg saliency``, and the
``.plan.json`` beside a mask, of which the part that a model drew is drawn again. No torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from diffseg.card import sha256
from diffseg.case import Case
from diffseg.errors import CheckpointError, PlanError
from diffseg.io import read_case, read_labels
from diffseg.mask_file import SIDECAR, MaskPlan, labels_hash, read_mask_plan
from diffseg.metrics import overlap
from diffseg.outputs import PLAN
from diffseg.plan import InputFile, SamplePlan, read_plan, versions
from diffseg.saliency_plan import ExplainPlan, read_explain_plan
from diffseg.zoo import MODEL_SUFFIX, find_model, shipped_models

Record: TypeAlias = SamplePlan | ExplainPlan | MaskPlan


@dataclass(frozen=True)
class Comparison:
    """One result against the recorded one. ``same`` means equal to the bit; ``words`` say how far apart they are."""

    name: str
    same: bool
    words: str = ""


def read_record(path: Path) -> Record:
    """The plan in a file, whichever of the three kinds it is, with input paths made absolute; a folder stands for what
    ``plan_in`` finds.

    Raises:
        PlanError: no such file, or none of these kinds.
    """
    path = plan_in(path)
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise PlanError(f"There is no readable plan at {path}; give a plan.json written by diffseg.") from None
    kind = found.get("kind") if isinstance(found, dict) else None
    readers: dict[Any, Any] = {"sample": read_plan, "saliency": read_explain_plan, "mask": read_mask_plan}
    if not isinstance(kind, str) or kind not in readers:
        raise PlanError(f"{path} is no plan of a run, of a saliency map or of a mask; give a plan.json of diffseg.")
    record: Record = readers[kind](path)
    return record


def plan_in(path: Path) -> Path:
    """A file itself; of a folder its ``plan.json``, or else the only ``.plan.json`` beside a mask in it.

    Raises:
        PlanError: several masks lie in the folder.
    """
    if not path.is_dir():
        return path
    if (path / PLAN).exists():
        return path / PLAN
    found = sorted(p for p in path.glob(f"*{SIDECAR}") if not p.name.startswith("."))
    if len(found) > 1:
        names = ", ".join(p.name for p in found[:3]) + (", …" if len(found) > 3 else "")
        raise PlanError(f"{path} holds the records of {len(found)} masks ({names}); give one of them.")
    return found[0] if found else path / PLAN


def same_inputs(files: tuple[InputFile, ...]) -> tuple[Path, ...]:
    """The files of a plan, each as it was.

    Raises:
        PlanError: none is named, one is missing, or has changed since.
    """
    if not files:
        raise PlanError("The plan names no input files, since its scan came from none; it cannot be replayed.")
    for file in files:
        path = Path(file.path)
        if not path.is_file():
            raise PlanError(f"The input {path} of the plan is not there; put it back, or move the plan beside it.")
        if sha256(path) != file.sha256:
            raise PlanError(f"The input {path} has changed since the plan was made; put the old one back.")
    return tuple(Path(file.path) for file in files)


def same_scan(plan: SamplePlan | ExplainPlan, channels: tuple[str, ...]) -> Case:
    """The scan of a plan, with raters where it had them; ``channels`` are those of the model.

    Raises:
        PlanError, CaseError: an input that changed or cannot be read.
    """
    images = same_inputs(plan.inputs)
    raters = same_inputs(plan.raters) if isinstance(plan, SamplePlan) and plan.raters else ()
    return read_case(images, raters, channels if len(images) == len(channels) else None)


def same_model(name: str, wanted: str, given: str | Path | None, beside: Path | None = None) -> Path:
    """The checkpoint whose SHA-256 is ``wanted``: the one given, or the shipped one, or one in the folder ``beside``.

    Raises:
        CheckpointError: there is none, or the one that was given is another one.
    """
    if given is not None:
        path = find_model(given)
        if sha256(path) != wanted:
            raise CheckpointError(f"{path} is not the {name} of the plan (SHA-256 {wanted[:12]}…); give that one.")
        return path
    shipped = shipped_models()
    near = sorted(beside.glob(f"*{MODEL_SUFFIX}")) if beside is not None and beside.is_dir() else []
    for path in (*([shipped[name]] if name in shipped else []), *near, *shipped.values()):
        if sha256(path) == wanted:
            return path
    raise CheckpointError(
        f"The plan was made with {name} (SHA-256 {wanted[:12]}…), which is no shipped model; give its file with -m."
    )


# ---- comparing ----


def compare_folders(before: Path, again: Path) -> list[Comparison]:
    """Every file of ``again`` but the plan against the one of the same name in ``before``."""
    names = sorted(p.name for p in again.iterdir() if p.name != PLAN)
    return [compare_files(before / name, again / name) for name in names]


def compare_files(before: Path, again: Path) -> Comparison:
    """Two NIfTI files by their voxels and geometry, two JSON files by what they hold."""
    name = again.name
    if not before.is_file():
        return Comparison(name, False, "missing beside the plan")
    try:
        if again.suffix == ".json":
            same = json.loads(before.read_text("utf-8")) == json.loads(again.read_text("utf-8"))
            return Comparison(name, same, "" if same else "other values")
        one, two = (nib.load(path) for path in (before, again))
        a, b = (np.asanyarray(image.dataobj) for image in (one, two))  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001 - a damaged file raises any of many errors
        return Comparison(name, False, f"cannot be read ({type(error).__name__})")
    if a.shape != b.shape or not np.array_equal(one.affine, two.affine):  # type: ignore[attr-defined]
        return Comparison(name, False, "lies on another grid")
    return compare_arrays(name, a, b)


def compare_arrays(name: str, a: NDArray[Any], b: NDArray[Any]) -> Comparison:
    """Two arrays of one shape: labels by Dice, maps by their largest difference."""
    if a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
        return Comparison(name, True)
    if a.dtype.kind in "iu" and b.dtype.kind in "iu":
        return Comparison(name, False, f"Dice {dice(a, b):.6f}, {int(np.count_nonzero(a != b))} voxels differ")
    return Comparison(name, False, f"largest difference {float(np.nanmax(np.abs(a.astype(float) - b))):.3g}")


def dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Mean over the labels above 0 that either has; 1 where both have none."""
    labels = [k for k in np.union1d(np.unique(a), np.unique(b)) if k]
    return float(np.mean([overlap.dice(a == k, b == k) for k in labels])) if labels else 1.0


def compare_start(record: MaskPlan, start: NDArray[np.uint8]) -> Comparison:
    """The part of a mask that a model drew, ``(*S)``, against the hash in the record.

    Raises:
        PlanError: the record has none.
    """
    if record.start.sha256 is None:
        raise PlanError("The record of the mask does not tell what it began as; there is nothing to compare with.")
    same = labels_hash(start) == record.start.sha256
    return Comparison(f"start of the mask ({record.source})", same, "" if same else "other voxels")


def compare_mask(
    record: MaskPlan, path: Path, start: NDArray[np.uint8] | None = None, case: Case | None = None
) -> Comparison:
    """The mask beside its record at ``path``: whether it is still the file that was saved; told with the Dice of what
    it began as, where that was drawn again.
    """
    mask = path.parent / record.file
    if not mask.is_file():
        return Comparison(record.file, False, "missing beside the record")
    same = sha256(mask) == record.sha256
    words = "" if same else "changed since it was saved"
    if start is not None and case is not None:
        told = f"Dice {dice(start, read_labels(mask, case.grid)):.6f} between start and mask"
        words = f"{words}; {told}" if words else told
    return Comparison(record.file, same, words)


def other_versions(recorded: dict[str, str]) -> str:
    """What differs between the programs of then and of now, in words; empty if nothing."""
    now = versions()
    return ", ".join(f"{k} {v} then, {now[k]} now" for k, v in recorded.items() if k in now and now[k] != v)
