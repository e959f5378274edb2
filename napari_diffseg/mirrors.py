"""What each kind of result looks like in the viewer, and what the person's doings there mean for the Session.

A mirror listens to fields of the Session and keeps its layers like them. Layers grow in place; one that the
person removed stays away until it is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from napari_diffseg import layerdata
from napari_diffseg.ensemble_mirror import ENSEMBLE_MIRRORS
from napari_diffseg.layer_updates import replace, update
from napari_diffseg.layerdata import LayerData, own
from napari_diffseg.mask_mirror import MaskMirror
from napari_diffseg.rater_mirror import RaterMirror
from napari_diffseg.region_mirror import RegionMirror
from napari_diffseg.saliency_mirror import SaliencyMirror
from napari_diffseg.side_by_side import SideBySide
from napari_diffseg.stage import Stage
from napari_diffseg.state import MAP_NAMES, Maps
from napari_diffseg.trajectory_mirror import BranchMirror, TrajectoryMirror


class Mirror(Protocol):
    """One kind of layer."""

    def refresh(self) -> None:
        """Make the layers like the Session; also finds layers left by an earlier dock."""
        ...

    def removed(self, layer: Any) -> None:
        """The person took a layer away."""
        ...


class MapsMirror:
    """Contours and maps of an ensemble, switched on and off by ``session.shown`` or napari's eye."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layers: dict[str, Any] = {}
        self._busy = False
        stage.on(self.session.events.maps, self.refresh)
        stage.on(self.session.events.shown, self.refresh)

    def refresh(self) -> None:
        maps = self.session.maps
        self._busy = True
        try:
            for name in MAP_NAMES:
                if maps is None:
                    self._drop(name)
                else:
                    self._show(name, maps)
        finally:
            self._busy = False

    def removed(self, layer: Any) -> None:
        for name, la in list(self._layers.items()):
            if la is layer:
                self._let_go(name)
                self.session.shown = self.session.shown - {name}

    def _show(self, name: str, maps: Maps) -> None:
        layer, wanted = self._layers.get(name), name in self.session.shown
        if not wanted:
            if layer is not None:
                layer.visible = False
            return
        if layer is None:
            layer = self._find_or_add(name, maps)
        elif own(layer).get("maps") is not maps:
            update(layer, self._data(name, maps))
        own(layer)["maps"] = maps
        layer.visible = True

    def _find_or_add(self, name: str, maps: Maps) -> Any:
        data = self._data(name, maps)
        left = next(iter(self.stage.find(name)), None)
        if left is not None:
            update(left, data)
        layer = left if left is not None else self.stage.add(data, self.stage.top())
        self._layers[name] = layer
        self.stage.on(layer.events.visible, self._on_visible)
        return layer

    def _data(self, name: str, maps: Maps) -> LayerData:
        case, frame, model = self.session.case, self.stage.frame, self.session.model
        assert case is not None and frame is not None
        return layerdata.map_layer(name, maps, model.classes if model is not None else (), case, frame)

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


class ModeMirror:
    """The representative mask of the mode that is picked out."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layer: Any = None
        self._shown: Any = None
        stage.on(self.session.events.mode, self.refresh)
        stage.on(self.session.events.snapshot, self.refresh)

    def refresh(self) -> None:
        data = self._data()
        if data is None:
            layer, self._layer = self._layer, None
            if layer is not None:
                self.stage.drop(layer)
            return
        if self._layer is None:
            self._layer = next(iter(self.stage.find("mode")), None)
        if self._layer is None:
            self._layer = self.stage.add(data, self.stage.top())
        elif self._shown is not self.session.snapshot or own(self._layer)["mode"] != self.session.mode:
            replace(self._layer, data)
        self._shown = self.session.snapshot

    def removed(self, layer: Any) -> None:
        if layer is self._layer:
            self._layer = None
            self.session.mode = None

    def _data(self) -> LayerData | None:
        session, frame = self.session, self.stage.frame
        mode = next((m for m in session.modes if m.index == session.mode), None)
        if mode is None or session.snapshot is None or session.maps is None or session.case is None or frame is None:
            return None
        classes = session.model.classes if session.model is not None else ()
        return layerdata.mode_layer(mode, session.snapshot, session.maps, classes, session.case, frame)


MIRRORS: tuple[Callable[[Stage], Mirror], ...] = (
    TrajectoryMirror,
    BranchMirror,
    SideBySide,
    MapsMirror,
    ModeMirror,
    MaskMirror,
    RaterMirror,
    RegionMirror,
    SaliencyMirror,
    *ENSEMBLE_MIRRORS,
)
