"""The members of an ensemble as a table: a row a mask, and the same as comma-separated values. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffseg.ensemble import Snapshot
from diffseg.measurements import MemberMeasure
from diffseg.modes import Mode

Columns = Mapping[str, Sequence[Any]]


def member_table(
    snapshot: Snapshot,
    modes: Sequence[Mode],
    measures: Sequence[MemberMeasure],
    classes: Sequence[str] = (),
    seed: int | None = None,
) -> dict[str, list[Any]]:
    """Column to values, a value per member in the snapshot's order.

    "mask" counts from 1, as people do; "mode" is the index of its mode, "mean IoU" that with all other members (NaN for
    one member). The volumes of single classes are listed where ``classes``, the foreground, names several. Of a flat
    scan areas in mm2 are listed instead of volumes, in which a pixel counts as 1 mm thick.
    """
    mode_of = {m: mode.index for mode in modes for m in mode.members}
    n = len(snapshot)
    others = (snapshot.iou.sum(axis=1) - 1) / (n - 1) if n > 1 else np.full(n, np.nan)
    what, unit, scale = ("area", "mm2", 1000.0) if len(snapshot.shape) == 2 else ("volume", "ml", 1.0)
    columns: dict[str, list[Any]] = {
        "mask": [m.member + 1 for m in measures],
        "mode": [mode_of[i] for i in range(n)],
        f"{what} ({unit})": [m.volume_ml * scale for m in measures],
        "largest diameter (mm)": [m.diameter_mm for m in measures],
        "mean IoU": [float(v) for v in others],
    }
    if len(classes) > 1:
        for k, name in enumerate(classes):
            columns[f"{name} ({unit})"] = [m.class_volume_ml[k] * scale for m in measures]
    if seed is not None:
        columns["seed"] = [seed] * n
    return columns


def table_csv(columns: Columns) -> str:
    """A table as comma-separated values, names first, full precision; NaN is empty."""
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(columns)
    for row in zip(*columns.values(), strict=True):
        write("" if isinstance(cell, float) and not np.isfinite(cell) else cell for cell in row)
    return out.getvalue()
