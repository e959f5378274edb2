"""The real dock in a real viewer: from a file to the saved mask read again, and what can go wrong on the way."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QFileDialog

from diffseg.nets.unet import UNet
from napari_diffseg import commands
from napari_diffseg.session import Session, session_for, unwrapped
from napari_diffseg.widgets.case_panel import OTHER, CasePanel
from napari_diffseg.widgets.denoise_panel import DenoisePanel
from napari_diffseg.widgets.dock import Dock
from napari_diffseg.widgets.ensemble_panel import EnsemblePanel
from napari_diffseg.widgets.mask_panel import MaskPanel
from oracle import save_tiny
from tiny_session import ODD_AFFINE, SHAPE, write_scan

LEFT = Qt.MouseButton.LeftButton
# Far beyond what a loaded machine needs; a lost signal then fails instead of hanging.
PATIENCE_MS = 60_000


class Desk:
    """A viewer with the dock, and what a person does there."""

    def __init__(self, viewer: Any, qtbot: QtBot, folder: Path) -> None:
        self.viewer, self.qtbot, self.folder = viewer, qtbot, folder
        self.session: Session = session_for(viewer)
        self.dock = self.open_dock()

    def open_dock(self) -> Dock:
        """As from the Plugins menu."""
        outer, dock = self.viewer.window.add_plugin_dock_widget("napari-diffseg", "DiffSeg")
        self.outer = outer
        dock = unwrapped(dock)
        assert isinstance(dock, Dock)
        return dock

    def open_scan(self) -> None:
        """By our reader, as with a file dropped on the canvas."""
        self.viewer.open(str(write_scan(self.folder / "scan.nii.gz")), plugin="napari-diffseg")
        self.wait(lambda: self.session.case is not None)

    def choose_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The last entry of the model box, and a file in its dialog."""
        path = self.folder / "tiny.safetensors"
        save_tiny(path)
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(path), ""))
        models = self.page(CasePanel).models
        models.setCurrentIndex(models.findText(OTHER))
        models.activated.emit(models.currentIndex())
        assert models.currentText() == "tiny"

    def page(self, kind: type[Any]) -> Any:
        """Turn to a page."""
        self.dock.turn_to(kind.title)
        return self.dock.panels[kind.title]

    def wait(self, met: Callable[[], bool]) -> None:
        self.qtbot.waitUntil(met, timeout=PATIENCE_MS)

    def press(self, made: Any) -> None:
        """A mouse click in the middle of a button that is there to be clicked."""
        assert made.isEnabled(), made.toolTip()
        self.qtbot.mouseClick(made, LEFT, pos=QPoint(made.width() // 2, made.height() // 2))

    def idle(self) -> None:
        """Until nothing runs and what came of it is shown."""
        self.wait(lambda: self.session.job.state == "idle")
        self.shown()

    def shown(self) -> None:
        """Until every layer is there."""
        self.wait(lambda: self.session.view is None or not self.session.view.waiting)

    def layer(self, role: str) -> Any:
        """Our one layer of this role."""
        self.shown()
        found = [la for la in self.viewer.layers if la.metadata.get("napari_diffseg", {}).get("role") == role]
        assert len(found) == 1, [la.name for la in self.viewer.layers]
        return found[0]


@pytest.fixture
def desk(make_napari_viewer_proxy: Callable[..., Any], qtbot: QtBot, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(make_napari_viewer_proxy(show=True), qtbot, tmp_path)
    yield made
    made.dock.shutdown()
    # napari's fixture refuses to leave while anybody still holds a part of the window.
    vars(made).clear()


@pytest.fixture
def ready(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Scan and model chosen, four members wanted."""
    desk.open_scan()
    desk.choose_model(monkeypatch)
    desk.page(EnsemblePanel).members["members"].value = 4
    return desk


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(UNet.forward)
    monkeypatch.setattr(UNet, "forward", lambda net, *a, **k: made.forward(net, *a, **k))
    yield made
    made.open_all()


class Gate:
    """Lets the network run only as many times as the test allows, or fail."""

    def __init__(self, real: Callable[..., Any]) -> None:
        self.real, self.asked, self.calls, self.error = real, 0, 0, ""
        self._passes = threading.Semaphore(0)
        self._open = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        if not self._open:
            self._passes.acquire()
        self.calls += 1
        if self.error == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self.real(*args, **kwargs)

    def allow(self, times: int) -> None:
        self._passes.release(times)

    def open_all(self) -> None:
        self._open = True
        self._passes.release(1000)


def test_from_opening_a_file_to_the_mask_read_again_by_other_programs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.open_scan()
    case_page = desk.page(CasePanel)
    assert case_page.inputs.combos[0].value is unwrapped(desk.layer("scan"))
    desk.choose_model(monkeypatch)
    case, session = desk.session.case, desk.session
    assert case is not None

    desk.press(desk.dock.bar.primary)  # First mask
    desk.idle()
    view = session.trajectory
    assert view is not None and view.done == view.total == 3
    assert desk.layer("x").data.shape[0] == desk.layer("x0").data.shape[0] == 4
    assert desk.viewer.dims.axis_labels[0] == "step"

    desk.press(desk.dock.bar.primary)  # Grow
    desk.idle()
    assert session.snapshot is not None and len(session.snapshot) == session.settings.members
    ensemble = desk.page(EnsemblePanel)
    desk.press(ensemble.maps["variance"])
    # The largest variance of a share p of the members is p (1 - p) = 1/4.
    assert tuple(desk.layer("variance").contrast_limits) == (0.0, 0.25)

    desk.press(desk.dock.bar.primary)  # Make editable
    mask = desk.layer("mask")
    assert session.mask is not None and mask.data.shape == case.grid.shape
    masks_page = desk.page(MaskPanel)
    masks_page.classes.setCurrentIndex(1)
    masks_page.classes.activated.emit(1)
    assert mask.selected_label == 2
    spot = (3, 5, 8)
    mask.brush_size = 1
    mask.paint(spot, 0)
    mask.paint((4, 6, 9), 2)
    assert session.mask.edited

    out = desk.folder / "corrected.nii.gz"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(out), ""))
    desk.press(masks_page.save)
    desk.wait(lambda: session.mask is not None and session.mask.saved_at is not None)
    assert "Saved " in masks_page.saved.text()
    assert desk.dock.tabs.tabText(list(desk.dock.panels).index("Mask")) == "Mask ✓"
    read_again(out, np.asarray(mask.data), case.grid.affine, edited=((4, 6, 9), 2), erased=spot)
    beside = json.loads((desk.folder / "corrected.plan.json").read_text())
    assert beside["edited"] is True and beside["source"].startswith("mode 1")


def read_again(
    path: Path,
    shown: np.ndarray,
    affine: np.ndarray,
    edited: tuple[tuple[int, ...], int],
    erased: tuple[int, ...],
) -> None:
    """The file in nibabel and in SimpleITK has each voxel where it lies in the patient on screen."""
    itk = pytest.importorskip("SimpleITK", reason="the second reader is not installed")
    scan, saved = nib.load(path.with_name("scan.nii.gz")), nib.load(path)
    np.testing.assert_array_equal(saved.affine, scan.affine)
    assert (saved.header["sform_code"], saved.header["qform_code"]) == (1, 1)
    assert saved.shape == SHAPE and np.issubdtype(saved.get_data_dtype(), np.integer)
    values = np.asarray(saved.dataobj)
    index = np.stack(np.meshgrid(*map(np.arange, shown.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    ras = index @ affine[:3, :3].T + affine[:3, 3]
    back = (ras - saved.affine[:3, 3]) @ np.linalg.inv(saved.affine[:3, :3]).T
    file_index = np.round(back).astype(int)
    # Grids coincide: float32 headers leave some 1e-5 of a voxel.
    np.testing.assert_allclose(back, file_index, atol=1e-3)
    np.testing.assert_array_equal(values[tuple(file_index.T)], shown.reshape(-1))
    image = itk.ReadImage(str(path))
    for voxel, label in (edited, (erased, 0)):
        lps = (affine[:3, :3] @ voxel + affine[:3, 3]) * (-1, -1, 1)
        assert image[image.TransformPhysicalPointToIndex(tuple(map(float, lps)))] == label


def test_stepping_playing_and_pausing_with_the_buttons_of_the_page(ready: Desk, gate: Gate) -> None:
    page, session = ready.page(DenoisePanel), ready.session
    gate.allow(1)
    ready.press(page.step)
    ready.wait(
        lambda: session.job.state == "paused" and session.trajectory is not None and session.trajectory.done == 1
    )
    assert gate.calls == 1 and page.where.text().startswith("Step 1/3")
    ready.press(page.play)  # resume
    ready.wait(lambda: gate.asked == 2)
    ready.press(page.play)  # pause, with a step under way
    gate.allow(1)
    ready.wait(lambda: session.trajectory is not None and session.trajectory.done == 2)
    assert session.job.state == "paused" and gate.calls == 2
    gate.allow(1)
    ready.press(page.play)
    ready.idle()
    assert session.trajectory is not None and session.trajectory.done == 3
    assert session.snapshot is not None and len(session.snapshot) == 1


def test_branching_a_waiting_run_comparing_both_and_exporting_them_with_the_buttons_of_the_page(
    ready: Desk, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, session, viewer = ready.page(DenoisePanel), ready.session, ready.viewer
    gate.allow(1)
    ready.press(page.step)
    ready.wait(lambda: session.job.state == "paused" and session.step == 1)
    ready.press(page.branch)
    ready.wait(lambda: session.job.name == "Branch B" and gate.asked == 2)
    gate.open_all()
    ready.wait(lambda: len(session.branches) == 1 and session.branches[0].view.done == 3)
    ready.idle()
    # Step 1 was kept, so the branch needed two passes only.
    assert gate.calls == 3 and session.trajectory is not None and session.trajectory.done == 1
    assert viewer.canvas.grid.enabled and sum(layer.visible for layer in viewer.layers) == 4
    ready.press(page.play)  # the first one goes on
    ready.idle()
    assert session.trajectory.done == 3 and gate.calls == 5 and len(session.branches) == 1
    assert list(page.branches.words) == ["A", "B"]
    assert (layer_of(viewer, "x0").data[:2] == layer_of(viewer, "branch x0").data[:2]).all()

    out = ready.folder / "run.gif"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(out), ""))
    page.formats.actions()[0].trigger()
    ready.wait(lambda: session.message is not None and "Exported" in session.message.text)
    with Image.open(out) as gif:
        assert gif.n_frames == 4
    ready.press(page.branches.cross("B"))
    assert session.branches == () and not page.branches.isVisible()


def layer_of(viewer: Any, role: str) -> Any:
    return next(la for la in viewer.layers if la.metadata.get("napari_diffseg", {}).get("role") == role)


def test_the_timeline_and_naparis_own_slider_move_together(ready: Desk) -> None:
    page, session = ready.page(DenoisePanel), ready.session
    ready.press(page.play)
    ready.idle()
    assert ready.viewer.dims.current_step[0] == 3
    page.timeline.setValue(1)
    assert ready.viewer.dims.current_step[0] == 1
    ready.viewer.dims.set_current_step(0, 2)
    assert session.step == page.timeline.value() == 2


def test_cancel_in_the_middle_keeps_what_is_finished_and_leaves_usable_buttons(ready: Desk, gate: Gate) -> None:
    page, session = ready.page(EnsemblePanel), ready.session
    gate.allow(2 * 3 + 1)  # two members of three steps, and one step more
    ready.press(page.grow)
    ready.wait(lambda: gate.calls == 7)
    ready.press(page.stop)
    assert session.job.state == "cancelling"
    gate.allow(1)
    ready.idle()
    assert gate.calls <= 8
    assert session.snapshot is not None and len(session.snapshot) == 2
    assert page.grow.isEnabled() and ready.dock.bar.primary.isEnabled()
    gate.open_all()
    ready.press(page.grow)
    ready.idle()
    assert len(session.snapshot) == 4
    # The two members drawn before were kept, not drawn again: 2 x 3 steps at least are saved.
    assert gate.calls <= 8 + 2 * 3


def test_running_out_of_memory_gives_one_sentence_and_leaves_usable_buttons(ready: Desk, gate: Gate) -> None:
    page, session = ready.page(EnsemblePanel), ready.session
    gate.open_all()
    gate.error = "memory"
    ready.press(page.grow)
    ready.idle()
    message = session.message
    assert message is not None and message.kind == "error"
    assert "memory" in message.text.lower() and message.text.count(".") == 1 and "\n" not in message.text
    assert "OutOfMemoryError" not in ready.dock.bar.message.text()
    assert ready.dock.bar.copy.isVisible() and page.grow.isEnabled()
    gate.error = ""
    ready.press(page.grow)
    ready.idle()
    assert session.snapshot is not None and len(session.snapshot) == 4


def test_closing_the_viewer_in_the_middle_ends_the_run(ready: Desk, gate: Gate) -> None:
    session = ready.session
    before = threading.enumerate()
    gate.allow(2)
    ready.press(ready.dock.bar.primary)
    ready.wait(lambda: gate.calls == 2)
    threads = [t for t in threading.enumerate() if t.name.startswith("diffseg") and t not in before]
    assert len(threads) == 1
    threading.Timer(0.2, gate.open_all).start()
    ready.viewer.close()
    ready.wait(lambda: not threads[0].is_alive())
    # Two steps were allowed; the third was under way when the viewer closed.
    assert gate.calls <= 3
    assert len(session.events.trajectory) == len(session.events.job) == 0
    assert session.checkpoint is None


def test_closing_the_dock_in_the_middle_ends_the_run_and_a_new_dock_finds_the_results(ready: Desk, gate: Gate) -> None:
    session = ready.session
    gate.allow(3 + 1)
    ready.press(ready.page(EnsemblePanel).grow)
    ready.wait(lambda: gate.calls == 4 and session.snapshot is not None and len(session.snapshot) == 1)
    before = len(session.events.snapshot)
    layers = [layer.name for layer in ready.viewer.layers]
    job = session.live.job

    def finish_the_step() -> None:
        """Only once the run was told to stop, however slow the machine is."""
        while job.state.state != "cancelling":
            time.sleep(0.01)
        gate.open_all()

    threading.Thread(target=finish_the_step, daemon=True).start()
    ready.viewer.window.remove_dock_widget(ready.outer)
    ready.wait(lambda: session.job.state == "idle")
    assert len(session.events.snapshot) == 0
    assert session.snapshot is not None and len(session.snapshot) == 1
    assert [layer.name for layer in ready.viewer.layers] == layers

    ready.dock = ready.open_dock()
    assert session_for(ready.viewer) is session
    assert len(session.events.snapshot) == before
    page = ready.page(EnsemblePanel)
    assert page.modes.count() == 1
    ready.press(page.grow)
    ready.idle()
    assert session.snapshot is not None and len(session.snapshot) == 4
    assert len([layer for layer in ready.viewer.layers if "inner" in layer.name]) == 1


def test_hiding_the_dock_stops_nothing(ready: Desk) -> None:
    ready.outer.hide()
    commands.play(ready.session)
    ready.idle()
    assert ready.session.trajectory is not None and ready.session.trajectory.done == 3
    ready.outer.show()
    assert ready.page(DenoisePanel).timeline.value() == 3


def test_a_closed_dock_is_not_kept_alive(desk: Desk) -> None:
    import weakref

    panels = [weakref.ref(panel) for panel in desk.dock.panels.values()]
    desk.viewer.window.remove_dock_widget(desk.outer)
    desk.dock = desk.open_dock()
    desk.outer.show()
    for _ in range(20):
        desk.qtbot.wait(10)
        gc.collect()
        if not any(ref() for ref in panels):
            break
    assert [ref() for ref in panels] == [None] * len(panels)


@pytest.mark.parametrize("title", ["Case", "Denoise", "Ensemble", "Saliency", "Mask"])
def test_every_page_fits_into_360_by_700_pixels_with_results_and_a_message(ready: Desk, title: str) -> None:
    session = ready.session
    for act in (commands.play, commands.grow_ensemble):
        act(session)
        ready.idle()
    commands.promote(session, "mode:1")
    ready.dock.turn_to(title)
    outer = ready.outer
    outer.setFloating(True)
    outer.resize(360, 700)  # 800 high, less napari's menu, title and status bar
    ready.qtbot.wait(50)
    area = ready.dock.tabs.currentWidget()
    assert ready.dock.width() <= 360
    assert area.verticalScrollBar().maximum() == 0
    assert area.horizontalScrollBar().maximum() == 0


def test_keyboard_alone_reaches_every_control_of_a_page(ready: Desk) -> None:
    page = ready.page(DenoisePanel)
    wanted = (
        page.sampler,
        page.device,
        page.play,
        page.step,
        page.timeline,
        page.follow,
        ready.dock.bar.primary,
    )
    reached = set()
    widget = page.sampler
    # No further than to the last one: PySide keeps parts of napari's window that it was once asked for.
    for _ in range(1000):
        reached.add(widget)
        if set(wanted) <= reached:
            break
        widget = widget.nextInFocusChain()
    assert set(wanted) <= reached
    assert all(w.focusPolicy() & Qt.FocusPolicy.TabFocus for w in wanted)


def test_opening_the_dock_takes_up_a_scan_that_is_open_already(
    make_napari_viewer_proxy: Callable[..., Any], qtbot: QtBot, tmp_path: Path
) -> None:
    viewer = make_napari_viewer_proxy()
    viewer.open(str(write_scan(tmp_path / "scan.nii.gz")), plugin="napari-diffseg")
    desk = Desk(viewer, qtbot, tmp_path)
    deadline = time.monotonic() + 30
    while desk.session.case is None and time.monotonic() < deadline:
        qtbot.wait(10)
    assert desk.session.case is not None
    np.testing.assert_allclose(desk.session.case.origin.affine, ODD_AFFINE, atol=1e-5)
    desk.dock.shutdown()
