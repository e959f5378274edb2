"""Layers put into a viewer and taken out of it, without disturbing the person or holding up the screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Layer

from napari_diffseg.layerdata import LayerData, own
from napari_diffseg.turns import Turns

# Layers with an axis of steps, made by us and never saved: only they may be without it for a moment.
STEPPED = ("x", "x0")
# What places a layer in the world, axis by axis.
PLACE = ("scale", "rotate", "shear", "translate", "affine", "units", "axis_labels")


class Shelf:
    """Layers of one viewer. One that waits to be put in counts as there for everybody but napari, one that waits to be
    taken out as gone.
    """

    def __init__(self, viewer: Callable[[], Any], turns: Turns) -> None:
        self._viewer, self._turns = viewer, turns
        self._waiting: list[Any] = []
        self._leaving: list[Any] = []
        # Put in without their axis of steps, which is still to come.
        self._flat: list[Any] = []
        # Whether layers and dims are changing by our own doing.
        self.held = False

    @property
    def layers(self) -> list[Any]:
        """Layers of the viewer, bottom first, and then those that wait."""
        viewer = self._viewer()
        if viewer is None:
            return []
        return [*(la for la in viewer.layers if not _among(self._leaving, la)), *self._waiting]

    def waits(self, layer: Any) -> bool:
        """Whether a layer is still to be put in, as a whole."""
        return _among(self._waiting, layer) or _among(self._flat, layer)

    def put(self, data: LayerData, below: Any = None) -> Any:
        """Make a layer and put it on top, or below another, in a turn of its own; nothing else changes on screen."""
        layer = made(data)
        self._waiting.append(layer)
        self._turns.soon(partial(self._take_in, layer, below))
        return layer

    def drop(self, layer: Any) -> None:
        """Take a layer away, in a turn of its own; nothing if it is gone."""
        if _among(self._waiting, layer):
            self._waiting = _without(self._waiting, layer)
        else:
            self._leaving.append(layer)
            self._turns.soon(partial(self._take_out, layer))

    def activate(self, layer: Any, mode: str | None = None) -> None:
        """Make a layer the one that the mouse acts on; nothing if it is gone."""
        viewer = self._viewer()
        if viewer is not None and layer in viewer.layers:
            viewer.layers.selection.active = layer
            if mode is not None:
                layer.mode = mode

    def _choose_first(self, layer: Any) -> None:
        """As ``activate``, unless another layer was chosen while this turn waited."""
        viewer = self._viewer()
        if viewer is not None and viewer.layers.selection.active is None:
            self.activate(layer)

    def clear(self) -> None:
        """Forget what waits."""
        for waiting in (self._waiting, self._leaving, self._flat):
            waiting.clear()

    def _take_in(self, layer: Any, below: Any) -> None:
        viewer = self._viewer()
        if viewer is None or not self.waits(layer):
            return  # dropped meanwhile
        self._waiting = _without(self._waiting, layer)
        grows = own(layer).get("role") in STEPPED and layer.ndim == viewer.dims.ndim + 1
        if grows and not self._turns.at_once:
            self._flatten(layer)
        self._insert(layer, below)
        for tool in _tools(layer) if layer.editable else ():
            self._turns.soon(partial(setattr, tool, "visible", True))

    def _flatten(self, layer: Any) -> None:
        """Leave out the axis of steps for one more turn, since making its slider takes napari as long again."""
        whole, place = layer.data, {name: getattr(layer, name) for name in PLACE}
        layer.data = whole[0]
        self._flat.append(layer)
        self._turns.soon(partial(self._unfold, layer, whole, place), first=True)

    def _unfold(self, layer: Any, whole: Any, place: Mapping[str, Any]) -> None:
        self._flat = _without(self._flat, layer)
        hidden = not layer.visible
        # napari does not notice that a hidden layer grows, so it is shown meanwhile, of which nobody is told.
        with self._holding(), layer.events.visible.blocker():
            if hidden:
                layer.visible = True
            if layer.data.ndim < whole.ndim:  # else it has newer ones already
                layer.data = whole
            # napari forgets where the axis was; telling it what it knows would cost a drawing each time.
            for name, value in place.items():
                if not np.array_equal(np.asarray(getattr(layer, name)), np.asarray(value)):
                    setattr(layer, name, value)
            if hidden:
                layer.visible = False
        if hidden:
            # The canvas has seen it shown.
            layer.events.visible()

    def _take_out(self, layer: Any) -> None:
        viewer = self._viewer()
        self._leaving = _without(self._leaving, layer)
        if viewer is not None and layer in viewer.layers:
            with self._undisturbed():
                viewer.layers.remove(layer)

    def _insert(self, layer: Any, below: Any) -> None:
        layers = self._viewer().layers
        index = layers.index(below) if below is not None and below in layers else len(layers)
        if len(layers) == 0:
            # The first layer of all may well be looked at and chosen, in two turns.
            with self._holding():
                _insert_unchosen(layers, index, layer)
            self._turns.soon(partial(self._choose_first, layer))
            return
        with self._undisturbed():
            _insert_unchosen(layers, index, layer)

    @contextmanager
    def _holding(self) -> Iterator[None]:
        before, self.held = self.held, True
        try:
            yield
        finally:
            self.held = before

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Camera and selection as they were; napari moves both when layers come and go."""
        viewer = self._viewer()
        camera, selection = viewer.scene.camera, viewer.layers.selection
        chosen, active = set(selection), selection.active
        center, zoom, angles = camera.center, camera.zoom, camera.angles
        with self._holding():
            yield
        # Telling napari of a camera that did not move costs a drawing.
        for name, value in (("center", center), ("zoom", zoom), ("angles", angles)):
            if getattr(camera, name) != value:
                setattr(camera, name, value)
        if set(selection) != chosen or selection.active is not active:
            _select(viewer.layers, chosen, active)


