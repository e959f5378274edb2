"""New values in layers that are there already, which keep the look that the person gave them."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_diffseg.layerdata import LayerData


def update(layer: Any, data: LayerData) -> None:
    """New values in place where the layer has their shape and place, which costs no new texture; else as
    ``replace``.
    """
    values, look, _ = data
    moved = "affine" in look or not np.allclose(layer.translate, look["translate"])
    if layer.data.shape != values.shape or moved:
        replace(layer, data)
        return
    layer.data[...] = values
    layer.metadata = {**layer.metadata, **look["metadata"]}
    layer.refresh(extent=False, highlight=False)


def replace(layer: Any, data: LayerData) -> None:
    """New values at a new place in an old layer, which keeps the look that the person gave it, colours of
    labels excepted.
    """
    values, look, kind = data
    layer.data = values
    layer.name = look["name"]
    layer.metadata = {**layer.metadata, **look["metadata"]}
    for key in ("scale", "translate", "affine", *(("colormap",) if kind == "labels" else ())):
        if key in look:
            setattr(layer, key, look[key])


def show(layer: Any, on: bool) -> None:
    """Show or hide; nothing if it is so already, for which napari would slice and arrange everything again."""
    if layer.visible != on:
        layer.visible = on


def fade(layer: Any, opacity: float) -> None:
    """Another opacity; nothing if it is so already."""
    if layer.opacity != opacity:
        layer.opacity = opacity
