"""Who wrote which voxel of the mask, as a Labels layer that is there when asked for."""

from __future__ import annotations

from typing import Any

from napari_diffseg import layerdata, mask_edit
from napari_diffseg.stage import Stage

# One colour per origin but the start, which is see-through.
COLORS = {
    mask_edit.REDRAWN: "#cc79a7",
    mask_edit.PAINTED: "#f0e442",
    mask_edit.INTERPOLATED: "#009e73",
    mask_edit.CLEANED: "#d55e00",
}
ROLE = "origin"


class OriginMirror:
    """Follows ``session.origin_shown`` and, while it is shown, every change of the mask."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layer: Any = None
        self._shown: Any = None
        stage.on(self.session.events.origin_shown, self.refresh)
        stage.on(self.session.events.mask, self.refresh)

    def refresh(self) -> None:
        mask, frame = self.session.mask, self.stage.frame
        if self._layer is None:
            self._layer = next(iter(self.stage.find(ROLE)), None)
        if not self.session.origin_shown or mask is None or frame is None:
            layer, self._layer, self._shown = self._layer, None, None
            if layer is not None:
                self.stage.drop(layer)
            return
        if self._shown == (mask.name, mask.revision, id(mask.labels)):
            return
        self._shown = (mask.name, mask.revision, id(mask.labels))
        origin = mask_edit.origin_of(self.session)
        if self._layer is None:
            look = {
                "name": layerdata.layer_name(mask.case, "who wrote it"),
                "colormap": layerdata.label_colors(COLORS),
                "features": {"index": list(range(5)), "written by": list(mask_edit.ORIGIN_WORDS)},
                "metadata": {layerdata.KEY: {"role": ROLE, "case": mask.case}},
                "opacity": 0.6,
            }
            self._layer = self.stage.add((origin, look | frame.placed((0,) * mask.case.ndim), "labels"))
        else:
            self._layer.data[...] = origin
            self._layer.refresh(extent=False, highlight=False)

    def removed(self, layer: Any) -> None:
        if layer is self._layer:
            self._layer = self._shown = None
            self.session.origin_shown = False
