"""The table of masks, a single mask and the maps against the readers, as layers; and the slice on display."""

from __future__ import annotations

from typing import Any

from napari_diffseg import ensemble_layers
from napari_diffseg.ensemble_commands import columns
from napari_diffseg.ensemble_state import READER_MAPS, Readers
from napari_diffseg.layerdata import LayerData
from napari_diffseg.picked_mirror import PickedMirror
from napari_diffseg.stage import Stage
from napari_diffseg.switched_mirror import SwitchedMirror


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


class MemberMirror(PickedMirror):
    """The single mask that is picked out."""

    role = "member"

    def _data(self) -> LayerData | None:
        session, frame = self.session, self.stage.frame
        snapshot, maps, case = session.snapshot, session.maps, session.case
        if snapshot is None or maps is None or case is None or frame is None or session.member not in snapshot.ids:
            return None
        classes = session.model.classes if session.model is not None else ()
        position = snapshot.ids.index(session.member)
        return ensemble_layers.member_layer(position, session.modes, snapshot, maps, classes, case, frame)


class ReadersMirror(SwitchedMirror):
    """Maps against the readers."""

    names = READER_MAPS

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, stage.session.events.readers)

    def _record(self) -> Readers | None:
        return self.session.readers

    def _has(self, name: str, record: Readers) -> bool:
        return name in record.maps

    def _data(self, name: str, record: Readers) -> LayerData:
        case, frame = self.session.case, self.stage.frame
        assert case is not None and frame is not None
        return ensemble_layers.reader_map_layer(name, record, case, frame)


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
