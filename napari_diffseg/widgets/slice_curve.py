"""A figure in every slice around the masks; a click moves there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from napari_diffseg.widgets.plots import Curve

# Slices shown beyond those that hold something.
MARGIN = 3


class SliceCurve(Curve):
    """``picked(int)`` is the slice of the scan that was clicked."""

    picked = Signal(int)

    def __init__(self, title: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(title, tip, parent, lowest=0.0)
        self._first = self._last = 0
        self.scene().sigMouseClicked.connect(self._on_clicked)

    def show_slices(self, values: Sequence[float], start: int, stop: int) -> None:
        """``values`` of all slices of the scan; shown are those from ``start`` up to ``stop`` and a few more."""
        self._first, self._last = max(start - MARGIN, 0), min(stop + MARGIN, len(values)) - 1
        shown = range(self._first, self._last + 1)
        self.show_values(values[self._first : self._last + 1], self._last - self._first, shown)

    def mark_slice(self, index: int | None) -> None:
        """Put the marker at a slice of the scan; none where it is not among those shown."""
        there = index is not None and self._first <= index <= self._last
        self.mark(index - self._first if there and index is not None else None)

    def _on_clicked(self, event: Any) -> None:
        at = self.getPlotItem().getViewBox().mapSceneToView(event.scenePos())
        self.picked.emit(min(max(round(at.x()), 0), self._last - self._first) + self._first)
