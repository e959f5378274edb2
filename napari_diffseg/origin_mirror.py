"""Who wrote which voxel of the mask, as a Labels layer that is there when asked for."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_diffseg import layerdata, mask_edit
from napari_diffseg.jobs import Job, Outcome
from napari_diffseg.stage import Stage
from napari_diffseg.state import MaskState, Message

# One colour per origin but the start, which is see-through.
COLORS = {
    mask_edit.REDRAWN: "#cc79a7",
    mask_edit.PAINTED: "#f0e442",
    mask_edit.INTERPOLATED: "#009e73",
    mask_edit.CLEANED: "#d55e00",
}
ROLE = "origin"


@dataclass(frozen=True, eq=False)
class _Told:
    """The one record of looking who wrote what."""

    origin: np.ndarray
    done: int = 1
    total: int = 1


class OriginMirror:
    """Follows ``session.origin_shown`` and, while it is shown, every change of the mask, in a thread of its own."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layer: Any = None
        self._job: Job | None = None
        self._shown: Any = None
        stage.on(self.session.events.origin_shown, self.refresh)
        stage.on(self.session.events.mask, self.refresh)

    def refresh(self) -> None:
        mask = self.session.mask
        if self._layer is None:
            self._layer = next(iter(self.stage.find(ROLE)), None)
        if not self.session.origin_shown or mask is None or self.stage.frame is None:
            layer, self._layer, self._shown = self._layer, None, None
            if layer is not None:
                self.stage.drop(layer)
            return
        if self._job is None and self._shown != _moment(mask):
            self._look(mask)

    def _look(self, mask: MaskState) -> None:
        found: list[_Told] = []
        # What is on display is written by the thread, and shown when it is done.
        kept = self._layer.data if self._layer is not None and self._layer.data.shape == mask.labels.shape else None

        def look() -> Iterator[_Told]:
            origin = mask_edit.origin_in(mask)
            if kept is not None:
                kept[...] = origin
            found.append(_Told(origin))
            yield found[-1]

        self._job = Job("Who wrote it", look, inline=self.session.inline)
        self._job.finished.connect(functools.partial(self._show, mask, found))
        self._job.start()

    def _show(self, mask: MaskState, found: list[_Told], outcome: Outcome) -> None:
        self._job, self._shown, frame = None, _moment(mask), self.stage.frame
        if outcome.kind != "done":
            self.session.message = Message(outcome.sentence, "error", outcome.details)
            return
        if not self.session.origin_shown or frame is None or mask.case is not self.session.case:
            return
        if self._layer is None:
            look = {
                "name": layerdata.layer_name(mask.case, "who wrote it"),
                "colormap": layerdata.label_colors(COLORS),
                "features": {"index": list(range(5)), "written by": list(mask_edit.ORIGIN_WORDS)},
                "metadata": {layerdata.KEY: {"role": ROLE, "case": mask.case}},
                "opacity": 0.6,
            }
            origin = found[-1].origin
            self._layer = self.stage.add((origin, look | frame.placed((0,) * mask.case.ndim), "labels"))
        else:
            self._layer.refresh(extent=False, highlight=False, thumbnail=False)
        self.refresh()

    def removed(self, layer: Any) -> None:
        if layer is self._layer:
            self._layer = self._shown = None
            self.session.origin_shown = False


def _moment(mask: MaskState) -> Any:
    """What decides who wrote what."""
    return mask.revision, id(mask.start), id(mask.labels), tuple(id(edit) for edit in mask.edits)
