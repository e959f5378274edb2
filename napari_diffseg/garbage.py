"""Garbage collections kept short, and in the GUI thread, while a dock is open.

With napari and torch imported, one walks half a million objects: a quarter of a second in which no click is heard.
Python starts one now and then in any thread, and napari one for every layer removed. What is there once a dock has
opened, which is nearly all of it, is therefore set aside (``gc.freeze``) and no longer walked. It comes back when the
dock closes, and when a layer that was among it is removed, so that its memory is freed.

A collection in the thread of a run or of the journal would also delete what Qt allows its own thread only to delete:
PySide6 crashed on it. While a dock is open Python starts none; a timer of the GUI thread does.
"""

from __future__ import annotations

import gc
from typing import Any
from weakref import WeakSet, ref

from qtpy.QtCore import QCoreApplication, QTimer

# Until Python would have collected by itself, about; a run makes few objects for its size.
TIDY_MS = 500

# Every dock that is open; setting aside for one sets aside the layers of all.
_open: list[Aside] = []
_one_has_closed = False


class Aside:
    """For one viewer, from the opening of its dock to ``release``."""

    def __init__(self, viewer: Any) -> None:
        self._viewer = ref(viewer)
        self._old: WeakSet[Any] = WeakSet()
        viewer.layers.events.removing.connect(self._on_removing)
        _open.append(self)
        _clock.start()
        if len(_open) == 1 and not _one_has_closed:
            _set_aside()  # nothing of ours can be garbage yet
        else:
            _later()

    def release(self) -> None:
        """Everything is walked again; safe to call twice."""
        global _one_has_closed
        if self in _open:
            _open.remove(self)
            _one_has_closed = True
            _clock.stop()
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


class _Clock:
    """Collects when Python would have, in the GUI thread, while at least one dock is open."""

    def __init__(self) -> None:
        self._timer: QTimer | None = None

    def start(self) -> None:
        """From the first dock on; nothing where the program collects by itself anyway."""
        if self._timer is None and gc.isenabled() and QCoreApplication.instance() is not None:
            gc.disable()
            self._timer = QTimer()
            self._timer.setInterval(TIDY_MS)
            self._timer.timeout.connect(tidy)
            self._timer.start()

    def stop(self) -> None:
        """After the last dock Python does it again."""
        if self._timer is not None and not _open:
            self._timer.stop()
            self._timer = None
            gc.enable()


_clock = _Clock()


def tidy() -> None:
    """Collect the oldest generation that is due, if any is."""
    pairs = zip(gc.get_count(), gc.get_threshold(), strict=True)
    due = [generation for generation, (count, limit) in enumerate(pairs) if count > limit > 0]
    if due:
        gc.collect(due[-1])


def _later() -> None:
    """Set aside when nobody holds any more what was just let go of, a layer or the dock before this one."""
    QTimer.singleShot(0, _collect)


def _collect() -> None:
    if _open:
        gc.unfreeze()
        gc.collect()
        _set_aside()


def _set_aside() -> None:
    gc.freeze()
    for aside in _open:
        aside.note()
