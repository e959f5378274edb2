"""A dot per mask along an axis of sizes, with the interval behind: a distribution one can count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QSizePolicy, QWidget

from diffseg.measurements import Distribution
from napari_diffseg.widgets.plot import Plot

# Dots nearer than one of so many parts of the axis are stacked.
COLUMNS = 24
DOT_PX = 6
INTERVAL = QColor(127, 127, 127, 70)


class DotPlot(Plot):
    """``picked(position)`` tells which mask's dot was clicked, by its place among the values."""

    picked = Signal(int)
    heights_px = (56, 120)
    width_px = 160
    grows = QSizePolicy.Policy.Expanding

    def __init__(self, name: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(name, tip, parent)
        item = self.getPlotItem()
        self._band = pg.LinearRegionItem(movable=False, brush=INTERVAL, pen=pg.mkPen(None))
        self._middle = pg.InfiniteLine(angle=90)
        self._dots = pg.ScatterPlotItem(size=DOT_PX, pen=pg.mkPen(None), hoverable=True)
        self._dots.sigClicked.connect(self._on_clicked)
        for part in (self._band, self._middle, self._dots):
            item.addItem(part)
        self._paint()

    def show_values(self, found: Distribution | None, colors: Sequence[str], scale: float = 1.0) -> None:
        """A dot per value, times ``scale``, in its colour; nothing for None."""
        for part in (self._band, self._middle):
            part.setVisible(found is not None)
        if found is None:
            self._dots.setData([], [])
            return
        x = np.array(found.values) * scale
        low, high = axis_range(x)
        y = stacked(x, low, high)
        brushes = {color: pg.mkBrush(color) for color in set(colors)}
        self._dots.setData(x, y, brush=[brushes[color] for color in colors], data=list(range(len(x))))
        self._band.setRegion((found.low * scale, found.high * scale))
        self._middle.setPos(found.median * scale)
        self.setXRange(low, high, padding=0.04)
        self.setYRange(-0.6, max(float(y.max()) + 0.6, 3.0), padding=0)

    def _on_clicked(self, _: Any, points: Any, *__: Any) -> None:
        if len(points) > 0:
            self.picked.emit(int(points[0].data()))

    def _paint_items(self, color: QColor) -> None:
        self._middle.setPen(pg.mkPen(color, width=1))


def axis_range(x: np.ndarray) -> tuple[float, float]:
    """The range of the values, and not less than a tenth of their size to both sides of the middle.

    Values that hardly differ then look alike, and the numbers of the axis have room.
    """
    low, high = float(x.min()), float(x.max())
    middle = (low + high) / 2
    half = 0.1 * abs(middle) or 0.5
    return min(low, middle - half), max(high, middle + half)


def stacked(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Height of each dot: how many dots of the same column of the axis came before."""
    columns = np.minimum((COLUMNS * (x - low) / (high - low)).astype(int), COLUMNS - 1)
    seen: dict[int, int] = {}
    heights = np.zeros(len(x))
    for i, column in enumerate(columns):
        heights[i] = seen.get(int(column), 0)
        seen[int(column)] = seen.get(int(column), 0) + 1
    return heights
