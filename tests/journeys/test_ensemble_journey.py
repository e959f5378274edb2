"""The page Ensemble by mouse in a real viewer: modes, sizes, members, readers, closing and going on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QGuiApplication

from napari_diffseg import menu
from napari_diffseg.session import session_for, unwrapped
from napari_diffseg.widgets.dock import Dock
from napari_diffseg.widgets.ensemble_panel import EnsemblePanel
from readers_cases import Drawer, block, open_with_readers

LEFT = Qt.MouseButton.LeftButton
PATIENCE_MS = 60_000
# What the model draws: two modes and an answer that finds nothing.
WIDTHS = (8, 8, 3, 8, 0, 3, 8, 8)


class Desk:
    """A viewer with the dock, and what a person does on the page."""

    def __init__(self, viewer: Any, qtbot: QtBot) -> None:
        self.viewer, self.qtbot, self.session = viewer, qtbot, session_for(viewer)
        self.open_dock()

    def open_dock(self) -> None:
        self.outer, dock = self.viewer.window.add_plugin_dock_widget("napari-diffseg", "DiffSeg")
        self.dock: Dock = unwrapped(dock)

    @property
    def page(self) -> EnsemblePanel:
        self.dock.turn_to(EnsemblePanel.title)
        page = self.dock.panels[EnsemblePanel.title]
        assert isinstance(page, EnsemblePanel)
        return page

    def idle(self) -> None:
        self.qtbot.waitUntil(lambda: self.session.job.state == "idle", timeout=PATIENCE_MS)
        self.shown()

    def shown(self) -> None:
        """Until every layer is there."""
        assert self.session.view is not None
        self.qtbot.waitUntil(lambda: not self.session.view.waiting, timeout=PATIENCE_MS)

    def press(self, made: Any) -> None:
        """A click in the middle of what is there to be clicked."""
        assert made.isEnabled(), made.toolTip()
        self.qtbot.mouseClick(made, LEFT, pos=QPoint(made.width() // 2, made.height() // 2))

    def tick(self, box: Any) -> None:
        """A click on the square of a box."""
        assert box.isEnabled(), box.toolTip()
        self.qtbot.mouseClick(box, LEFT, pos=QPoint(10, box.height() // 2))

    def layer(self, role: str) -> Any:
        self.shown()
        found = [la for la in self.viewer.layers if la.metadata.get("napari_diffseg", {}).get("role") == role]
        assert len(found) == 1, [la.name for la in self.viewer.layers]
        return found[0]


@pytest.fixture
def desk(
    make_napari_viewer_proxy: Callable[..., Any], qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    made = Desk(make_napari_viewer_proxy(show=True), qtbot)
    made.session.inline = True
    open_with_readers(made.session, tmp_path)
    made.session.inline = False
    yield made
    made.dock.shutdown()
    # napari's fixture refuses to leave while anybody still holds a part of the window.
    vars(made).clear()


def test_what_else_could_it_be_and_do_the_readers_agree(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    drawer = Drawer(monkeypatch, lambda k, shape: block(WIDTHS[k], shape))
    session, page = desk.session, desk.page
    page.members["members"].value = 5
    desk.press(page.grow)
    desk.idle()
    assert session.snapshot is not None and len(session.snapshot) == 5

    # The modes, the most frequent first, and the one that found nothing by its name.
    words = [page.modes.item(i).text() for i in range(page.modes.count())]
    assert [w.splitlines()[0] for w in words] == ["3 of 5", "1 of 5", "1 of 5"]
    assert words[2].splitlines()[1] == "nothing found"
    spot = page.modes.visualItemRect(page.modes.item(1)).center()
    desk.qtbot.mouseClick(page.modes.viewport(), LEFT, pos=spot)
    assert np.count_nonzero(desk.layer("mode").data) == 60

    # The readers: unfolding computes, in the thread of a job.
    desk.press(page.readers.head)
    desk.qtbot.waitUntil(lambda: session.readers is not None, timeout=PATIENCE_MS)
    desk.idle()
    board = page.readers.board
    assert [board.item(row, 1).text() for row in range(2)] == ["1.00", "0.38"]
    assert [board.item(row, 2).text() for row in range(2)] == ["0.38", "1.00"]
    assert "Every reader has a matching mode. No reader matches mode 3." in page.readers.alone.text()
    assert "N = 5 masks, 2 readers" in page.readers.ged.text() and "energy distance (GED)" in page.readers.ged.text()
    desk.tick(page.readers.maps["ged"])
    assert tuple(desk.layer("ged").contrast_limits) == (0, 2)
    curve = page.readers.curve
    assert curve.isVisibleTo(page)
    first = max(session.readers.box.start[0] - 3, 0)
    scene = curve.getPlotItem().getViewBox().mapViewToScene(QPointF(6.1 - first, 0.5))
    desk.qtbot.mouseClick(curve.viewport(), LEFT, pos=curve.mapFromScene(scene))
    desk.qtbot.waitUntil(lambda: session.looked_at == 6, timeout=PATIENCE_MS)

    # Closed and opened again, it goes on with what was drawn; the comparison follows by itself.
    before = session.snapshot.members
    desk.outer.close()
    desk.viewer.window.remove_dock_widget(desk.outer)
    desk.open_dock()
    page = desk.page
    assert page.modes.count() == 3
    desk.press(page.readers.head)
    page.members["members"].value = 8
    desk.press(page.grow)
    desk.idle()
    assert drawer.drawn == 8 and session.snapshot.members[:5] == before
    desk.qtbot.waitUntil(lambda: session.readers.snapshot is session.snapshot, timeout=PATIENCE_MS)
    assert "N = 8 masks" in page.readers.ged.text()

    # From the menu or the palette, without the page.
    for copy, rows in ((menu.copy_members, 8), (menu.copy_readers, None)):
        desk.dock.turn_to("Case")
        copy(desk.viewer)
        board = QGuiApplication.clipboard()
        assert board is not None and session.message is not None and session.message.text.startswith("Copied")
        assert rows is None or len(board.text().splitlines()) == 1 + rows

    # A row of the table, and a mode made editable by the keyboard.
    desk.idle()
    desk.press(page.table.head)
    assert page.list.rowCount() == 8 == len(desk.layer("members").features)
    page.modes.setFocus()
    page.modes.setCurrentRow(1)
    desk.qtbot.keyClick(page.modes, Qt.Key.Key_Return)
    assert session.mask is not None and np.count_nonzero(session.mask.labels) == 60
