"""Running any iterator of records off the GUI thread. The only file of the plugin that knows about threads.

A ``Job`` has a thread of its own rather than one of napari's workers, because those swallow every
``RuntimeError`` (all out-of-memory errors of torch), keep finished workers and their generators alive until
the window closes, and share a small pool that a paused job would block.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from psygnal import Signal
from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtCore import Signal as QtSignal  # type: ignore[attr-defined]

from diffseg.errors import Cancelled, DiffsegError
from napari_diffseg.state import JobState

# The screen is told of at most ten records a second, and of fewer where telling and drawing one takes more than this
# share of the time between two, which the run would have to do without; the last one always arrives.
SHORTEST_INTERVAL_S = 0.1
LONGEST_INTERVAL_S = 1.5
SHARE = 0.04


class Record(Protocol):
    """What a source yields: ``done`` of ``total``. Each record must stand for all earlier ones, since the
    screen only sees some.
    """

    @property
    def done(self) -> int:
        """Steps finished."""
        ...

    @property
    def total(self) -> int:
        """Steps in all."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a job ended. ``sentence`` is for the person, empty when done; ``details`` holds the traceback."""

    kind: Literal["done", "cancelled", "failed"]
    sentence: str = ""
    details: str = ""


class Job:
    """Drains ``make()`` in a thread, or in the caller if ``inline``.

    Signals, all on the GUI thread: ``progressed(record)``, ``changed(JobState)``, and ``finished(Outcome)``
    exactly once, whatever happens. The source is made, advanced and closed in one and the same thread.
    Methods are for the GUI thread. An inline job returns to the caller when it pauses; ``resume`` and
    ``step`` carry on.
    """

    progressed = Signal(object)
    changed = Signal(JobState)
    finished = Signal(Outcome)

    def __init__(self, name: str, make: Callable[[], Iterator[Any]], inline: bool = False) -> None:
        self.state = JobState(name=name)
        self._make: Callable[[], Iterator[Any]] | None = make
        self._source: Iterator[Any] | None = None
        self._gate = threading.Condition()
        self._allowed: int | None = None
        self._cancelled = self._advancing = self._over = False
        self._done = 0
        self._clock = _Clock()
        self._inline = inline
        self._thread: threading.Thread | None = None
        self._mail = _Mail(self._deliver, inline)

    @property
    def over(self) -> bool:
        """Whether the outcome has been told."""
        return self._over

    def start(self, steps: int | None = None) -> None:
        """Begin, once; with ``steps`` pause after so many."""
        self._allowed = steps
        self._show(state="running")
        if self._inline:
            self._advance()
            return
        self._thread = threading.Thread(target=self._run, name=f"diffseg: {self.state.name}", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Stop before the next step; the step in progress is finished."""
        self._permit(0)

    def resume(self) -> None:
        """Run freely."""
        self._permit(None)

    def step(self) -> None:
        """Run exactly one more step, then pause."""
        self._permit(1)

    def cancel(self) -> None:
        """Stop within one step; shown at once. Does nothing when the job is over."""
        if self._over:
            return
        self._show(state="cancelling")
        with self._gate:
            self._cancelled = True
            self._gate.notify_all()
        self._carry_on()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the thread has ended and tell the outcome now; False if it takes longer."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._mail.deliver()
        return self._over

    def _permit(self, steps: int | None) -> None:
        if self._over or self._cancelled:
            return
        self._show(state="paused" if steps == 0 else "running")
        with self._gate:
            self._allowed = steps
            self._gate.notify_all()
        self._carry_on()

    def _carry_on(self) -> None:
        if self._inline and not self._advancing:
            self._advance()

    def _show(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)
        self.changed.emit(self.state)

    # ---- in the job's own thread ----

    def _run(self) -> None:
        while not self._advance():
            with self._gate:
                self._gate.wait_for(self._may_go_on)

    def _may_go_on(self) -> bool:
        return self._cancelled or self._allowed != 0

    def _advance(self) -> bool:
        """Drain the source until it pauses (False) or is over (True)."""
        self._advancing = True
        try:
            outcome = self._drained()
            if outcome is None:
                self._clock.stop()
                self._mail.post(paused=True)
                return False
            # The exception and its frames, tensors included, are gone by now.
            self._mail.post(outcome=self._closed(outcome))
            return True
        finally:
            self._advancing = False

    def _drained(self) -> Outcome | None:
        """The outcome, or None for a pause."""
        try:
            make, self._make = self._make, None
            if make is not None:
                self._source = iter(make())
            self._clock.go()
            while self._may_go_on():
                if self._cancelled:
                    raise Cancelled
                if self._source is None or (record := next(self._source, None)) is None:
                    return Outcome("done")
                self._count(record)
                self._mail.post((record, self._clock.tick(record)))
        except Cancelled:
            return self._stopped()
        except BaseException as error:  # noqa: BLE001 - whatever happens ends in one outcome
            failed = failure(self.state.name, error)
            # Nobody waits for the result of a run that was stopped, so its last troubles are only noted.
            return replace(self._stopped(), details=failed.details) if self._cancelled else failed
        return None

    def _stopped(self) -> Outcome:
        return Outcome("cancelled", f"{self.state.name} was stopped.")

    def _count(self, record: Record) -> None:
        with self._gate:
            if record.done >= record.total:
                # What is left of the source is only its end: no pause before that.
                self._allowed = None
            elif self._allowed and record.done > self._done:
                self._allowed -= 1
            self._done = record.done

    def _closed(self, outcome: Outcome) -> Outcome:
        source, self._source = self._source, None
        try:
            if source is not None and hasattr(source, "close"):
                source.close()
        except BaseException as error:  # noqa: BLE001 - as above
            return outcome if outcome.kind == "failed" else failure(self.state.name, error)
        return outcome

    # ---- in the GUI thread again ----

    def _deliver(self, news: tuple[Any, float | None] | None, paused: bool, outcome: Outcome | None) -> None:
        if self._over:
            return
        self._over = outcome is not None
        try:
            if news is not None:
                record, left = news
                self._show(done=record.done, total=record.total, seconds_left=left)
                self.progressed.emit(record)
            if outcome is not None:
                self._show(state="idle", seconds_left=None)
            elif paused and self.state.state == "running" and not self._may_go_on():
                self._show(state="paused", seconds_left=None)
        finally:
            # Even when an observer of the last record failed.
            if outcome is not None:
                self.finished.emit(outcome)


def failure(name: str, error: BaseException) -> Outcome:
    """The outcome of an exception, in one sentence; the exception itself is not kept."""
    details = "".join(traceback.format_exception(error))
    if isinstance(error, DiffsegError):
        sentence = str(error)
    elif _is_out_of_memory(error):
        sentence = f"{name} stopped because memory ran out; choose a smaller region or another device."
    else:
        first = (str(error).strip() or "no message").splitlines()[0]
        sentence = f"{name} stopped by an unexpected error ({type(error).__name__}: {first}); please report it."
    return Outcome("failed", sentence, details)


def _is_out_of_memory(error: BaseException) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from diffseg.devices import is_out_of_memory  # only once torch is there anyway

    return is_out_of_memory(error)


class _Clock:
    """Time that a job spent running, and an estimate of what is left."""

    def __init__(self) -> None:
        self._spent_s = 0.0
        self._since: float | None = None
        self._first: tuple[float, int] | None = None

    def go(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> None:
        self._spent_s, self._since = self._running_s(), None

    def tick(self, record: Record) -> float | None:
        """Seconds left after this record; None while unknown. Counted from the first record, since what comes
        before it (loading, resampling) does not repeat.
        """
        spent = self._running_s()
        if self._first is None:
            self._first = (spent, record.done)
        begun, before = self._first
        if record.done <= before:
            return None
        return (spent - begun) / (record.done - before) * (record.total - record.done)

    def _running_s(self) -> float:
        return self._spent_s + (0.0 if self._since is None else time.perf_counter() - self._since)


def interval_s(cost_s: float) -> float:
    """Time from one record shown to the next, for one that took ``cost_s`` to tell and to draw."""
    return min(max(cost_s / SHARE, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)


class _Bridge(QObject):
    """Lives in the GUI thread; ``woken`` may be emitted from any thread."""

    woken = QtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.timer, self.drawn = QTimer(self), QTimer(self)
        self.timer.setSingleShot(True)
        self.drawn.setSingleShot(True)
        self.drawn.setInterval(0)


class _Mail:
    """Carries the newest record, and the end, to the GUI thread; never more than one call is under way."""

    def __init__(self, deliver: Callable[[Any, bool, Outcome | None], None], direct: bool) -> None:
        self._to = deliver
        self._lock = threading.Lock()
        self._news: Any = None
        self._paused = self._pending = False
        self._outcome: Outcome | None = None
        self._last_s, self._interval_s = -SHORTEST_INTERVAL_S, SHORTEST_INTERVAL_S
        self._bridge = None if direct else _Bridge()
        if self._bridge is not None:
            self._bridge.woken.connect(self._on_woken, Qt.ConnectionType.QueuedConnection)
            self._bridge.timer.timeout.connect(self.deliver)
            self._bridge.drawn.timeout.connect(self._on_drawn)

    def post(self, news: Any = None, paused: bool = False, outcome: Outcome | None = None) -> None:
        with self._lock:
            self._news = news if news is not None else self._news
            self._paused, self._outcome = paused, outcome or self._outcome
            # A record may wait for its turn, but nobody waits for a pause or the end.
            wake, self._pending = not self._pending or paused or outcome is not None, True
        if self._bridge is None:
            self.deliver()
        elif wake:
            with suppress(RuntimeError):  # the program ends, and Qt has gone before us
                self._bridge.woken.emit()

    def deliver(self) -> None:
        """Hand over what has come; nothing if nothing has."""
        with self._lock:
            letter = (self._news, self._paused, self._outcome)
            empty = not self._pending
            self._news, self._pending, self._outcome = None, False, None
        self._last_s = time.perf_counter()
        if not empty:
            if self._bridge is not None:
                # Fires when the event loop has drawn what the letter changed; when the program ends, Qt may be gone.
                with suppress(RuntimeError):
                    self._bridge.drawn.start()
            self._to(*letter)

    def _on_drawn(self) -> None:
        self._interval_s = interval_s(time.perf_counter() - self._last_s)

    def _on_woken(self) -> None:
        rest_s = self._interval_s - (time.perf_counter() - self._last_s)
        if self._bridge is not None and rest_s > 0 and self._outcome is None and not self._paused:
            self._bridge.timer.start(max(1, int(rest_s * 1000)))
        else:
            self.deliver()