def _insert_unchosen(layers: Any, index: int, layer: Any) -> None:
    """napari selects what is new. Nobody is told, since that would make and draw controls for nothing."""
    selection = layers.selection
    chosen, active = set(selection), selection.active
    with selection.events.blocker_all():
        layers.insert(index, layer)
        selection.active = active
        if active is None:
            selection.clear()
            selection.update(chosen)


def _select(layers: Any, chosen: set[Any], active: Any) -> None:
    """What was chosen, as far as it is there."""
    selection = layers.selection
    if len(layers) == 0:
        return
    selection.intersection_update(chosen)
    selection.update(la for la in chosen if la in layers)
    selection.active = active if active in layers else None
    if active is None:
        selection.update(la for la in chosen if la in layers)


def made(data: LayerData) -> Any:
    """A layer that is in no viewer yet; labels other than the mask are not for painting."""
    values, look, kind = data
    contour = look.pop("contour", 0)
    layer = Layer.create(values, look, kind)
    if contour:
        layer.contour = contour
    if kind == "labels":
        tools = _tools(layer)
        for tool in tools:
            tool.visible = False
        if own(layer).get("role") != "mask":
            layer.editable = False
            layer.events.editable.connect(partial(_follow, layer, tools))
    return layer


def _tools(layer: Any) -> list[Any]:
    """The visuals of napari's brush and polygon, which take longer to make than the labels themselves, and only serve
    those who draw. napari has no public name for them, so a version without them is no trouble.
    """
    found = getattr(layer, "_overlays", {})
    return [found[name] for name in ("polygon", "brush_stroke") if name in found]


def _follow(layer: Any, tools: list[Any], event: Any = None) -> None:
    """The tools come with the right to edit."""
    for tool in tools:
        tool.visible = bool(layer.editable)


def _among(layers: list[Any], layer: Any) -> bool:
    return any(layer is one for one in layers)


def _without(layers: list[Any], layer: Any) -> list[Any]:
    return [one for one in layers if one is not layer]
