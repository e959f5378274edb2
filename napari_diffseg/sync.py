"""Session and viewer kept alike; with ``shelf`` and ``views`` the only place that touches a viewer's layers, dims and
camera.

``LayerSync`` is the stage: it adds, finds and forgets layers without disturbing the person. What is shown on
it is the business of the mirrors, one per kind of layer. Layers are known by identity, never by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, ref

import numpy as np
from napari.utils.transforms import Affine

from diffseg.case import Case
from diffseg.grid import Box
from napari_diffseg import commands, keys, layerdata, opening, raters, warming
from napari_diffseg.layer_updates import show
from napari_diffseg.layerdata import LayerData, own
from napari_diffseg.mask_mirror import MaskMirror
from napari_diffseg.mirrors import MIRRORS, Mirror
from napari_diffseg.preferences import prepare, wants_keys
from napari_diffseg.session import Session, session_for, unwrapped
from napari_diffseg.shelf import Shelf
from napari_diffseg.state import Plane
from napari_diffseg.turns import Turns
from napari_diffseg.views import Views, fit

# Order of the last three axes for each plane; arrays are (z, y, x) running inferior, posterior, left.
PLANES: dict[Plane, tuple[int, int, int]] = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}

_syncs: WeakKeyDictionary[Any, LayerSync] = WeakKeyDictionary()


def attach(viewer: Any) -> Session:
    """The viewer's Session, mirrored in its layers. Every caller owes one ``commands.shutdown(session)``."""
    real = unwrapped(viewer)
    sync = _syncs.get(real)
    # The first transform of all reads napari's table of units for half a second; better now than with a scan.
    Affine(ndim=1)
    if sync is None or sync.users == 0:
        session = session_for(real)
        if session.case is None:
            prepare(session)
        sync = _syncs[real] = LayerSync(real, session)
    sync.users += 1
    return sync.session


