"""Masks of readers that were added after the scan, as outlines in greys like those that came with it."""

from __future__ import annotations

from typing import Any

from diffseg.case import Case
from napari_diffseg import layerdata
from napari_diffseg.layerdata import own
from napari_diffseg.stage import Stage


class RaterMirror:
    """Adds a layer for each added reader once; one that the person removed stays away."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._shown: set[str] = set()
        stage.on(self.session.events.added_raters, self.refresh)

    def refresh(self) -> None:
        case, frame, added = self.session.case, self.stage.frame, self.session.added_raters
        self._shown &= {name for name, _ in added}
        if case is None or frame is None:
            return
        here = {own(layer)["rater"] for layer in self.stage.layers if self._belongs(layer, case)}
        numbers = {name: number for number, name in enumerate(self.session.raters)}
        for name, labels in added:
            if name not in self._shown and name not in here:
                data = layerdata.rater_layer(name, labels, numbers[name], case, frame, layerdata.RATER_PIXELS)
                self.stage.add(data, self.stage.top())
            self._shown.add(name)

    def _belongs(self, layer: Any, case: Case) -> bool:
        """Whether a reader's layer is of this case; layers of one with other channels of the same images become so."""
        noted = own(layer)
        if noted.get("role") != "rater" or "rater" not in noted:
            return False
        if noted["case"] is not case and noted["case"].origin is case.origin:
            noted["case"] = case
        return noted["case"] is case

    def removed(self, layer: Any) -> None:
        """The mask still counts as a reader's."""
