"""The editable mask as a Labels layer, the only one that the person draws on."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from napari_diffseg import layerdata
from napari_diffseg.journaling import journaling
from napari_diffseg.mask_edit import revised
from napari_diffseg.stage import Stage
from napari_diffseg.state import Message

# Role of a mask that another one has followed.
EARLIER = "earlier mask"


class MaskMirror:
    """Adds the layer once and never writes into it; strokes come back as ``session.mask``.

    napari tells of strokes by ``paint``, of undo and redo only by ``set_data``, which scrolling emits as
    well; they are told apart by the lengths of its two histories, which it keeps private. What else writes into
    the array is noticed after a save, when ``set_data`` comes without a change of view.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layer: Any = None
        self._labels: np.ndarray | None = None
        self._checksum = 0
        self._view: Any = None
        self._lengths = (0, 0)
        self._writing = self._told = False
        stage.on(self.session.events.mask, self.refresh)
        stage.on(self.session.events.case, self._on_case)

    def refresh(self) -> None:
        mask, frame = self.session.mask, self.stage.frame
        if mask is None or frame is None:
            self._let_go()
            return
        if mask.labels is not self._labels:
            left = [la for la in self.stage.find("mask") if la.data is mask.labels]
            before = self._layer
            if before is not None and before not in left and before in self.stage.find("mask"):
                self._let_go()
                self._retire(before)
            layer = left[0] if left else self.stage.add(layerdata.mask_layer(mask, frame))
            self._take(layer, mask.labels)
            self.stage.activate(layer)
            if left and journaling(self.session).strayed(mask):
                # Drawn on while no panel was open.
                self._on_paint()
                mask = self.session.mask or mask
        if self._layer.selected_label != mask.selected:
            self._layer.selected_label = mask.selected
        if not mask.dirty:
            self._checksum = checksum(mask.labels)

    def removed(self, layer: Any) -> None:
        if layer is self._layer:
            self.session.mask = None
            self.session.message = Message("The mask layer was removed: make a mask editable to go on.", "warning")

    def _retire(self, layer: Any) -> None:
        """Of the masks of a case only one can be drawn on. An edited one stays, hidden; others give way."""
        if not layerdata.own(layer).get("edited"):
            self.stage.drop(layer)
            return
        noted = layerdata.own(layer)
        noted["role"] = EARLIER
        layer.name = layerdata.layer_name(noted["case"], "earlier mask")
        layer.editable = layer.visible = False

    def _on_case(self) -> None:
        """The mask of another scan would lie on this one, and results of this one below it."""
        case = self.session.case
        if case is None:
            return
        for layer in self.stage.layers:
            noted = layerdata.own(layer)
            if noted.get("role") == "mask" and noted["case"].origin is not case.origin:
                if layer is self._layer:
                    self._let_go()
                self._retire(layer)

    def _take(self, layer: Any, labels: np.ndarray) -> None:
        self._let_go()
        self._layer, self._labels = layer, labels
        self._view, self._lengths = self._seen(), lengths(layer)
        for emitter, callback in self._wires(layer):
            self.stage.on(emitter, callback)

    def _let_go(self) -> None:
        """The layer stays with the person."""
        if self._layer is not None:
            for emitter, callback in self._wires(self._layer):
                self.stage.off(emitter, callback)
        self._layer = self._labels = None

    def _wires(self, layer: Any) -> list[tuple[Any, Any]]:
        events = layer.events
        return [
            (events.paint, self._on_paint),
            (events.labels_update, self._on_update),
            (events.set_data, self._on_set_data),
            (events.data, self._on_data),
            (events.selected_label, self._on_selected),
        ]

    def write(self, where: np.ndarray, values: np.ndarray) -> Any:
        """New values at flat indices, as one undo step that is known by what is returned."""
        mask, layer = self.session.mask, self._layer
        assert mask is not None
        places = np.unravel_index(where, mask.labels.shape)
        if layer is None:
            mask.labels[places] = values
            return None
        if lengths(layer) != self._lengths:
            self._on_paint()  # undone while the layer was hidden, of which nobody told
        self._writing = True
        try:
            with layer.block_history():
                layer.data_setitem(places, values)
        finally:
            self._writing = False
        self._lengths = lengths(layer)
        layerdata.own(layer)["edited"] = True
        return histories(layer)[0][-1][-1]

    def _on_paint(self, event: Any = None) -> None:
        if self._writing:
            return
        mask, layer = self.session.mask, self._layer
        self._lengths, self._told = lengths(layer), event is not None
        layerdata.own(layer)["edited"] = True
        if mask is not None:
            edits = revised(mask.edits, *histories(layer))
            self.session.mask = replace(mask, dirty=True, edited=True, revision=mask.revision + 1, edits=edits)

    def _on_update(self, event: Any = None) -> None:
        """A fill tells of its paint before it has written it, and of the update after."""
        mask, told, self._told = self.session.mask, self._told, False
        if told and mask is not None and not self._writing:
            self.session.mask = replace(mask, revision=mask.revision + 1)

    def _on_set_data(self, event: Any = None) -> None:
        mask, before, self._view = self.session.mask, self._view, self._seen()
        if mask is None or self._writing:
            return
        changed = lengths(self._layer) != self._lengths
        if not changed and not mask.dirty and self._view == before:
            changed = checksum(mask.labels) != self._checksum
        if changed:
            self._on_paint()

    def _on_data(self, event: Any = None) -> None:
        """Somebody put another array into the layer."""
        mask, data = self.session.mask, self._layer.data
        if mask is None or data is mask.labels:
            return
        if data.shape != mask.labels.shape or not isinstance(data, np.ndarray):
            self._let_go()
            self.session.mask = None
            self.session.message = Message(
                "The mask layer no longer fits the scan: make a mask editable again.", "warning"
            )
            return
        self._labels = data
        self.session.mask = replace(mask, labels=data, dirty=True, edited=True, revision=mask.revision + 1)

    def _on_selected(self, event: Any = None) -> None:
        mask = self.session.mask
        if mask is not None and mask.selected != self._layer.selected_label:
            self.session.mask = replace(mask, selected=int(self._layer.selected_label))

    def _seen(self) -> Any:
        dims = self.stage.viewer.dims
        return dims.current_step, dims.order, dims.ndisplay


def histories(layer: Any) -> tuple[Any, Any]:
    """What can be undone and what can be redone, newest last; items are lists of steps."""
    return layer._undo_history, layer._redo_history


def lengths(layer: Any) -> tuple[int, int]:
    """How much can be undone and redone."""
    undo, redo = histories(layer)
    return len(undo), len(redo)


def checksum(labels: np.ndarray) -> int:
    """Tells edited content from saved content."""
    return zlib.crc32(np.ascontiguousarray(labels).data)
