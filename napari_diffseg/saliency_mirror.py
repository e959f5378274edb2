"""The saliency map as an image that grows clearer, and what lies above its threshold as a contour."""

from __future__ import annotations

from typing import Any

from napari_diffseg import saliency_layers
from napari_diffseg.layer_updates import update
from napari_diffseg.layerdata import LayerData, own
from napari_diffseg.saliency_state import SaliencyCut, SaliencyView
from napari_diffseg.stage import Stage


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
        view, cut = self.session.saliency, self.session.cut
        for role, shown in (("saliency", view), ("cut", cut)):
            layer = self._layers.get(role)
            if view is None or shown is None:
                if layer is not None:
                    del self._layers[role]
                    self.stage.drop(layer)
            elif (role, view.run_id) not in self._unwanted and (layer is None or own(layer).get("shown") is not shown):
                self._show(role, layer, shown)

    def removed(self, layer: Any) -> None:
        view = self.session.saliency
        for role, mine in list(self._layers.items()):
            if mine is layer:
                del self._layers[role]
                if view is not None:
                    self._unwanted.add((role, view.run_id))

    def _data(self, shown: SaliencyView | SaliencyCut) -> LayerData:
        case, frame = self.session.case, self.stage.frame
        assert case is not None and frame is not None  # without a case there is no map
        if isinstance(shown, SaliencyView):
            return saliency_layers.saliency_layer(shown, case, frame)
        return saliency_layers.cut_layer(shown, case, frame)

    def _show(self, role: str, layer: Any, shown: SaliencyView | SaliencyCut) -> None:
        data = self._data(shown)
        layer = layer or next(iter(self.stage.find(role)), None)
        if layer is None:
            layer = self.stage.add(data, self._below(role))
        else:
            update(layer, data)
        self._layers[role] = layer
        layer.name = data[1]["name"]
        own(layer)["shown"] = shown

    def _below(self, role: str) -> Any:
        """The map lies beneath its contour."""
        return self._layers.get("cut", self.stage.top()) if role == "saliency" else self.stage.top()
