"""The region of interest as a rectangle that can be dragged, on whatever slice is shown."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffseg.errors import CaseError
from diffseg.grid import Box
from napari_diffseg import commands, layerdata
from napari_diffseg.stage import Stage

# A side this near to the model's window, as a share of it, is made equal to it.
MAGNETISM = 0.12


def snapped(size: int, window: int) -> int:
    """``size``, or the nearest multiple of ``window`` (all in voxels) where that is near."""
    whole = max(1, round(size / window)) * window
    return whole if abs(size - whole) <= MAGNETISM * window else size


class RegionMirror:
    """Shown while ``session.region_box`` is on. Dragging moves the region, pulling a handle resizes it; both
    snap to whole voxels inside the scan, and sides to the model's window when they come near.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layer: Any = None
        self._before: Any = None
        self._busy = False
        self._slices: list[tuple[int, int]] = []
        for field in (self.session.events.region_box, self.session.events.roi):
            stage.on(field, self.refresh)
        for event in (stage.viewer.dims.events.current_step, stage.viewer.dims.events.order):
            stage.on(event, self._on_scrolled)

    def refresh(self) -> None:
        case, frame = self.session.case, self.stage.frame
        if not self.session.region_box or case is None or frame is None:
            self._drop()
            return
        self._slices = self.stage.sliced()
        corners = self._corners(self._box())
        if self._layer is None:
            self._before = self.stage.viewer.layers.selection.active
            self._layer = self.stage.add(layerdata.region_layer(corners, case, frame))
            self.stage.on(self._layer.events.data, self._on_dragged)
            self.stage.activate(self._layer, "select")
            self._layer.selected_data = {0}  # which shows its handles
        elif not np.allclose(self._layer.data[0], corners):
            self._put(corners)

    def removed(self, layer: Any) -> None:
        if layer is self._layer:
            self._layer = None
            self.session.region_box = False

    def _drop(self) -> None:
        layer, self._layer = self._layer, None
        if layer is not None:
            self.stage.off(layer.events.data, self._on_dragged)
            chosen = self.stage.viewer is not None and self.stage.viewer.layers.selection.active is layer
            before, self._before = self._before, None
            self.stage.drop(layer)
            if chosen and before is not None:
                self.stage.activate(before)  # napari would choose none

    def _box(self) -> Box:
        assert self.session.case is not None
        return self.session.roi or Box.whole(self.session.case.grid.shape)

    def _plane(self) -> tuple[int, int]:
        """The two axes of the case in which the rectangle is drawn."""
        assert self.session.case is not None
        hidden = {axis for axis, _ in self.stage.sliced()[:1]} if self.session.case.ndim == 3 else set()
        first, second = [a for a in range(self.session.case.ndim) if a not in (hidden or {0})][-2:]
        return first, second

    def _corners(self, box: Box) -> np.ndarray:
        """Four corners ``(4, ndim)`` on voxel borders, at the slice shown or the box's end nearest to it."""
        a, b = self._plane() if box.ndim == 3 else (0, 1)
        corners = np.zeros((4, box.ndim))
        for axis, voxel in self.stage.sliced():
            corners[:, axis] = min(max(voxel, box.start[axis]), box.stop[axis] - 1)
        corners[:, a] = np.array([box.start[a], box.start[a], box.stop[a], box.stop[a]]) - 0.5
        corners[:, b] = np.array([box.start[b], box.stop[b], box.stop[b], box.start[b]]) - 0.5
        return corners

    def _put(self, corners: np.ndarray) -> None:
        self._busy = True
        try:
            chosen = set(self._layer.selected_data)
            self._layer.data = [corners]
            self._layer.selected_data = chosen
        finally:
            self._busy = False

    def _on_scrolled(self, event: Any = None) -> None:
        """Dims also report when the rectangle itself is dragged beyond the scan; that is no scrolling."""
        if self._layer is not None and not self._busy and self.stage.sliced() != self._slices:
            self.refresh()

    def _on_dragged(self, event: Any) -> None:
        if self._busy or str(event.action) not in ("changed", "ActionType.CHANGED") or len(self._layer.data) != 1:
            return
        before, corners = self._box(), np.asarray(self._layer.data[0])
        a, b = self._plane() if before.ndim == 3 else (0, 1)
        start, stop = list(before.start), list(before.stop)
        for axis in (a, b):
            low, high = corners[:, axis].min() + 0.5, corners[:, axis].max() + 0.5
            start[axis], stop[axis] = self._side(axis, before, low, high)
        self._place(start, stop)
        self.refresh()

    def _side(self, axis: int, before: Box, low: float, high: float) -> tuple[int, int]:
        """First and last border of a side: moved at its size, or resized, which snaps to the model's window."""
        size, window = before.shape[axis], self.session.window()
        if abs(high - low - size) < 0.5:  # a mere move keeps the size, whatever the rounding
            return round(low), round(low) + size
        wanted = max(1, round(high - low))
        length = wanted if window is None else snapped(wanted, window[axis])
        # The end that was not pulled stays.
        end_stays = abs(high - before.stop[axis]) < abs(low - before.start[axis])
        return (round(high) - length, round(high)) if end_stays else (round(low), round(low) + length)

    def _place(self, start: list[int], stop: list[int]) -> None:
        """Pushed back inside the scan rather than cut."""
        assert self.session.case is not None
        shape = self.session.case.grid.shape
        size = [min(e - s, n) for s, e, n in zip(start, stop, shape, strict=True)]
        inside = [min(max(s, 0), n - k) for s, k, n in zip(start, size, shape, strict=True)]
        try:
            box = Box(tuple(inside), tuple(s + k for s, k in zip(inside, size, strict=True)))
        except CaseError:
            return
        commands.place_region(self.session, box)