class LayerSync:
    """See the module. Callbacks are bound methods and kept in a list, so that ``release`` undoes all of
    them.
    """

    def __init__(self, viewer: Any, session: Session) -> None:
        self._viewer_ref = ref(viewer)
        self.session = session
        self.users = 0
        self._connected: list[tuple[Any, Callable[..., Any]]] = []
        self._turns = Turns(lambda: session.inline)
        self._shelf = Shelf(self._viewer_ref, self._turns)
        self._views = Views(self._viewer_ref, self._turns, self._world_of)
        # Where the slices stood before 3D, whose camera napari takes for a wish to move them.
        self._point: tuple[float, ...] | None = None
        self._scaled = False
        session.view = self
        self.mirrors: list[Mirror] = [kind(self) for kind in MIRRORS]
        self.on(session.events.plane, self._on_plane)
        self.on(viewer.dims.events.order, self._on_turned)
        self.on(viewer.dims.events.ndisplay, self._on_turned)
        self.on(viewer.layers.events.inserted, self._on_inserted)
        self.on(viewer.layers.events.removed, self._on_removed)
        self._keys = keys.bind(viewer) if wants_keys() else []
        self._adopt()
        if not session.inline:
            warming.warm_scale_bar(self._viewer_ref, self._turns.soon)
            self._turns.soon(warming.warm_torch)

    @property
    def viewer(self) -> Any:
        """The viewer, None once it is gone."""
        return self._viewer_ref()

    def on(self, emitter: Any, callback: Callable[..., Any]) -> None:
        """Connect until ``release``."""
        emitter.connect(callback)
        self._connected.append((emitter, callback))

    def off(self, emitter: Any, callback: Callable[..., Any]) -> None:
        """Disconnect again; nothing happens if it was not connected."""
        if (emitter, callback) in self._connected:
            self._connected.remove((emitter, callback))
            emitter.disconnect(callback)

    def release(self) -> bool:
        """One user less; the last one disconnects everything. Layers stay."""
        self.users = max(0, self.users - 1)
        if self.users > 0:
            return False
        for emitter, callback in reversed(self._connected):
            emitter.disconnect(callback)
        self._connected.clear()
        self._turns.clear()
        self._shelf.clear()
        # A layer that the person takes away from now on is gone for good.
        self.mirrors.clear()
        self._scans.clear()
        warming.end(self._viewer_ref)
        if self.viewer is not None:
            keys.unbind(self.viewer, self._keys)
        return True

    # ---- layers ----

    @property
    def layers(self) -> list[Any]:
        """Layers of the viewer, bottom first, and then those that wait to be put in."""
        return self._shelf.layers

    def add(self, data: LayerData, below: Any = None) -> Any:
        """Make a layer on top, or below another; it comes in a turn of its own."""
        return self._shelf.put(data, below)

    def drop(self, layer: Any) -> None:
        """Take a layer of ours away; nothing if it is gone."""
        if self.viewer is not None:
            self._shelf.drop(layer)

    @property
    def waiting(self) -> bool:
        """Whether something that was asked for is still to be shown."""
        return self._turns.waiting

    def draw_by(self, draw: Callable[[bool], None]) -> None:
        """How drawing is suspended for a moment, and resumed."""
        self._turns.draw = draw

    @property
    def held(self) -> bool:
        """Whether layers and dims are changing by our own doing, not by the person's."""
        return self._shelf.held

    def soon(self, work: Callable[[], None], first: bool = False) -> None:
        """Do something in a turn of its own, after what waits or before it."""
        self._turns.soon(work, first)

    def find(self, role: str) -> list[Any]:
        """Our layers of this role and of the current case, bottom first."""
        mine = ((layer, own(layer)) for layer in self.layers)
        return [la for la, noted in mine if noted.get("role") == role and noted["case"] is self.session.case]

    def top(self) -> Any:
        """The layer below which results belong: the region or the mask that is worked on, None for the very
        top.
        """
        return next((la for la in self.layers if own(la).get("role") in ("mask", "region")), None)

    def activate(self, layer: Any, mode: str | None = None) -> None:
        """Make a layer the one that the mouse acts on; only when the person asked for it."""
        self._turns.soon(partial(self._shelf.activate, layer, mode))

    # ---- dims and camera ----

    def slider(self, layer: Any) -> int | None:
        """The viewer's axis on which the first axis of ``layer`` lies; None while it waits to be put in."""
        return None if self._shelf.waits(layer) else int(self.viewer.dims.ndim - layer.ndim)

    def position(self, axis: int) -> int:
        """The step at which a slider stands."""
        return int(self.viewer.dims.current_step[axis])

    def move(self, axis: int, step: int) -> None:
        """Move a slider; not while its axis is displayed."""
        dims = self.viewer.dims
        if axis not in dims.displayed and dims.current_step[axis] != step:
            dims.set_current_step(axis, step)

    def sliced(self) -> list[tuple[int, int]]:
        """``(axis of the case, current voxel)`` of each spatial axis that is not displayed."""
        frame, n = self.frame, self.session.case.ndim if self.session.case is not None else 0
        dims = self.viewer.dims
        shown = {axis - (dims.ndim - n) for axis in dims.displayed}
        hidden = [axis for axis in range(n) if axis not in shown]
        if frame is None or dims.ndim < n or not hidden:
            return []
        point = np.array(dims.point[-n:], float)
        voxel = np.linalg.inv(frame.matrix) @ np.array([*point, 1.0])
        return [(axis, round(float(voxel[axis]))) for axis in hidden]

    def centre_voxel(self) -> tuple[float, ...] | None:
        """Voxel coordinates of the case at the centre of the view, within the scan."""
        case, frame, viewer = self.session.case, self.frame, self.viewer
        if case is not None and any(self._shelf.waits(layer) for layer in self._scans):
            return middle_of(case)  # where it will be looked at
        if case is None or frame is None or viewer is None or viewer.dims.ndim < case.ndim:
            return None
        world = np.array(viewer.dims.point, float)
        displayed = list(viewer.dims.displayed)
        world[displayed] = np.asarray(viewer.scene.camera.center, float)[-len(displayed) :]
        voxel = np.linalg.inv(frame.matrix) @ np.array([*world[-case.ndim :], 1.0])
        return tuple(float(np.clip(v, 0, n - 1)) for v, n in zip(voxel[:-1], case.grid.shape, strict=True))

    def look_at(self, voxel: Sequence[float]) -> None:
        """Move to the slices through a voxel of the case; the camera stays."""
        self._turns.then(lambda: self._slice_at(voxel, [axis for axis, _ in self.sliced()]))

    def _slice_at(self, voxel: Sequence[float], axes: Sequence[int]) -> None:
        frame = self.frame
        if frame is None:
            return
        world = frame.matrix @ np.array([*voxel, 1.0])
        dims = self.viewer.dims
        for axis in axes:
            dims.set_point(dims.ndim - len(voxel) + axis, float(world[axis]))

    def _world_of(self, voxel: Sequence[float]) -> Any:
        """World coordinates of a voxel of the case."""
        assert self.frame is not None
        return (self.frame.matrix @ np.array([*voxel, 1.0]))[:-1]

    def look_into(self, box: Box) -> None:
        """Move to the middle of ``box`` along the axes on which the slice on display misses it."""
        self._turns.then(partial(self._look_into, box))

    def _look_into(self, box: Box) -> None:
        missed = [axis for axis, at in self.sliced() if not box.start[axis] <= at < box.stop[axis]]
        self._slice_at([(a + b - 1) // 2 for a, b in zip(box.start, box.stop, strict=True)], missed)

    def edit_mask(self, where: np.ndarray, values: np.ndarray) -> Any:
        """Into the mask's layer, or into the bare mask while its layer is not there."""
        return next(mirror for mirror in self.mirrors if isinstance(mirror, MaskMirror)).write(where, values)

    def labels_named(self, name: str) -> Any:
        """The Labels layer of this name, None without one."""
        return next((la for la in self.layers if la.name == name and la._type_string == "labels"), None)

    def show_table(self) -> None:
        """napari's own table beside the dock, on the layer that holds a row per mask."""
        for layer in self.find("members"):
            self.activate(layer)
            self.viewer.window.add_plugin_dock_widget("napari", "Features table widget")

    def side_by_side(self, on: bool, box: Box | None = None, hidden: Sequence[Any] = ()) -> bool:
        """A view for each layer, those that are ``hidden`` so far included, or one for all as before; see ``Views``."""
        return self._views.turn(on, box, hidden)

    @property
    def frame(self) -> layerdata.Frame | None:
        """Where the case lies in the viewer."""
        case = self.session.case
        return None if case is None else self.session.frame or layerdata.frame_of(case)

    # ---- scan and planes ----

    def _adopt(self) -> None:
        """Take up what is there: the case of a scan that was opened before the dock."""
        self._scans = self.find("scan")
        if self.session.case is None:
            any(self._offer(layer) for layer in self.layers)
        elif not self._scans and self.session.frame is None:
            self.show_scan()
        for mirror in self.mirrors:
            mirror.refresh()

    def _offer(self, layer: Any) -> bool:
        """Use a scan opened by our reader, if there is none yet."""
        session = self.session
        if session.case is None and own(layer).get("role") == "scan" and not session.blockers("open"):
            return commands.use_layers(session, [layer])
        return False

    def show_scan(self, rest: Case | None = None, rest_files: Sequence[Path] = ()) -> None:
        """Add the layers of the case; those of other scans are hidden, since all lie at the same place."""
        case = self.session.case
        assert case is not None
        for layer in self.layers:
            if own(layer).get("role") in ("scan", "rater"):
                show(layer, False)
        others = () if rest is None else layerdata.scan_layers(replace(rest, raters={}))
        unused = [self.add((values, {**look, "visible": False}, kind)) for values, look, kind in others]
        for layer, files in zip(unused, layerdata.files_of_channels(rest, rest_files) if rest else (), strict=False):
            own(layer)["files"] = files
        added = []
        for values, look, kind in layerdata.scan_layers(case):
            outline = {"contour": layerdata.RATER_PIXELS} if kind == "labels" else {}
            added.append(self.add((values, look | outline, kind)))
        for layer, files in zip(added, layerdata.files_of_channels(case, self.session.files), strict=False):
            own(layer)["files"] = files
        self.scan_shown_by(added[: len(case.channels)])
        self._turns.soon(partial(self._face, case, added))
        self._turns.soon(self._show_scale)

    def _face(self, case: Case, layers: Sequence[Any]) -> None:
        """Look at a scan that was just opened; a flat one has but one plane."""
        viewer = self.viewer
        if viewer is None or case is not self.session.case:
            return
        if case.ndim == 2:
            viewer.dims.ndisplay, viewer.dims.order = 2, tuple(range(viewer.dims.ndim))
        self._slice_at([(n - 1) // 2 for n in case.grid.shape], range(case.ndim))
        here = [layer for layer in layers if layer in viewer.layers]
        fit(viewer, here)
        chosen = viewer.layers.selection.active
        if here and (chosen is None or not chosen.visible):
            self._shelf.activate(here[0])

    def _show_scale(self) -> None:
        """A bar in mm; once, since the person may switch it off. One is right for all views of a grid, which have one
        camera, and in a bar of its own a narrow view would cut it.
        """
        if not self._scaled and self.viewer is not None:
            self.viewer.canvas.overlays.scale_bar.visible = self._scaled = True

    def scan_shown_by(self, layers: Sequence[Any]) -> None:
        """These layers show the case: when the person has removed them all, it is closed."""
        self._scans = list(layers)

    def _on_inserted(self, event: Any) -> None:
        if self._shelf.held or self._offer(event.value) or raters.take_layer(self.session, event.value):
            return
        if own(event.value).get("role") == "scan":
            opening.complete(self.session, [layer for layer in self.layers if own(layer).get("role") == "scan"])

    def _on_removed(self, event: Any) -> None:
        if self._shelf.held:
            return
        for mirror in self.mirrors:
            mirror.removed(event.value)
        if event.value in self._scans:
            self._scans = [layer for layer in self._scans if layer is not event.value]
            if not self._scans and not self.session.blockers("open"):
                self.session.case = None

    def _on_plane(self, plane: Plane | None) -> None:
        viewer = self.viewer
        if plane is None or self._flat() or self._plane() == plane:
            return
        lead = viewer.dims.ndim - 3
        order: Sequence[int] = PLANES.get(plane, (0, 1, 2))
        if plane == "3d":
            self._point = tuple(viewer.dims.point[-3:])
        viewer.dims.ndisplay = 3 if plane == "3d" else 2
        viewer.dims.order = (*range(lead), *(lead + axis for axis in order))
        viewer.reset_view()

    def _on_turned(self, event: Any = None) -> None:
        dims = self.viewer.dims
        if dims.ndisplay == 2 and dims.ndim >= 3 and self._point is not None:
            point, self._point = self._point, None
            dims.set_point(range(dims.ndim - 3, dims.ndim), point)
        self.session.plane = self._plane()

    def _flat(self) -> bool:
        case = self.session.case
        return self.viewer.dims.ndim < 3 or (case is not None and case.ndim < 3)

    def _plane(self) -> Plane | None:
        """The plane on display, None for a flat scan or axes in another order."""
        dims = self.viewer.dims
        if self._flat():
            return None
        if dims.ndisplay == 3:
            return "3d"
        last = tuple(axis - (dims.ndim - 3) for axis in dims.order[-3:])
        return next((name for name, order in PLANES.items() if order == last), None)


def middle_of(case: Case) -> tuple[float, ...]:
    """Where a scan that was just opened is looked at: its centre, on the slice of the first axis that lies there."""
    middle = [(n - 1) / 2 for n in case.grid.shape]
    return (float(int(middle[0])), *middle[1:]) if case.ndim == 3 else tuple(middle)
