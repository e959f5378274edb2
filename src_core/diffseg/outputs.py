"""The files of a finished run, on the scan's own grid, written all together or not at all. No torch."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.agreement import agreement
from diffseg.card import Card
from diffseg.case import Case
from diffseg.ensemble import Snapshot
from diffseg.errors import CaseError
from diffseg.grid import Box
from diffseg.io import write_labels, write_map
from diffseg.metrics.maps import ged_map
from diffseg.modes import Mode, find_modes
from diffseg.plan import SamplePlan, plan_to_json

PLAN = "plan.json"
INNER, OUTER = 0.95, 0.05


def full(values: NDArray[Any], box: Box, shape: tuple[int, ...], fill: float = 0) -> NDArray[Any]:
    """``values (..., *box)`` placed into an array ``(..., *shape)`` of ``fill``."""
    lead = values.shape[: values.ndim - len(shape)]
    whole = (*lead, *shape)
    # Zeros take no memory before they are touched.
    out = np.zeros(whole, values.dtype) if fill == 0 else np.full(whole, fill, values.dtype)
    region: tuple[Any, ...] = (..., *box.slices)
    out[region] = values
    return out


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside ``out`` that takes its place if the block succeeds and vanishes if not.

    An earlier result (a folder with ``plan.json``) is replaced; any other folder that holds files is refused.

    Raises:
        CaseError: ``out`` is a file, or a folder with something else in it, or cannot be written.
    """
    refuse_occupied(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except (OSError, ValueError) as bad:
        reason = getattr(bad, "strerror", None) or bad
        raise CaseError(f"{out} cannot be made ({reason}); choose a folder that you may write to.") from None
    try:
        yield part
        part.chmod(0o755)
        if out.exists():
            old = part.with_name(part.name + ".old")
            os.rename(out, old)
            os.rename(part, out)
            shutil.rmtree(old)
        else:
            os.rename(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def refuse_occupied(out: Path) -> None:
    """Raise ``CaseError`` unless ``out`` is new, empty or an earlier result of ours."""
    if os.path.isfile(out):  # which bears any name, unlike Path.is_file
        raise CaseError(f"{out} is a file, but a folder is needed for the results; choose another -o.")
    if os.path.isdir(out) and any(out.iterdir()) and not (out / PLAN).is_file():
        raise CaseError(f"{out} already holds other files, which would be lost; choose a new or empty folder.")


def write_outputs(
    out: Path,
    case: Case,
    card: Card,
    plan: SamplePlan,
    roi: Box,
    snapshot: Snapshot,
    trajectory: Sequence[NDArray[np.float32]] = (),
) -> list[str]:
    """Write the results of an ensemble on ``roi`` of the case; returns the file names.

    ``members.nii.gz`` (last axis: member), ``mean_<class>``, ``variance``, ``entropy``, ``consensus_inner`` and
    ``_outer``, ``mode_<k>``, ``modes.json``, ``plan.json``; with raters ``metrics.json`` and ``ged_map``; with a
    ``trajectory`` (fields on ``roi``, one per step, the noise first) ``trajectory_<k>.nii.gz``.
    """
    shape = case.grid.shape
    modes = find_modes(snapshot, case.grid.voxel_ml)
    with new_folder(out) as part:

        def put(values: NDArray[Any], fill: float = 0) -> NDArray[Any]:
            return full(values, roi, shape, fill)

        members = np.stack([put(snapshot.member(i)) for i in range(len(snapshot))])
        write_labels(part / "members.nii.gz", members, case)
        for k, info in enumerate(card.classes):
            write_map(part / f"mean_{info.name}.nii.gz", put(snapshot.mean(k), 1.0 if k == 0 else 0.0), case)
        write_map(part / "variance.nii.gz", put(snapshot.variance()), case)
        write_map(part / "entropy.nii.gz", put(snapshot.entropy()), case)
        write_labels(part / "consensus_inner.nii.gz", put(snapshot.consensus(INNER)), case)
        write_labels(part / "consensus_outer.nii.gz", put(snapshot.consensus(OUTER)), case)
        for mode in modes:
            write_labels(part / f"mode_{mode.index}.nii.gz", put(snapshot.member(mode.medoid)), case)
        write_json(part / "modes.json", modes_record(modes, snapshot, card))
        if case.raters:
            raters = list(case.raters.values())
            names = [c.name for c in card.classes[1:]]
            write_json(part / "metrics.json", agreement(list(members), raters, case.grid.spacing_mm, names))
            write_map(part / "ged_map.nii.gz", ged_map(list(members), raters, len(card.classes)), case)
        if trajectory:
            width = len(str(len(trajectory) - 1))
            for k, state in enumerate(trajectory):
                write_map(part / f"trajectory_{k:0{width}}.nii.gz", put(state, -1.0), case)
        (part / PLAN).write_text(plan_to_json(plan, out), encoding="utf-8")
        return sorted(p.name for p in part.iterdir())


def modes_record(modes: Sequence[Mode], snapshot: Snapshot, card: Card) -> list[dict[str, Any]]:
    """The modes in plain values; members and medoids as member numbers of the run."""
    names = [c.name for c in card.classes[1:]]
    rows = []
    for mode in modes:
        row = asdict(mode)
        row["medoid"] = snapshot.ids[mode.medoid]
        row["members"] = [snapshot.ids[m] for m in mode.members]
        row["of"] = len(snapshot)
        row["class_volume_ml"] = dict(zip(names, mode.class_volume_ml, strict=True))
        rows.append(row)
    return rows


def write_json(path: Path, record: Any) -> None:
    """Indented JSON; infinities and NaN become null, which every reader understands."""
    path.write_text(json.dumps(plain(record), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def plain(record: Any) -> Any:
    """``record`` with NumPy scalars as numbers, and NaN and infinity as None."""
    if isinstance(record, dict):
        return {str(k): plain(v) for k, v in record.items()}
    if isinstance(record, list | tuple):
        return [plain(v) for v in record]
    if isinstance(record, np.generic):
        record = record.item()
    if isinstance(record, float) and not np.isfinite(record):
        return None
    return record
