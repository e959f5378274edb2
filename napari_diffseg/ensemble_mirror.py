"""The table of masks, a single mask and the maps against the readers, as layers; and the slice on display."""

from __future__ import annotations

from typing import Any

from napari_diffseg import ensemble_layers
from napari_diffseg.ensemble_commands import columns
from napari_diffseg.ensemble_state import READER_MAPS
from napari_diffseg.layer_updates import replace, update
from napari_diffseg.layerdata import LayerData, own
from napari_diffseg.stage import Stage


class MembersMirror:
    """A row of ``layer.features`` per mask, brought up to date whenever nothing runs."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layer: Any = None
        self._shown: Any = None
        # The person took it away; a new ensemble brings it back.
        self._unwanted: Any = None
        stage.on(self.session.events.snapshot, self.refresh)
        stage.on(self.session.events.job, self.refresh)

    def refresh(self) -> None:
        session, found = self.session, self.session.findings
        if session.snapshot is None or found is None or session.maps is None or session.case is None:
            layer, self._shown = self._layer, None
            if layer is not None:
                self._let_go()
                self.stage.drop(layer)
            return
        unwanted = len(found.measures) < 2 or self._unwanted is session.plan
        if session.job.state != "idle" or unwanted or self._shown is found:
            return
        data = self._data()
        if data is None:
            return
        self._shown = found
        layer = self._layer or next(iter(self.stage.find("members")), None)
        if layer is None:
            layer = self.stage.add(data, self.stage.top())
            layer.editable = False
        else:
            _renew(layer, data)
        if self._layer is None:
            self._layer = layer
            self.stage.on(layer.selected_data.events.items_changed, self._on_selected)

    def _data(self) -> LayerData | None:
        session, frame = self.session, self.stage.frame
        found, maps, case = session.findings, session.maps, session.case
        if found is None or maps is None or case is None or frame is None:
            return None
        return ensemble_layers.members_layer(found.measures, session.modes, columns(session), maps, case, frame)

    def removed(self, layer: Any) -> None:
        if layer is self._layer:
            self._let_go()
            self._unwanted = self.session.plan

    def _let_go(self) -> None:
        self.stage.off(self._layer.selected_data.events.items_changed, self._on_selected)
        self._layer = None

    def _on_selected(self, *_: Any) -> None:
        """A row picked in napari's table is the mask to show."""
        chosen, found = list(self._layer.selected_data), self.session.findings
        if len(chosen) == 1 and found is not None and chosen[0] < len(found.measures):
            self.session.member = found.measures[chosen[0]].member


def _renew(layer: Any, data: LayerData) -> None:
    """New rows in the old layer, whatever their number."""
    points, look, _ = data
    layer.selected_data = set()
    layer.data = points
    layer.features = look["features"]
    layer.face_color = look["face_color"]
    layer.metadata = {**layer.metadata, **look["metadata"]}
    for key in ("scale", "translate", "affine"):
        if key in look:
            setattr(layer, key, look[key])


class MemberMirror:
    """The single mask that is picked out."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layer: Any = None
        self._shown: Any = None
        stage.on(self.session.events.member, self.refresh)
        stage.on(self.session.events.snapshot, self.refresh)

    def refresh(self) -> None:
        data = self._data()
        if data is None:
            layer, self._layer = self._layer, None
            if layer is not None:
                self.stage.drop(layer)
            return
        shown = (self.session.snapshot, self.session.member)
        if self._layer is None:
            self._layer = next(iter(self.stage.find("member")), None)
        if self._layer is None:
            self._layer = self.stage.add(data, self.stage.top())
        elif self._shown != shown:
            replace(self._layer, data)
        self._shown = shown

    def removed(self, layer: Any) -> None:
        if layer is self._layer:
            self._layer = None
            self.session.member = None

    def _data(self) -> LayerData | None:
        session, frame = self.session, self.stage.frame
        snapshot, maps, case = session.snapshot, session.maps, session.case
        if snapshot is None or maps is None or case is None or frame is None or session.member not in snapshot.ids:
            return None
        classes = session.model.classes if session.model is not None else ()
        position = snapshot.ids.index(session.member)
        return ensemble_layers.member_layer(position, session.modes, snapshot, maps, classes, case, frame)


class ReadersMirror:
    """Maps against the readers, switched on and off by ``session.shown`` or napari's eye."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layers: dict[str, Any] = {}
        self._busy = False
        stage.on(self.session.events.readers, self.refresh)
        stage.on(self.session.events.shown, self.refresh)

    def refresh(self) -> None:
        self._busy = True
        try:
            for name in READER_MAPS:
                self._keep(name)
        finally:
            self._busy = False

    def removed(self, layer: Any) -> None:
        for name, mine in list(self._layers.items()):
            if mine is layer:
                self._let_go(name)
                self.session.shown = self.session.shown - {name}

    def _keep(self, name: str) -> None:
        readers, layer = self.session.readers, self._layers.get(name)
        if readers is None:
            if layer is not None:
                self._let_go(name)
                self.stage.drop(layer)
        elif name not in self.session.shown or name not in readers.maps:
            if layer is not None:
                layer.visible = False
        else:
            self._show(name, layer)

    def _show(self, name: str, layer: Any) -> None:
        readers, case, frame = self.session.readers, self.session.case, self.stage.frame
        if readers is None or case is None or frame is None:
            return
        layer = layer or next(iter(self.stage.find(name)), None)
        data = ensemble_layers.reader_map_layer(name, readers, case, frame)
        if layer is None:
            layer = self.stage.add(data, self.stage.top())
        elif own(layer).get("shown") is not readers:
            update(layer, data)
        own(layer)["shown"] = readers
        if name not in self._layers:
            self._layers[name] = layer
            self.stage.on(layer.events.visible, self._on_visible)
        layer.visible = True

    def _on_visible(self, event: Any = None) -> None:
        if not self._busy:
            here = {name for name, layer in self._layers.items() if layer.visible}
            self.session.shown = self.session.shown - (set(self._layers) - here) | here

    def _let_go(self, name: str) -> None:
        layer = self._layers.pop(name)
        self.stage.off(layer.events.visible, self._on_visible)


class SliceMirror:
    """``session.looked_at``: the axial slice on display, for the curve that has a point per slice."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        stage.on(stage.viewer.dims.events.current_step, self.refresh)
        stage.on(stage.viewer.dims.events.order, self.refresh)
        stage.on(self.session.events.case, self.refresh)

    def refresh(self) -> None:
        self.session.looked_at = dict(self.stage.sliced()).get(0)

    def removed(self, layer: Any) -> None:
        """No layer of its own."""


ENSEMBLE_MIRRORS = (MembersMirror, MemberMirror, ReadersMirror, SliceMirror)
