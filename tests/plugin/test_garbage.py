"""What is set aside while a dock is open is let go of all the same."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from pytestqt.qtbot import QtBot

from napari_diffseg.garbage import Aside


@pytest.fixture
def aside(qtbot: QtBot) -> object:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 4)), name="old")
    made = Aside(viewer)
    made.viewer = viewer  # type: ignore[attr-defined]
    yield made
    made.release()


def test_a_full_collection_walks_little_while_a_dock_is_open(aside: Aside) -> None:
    before = gc.get_freeze_count()
    assert before > 10 * len(gc.get_objects())
    aside.release()
    assert gc.get_freeze_count() == 0
    aside.release()


@pytest.mark.parametrize("name", ["old", "new"])
def test_removed_layers_are_freed_whether_they_were_set_aside_or_not(aside: Aside, qtbot: QtBot, name: str) -> None:
    viewer = aside.viewer  # type: ignore[attr-defined]
    viewer.add_image(np.ones((4, 4)), name="new")
    gone = weakref.ref(viewer.layers[name])
    # napari itself holds the layer that was last selected.
    viewer.layers.selection.active = next(layer for layer in viewer.layers if layer.name != name)
    viewer.layers.remove(name)
    qtbot.wait(10)
    gc.collect()
    assert gone() is None and gc.get_freeze_count() > 0, "and the rest is aside again"


def test_two_docks_know_of_each_others_layers(aside: Aside, qtbot: QtBot) -> None:
    viewer = aside.viewer  # type: ignore[attr-defined]
    viewer.add_image(np.ones((4, 4)), name="new")
    second = Aside(ViewerModel())
    gone = weakref.ref(viewer.layers["new"])
    viewer.layers.selection.active = viewer.layers["old"]
    viewer.layers.remove("new")
    qtbot.wait(10)
    gc.collect()
    assert gone() is None
    second.release()


class Loop:
    """Garbage that only a collection frees."""

    def __init__(self) -> None:
        self.me = self


def test_only_the_gui_thread_collects_while_a_dock_is_open_and_python_does_before_and_after(
    aside: Aside, qtbot: QtBot
) -> None:
    assert not gc.isenabled()
    where: set[int] = set()

    def note(phase: str, info: dict[str, int]) -> None:
        where.add(threading.get_ident())

    gone = weakref.ref(Loop())
    gc.callbacks.append(note)
    try:
        busy = threading.Thread(target=lambda: [Loop() for _ in range(20_000)])
        busy.start()
        busy.join()
        assert not where
        qtbot.waitUntil(lambda: gone() is None, timeout=5000)
    finally:
        gc.callbacks.remove(note)
    assert where == {threading.get_ident()}
    aside.release()
    assert gc.isenabled()
