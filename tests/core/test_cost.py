"""What a run is said to cost is what it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffseg.checkpoint import load_checkpoint
from diffseg.cost import cost_of
from diffseg.grid import Box
from diffseg.plan import plan_for
from diffseg.run import Run
from oracle import save_tiny, tiny_card
from plugin_cases import case_of


@pytest.mark.parametrize(
    ("shape", "spatial", "roi", "spacing_mm"),
    [
        ((20, 21, 22), 3, None, None),
        ((40, 33, 50), 3, None, None),
        ((40, 33, 50), 3, "3:20,0:33,1:50", 1.5),
        ((64, 50), 2, None, 0.7),
        ((5, 64, 50), 2, "1:4,0:64,0:50", None),
    ],
)
def test_windows_told_beforehand_are_those_of_the_run(
    tmp_path: Path, shape: tuple[int, ...], spatial: int, roi: str | None, spacing_mm: float | None
) -> None:
    card = tiny_card(spatial=spatial, spacing_mm=spacing_mm)
    save_tiny(tmp_path / "tiny.safetensors", card)
    model, case = load_checkpoint(tmp_path / "tiny.safetensors"), case_of(shape)
    run = Run(plan_for(card, model.sha256, (), roi=roi), case, model)
    cost = cost_of(case, card, None if roi is None else Box.parse(roi))
    assert cost.windows == run.windows
    window = run.prepared.image.shape[1:]
    # Overlapping windows see a voxel more than once, a region in one piece sees each once.
    assert cost.voxels >= np.prod(window)
    if np.prod(window[-spatial:]) <= 3 * 16**spatial:
        assert cost.voxels == np.prod(window)
    else:
        assert cost.voxels == cost.windows * 16**spatial


def test_a_scan_narrower_than_the_window_costs_no_more_than_it_has() -> None:
    cost = cost_of(case_of((8, 200)), replace(tiny_card(spatial=2), window=(16, 16)), None)
    assert cost.voxels == cost.windows * 8 * 16
