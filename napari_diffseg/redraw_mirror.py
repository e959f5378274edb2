"""The answer on display, as an outline on the mask, while a redraw waits to be taken or left."""

from __future__ import annotations

from typing import Any

from napari_diffseg import layerdata
from napari_diffseg.layer_updates import show, update
from napari_diffseg.layerdata import LayerData
from napari_diffseg.mask_edit import REDRAWN
from napari_diffseg.origin_mirror import COLORS
from napari_diffseg.redraw_state import Proposal
from napari_diffseg.redrawing import proposal_of, reject_answers
from napari_diffseg.stage import Stage

ROLE = "redraw"
# Wider than other outlines, since this one asks for a decision.
OUTLINE_PIXELS = 2


class RedrawMirror:
    """Follows ``session.redraw`` and the mask under it; a layer that the person removes leaves the mask as it is."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layer: Any = None
        self._shown: Any = None
        stage.on(self.session.events.redraw, self.refresh)
        stage.on(self.session.events.mask, self.refresh)

    def refresh(self) -> None:
        found, mask, frame = proposal_of(self.session), self.session.mask, self.stage.frame
        if found is None or mask is None or frame is None:
            self._drop()
            return
        if self._shown == (id(found), mask.revision):
            return
        self._shown = (id(found), mask.revision)
        data = self._data(found)
        if self._layer is None:
            self._layer = next(iter(self.stage.find(ROLE)), None)
        if self._layer is None:
            self._layer = self.stage.add(data)
        else:
            update(self._layer, data)
            self._layer.name = data[1]["name"]
        show(self._layer, True)

    def _drop(self) -> None:
        """There is no answer any more."""
        layers = self.stage.find(ROLE) if self._layer is None else [self._layer]
        self._layer = self._shown = None
        for layer in layers:
            self.stage.drop(layer)

    def removed(self, layer: Any) -> None:
        if layer is self._layer:
            self._layer = self._shown = None
            reject_answers(self.session)

    def _data(self, found: Proposal) -> LayerData:
        mask, frame = self.session.mask, self.stage.frame
        assert mask is not None and frame is not None
        numbers = layerdata.class_colors(mask.classes)
        shades = {k: layerdata.whitened(COLORS[REDRAWN], 0.5 * i / len(numbers)) for i, k in enumerate(numbers)}
        look = {
            "name": layerdata.layer_name(mask.case, f"redrawn {found.at + 1}/{len(found.alternatives)}"),
            "colormap": layerdata.label_colors(shades),
            "features": layerdata.class_table(mask.classes),
            "contour": OUTLINE_PIXELS,
            "metadata": {layerdata.KEY: {"role": ROLE, "case": mask.case, "roi": found.box}},
        }
        return found.labels(mask.labels), look | frame.placed(found.box.start), "labels"
