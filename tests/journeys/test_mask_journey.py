"""The page Mask by mouse and keys in a real viewer: paint, fill, check, read blind, reveal, save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt

from napari_diffseg import commands
from napari_diffseg.session import session_for, unwrapped
from napari_diffseg.widgets.dock import TELLING, Dock
from napari_diffseg.widgets.mask_panel import MaskPanel
from oracle import save_tiny
from tiny_session import write_scan

PATIENCE_MS = 60_000


def press(qtbot: QtBot, made: Any) -> None:
    assert made.isVisible() and made.isEnabled(), made.toolTip()
    qtbot.mouseClick(made, Qt.MouseButton.LeftButton, pos=QPoint(made.width() // 2, made.height() // 2))


@pytest.mark.timeout(300)
def test_a_mask_is_drawn_blind_filled_checked_and_saved(make_napari_viewer: Any, qtbot: QtBot, tmp_path: Path) -> None:
    viewer = make_napari_viewer(show=True)
    dock: Dock = unwrapped(viewer.window.add_plugin_dock_widget("napari-diffseg", "DiffSeg")[1])
    session = session_for(viewer)
    save_tiny(tmp_path / "tiny.safetensors")
    commands.choose_model(session, tmp_path / "tiny.safetensors")

    def idle() -> None:
        qtbot.waitUntil(lambda: session.job.state == "idle", timeout=PATIENCE_MS)

    def seen(names: list[str]) -> None:
        qtbot.waitUntil(
            lambda: set(names) <= {la.name for la in viewer.layers if la.visible}, timeout=PATIENCE_MS
        )

    commands.open_files(session, [write_scan(tmp_path / "scan.nii.gz")])
    idle()
    page = dock.panels[MaskPanel.title]
    assert isinstance(page, MaskPanel)
    dock.turn_to(MaskPanel.title)

    press(qtbot, page.blind.begin)
    titles = list(dock.panels)
    assert not any(dock.tabs.isTabEnabled(titles.index(title)) for title in TELLING)
    commands.grow_ensemble(session, 4)
    idle()
    # Layers come one in each turn of the event loop.
    seen(["scan", "scan · mask"])
    assert len([la for la in viewer.layers if la.visible]) == 2, "what the model drew stays hidden"
    qtbot.waitUntil(lambda: viewer.layers.selection.active == viewer.layers["scan · mask"], timeout=PATIENCE_MS)
    layer = viewer.layers.selection.active
    assert session.mask is not None and layer.data is session.mask.labels
    for depth in (4, 8):
        layer.brush_size = 5
        layer.paint((depth, 9, 11), 1)
    press(qtbot, page.tools.between)
    qtbot.waitUntil(lambda: bool(layer.data[6].any()), timeout=PATIENCE_MS)
    drawn = layer.data.copy()
    layer.undo()
    assert not layer.data[6].any()
    layer.redo()

    press(qtbot, page.blind.reveal)
    assert all(dock.tabs.isTabEnabled(number) for number in range(len(titles)))
    seen(["scan · 95 % inner", "scan · blind reading"])
    qtbot.waitUntil(lambda: page.check.where.text().startswith("first: slice"), timeout=PATIENCE_MS)
    press(qtbot, page.check.next)
    assert session.queue is not None and session.looked_at == session.queue.places[0].number
    qtbot.waitUntil(page.check.done.isEnabled, timeout=PATIENCE_MS)
    before = page.check.where.text()
    press(qtbot, page.check.done)
    qtbot.waitUntil(lambda: page.check.where.text() not in ("", before), timeout=PATIENCE_MS)

    layer.paint((4, 9, 11), 2)
    page.choose_and_save(tmp_path / "mine.nii.gz")
    qtbot.waitUntil(lambda: (tmp_path / "mine.blind.nii.gz").exists() and page.finished(), timeout=PATIENCE_MS)
    assert session.case is not None
    blind = session.case.origin.to_display(np.asarray(nib.load(tmp_path / "mine.blind.nii.gz").dataobj))
    mask = session.case.origin.to_display(np.asarray(nib.load(tmp_path / "mine.nii.gz").dataobj))
    np.testing.assert_array_equal(blind, drawn)
    np.testing.assert_array_equal(mask, layer.data)
    assert (mask != blind).any()
