"""How often each value of a map occurs, and a threshold line that can be dragged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QWidget

from napari_diffseg.widgets.plot import Plot

BARS, LINE = "#56b4e9", "#d55e00"
# While the line is dragged, the map is cut this often.
THROTTLE_MS = 60


class Histogram(Plot):
    """Bars over [0, 1], as the logarithm of their counts since most of a map is ground; ``moved(float)`` tells of
    the line, while the person drags it.
    """

    moved = Signal(float)
    heights_px = (110, 220)

    def __init__(self, title: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(title, tip, parent, title)
        item = self.getPlotItem()
        flat = {"x": [0.0, 1.0], "y": [0.0]}
        self._bars = pg.PlotCurveItem(**flat, stepMode="center", fillLevel=0, brush=BARS, pen=None)
        item.addItem(self._bars)
        pen, wide = pg.mkPen(LINE, width=2), pg.mkPen(LINE, width=4)
        self.line = pg.InfiniteLine(angle=90, movable=True, bounds=(0, 1), pen=pen, hoverPen=wide)
        item.addItem(self.line, ignoreBounds=True)
        self.line.hide()
        self.line.sigDragged.connect(self._on_dragged)
        self._due = QTimer(self)
        self._due.setSingleShot(True)
        self._due.setInterval(THROTTLE_MS)
        self._due.timeout.connect(self._tell)
        # Where it is let go counts at once, whatever is still to be drawn.
        self.line.sigPositionChangeFinished.connect(self._tell)
        self.setXRange(0, 1, padding=0.02)
        self._paint()

    def show_counts(self, counts: Sequence[int] | np.ndarray | None) -> None:
        """Bars of equal width over [0, 1], or none."""
        values = np.zeros(1) if counts is None else np.log10(1.0 + np.asarray(counts, float))
        self._bars.setData(np.linspace(0, 1, len(values) + 1), values)
        self.setYRange(0, max(1.0, float(values.max())), padding=0.05)

    def show_line(self, at: float | None) -> None:
        """Put the line there, or take it away; tells nobody, and lets go of no line that is being dragged."""
        self.line.setVisible(at is not None)
        if at is not None and not self.line.moving:
            self.line.setValue(min(max(at, 0.0), 1.0))

    def _tell(self) -> None:
        self._due.stop()
        self.moved.emit(float(self.line.value()))

    def _on_dragged(self) -> None:
        if not self._due.isActive():
            self._due.start()
