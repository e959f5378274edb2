"""Which Labels layers others made, so that a mask can start from them; an earlier mask of ours is one of them."""

from __future__ import annotations

from typing import Any

from napari_diffseg.layerdata import own
from napari_diffseg.mask_mirror import EARLIER
from napari_diffseg.stage import Stage


class LabelsMirror:
    """Keeps ``session.label_layers`` like the layer list; adds nothing to it."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._heard: list[Any] = []
        for emitter in (stage.viewer.layers.events.inserted, stage.viewer.layers.events.removed):
            stage.on(emitter, self.refresh)

    def refresh(self, event: Any = None) -> None:
        here = [layer for layer in self.stage.layers if layer._type_string == "labels"]
        for layer in [la for la in self._heard if la not in here]:
            self.stage.off(layer.events.name, self.refresh)
        for layer in [la for la in here if la not in self._heard]:
            self.stage.on(layer.events.name, self.refresh)
        self._heard = here
        self.session.label_layers = tuple(la.name for la in here if own(la).get("role", EARLIER) == EARLIER)

    def removed(self, layer: Any) -> None:
        """``refresh`` has seen to it."""
