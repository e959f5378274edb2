"""Small curves over the steps of a run: the noise schedule, and how much each step still changed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyqtgraph as pg
from qtpy.QtWidgets import QWidget

from napari_diffseg.widgets.plot import Plot

# Room for the tick label of a small change, such as 0.00025; the same in both, so that their steps line up.
AXIS_PX = 56
# Okabe and Ito's blue and vermilion: told apart by colour-blind people, and on dark and light ground.
CURVE, MARK = "#56b4e9", "#d55e00"


class Curve(Plot):
    """A line with dots over the steps of a run, and a marker at the step on display."""

    # Tall enough for two tick labels, small enough for both curves on one page.
    heights_px = (84, 170)
    sides = ("left", "bottom")

    def __init__(self, title: str, tip: str, parent: QWidget | None = None, lowest: float | None = None) -> None:
        """``lowest`` is the end of the vertical axis that it never goes beyond."""
        super().__init__(title, tip, parent, title)
        item = self.getPlotItem()
        item.getAxis("left").setWidth(AXIS_PX)
        item.getViewBox().setDefaultPadding(0.08)
        self._lowest = lowest
        if lowest is not None:
            item.getViewBox().setLimits(yMin=lowest)
        self._line = item.plot(
            pen=pg.mkPen(CURVE, width=2), symbol="o", symbolSize=5, symbolBrush=CURVE, symbolPen=None
        )
        self._others: list[pg.PlotDataItem] = []
        self._mark = pg.InfiniteLine(angle=90, pen=pg.mkPen(MARK, width=2))
        item.addItem(self._mark, ignoreBounds=True)
        self._mark.hide()
        self._paint()

    def show_values(self, values: Sequence[float], total: int, names: Sequence[int] = ()) -> None:
        """Value ``k`` belongs to step ``k``; what is not finite is left out. The axis ends at ``total``; its ticks
        are called ``k``, or ``names[k]``.
        """
        self._line.setData(*_finite(values))
        self._fit()
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
        self._fit()

    def _fit(self) -> None:
        """From the lowest end that was given to the highest value, so that one value alone has a scale, too."""
        shown = [self._line, *self._others]
        highest = max((float(y.max()) for y in (line.yData for line in shown) if y is not None and len(y)), default=0.0)
        if self._lowest is not None and highest > self._lowest:
            self.setYRange(self._lowest, highest)

    def rename(self, title: str) -> None:
        """Another title, for the screen and for screen readers."""
        if title != self._title:
            self._title = title
            self.setAccessibleName(title)
            self._paint()

    def mark(self, step: int | None) -> None:
        """Put the marker at ``step``, or take it away."""
        self._mark.setVisible(step is not None)
        if step is not None:
            self._mark.setPos(step)


def _finite(values: Sequence[float]) -> tuple[list[int], list[float]]:
    pairs = [(k, v) for k, v in enumerate(values) if math.isfinite(v)]
    return [k for k, _ in pairs], [v for _, v in pairs]
