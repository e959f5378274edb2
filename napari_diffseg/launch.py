"""Open napari with the dock from a program, and wait for what the dock does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QApplication

from napari_diffseg.menu import DOCK, PLUGIN
from napari_diffseg.session import Session, session_for
from napari_diffseg.widgets.dock import Dock

OPENING_S = 120.0
# Enough for what has been asked for to come and be drawn.
DRAWN_S = 1.0


def open_viewer() -> tuple[napari.Viewer, Dock, Session]:
    """A new viewer window with the dock in it, and the viewer's Session."""
    viewer = napari.Viewer()
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
    assert isinstance(dock, Dock)
    return viewer, dock, session_for(viewer)


def wait_until(met: Callable[[], bool], timeout_s: float) -> bool:
    """Let Qt work until ``met()``; False after ``timeout_s`` or when the last window was closed."""
    deadline = time.monotonic() + timeout_s
    while not met():
        if time.monotonic() > deadline or not _window_open():
            return False
        QApplication.processEvents()
        time.sleep(0.01)  # leaves the processor to the thread that is waited for
    return True


def wait_until_idle(session: Session, timeout_s: float) -> str:
    """Let Qt work until no job runs and what came of it is shown; an empty string, or the sentence that says what went
    wrong.
    """
    if not wait_until(lambda: session.job.state == "idle" and not waiting(session), timeout_s):
        return f"{session.job.name or 'The run'} did not finish within {timeout_s:.0f} s."
    message = session.message
    return message.text if message is not None and message.kind == "error" else ""


def screenshot(viewer: napari.Viewer, path: Path) -> None:
    """Write a picture (PNG) of the whole window, once everything asked for is drawn; layers come one per turn."""
    session = session_for(viewer)
    wait_until(lambda: not waiting(session), OPENING_S)
    wait_until(lambda: False, DRAWN_S)
    # What a script lets go of outside an event loop, such as sliders of axes, would never be deleted.
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    viewer.screenshot(str(path), canvas_only=False, flash=False)


def waiting(session: Session) -> bool:
    """Whether layers are still to come."""
    return session.view is not None and session.view.waiting


def _window_open() -> bool:
    return any(window.isVisible() for window in QApplication.topLevelWidgets())
