"""What each kind of result looks like in the viewer, and what the person's doings there mean for the Session.

A mirror listens to fields of the Session and keeps its layers like them. Layers grow in place; one that the
person removed stays away until it is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from diffseg.grid import Box
from napari_diffseg import layerdata
from napari_diffseg.layer_updates import replace, update
from napari_diffseg.layerdata import LayerData, own
from napari_diffseg.mask_mirror import MaskMirror
from napari_diffseg.region_mirror import RegionMirror
from napari_diffseg.saliency_mirror import SaliencyMirror
from napari_diffseg.stage import Stage
from napari_diffseg.state import MAP_NAMES, Maps, TrajectoryView

# How strongly x̂0 still shines on the scan once there are results.
FAINT = 0.4


class Mirror(Protocol):
    """One kind of layer."""

    def refresh(self) -> None:
        """Make the layers like the Session; also finds layers left by an earlier dock."""
        ...

    def removed(self, layer: Any) -> None:
        """The person took a layer away."""
        ...


class TrajectoryMirror:
    """``x_t`` and ``x̂0`` with a step axis that follows the run.

    The worker fills slots that are out of reach of the slider, so nothing on display ever needs to be
    redrawn.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layers: dict[str, Any] = {}
        self._run: int | None = None
        self._own_grid = False
        stage.on(self.session.events.trajectory, self.refresh)
        stage.on(self.session.events.step, self._on_step)
        stage.on(self.session.events.side_by_side, self._on_side_by_side)
        stage.on(self.session.events.maps, self._on_maps)
        stage.on(stage.viewer.dims.events.current_step, self._on_moved)

    def refresh(self) -> None:
        view, case, frame = self.session.trajectory, self.session.case, self.stage.frame
        if view is None or case is None or frame is None:
            self._forget()
            return
        if view.run_id != self._run:
            self._begin(view)
        self._on_step()

    def removed(self, layer: Any) -> None:
        self._layers = {which: la for which, la in self._layers.items() if la is not layer}

    def _begin(self, view: TrajectoryView) -> None:
        """The layers of an earlier run are used again, with whatever look the person gave them."""
        case, frame = self.session.case, self.stage.frame
        assert case is not None and frame is not None
        self._run = view.run_id
        for which in ("x", "x0"):
            data = layerdata.trajectory_layer(view, which, case, frame)
            old = self._layers.get(which) or next(iter(self.stage.find(which)), None)
            if old is not None and old.ndim == data[0].ndim:
                replace(old, data)
                if old.opacity == FAINT:
                    old.visible, old.opacity = True, 1.0
                self._layers[which] = old
            else:
                self._layers[which] = self.stage.add(data, self.stage.top())
        self._on_side_by_side()

    def _box(self) -> Box:
        """The region of the case that the window covers."""
        view = self.session.trajectory
        assert view is not None
        ends = [np.array(view.offset) + np.array(view.step) * (np.array(i) - 0.5) for i in ((0,), view.x.shape[1:])]
        start, stop = (tuple(np.rint(end + 0.5).astype(int)) for end in ends)
        return Box(start, stop)

    def _forget(self) -> None:
        layers, self._layers, self._run = self._layers, {}, None
        for layer in layers.values():
            self.stage.drop(layer)
        self._leave_grid()

    def _on_step(self) -> None:
        for layer in self._layers.values():
            self.stage.move(self.stage.slider(layer), self.session.step)

    def _on_moved(self, event: Any = None) -> None:
        """The person moved napari's slider; slots not yet computed are out of reach."""
        view = self.session.trajectory
        if view is None or not self._layers:
            return
        step = self.stage.position(self.stage.slider(next(iter(self._layers.values()))))
        if step == self.session.step:
            return
        if step > view.done:
            self._on_step()
            return
        self.session.follow = self.session.follow and step == view.done
        self.session.step = step

    def _on_side_by_side(self) -> None:
        """Only while there is nothing but scan and trajectory, since every layer gets a view."""
        alone = sum(layer.visible for layer in self.stage.layers) <= len(self._layers) + 1
        if self.session.side_by_side and len(self._layers) == 2 and alone:
            self._own_grid = self.stage.side_by_side(True, self._box()) or self._own_grid
            self._blend("opaque", "additive")
        elif not self.session.side_by_side:
            self._leave_grid()

    def _on_maps(self) -> None:
        """Results are shown on the scan, so the trajectory goes back onto it and must not hide it."""
        if self.session.maps is None:
            return
        self._leave_grid()
        view = self.session.trajectory
        if view is not None and view.done == view.total:
            for which, layer in self._layers.items():
                if layer.opacity == 1.0:
                    layer.opacity = FAINT
                    if which == "x":
                        layer.visible = False

    def _leave_grid(self) -> None:
        if self._own_grid:
            self.stage.side_by_side(False)
            self._own_grid = False
            self._blend("additive", "opaque")

    def _blend(self, blending: str, unless_changed_from: str) -> None:
        for layer in self._layers.values():
            if layer.blending == unless_changed_from:
                layer.blending = blending


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
    MapsMirror,
    ModeMirror,
    MaskMirror,
    RegionMirror,
    SaliencyMirror,
)
