"""One view of all layers, or a view for every layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from diffseg.grid import Box
from napari_diffseg.layer_updates import show
from napari_diffseg.turns import Turns

# How much of a view a region fills that is looked at side by side.
FILLED = 0.9
# How much of it a whole scan fills, as napari does it.
FITTED = 0.95
# napari's word for rows and columns by the number of layers.
AUTOMATIC = (-1, -1)


class Views:
    """napari's grid, switched on and off. The smaller views are the one case where the camera moves; it goes back
    unless the person moved it.
    """

    def __init__(self, viewer: Callable[[], Any], turns: Turns, world_of: Callable[[Sequence[float]], Any]) -> None:
        """``world_of`` maps a voxel of the case to the viewer's world."""
        self._viewer, self._turns, self._world_of = viewer, turns, world_of
        # Camera before it was put on a region, and as it was put there.
        self._camera: tuple[Any, Any] | None = None
        # Rows and columns that we asked for; the person may ask for others.
        self._shape: tuple[int, int] | None = None

    def turn(self, on: bool, box: Box | None = None, hidden: Sequence[Any] = ()) -> bool:
        """A view for every visible layer, filled by ``box``, or one for all; tells whether that is a change.

        Those of ``hidden`` get their views now, since napari makes all views anew when their number changes, and are
        shown one by one, since it takes napari a while to draw what it has not drawn before.
        """
        viewer = self._viewer()
        if viewer is None or viewer.canvas.grid.enabled == on:
            return False
        grid, camera = viewer.canvas.grid, viewer.scene.camera
        count = sum(la.visible or any(la is one for one in hidden) for la in viewer.layers)
        self._by_napari()
        if on and tuple(grid.shape) == AUTOMATIC and count > 0:
            grid.shape = self._shape = arranged(count)
        grid.enabled = on
        if on and box is not None and viewer.dims.ndisplay == 2 and count > 0:
            before = (camera.center, camera.zoom)
            self._fill(viewer, box, count)
            self._camera = (before, (camera.center, camera.zoom))
        elif not on and self._camera is not None:
            before, moved = self._camera
            if (camera.center, camera.zoom) == moved:
                camera.center, camera.zoom = before
            self._camera = None
        if on:
            self._turns.soon(partial(self._reveal, list(hidden)), first=True)
        return True

    def _reveal(self, layers: list[Any]) -> None:
        viewer = self._viewer()
        if viewer is None or not viewer.canvas.grid.enabled:
            return
        for layer in layers:
            if not layer.visible and layer in viewer.layers:
                show(layer, True)
                self._turns.soon(partial(self._reveal, layers), first=True)
                return
        self._by_napari()

    def _by_napari(self) -> None:
        """Rows and columns by the number of layers again, as the person finds it in napari."""
        grid, ours = self._viewer().canvas.grid, self._shape
        self._shape = None
        if ours is not None and tuple(grid.shape) == ours:
            grid.shape = AUTOMATIC

    def _fill(self, viewer: Any, box: Box, count: int) -> None:
        """Camera on the middle of ``box``, which then fills each view but for a margin."""
        ends = [np.asarray(self._world_of([v - 0.5 for v in end])) for end in (box.start, box.stop)]
        lead = viewer.dims.ndim - box.ndim
        shown = [axis - lead for axis in viewer.dims.displayed]
        if min(shown) < 0:
            return  # a slider's axis is on display
        low, high = (end[shown] for end in ends)
        _aim(viewer, low, high, np.array(viewer.canvas.size) / arranged(count), FILLED)


def arranged(count: int) -> tuple[int, int]:
    """Rows and columns of so many views, as napari itself arranges them."""
    columns = int(np.ceil(np.sqrt(count)))
    return int(np.ceil(count / columns)), columns


def fit(viewer: Any, layers: Sequence[Any]) -> None:
    """Look at the whole of these layers, which have equally many axes; napari alone where it can.

    napari cannot fit flat layers while others are volumes, and it leaves a dead callback on each layer that it is
    told to fit.
    """
    if len(layers) in (0, len(viewer.layers)):
        viewer.reset_view()
    elif layers[0].ndim == viewer.dims.ndim:
        viewer.reset_view(layers=layers)
    else:
        ends = np.stack([layer.extent.world[:, -2:] for layer in layers])
        low, high = ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
        _aim(viewer, low, high, np.asarray(viewer.canvas.viewbox_size(viewer.layers)), FITTED)


def _aim(viewer: Any, low: np.ndarray, high: np.ndarray, room: np.ndarray, share: float) -> None:
    """Camera of a 2D view on the middle of a box of the world, which then fills ``share`` of its ``room`` in pixels."""
    camera = viewer.scene.camera
    camera.center = (0.0, *((low + high) / 2))
    camera.zoom = float(share * (room / np.maximum(np.abs(high - low), 1e-9)).min())
