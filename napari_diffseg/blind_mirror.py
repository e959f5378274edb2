"""Hides every result while somebody reads blind, and shows again what it has hidden."""

from __future__ import annotations

from typing import Any
from weakref import ref

from napari_diffseg.layerdata import own
from napari_diffseg.stage import Stage

# What a reader may see: the scan, the mask that is drawn, and the box of the region.
SEEN = ("scan", "mask", "region")

# Fields of the session of which new layers tell. napari pictures a layer in its list when it comes visible.
TOLD = ("trajectory", "branches", "maps", "mode", "member", "readers", "saliency", "cut", "added_raters")


class BlindMirror:
    """Switches layers of ours off and keeps them so, new ones included, as long as ``session.blind`` hides."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._hidden: list[ref[Any]] = []
        self._heard: list[Any] = []
        stage.on(self.session.events.blind, self.refresh)
        stage.on(stage.viewer.layers.events.inserted, self.refresh)
        for field in TOLD:
            stage.on(getattr(self.session.events, field), self._before_they_come)

    def refresh(self, event: Any = None) -> None:
        if self._hiding():
            for layer in self.stage.layers:
                if own(layer).get("role", "mask") not in SEEN and layer not in self._heard:
                    self._hide(layer)
            return
        heard, self._heard = self._heard, []
        for layer in heard:
            self.stage.off(layer.events.visible, self._on_visible)
        hidden, self._hidden = [one() for one in self._hidden], []
        for layer in self.stage.layers:
            if layer in hidden:
                layer.visible = True

    def _before_they_come(self) -> None:
        if self._hiding():
            self.refresh()

    def removed(self, layer: Any) -> None:
        """Nothing is left to hide."""

    def _hiding(self) -> bool:
        return self.session.blind is not None and self.session.blind.hiding

    def _hide(self, layer: Any) -> None:
        self._heard.append(layer)
        self.stage.on(layer.events.visible, self._on_visible)
        if layer.visible:
            self._hidden.append(ref(layer))
            layer.visible = False

    def _on_visible(self, event: Any) -> None:
        layer = event.source
        if layer.visible and self._hiding():
            if all(one() is not layer for one in self._hidden):
                self._hidden.append(ref(layer))
            layer.visible = False
