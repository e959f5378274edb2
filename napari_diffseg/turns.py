"""Work on the viewer in small pieces, each in a turn of the event loop of its own.

A layer takes napari 40 to 80 ms to put in and as long to draw for the first time. Several at once would freeze the
window; one after the other, with clicks heard in between, do not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from qtpy.QtCore import QCoreApplication, QTimer

# Enough for a click to be heard.
GAP_MS = 5

Work = Callable[[], None]


class Turns:
    """Pieces of work in the order in which they were asked for. For the GUI thread.

    ``draw(False)`` is called before a piece and ``draw(True)`` after it, in a turn of its own, so that what has
    changed is not drawn in the turn in which it changed.
    """

    def __init__(self, at_once: Callable[[], bool]) -> None:
        """``at_once()`` tells of callers that cannot wait: scripts and tests without an event loop."""
        self.draw: Callable[[bool], None] = _nothing
        self._at_once = at_once
        self._todo: deque[Work] = deque()
        self._timer: QTimer | None = None
        self._hidden = False

    @property
    def at_once(self) -> bool:
        """Whether nobody can wait."""
        return self._at_once() or QCoreApplication.instance() is None

    @property
    def waiting(self) -> bool:
        """Whether there is work left."""
        return bool(self._todo) or self._hidden

    def soon(self, work: Work, first: bool = False) -> None:
        """Do it in a turn of its own, ``first`` before what waits already; at once where nobody can wait."""
        if first:
            self._todo.appendleft(work)
        else:
            self._todo.append(work)
        if self.at_once:
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
        self._show()

    def clear(self) -> None:
        """Forget what is left."""
        self._todo.clear()
        self._show()

    def _show(self) -> None:
        if self._hidden:
            self._hidden = False
            self.draw(True)

    def _plan(self) -> None:
        if self._timer is None:
            self._timer = QTimer()
            self._timer.setSingleShot(True)
            self._timer.setInterval(GAP_MS)
            self._timer.timeout.connect(self._next)
        if not self._timer.isActive():
            self._timer.start()

    def _next(self) -> None:
        try:
            if self._hidden:
                self._show()
            elif self._todo:
                self._hidden = True
                self.draw(False)
                self._todo.popleft()()
        finally:
            if self.waiting:
                self._plan()


def _nothing(on: bool) -> None:
    """Nothing is drawn anyway."""
