"""The one layer of something that a person picked out of an ensemble."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from napari_diffseg.layer_updates import replace
from napari_diffseg.layerdata import LayerData
from napari_diffseg.stage import Stage


class PickedMirror(ABC):
    """Follows the field ``role`` of the Session, which is also the role of the layer; None there: no layer."""

    role: ClassVar[str]

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layer: Any = None
        self._shown: Any = None
        stage.on(getattr(self.session.events, self.role), self.refresh)
        stage.on(self.session.events.snapshot, self.refresh)

    @abstractmethod
    def _data(self) -> LayerData | None:
        """The layer of what is picked, None when there is nothing of the kind."""

    def refresh(self) -> None:
        data = self._data()
        if data is None:
            layer, self._layer = self._layer, None
            if layer is not None:
                self.stage.drop(layer)
            return
        shown = (self.session.snapshot, getattr(self.session, self.role))
        if self._layer is None:
            self._layer = next(iter(self.stage.find(self.role)), None)
        if self._layer is None:
            self._layer = self.stage.add(data, self.stage.top())
        elif self._shown != shown:
            replace(self._layer, data)
        self._shown = shown

    def removed(self, layer: Any) -> None:
        if layer is self._layer:
            self._layer = None
            setattr(self.session, self.role, None)
