"""What all plots of the dock share: a plain frame that takes the width there is and the colours of the theme."""

from __future__ import annotations

from typing import ClassVar

import pyqtgraph as pg
from qtpy.QtCore import QEvent, QSize
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QGraphicsView, QLabel, QSizePolicy, QWidget

from napari_diffseg.widgets.panel import ink


class Plot(pg.PlotWidget):
    """A plot that nobody zooms. A subclass adds its items to ``getPlotItem()`` and calls ``_paint`` when it has them.

    ``title`` is on the screen, ``name`` is read by screen readers; one without a title shows none.
    """

    # Between the lowest and the highest, the height is what the page has.
    heights_px: ClassVar[tuple[int, int]]
    width_px: ClassVar[int] = 200
    grows: ClassVar[QSizePolicy.Policy] = QSizePolicy.Policy.Preferred
    sides: ClassVar[tuple[str, ...]] = ("bottom",)

    def __init__(self, name: str, tip: str, parent: QWidget | None = None, title: str = "") -> None:
        super().__init__(parent, background=None, enableMenu=False)
        self.setAccessibleName(name)
        self.setToolTip(tip)
        low, high = self.heights_px
        self.setMinimumHeight(low)
        self.setMaximumHeight(high)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, self.grows)
        # A kept background would be that of the theme before.
        self.setCacheMode(QGraphicsView.CacheModeFlag.CacheNone)
        self._title = title
        self._painted = False
        self._sample = QLabel(self)
        self._sample.hide()
        item = self.getPlotItem()
        item.hideButtons()
        # pyqtgraph makes this menu all the same, and as a window of its own.
        item.ctrlMenu.setParent(self)
        item.ctrlMenu.hide()
        item.setMouseEnabled(x=False, y=False)
        for side in ("left", "bottom"):
            item.getAxis(side).enableAutoSIPrefix(False)
            if side not in self.sides:
                item.hideAxis(side)

    def sizeHint(self) -> QSize:
        """Small: what room there is, the layout gives."""
        return QSize(self.width_px, self.heights_px[0])

    def changeEvent(self, event: QEvent) -> None:
        """Follow napari's theme."""
        super().changeEvent(event)
        # Qt calls this while the plot is still being made.
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange) and getattr(self, "_painted", False):
            self._paint()

    def showEvent(self, event: QEvent) -> None:
        """Take the colours of the theme, known from the first showing on."""
        super().showEvent(event)
        self._paint()

    def _paint(self) -> None:
        """Title and axes in the colour of the page's letters."""
        self._painted = True
        color = ink(self._sample)
        item = self.getPlotItem()
        if self._title:
            item.setTitle(self._title, color=color.name(), size=f"{max(7, self.font().pointSize() - 1)}pt")
        for side in self.sides:
            axis = item.getAxis(side)
            axis.setPen(color)
            axis.setTextPen(color)
        self._paint_items(color)

    def _paint_items(self, color: QColor) -> None:
        """What else takes that colour; nothing, unless a subclass says so."""
