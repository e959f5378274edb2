"""CPU and GPU give the same saliency maps from the same noise. Skipped where there is no GPU."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from diffseg.checkpoint import load_checkpoint
from diffseg.io import read_case
from diffseg.saliency.run import SaliencyRun
from diffseg.saliency_plan import ExplainPlan
from image_models import save_pair

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


@pytest.mark.parametrize("method", ["cdm", "cg-cdm", "cg-cdm-code", "cg-diff"])
def test_maps_on_cpu_and_gpu_agree_to_one_percent(method: str, tmp_path: Path) -> None:
    """The maps are differences of nearly equal states, so float32 rounding is seen magnified."""
    scan = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((16, 16, 3)).astype(np.float32), np.eye(4)), scan)
    model, classifier = save_pair(tmp_path)
    settings = {"q": 100, "steps": 10, "scale": 1.0} if method == "cg-diff" else {"q": 100, "r": 3}
    maps = []
    for device in ("cpu", "cuda"):
        checkpoint, guide = load_checkpoint(model), load_checkpoint(classifier)
        plan = ExplainPlan("tiny", checkpoint.sha256, (), method, settings, draws=2, device=device)
        job = SaliencyRun(plan, read_case([scan]), checkpoint, guide)
        *_, last = job.explain()
        maps.append(job.explanation(last).map)
    np.testing.assert_allclose(maps[1], maps[0], atol=0.01 * float(np.abs(maps[0]).max()))
