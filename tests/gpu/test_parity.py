"""CPU and GPU give the same masks from the same noise. Skipped where there is no GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffseg.checkpoint import load_checkpoint
from diffseg.ensemble import Snapshot
from diffseg.io import read_case
from diffseg.metrics.overlap import iou
from diffseg.plan import plan_for
from diffseg.run import Run
from diffseg.zoo import find_model, sample_scans

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


def ensemble(device: str, sampler: str, autocast: torch.dtype | None = None) -> Snapshot:
    """Three members of the shipped model on the sample scan."""
    scan = sample_scans()["hippocampus"]
    checkpoint = load_checkpoint(find_model(scan.model))
    settings: dict[str, Any] = {"eta": 0.0} if sampler == "ddim" else {}
    plan = plan_for(
        checkpoint.card,
        checkpoint.sha256,
        tuple(Path(p) for p in scan.paths),
        sampler=sampler,
        sampler_settings=settings,
        members=3,
        roi=str(scan.roi),
        device=device,
    )
    run = Run(plan, read_case(scan.paths), checkpoint, autocast)
    grown = run.ensemble()
    for _ in run.grow(grown, 3):
        pass
    return grown.snapshot()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=["fp32", "bf16"])
def test_masks_on_cpu_and_gpu_overlap_to_99_percent(sampler: str, autocast: torch.dtype | None) -> None:
    reference, got = ensemble("cpu", sampler), ensemble("cuda", sampler, autocast)
    for i in range(3):
        a, b = reference.member(i), got.member(i)
        assert iou(a > 0, b > 0) >= 0.99
        for k in (1, 2):
            assert iou(a == k, b == k) >= 0.99


def test_the_same_noise_reaches_both_devices() -> None:
    from diffseg.sample import Noise

    a, b = (Noise(3, (0, 5)).draw(2, (3, 8, 8), d).cpu() for d in ("cpu", "cuda"))
    np.testing.assert_array_equal(a.numpy(), b.numpy())
