"""Small curves over the steps of a run: the noise schedule, and how much each step still changed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyqtgraph as pg
from qtpy.QtCore import QEvent, QSize
from qtpy.QtWidgets import QGraphicsView, QLabel, QSizePolicy, QWidget

from napari_diffseg.widgets.panel import ink

# Tall enough for two tick labels, small enough for both curves on one page.
LOWEST_PX, HIGHEST_PX = 84, 170
# Room for the tick label of a small change, such as 0.00025; the same in both, so that their steps line up.
AXIS_PX = 56
# Okabe and Ito's blue and vermilion: told apart by colour-blind people, and on dark and light ground.
CURVE, MARK = "#56b4e9", "#d55e00"


class Curve(pg.PlotWidget):
    """A line with dots over the steps of a run, and a marker at the step on display."""

    def __init__(self, title: str, tip: str, parent: QWidget | None = None, lowest: float | None = None) -> None:
        """``lowest`` is the end of the vertical axis that it never goes beyond."""
        super().__init__(parent, background=None, enableMenu=False)
        self.setAccessibleName(title)
        self.setToolTip(tip)
        self.setMinimumHeight(LOWEST_PX)
        self.setMaximumHeight(HIGHEST_PX)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        # A kept background would be that of the theme before.
        self.setCacheMode(QGraphicsView.CacheModeFlag.CacheNone)
        self._sample = QLabel(self)
        self._sample.hide()
        self._title = title
        item = self.getPlotItem()
        item.hideButtons()
        item.getAxis("left").enableAutoSIPrefix(False)
        # pyqtgraph makes this menu all the same, and as a window of its own.
        item.ctrlMenu.setParent(self)
        item.ctrlMenu.hide()
        item.setMouseEnabled(x=False, y=False)
        item.getViewBox().setDefaultPadding(0.08)
        if lowest is not None:
            item.getViewBox().setLimits(yMin=lowest)
        self._line = item.plot(
            pen=pg.mkPen(CURVE, width=2), symbol="o", symbolSize=5, symbolBrush=CURVE, symbolPen=None
        )
        self._others: list[pg.PlotDataItem] = []
        self._mark = pg.InfiniteLine(angle=90, pen=pg.mkPen(MARK, width=2))
        item.addItem(self._mark, ignoreBounds=True)
        self._mark.hide()
        self._paint_axes()

    def show_values(self, values: Sequence[float], total: int, names: Sequence[int] = ()) -> None:
        """Value ``k`` belongs to step ``k``; what is not finite is left out. The axis ends at ``total``; its ticks
        are called ``k``, or ``names[k]``.
        """
        self._line.setData(*_finite(values))
        self.setXRange(0, max(total, 1))
        ticks = sorted({round(i * total / 5) for i in range(6)})
        self.getPlotItem().getAxis("bottom").setTicks([[(k, str(names[k] if names else k)) for k in ticks]])

    def show_others(self, others: Sequence[tuple[Sequence[float], str]]) -> None:
        """More lines, ``(values, colour)`` each, in place of those shown so far."""
        item = self.getPlotItem()
        while len(self._others) > len(others):
            item.removeItem(self._others.pop())
        while len(self._others) < len(others):
            self._others.append(item.plot(symbol="o", symbolSize=5, symbolPen=None))
        for line, (values, color) in zip(self._others, others, strict=True):
            line.setPen(pg.mkPen(color, width=2))
            line.setSymbolBrush(color)
            line.setData(*_finite(values))

    def rename(self, title: str) -> None:
        """Another title, for the screen and for screen readers."""
        if title != self._title:
            self._title = title
            self.setAccessibleName(title)
            self._paint_axes()

    def mark(self, step: int | None) -> None:
        """Put the marker at ``step``, or take it away."""
        self._mark.setVisible(step is not None)
        if step is not None:
            self._mark.setPos(step)

    def sizeHint(self) -> QSize:
        """Small: what room there is, the layout gives."""
        return QSize(200, LOWEST_PX)

    def changeEvent(self, event: QEvent) -> None:
        """Follow napari's theme."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.StyleChange, QEvent.Type.PaletteChange) and hasattr(self, "_mark"):
            self._paint_axes()

    def showEvent(self, event: QEvent) -> None:
        """Take the colours of the theme, known from the first showing on."""
        super().showEvent(event)
        self._paint_axes()

    def _paint_axes(self) -> None:
        color = ink(self._sample)
        item = self.getPlotItem()
        item.setTitle(self._title, color=color.name(), size=f"{max(7, self.font().pointSize() - 1)}pt")
        for side in ("left", "bottom"):
            axis = item.getAxis(side)
            axis.setPen(color)
            axis.setTextPen(color)
        item.getAxis("left").setWidth(AXIS_PX)


def _finite(values: Sequence[float]) -> tuple[list[int], list[float]]:
    pairs = [(k, v) for k, v in enumerate(values) if math.isfinite(v)]
    return [k for k, _ in pairs], [v for _, v in pairs]
