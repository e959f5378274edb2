"""The files of an explanation, on the scan's own grid, written all together or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffseg.case import Case
from diffseg.grid import Box
from diffseg.io import write_labels, write_map
from diffseg.outputs import PLAN, full, new_folder
from diffseg.saliency_plan import ExplainPlan, explain_plan_to_json


def write_saliency(
    out: Path, case: Case, plan: ExplainPlan, roi: Box, values: NDArray[np.float32], mask: NDArray[np.uint8]
) -> list[str]:
    """Write map and mask ``(*roi)`` and the plan; returns the file names.

    ``saliency.nii.gz`` is float32 and 0 outside the region, ``saliency_otsu.nii.gz`` uint8, 1 above the threshold.
    """
    with new_folder(out) as part:
        write_map(part / "saliency.nii.gz", full(values, roi, case.grid.shape), case)
        write_labels(part / "saliency_otsu.nii.gz", full(mask, roi, case.grid.shape), case)
        (part / PLAN).write_text(explain_plan_to_json(plan, out), encoding="utf-8")
        return sorted(p.name for p in part.iterdir())
