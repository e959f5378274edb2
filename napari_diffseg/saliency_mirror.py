"""The saliency map as an image that grows clearer, and what lies above its threshold as a contour."""

from __future__ import annotations

from typing import Any

from napari_diffseg import saliency_layers
from napari_diffseg.layer_updates import update
from napari_diffseg.layerdata import LayerData, own
from napari_diffseg.stage import Stage

ROLES = ("saliency", "cut")


class SaliencyMirror:
    """Both layers change in place; one that the person removed comes back with the next run only."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layers: dict[str, Any] = {}
        # What was removed, and from which run.
        self._unwanted: set[tuple[str, int]] = set()
        stage.on(self.session.events.saliency, self.refresh)
        stage.on(self.session.events.cut, self.refresh)

    def refresh(self) -> None:
        for role in ROLES:
            self._keep(role, self._data(role))

    def removed(self, layer: Any) -> None:
        view = self.session.saliency
        for role, mine in list(self._layers.items()):
            if mine is layer:
                del self._layers[role]
                if view is not None:
                    self._unwanted.add((role, view.run_id))

    def _data(self, role: str) -> LayerData | None:
        session, frame = self.session, self.stage.frame
        view = session.saliency
        if session.case is None or frame is None or view is None:
            return None
        if role == "saliency":
            return saliency_layers.saliency_layer(view, session.case, frame)
        return None if session.cut is None else saliency_layers.cut_layer(session.cut, session.case, frame)

    def _keep(self, role: str, data: LayerData | None) -> None:
        layer, view = self._layers.get(role), self.session.saliency
        if data is None:
            if layer is not None:
                del self._layers[role]
                self.stage.drop(layer)
            return
        shown = self.session.cut if role == "cut" else view
        assert view is not None
        if (role, view.run_id) in self._unwanted or (layer is not None and own(layer).get("shown") is shown):
            return
        if layer is None:
            layer = next(iter(self.stage.find(role)), None)
            if layer is None:
                layer = self.stage.add(data, self._below(role))
            else:
                update(layer, data)
        else:
            update(layer, data)
        self._layers[role] = layer
        layer.name = data[1]["name"]
        own(layer)["shown"] = shown

    def _below(self, role: str) -> Any:
        """The map lies beneath its contour."""
        return self._layers.get("cut", self.stage.top()) if role == "saliency" else self.stage.top()
