"""Tells the journal of everything that happens to the mask's layer and of where the person looks."""

from __future__ import annotations

from typing import Any
from weakref import ref

from napari_diffseg.journaling import journaling
from napari_diffseg.stage import Stage

# Fields of the Session that say where the person is.
FIELDS = ("mode", "settings", "roi", "plane")


class JournalMirror:
    """Adds no layer. A stroke is told of while it is being drawn, not only at its end."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self.journal = journaling(stage.session)
        self._layer: Any = None
        self.journal.layer = lambda: None
        stage.on(self.session.events.mask, self.refresh)
        for field in FIELDS:
            stage.on(getattr(self.session.events, field), self._on_moved)
        stage.on(stage.viewer.dims.events.current_step, self._on_moved)

    def refresh(self) -> None:
        mask = self.session.mask
        layer = None
        if mask is not None:
            layer = next((la for la in self.stage.find("mask") if la.data is mask.labels), None)
        if layer is not self._layer:
            if self._layer is not None:
                self.stage.off(self._layer.events.labels_update, self._on_moved)
            self._layer = layer
            self.journal.layer = (lambda: None) if layer is None else ref(layer)
            if layer is not None:
                self.stage.on(layer.events.labels_update, self._on_moved)
        self.journal.follow()

    def removed(self, layer: Any) -> None:
        """The mask is gone from the session then, and ``refresh`` sees to it."""

    def _on_moved(self, event: Any = None) -> None:
        self.journal.touch()
