"""Post-processing of a whole ensemble, on its packed members. No torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffseg.ensemble import Snapshot, class_iou, unpack
from diffseg.errors import PlanError

# Christensen et al. 2025.
AREA_RATIO = 0.5


def without_small(snapshot: Snapshot, ratio: float = AREA_RATIO) -> Snapshot:
    """The ensemble in which every mask is empty whose foreground is not larger than ``ratio`` times the largest one.

    The same as ``metrics.postprocess.relative_area`` of the members, with votes and IoU to match. A new member may
    enlarge the largest foreground, so the rule is applied anew to the untouched members every time.

    Raises:
        PlanError: a ratio outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise PlanError(f"The area ratio is {ratio}, but must lie between 0 and 1; change it and try again.")
    areas = [int(np.bitwise_count(bits).sum(dtype=np.int64)) for bits in snapshot.members]
    limit = ratio * max(areas, default=0)
    emptied = [i for i, area in enumerate(areas) if area <= limit and area > 0]
    if not emptied:
        return snapshot
    members, votes, iou = list(snapshot.members), snapshot.votes.copy(), snapshot.iou.copy()
    for i in emptied:
        labels = unpack(members[i], snapshot.shape)
        for k in range(1, snapshot.classes):
            votes[k - 1] -= labels == k
        members[i] = np.zeros_like(members[i])
    for i in emptied:
        iou[i, :] = iou[:, i] = [class_iou(members[i], other) for other in members]
    return replace(snapshot, members=tuple(members), votes=votes, iou=iou)
