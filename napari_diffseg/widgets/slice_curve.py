"""A figure in every slice of the scan; a click moves there."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGraphicsView, QWidget

from napari_diffseg.widgets.plots import Curve


class SliceCurve(Curve):
    """``picked(int)`` is the slice that was clicked."""

    picked = Signal(int)

    def __init__(self, title: str, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(title, tip, parent)
        # A kept background would be that of the theme before.
        self.setCacheMode(QGraphicsView.CacheModeFlag.CacheNone)
        self.scene().sigMouseClicked.connect(self._on_clicked)

    def _on_clicked(self, event: Any) -> None:
        at = self.getPlotItem().getViewBox().mapSceneToView(event.scenePos())
        self.picked.emit(round(at.x()))
