"""What a mask began as, found in an ensemble by its key. No torch."""

from __future__ import annotations

import numpy as np

from diffseg.ensemble import Labels, Snapshot
from diffseg.errors import PlanError
from diffseg.modes import find_modes
from diffseg.outputs import INNER, OUTER


def of_ensemble(snapshot: Snapshot, key: str, voxel_ml: float) -> Labels:
    """Labels ``(*S)`` of ``mode:2``, ``member:0``, ``mean``, ``inner`` or ``outer``.

    Raises:
        PlanError: another key, or a mode or member that the ensemble does not have.
    """
    kind, _, which = key.partition(":")
    if kind in ("inner", "outer"):
        return snapshot.consensus(INNER if kind == "inner" else OUTER)
    if kind == "mean":
        return snapshot.means().argmax(axis=0).astype(np.uint8)
    number = int(which) if which.isdecimal() else -1
    if kind == "mode":
        mode = next((m for m in find_modes(snapshot, voxel_ml) if m.index == number), None)
        if mode is not None:
            return snapshot.member(mode.medoid)
    if kind == "member" and 0 <= number < len(snapshot):
        return snapshot.member(number)
    raise PlanError(f"The mask began as {key!r}, which {len(snapshot)} masks drawn again do not have.")
