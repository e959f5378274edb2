"""The small scan with two readers who differ, and a model that draws what the test wants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from diffseg.io import read_case, write_labels
from diffseg.run import Run
from napari_diffseg import commands
from napari_diffseg.session import Session
from oracle import save_tiny, tiny_card
from tiny_session import write_scan


def block(width: int, shape: tuple[int, ...]) -> np.ndarray:
    """4 x 5 x ``width`` voxels of class 1, in display order; 0 is empty."""
    mask = np.zeros(shape, np.uint8)
    mask[5:9, 6 : 6 + width, 4:9] = 1
    return mask


def open_with_readers(session: Session, folder: Path, widths: Sequence[int] = (8, 3)) -> None:
    """Scan, a reader R1, R2, ... for each width of a block, and a tiny model with one foreground class."""
    save_tiny(folder / "tiny.safetensors", tiny_card(classes=2))
    scan = write_scan(folder / "scan.nii.gz")
    case = read_case([scan])
    paths = [folder / f"R{i + 1}.nii.gz" for i in range(len(widths))]
    for path, width in zip(paths, widths, strict=True):
        write_labels(path, block(width, case.grid.shape), case)
    commands.choose_model(session, folder / "tiny.safetensors")
    commands.open_files(session, [scan], paths)


class Drawer:
    """Stands in for what the model draws: ``draw(k)`` is the mask ``(*roi)`` of the k-th one drawn; counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, draw: Callable[[int, tuple[int, ...]], np.ndarray]) -> None:
        self.drawn = 0

        def mask(run: Run, x0: object) -> np.ndarray:
            self.drawn += 1
            return draw(self.drawn - 1, run.prepared.roi.shape)

        monkeypatch.setattr(Run, "_mask", mask)
