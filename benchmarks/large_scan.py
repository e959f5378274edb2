"""Cost to the person of a mask of 512 x 512 x 300 voxels: blocked moments, and the brush while a model samples.

Run: python benchmarks/large_scan.py [--where]. Needs a display. The scan is noise: only its size matters here.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from gui import Bench, say
from qtpy.QtWidgets import QApplication

from diffseg.keeper import FOLDER_VARIABLE
from diffseg.zoo import find_model
from napari_diffseg import commands, mask_tools
from napari_diffseg.launch import waiting
from napari_diffseg.runs import live

SHAPE = (512, 512, 300)
SPACING_MM = (0.7, 0.7, 1.0)
# Touches of the brush for each figure, and its width in voxels.
TOUCHES = 120
BRUSH = 10
# Until the journal and whatever else waits for a pause in drawing is done.
SETTLED_S = 2.0
# Steps of the run that goes on meanwhile; more than there is time for.
LONG_RUN = 1000


def noise(path: Path) -> Path:
    """A scan of that size."""
    values = np.random.default_rng(0).normal(100, 50, SHAPE).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([*SPACING_MM, 1.0])), path)
    return path


def blocked(bench: Bench, folder: Path) -> Any:
    """Every kind of work on a mask once; gives back the layer of the mask."""
    session = bench.session
    scan = noise(folder / "noise.nii")
    with bench.phase("load, 512 x 512 x 300"):
        commands.open_files(session, [scan])
        bench.idle()
    commands.choose_model(session, find_model("hippocampus-3d"))
    commands.set_settings(session, members=2, device="cpu")
    commands.grow_ensemble(session, 2)
    bench.idle()
    with bench.phase("mask from a mode"):
        commands.promote(session, "mode:1")
        bench.rest(SETTLED_S)
    layer = bench.viewer.layers.selection.active
    with bench.phase("holes filled"):
        mask_tools.fill_holes(session)
        bench.until(lambda: live(session).tool is None)
    with bench.phase("outline grown"):
        mask_tools.grow(session)
        bench.until(lambda: live(session).tool is None)
    with bench.phase("undo"):
        layer.undo()
        bench.rest(SETTLED_S)
    with bench.phase("save"):
        commands.save_mask(session, folder / "mask.nii.gz")
        bench.until(lambda: live(session).saving is None)
    return layer


def brush(bench: Bench, layer: Any, axes: int) -> None:
    """Time of a touch of the brush: napari's own work and what listens to it, and with everything drawn as well; first
    with nothing else going on and then while a model samples.
    """
    session = bench.session
    layer.brush_size, layer.n_edit_dimensions = BRUSH, axes
    _, alone = touched(bench, layer, axes)
    commands.set_settings(session, steps=LONG_RUN, seed=axes)
    commands.play(session)
    bench.until(lambda: session.trajectory is not None and session.trajectory.done >= 2 and not waiting(session))
    painted, drawn = touched(bench, layer, axes + 2)
    assert session.job.state == "running", "the run must outlast the strokes"
    commands.cancel(session)
    bench.idle()
    target = 16 if axes == 2 else 33
    words = f"p95 {painted:.1f} ms, with drawing {drawn:.1f} ms, which takes {alone:.1f} ms when nothing runs"
    say(f"brush in {axes}D while sampling", words, f"<= {target} ms", painted <= target)


def touched(bench: Bench, layer: Any, seed: int) -> tuple[float, float]:
    """95th percentile in ms of a touch, and of a touch with all that Qt does after it."""
    roi, rng = bench.session.roi, np.random.default_rng(seed)
    assert roi is not None
    painted, drawn = [], []
    for _ in range(TOUCHES):
        voxel = tuple(int(rng.integers(a, b)) for a, b in zip(roi.start, roi.stop, strict=True))
        begin = time.perf_counter()
        layer.paint(voxel, 1)
        painted.append(1000 * (time.perf_counter() - begin))
        QApplication.processEvents()
        drawn.append(1000 * (time.perf_counter() - begin))
        bench.rest(0.03)
    return float(np.percentile(painted, 95)), float(np.percentile(drawn, 95))


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--where", action="store_true", help="print where the GUI thread stood when it was blocked")
    options = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        os.environ[FOLDER_VARIABLE] = str(Path(name) / "journal")
        bench = Bench(options.where)
        layer = blocked(bench, Path(name))
        for axes in (2, 3):
            brush(bench, layer, axes)
        bench.viewer.close()


if __name__ == "__main__":
    main()
