"""What napari does once and for the first time, done while nobody waits for it.

The scale bar draws its digits one by one, 10 ms each, when they are first seen; the first labels read a table of
colours. Both would otherwise hold up the first scan.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from napari_diffseg.jobs import Job

# Lengths whose words have every digit; a few in each turn.
LENGTHS = (None, 248.0, 367.0, 9.0)


def warm_torch() -> None:
    """Import torch, and what is drawn up with it, while the person looks for a scan; a dock need not wait for it."""
    if "torch" not in sys.modules:
        Job("Start of torch", _imports).start()


def _imports() -> Iterator[None]:
    for name in ("diffseg.sample", "diffseg.saliency"):
        importlib.import_module(name)
        yield


def warm_labels() -> None:
    """For a job's thread, before the first labels."""
    from napari.layers import Layer  # not for those who read files without a viewer

    look = {"colormap": {None: "transparent", 0: "transparent", 1: "#000000"}, "features": {"index": [0, 1]}}
    Layer.create(np.zeros((1, 1), np.uint8), look, "labels")


def warm_scale_bar(viewer: Callable[[], Any], soon: Callable[[Callable[[], None]], None]) -> None:
    """Draw the scale bar unseen, in turns of their own; not one that the person has switched on."""
    bar = viewer().canvas.overlays.scale_bar
    if not bar.visible and len(viewer().layers) == 0:
        for length in LENGTHS:
            soon(partial(_draw, viewer, length))
        soon(partial(end, viewer))


def _draw(viewer: Callable[[], Any], length: float | None) -> None:
    if viewer() is not None:
        bar = viewer().canvas.overlays.scale_bar
        bar.opacity, bar.length, bar.visible = 0.0, length, True


def end(viewer: Callable[[], Any]) -> None:
    """As it was before; nothing if it is so."""
    bar = viewer().canvas.overlays.scale_bar if viewer() is not None else None
    if bar is not None and bar.visible and bar.opacity == 0:
        bar.visible, bar.length, bar.opacity = False, None, 1.0
