"""One view of all layers, or a view for every layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from diffseg.grid import Box

# How much of a view a region fills that is looked at side by side.
FILLED = 0.9


class Views:
    """napari's grid, switched on and off. The smaller views are the one case where the camera moves; it goes back
    unless the person moved it.
    """

    def __init__(self, viewer: Callable[[], Any], world_of: Callable[[Sequence[float]], Any]) -> None:
        """``world_of`` maps a voxel of the case to the viewer's world."""
        self._viewer, self._world_of = viewer, world_of
        # Camera before it was put on a region, and as it was put there.
        self._camera: tuple[Any, Any] | None = None

    def turn(self, on: bool, box: Box | None = None) -> bool:
        """A view for every layer, filled by ``box``, or one for all; tells whether that is a change."""
        viewer = self._viewer()
        if viewer is None or viewer.canvas.grid.enabled == on:
            return False
        viewer.canvas.grid.enabled = on
        camera = viewer.scene.camera
        if on and box is not None and viewer.dims.ndisplay == 2:
            before = (camera.center, camera.zoom)
            self._fill(viewer, box)
            self._camera = (before, (camera.center, camera.zoom))
        elif not on and self._camera is not None:
            before, moved = self._camera
            if (camera.center, camera.zoom) == moved:
                camera.center, camera.zoom = before
            self._camera = None
        return True

    def _fill(self, viewer: Any, box: Box) -> None:
        """Camera on the middle of ``box``, which then fills each view but for a margin."""
        ends = [np.asarray(self._world_of([v - 0.5 for v in end])) for end in (box.start, box.stop)]
        lead = viewer.dims.ndim - box.ndim
        shown = [axis - lead for axis in viewer.dims.displayed]
        if min(shown) < 0:
            return  # a slider's axis is on display
        low, high = (end[shown] for end in ends)
        count = sum(layer.visible for layer in viewer.layers)
        columns = int(np.ceil(np.sqrt(count)))  # napari's own arrangement
        cell = np.array(viewer.canvas.size) / (np.ceil(count / columns), columns)
        camera = viewer.scene.camera
        camera.center = (0.0, *((low + high) / 2))
        camera.zoom = float(FILLED * (cell / np.abs(high - low)).min())
