"""Work on the viewer in small pieces, each in a turn of the event loop of its own.

A layer costs napari 50 to 150 ms on the GUI thread. Several at once would freeze the window; one after the other, with
clicks heard and the screen drawn in between, do not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from qtpy.QtCore import QCoreApplication, QTimer

# Enough for what the last piece changed to be drawn, and for a click to be heard.
GAP_MS = 10

Work = Callable[[], None]


class Turns:
    """Pieces of work in the order in which they were asked for. For the GUI thread."""

    def __init__(self, at_once: Callable[[], bool]) -> None:
        """``at_once()`` tells of callers that cannot wait: scripts and tests without an event loop."""
        self._at_once = at_once
        self._todo: deque[Work] = deque()
        self._timer: QTimer | None = None

    @property
    def waiting(self) -> bool:
        """Whether there is work left."""
        return bool(self._todo)

    def soon(self, work: Work, first: bool = False) -> None:
        """Do it in a turn of its own, ``first`` before what waits already; at once where nobody can wait."""
        if first:
            self._todo.appendleft(work)
        else:
            self._todo.append(work)
        if self._at_once() or QCoreApplication.instance() is None:
            self.finish()
        else:
            self._plan()

    def then(self, work: Work) -> None:
        """Do it after what waits: now, if nothing does."""
        if self._todo:
            self.soon(work)
        else:
            work()

    def finish(self) -> None:
        """Do now what is left."""
        while self._todo:
            self._todo.popleft()()

    def clear(self) -> None:
        """Forget what is left."""
        self._todo.clear()

    def _plan(self) -> None:
        if self._timer is None:
            self._timer = QTimer()
            self._timer.setSingleShot(True)
            self._timer.setInterval(GAP_MS)
            self._timer.timeout.connect(self._next)
        if not self._timer.isActive():
            self._timer.start()

    def _next(self) -> None:
        if not self._todo:
            return
        try:
            self._todo.popleft()()
        finally:
            if self._todo:
                self._plan()
