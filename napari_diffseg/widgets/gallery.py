"""The modes as pictures: click to show, double-click to make editable, everything by keyboard as well."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QImage, QKeyEvent, QPainter, QPen, QPixmap, QResizeEvent
from qtpy.QtWidgets import QListView, QListWidget, QListWidgetItem, QWidget

from napari_diffseg.layerdata import mode_color

SIDE_PX = 84
FRAME_PX = 3
# Lines of words below a picture.
LINES = 3
INDEX = Qt.ItemDataRole.UserRole


class Gallery(QListWidget):
    """``picked(index)`` for a mode to show or hide, ``opened(index)`` for one to make editable."""

    picked = Signal(int)
    opened = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Modes: the distinct answers")
        self.setToolTip(
            "Click, or arrow keys and Space: show or hide on the scan.\n"
            "Double-click or Enter: make it the editable mask."
        )
        self.setViewMode(QListView.ViewMode.IconMode)
        self.setMovement(QListView.Movement.Static)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setWordWrap(True)
        self.setUniformItemSizes(True)
        self.setIconSize(QSize(SIDE_PX, SIDE_PX))
        self.setSpacing(2)
        self._cell()
        self.itemClicked.connect(lambda item: self.picked.emit(item.data(INDEX)))
        self.itemDoubleClicked.connect(lambda item: self.opened.emit(item.data(INDEX)))

    def show_modes(self, entries: Sequence[tuple[int, str, np.ndarray | None, str]]) -> None:
        """An entry per mode: its index, the words below, its picture (RGB uint8) and the words for screen readers.

        Entries are renewed in place, so that focus and place in the list stay while masks arrive.
        """
        while self.count() > len(entries):
            self.takeItem(self.count() - 1)
        for row, (index, words, picture, spoken) in enumerate(entries):
            item = self.item(row)
            if item is None:
                item = QListWidgetItem()
                self.addItem(item)
            item.setData(INDEX, index)
            item.setText(words)
            item.setToolTip(f"{spoken}\n{self.toolTip()}")
            item.setData(Qt.ItemDataRole.AccessibleTextRole, spoken)
            item.setIcon(framed(picture, mode_color(index)))
        self._fit()

    def mark(self, index: int | None) -> None:
        """Show which mode is on display."""
        for row in range(self.count()):
            if (item := self.item(row)) is not None:
                item.setSelected(item.data(INDEX) == index)
                if item.isSelected():
                    self.setCurrentItem(item)

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Space shows or hides, Enter makes editable; arrows move as usual, without showing anything."""
        item = self.currentItem()
        if event is not None and item is not None:
            if event.key() == Qt.Key.Key_Space:
                self.picked.emit(item.data(INDEX))
                return
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self.opened.emit(item.data(INDEX))
                return
        super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Never higher than its pictures."""
        super().resizeEvent(event)
        self._fit()

    def sizeHint(self) -> QSize:
        """One row of pictures; more where there is room."""
        return QSize(3 * self.gridSize().width(), self._height(1))

    def minimumSizeHint(self) -> QSize:
        """As ``sizeHint``, as narrow as one picture."""
        return QSize(self.gridSize().width() + 12, self._height(1))

    def _fit(self) -> None:
        view = self.viewport()
        columns = max(1, (view.width() if view is not None else 0) // self.gridSize().width())
        self.setMaximumHeight(self._height(max(1, math.ceil(self.count() / columns))))

    def _height(self, rows: int) -> int:
        return rows * self.gridSize().height() + 2 * self.frameWidth() + 2

    def _cell(self) -> None:
        line = self.fontMetrics().lineSpacing()
        width = max(SIDE_PX + 8, self.fontMetrics().horizontalAdvance("no lesion found") + 8)
        self.setGridSize(QSize(width, SIDE_PX + LINES * line + 12))


def framed(picture: np.ndarray | None, color: str) -> QIcon:
    """A picture in a frame of the mode's hue; without a picture, the hue alone."""
    side = 2 * SIDE_PX
    canvas = QPixmap(side, side)
    canvas.fill(QColor(color))
    if picture is not None:
        values = np.ascontiguousarray(picture)
        height, width, _ = values.shape
        image = QImage(values.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        painter = QPainter(canvas)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawPixmap(canvas.rect(), QPixmap.fromImage(image.copy()))
        pen = QPen(QColor(color), 2 * FRAME_PX)
        pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
        painter.setPen(pen)
        painter.drawRect(canvas.rect().adjusted(FRAME_PX, FRAME_PX, -FRAME_PX, -FRAME_PX))
        painter.end()
    icon = QIcon()
    # The selected look is the same picture: a tint would hide the outline.
    for state in (QIcon.Mode.Normal, QIcon.Mode.Selected, QIcon.Mode.Active):
        icon.addPixmap(canvas, state)
    return icon
