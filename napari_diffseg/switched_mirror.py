"""Layers that a person switches on and off: by ``session.shown``, or by napari's own eye."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from napari_diffseg.layer_updates import show, update
from napari_diffseg.layerdata import LayerData, own
from napari_diffseg.stage import Stage

# What is drawn in lines, which a map would drown.
LINES = ("rater", "inner", "outer", "mode", "member", "cut")


class SwitchedMirror(ABC):
    """A layer for each of ``names`` that is switched on, all of one record; without the record there are none."""

    names: ClassVar[tuple[str, ...]]

    def __init__(self, stage: Stage, changed: Any) -> None:
        """``changed`` is the signal that tells of another record."""
        self.stage, self.session = stage, stage.session
        self._layers: dict[str, Any] = {}
        self._busy = False
        stage.on(changed, self.refresh)
        stage.on(self.session.events.shown, self.refresh)

    @abstractmethod
    def _record(self) -> Any:
        """What the layers show, None when there is nothing."""

    @abstractmethod
    def _data(self, name: str, record: Any) -> LayerData:
        """The layer called ``name``."""

    def _has(self, name: str, record: Any) -> bool:
        """Whether the record has such a layer."""
        return True

    def refresh(self) -> None:
        record = self._record()
        self._busy = True
        try:
            for name in self.names:
                if record is None:
                    self._drop(name)
                elif name in self.session.shown and self._has(name, record):
                    self._show(name, record)
                elif name in self._layers:
                    show(self._layers[name], False)
        finally:
            self._busy = False

    def removed(self, layer: Any) -> None:
        for name, mine in list(self._layers.items()):
            if mine is layer:
                self._let_go(name)
                self.session.shown = self.session.shown - {name}

    def _show(self, name: str, record: Any) -> None:
        layer = self._layers.get(name) or next(iter(self.stage.find(name)), None)
        if layer is None:
            data = self._data(name, record)
            layer = self.stage.add(data, self._beneath_lines() if data[2] == "image" else self.stage.top())
        elif own(layer).get("shown") is not record:
            update(layer, self._data(name, record))
        own(layer)["shown"] = record
        if name not in self._layers:
            self._layers[name] = layer
            self.stage.on(layer.events.visible, self._on_visible)
        show(layer, True)

    def _beneath_lines(self) -> Any:
        """The lowest outline on the scan, so that a map lets all of them be seen."""
        lines = [layer for name in LINES for layer in self.stage.find(name)]
        return next((layer for layer in self.stage.layers if layer in lines), self.stage.top())

    def _on_visible(self, event: Any = None) -> None:
        if not self._busy:
            here = {name for name, layer in self._layers.items() if layer.visible}
            self.session.shown = self.session.shown - (set(self._layers) - here) | here

    def _drop(self, name: str) -> None:
        layer = self._layers.get(name)
        if layer is not None:
            self._let_go(name)
            self.stage.drop(layer)

    def _let_go(self, name: str) -> None:
        layer = self._layers.pop(name)
        self.stage.off(layer.events.visible, self._on_visible)
