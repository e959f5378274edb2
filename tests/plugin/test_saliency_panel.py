"""The page Saliency, with a Session and nothing else, and then by mouse in a real viewer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtWidgets import QAbstractButton

from diffseg.saliency import SALIENCY
from image_models import image_card, save_pair
from napari_diffseg import commands, forms, pace, saliency_commands
from napari_diffseg.session import Session, session_for, unwrapped
from napari_diffseg.widgets.histogram import Histogram
from napari_diffseg.widgets.saliency_panel import SaliencyPanel
from oracle import save_tiny
from plugin_cases import gradient
from scans import save_nifti

LEFT = Qt.MouseButton.LeftButton
# Far beyond what a loaded machine needs.
PATIENCE_MS = 60_000


@pytest.fixture(autouse=True)
def unknown_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saliency_commands, "paces", pace.Paces(tmp_path / "pace.json"))


def scan(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    values = gradient((20, 24, 2)) / 500 + rng.random((20, 24, 2))
    return save_nifti(folder / "T1.nii.gz", values.astype(np.float32), np.diag([-1.0, -1, -1, 1]))


def ready(folder: Path) -> Session:
    session = Session(inline=True)
    commands.open_files(session, [scan(folder)])
    commands.set_settings(session, device="cpu")
    saliency_commands.choose_hint_model(session, save_pair(folder)[0])
    return session


def panel_of(qtbot: QtBot, session: Session) -> SaliencyPanel:
    panel = SaliencyPanel(session)
    qtbot.addWidget(panel)
    panel.show()
    return panel


def test_every_method_has_a_form_of_its_own_knobs_and_noise_where_there_is_noise(
    qtbot: QtBot, tmp_path: Path
) -> None:
    session = ready(tmp_path)
    panel = panel_of(qtbot, session)
    assert [panel.methods.itemData(i) for i in range(panel.methods.count())] == list(SALIENCY)
    for name in SALIENCY:
        saliency_commands.set_method(session, name)
        assert panel.own is not None
        assert forms.read(panel.own) == forms.defaults(SALIENCY[name]), name
        shown = {widget.name for widget in panel.common if widget.native.isVisible()}
        assert shown == ({"draws", "seed"} if SALIENCY[name].random else set()), name
    saliency_commands.set_method(session, "cdm")
    assert panel.own is not None
    panel.own["tau"].value = 0.5
    panel.common["draws"].value = 3
    assert session.hints.knobs == {"tau": 0.5} and session.hints.draws == 3


def test_the_page_tells_cost_use_size_and_threshold(qtbot: QtBot, tmp_path: Path) -> None:
    session = ready(tmp_path)
    saliency_commands.set_method(session, "cdm")
    saliency_commands.set_hints(session, knobs={"q": 60, "r": 3})
    panel = panel_of(qtbot, session)
    qtbot.waitUntil(lambda: panel.cost.text().startswith("12 forward passes for 2 slices"), timeout=PATIENCE_MS)
    assert not panel.start.isEnabled() and "no map yet" in panel.start.toolTip()
    panel.run.click()
    assert panel.finished() and "12 forward passes on CPU" in panel.used.text()
    cut = session.cut
    assert cut is not None and panel.histogram.line.value() == pytest.approx(cut.line)
    assert panel.above.text().startswith("Above ") and "(Otsu)" in panel.above.text()
    assert not panel.reset.isEnabled() and "rule's own" in panel.reset.toolTip()
    panel.at.setValue(0.9)
    assert session.cut is not None and session.cut.own and "Above 0.90 (yours)" in panel.above.text()
    assert panel.histogram.line.value() == pytest.approx(0.9)
    panel.reset.click()
    assert session.cut.line == pytest.approx(cut.line)
    panel.largest.click()
    assert session.hints.largest and session.cut.mask.sum() <= cut.mask.sum()
    panel.start.click()
    assert session.mask is not None and session.mask.source == "saliency above the threshold"


def test_models_that_draw_masks_do_not_appear_and_classifiers_only_without_their_image_model(
    qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pair(tmp_path)
    save_tiny(tmp_path / "masks.safetensors")
    save_tiny(tmp_path / "alone-classifier.safetensors", replace(image_card(), task="classifier"))
    shipped = {path.stem: path for path in sorted(tmp_path.glob("*.safetensors"))}
    monkeypatch.setattr(saliency_commands, "shipped_models", lambda: shipped)
    panel = panel_of(qtbot, Session())
    names = [panel.models.itemText(i) for i in range(panel.models.count())]
    assert names == ["alone-classifier", "tiny", "Other file…"]


def test_a_method_that_the_models_cannot_run_is_grey_and_says_why(qtbot: QtBot, tmp_path: Path) -> None:
    session = ready(tmp_path)
    panel = panel_of(qtbot, session)
    saliency_commands.choose_hint_model(session, tmp_path / "tiny-classifier.safetensors")
    assert panel.run.isEnabled() and panel.methods.currentData() == "grad-cam"
    saliency_commands.set_method(session, "cg-cdm")
    assert not panel.run.isEnabled() and "is a classifier" in panel.run.toolTip() and panel.hint.isVisible()


def test_after_shutdown_the_page_listens_to_nothing(qtbot: QtBot, tmp_path: Path) -> None:
    session = ready(tmp_path)
    panel = panel_of(qtbot, session)
    assert len(session.events.cut) > 0
    panel.shutdown()
    panel.shutdown()
    assert all(len(getattr(session.events, field)) == 0 for field in ("cut", "saliency", "hints", "hint_model", "job"))


def drag_line(qtbot: QtBot, plot: Histogram, to: float) -> None:
    """Pull the threshold line with the mouse."""

    def at(value: float) -> QPoint:
        box = plot.getPlotItem().getViewBox()
        low, high = box.viewRange()[1]
        scene = box.mapViewToScene(QPointF(value, (low + high) / 2))
        return plot.mapFromScene(scene)

    start, end = at(float(plot.line.value())), at(to)
    port = plot.viewport()
    qtbot.mousePress(port, LEFT, pos=start)
    for share in np.linspace(0.1, 1, 12):
        where = start + (end - start) * float(share)
        qtbot.mouseMove(port, pos=where)
        qtbot.wait(20)
    qtbot.mouseRelease(port, LEFT, pos=end)


def test_by_mouse_from_a_scan_to_a_hint_that_is_made_editable(
    make_napari_viewer_proxy: Callable[..., Any], qtbot: QtBot, tmp_path: Path
) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    session = session_for(viewer)
    _, dock = viewer.window.add_plugin_dock_widget("napari-diffseg", "DiffSeg")
    dock = unwrapped(dock)
    viewer.open(str(scan(tmp_path)), plugin="napari-diffseg")
    qtbot.waitUntil(lambda: session.case is not None, timeout=PATIENCE_MS)
    commands.set_settings(session, device="cpu")
    saliency_commands.choose_hint_model(session, save_pair(tmp_path)[0])
    saliency_commands.set_method(session, "cdm")
    saliency_commands.set_hints(session, knobs={"q": 60, "r": 3})
    panel = dock.panels["Saliency"]
    dock.turn_to("Saliency")

    def press(made: QAbstractButton) -> None:
        assert made.isEnabled(), made.toolTip()
        qtbot.mouseClick(made, LEFT, pos=QPoint(made.width() // 2, made.height() // 2))

    press(panel.run)
    qtbot.waitUntil(lambda: session.job.state == "idle" and session.cut is not None, timeout=PATIENCE_MS)
    qtbot.waitUntil(lambda: not session.view.waiting, timeout=PATIENCE_MS)
    assert dock.tabs.tabText(3) == "Saliency ✓"
    names = [layer.name for layer in viewer.layers]
    assert names == ["T1", "T1 · saliency", "T1 · saliency > Otsu"]
    assert session.cut is not None
    before, otsu = session.cut, session.cut.line
    drag_line(qtbot, panel.histogram, 0.85)
    # A pixel of the plot is about 0.004 wide.
    assert session.cut is not None and session.cut.own and session.cut.line == pytest.approx(0.85, abs=0.03)
    assert viewer.layers[2].name == f"T1 · saliency > {session.cut.line:.2f}"
    assert session.cut.mask.sum() < before.mask.sum()
    press(panel.reset)
    assert session.cut.line == pytest.approx(otsu)
    press(panel.start)
    assert session.mask is not None and np.array_equal(session.mask.labels, before.mask)
    dock.shutdown()
