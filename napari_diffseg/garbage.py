"""Full garbage collections kept short while a dock is open.

With napari and torch imported, one walks half a million objects: a quarter of a second in which no click is heard.
Python starts one now and then in any thread, and napari one for every layer removed. What is there once a dock has
opened, which is nearly all of it, is therefore set aside (``gc.freeze``) and no longer walked. It comes back when the
dock closes, and when a layer that was among it is removed, so that its memory is freed.
"""

from __future__ import annotations

import gc
from typing import Any
from weakref import WeakSet, ref

from qtpy.QtCore import QTimer

# Every dock that is open; setting aside for one sets aside the layers of all.
_open: list[Aside] = []


class Aside:
    """For one viewer, from the opening of its dock to ``release``."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = ref(viewer)
        self._old: WeakSet[Any] = WeakSet()
        viewer.layers.events.removing.connect(self._on_removing)
        _open.append(self)
        _later()

    def release(self) -> None:
        """Everything is walked again; safe to call twice."""
        if self in _open:
            _open.remove(self)
            viewer = self._viewer()
            if viewer is not None:
                viewer.layers.events.removing.disconnect(self._on_removing)
        gc.unfreeze()

    def note(self) -> None:
        """These layers are set aside now."""
        viewer = self._viewer()
        self._old = WeakSet(() if viewer is None else viewer.layers)

    def _on_removing(self, event: Any) -> None:
        viewer = self._viewer()
        if viewer is not None and viewer.layers[event.index] in self._old:
            gc.unfreeze()
            _later()


def _later() -> None:
    """Set aside when nobody holds any more what was just let go of, a layer or the dock before this one."""
    QTimer.singleShot(0, _set_aside)


def _set_aside() -> None:
    if _open:
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        for aside in _open:
            aside.note()
