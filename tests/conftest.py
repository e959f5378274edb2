"""Settings and fixtures of the whole suite.

The environment is set before anything imports napari or Qt: settings of the person who runs the tests are
neither read nor changed, and a widget that touches the viewer from a worker thread fails the test.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot
    from qtpy.QtWidgets import QWidget

REPOSITORY = Path(__file__).resolve().parents[1]
GUI_FIXTURES = {"make_napari_viewer", "make_napari_viewer_proxy", "qapp", "qtbot"}

_home = tempfile.TemporaryDirectory(prefix="napari-diffseg-tests-")
for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
    folder = Path(_home.name) / variable.lower()
    folder.mkdir(mode=0o700)
    os.environ[variable] = str(folder)
os.environ["NAPARI_CONFIG"] = str(Path(_home.name) / "napari" / "settings.yaml")
os.environ["NAPARI_STRICT_QT"] = "1"
os.environ["NAPARI_ENSURE_PLUGIN_MAIN_THREAD"] = "1"
# The networks of the tests are tiny: more threads than one only wait for each other, for minutes on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("QT_API", "pyqt6")
os.environ.setdefault("PYTEST_QT_API", os.environ["QT_API"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a display Qt would abort the whole run, so the tests that open windows are skipped."""
    if not sys.platform.startswith("linux") or os.environ.get("DISPLAY"):
        return
    skip = pytest.mark.skip(reason="needs a display: run `make test`, which brings a virtual one")
    for item in items:
        if GUI_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder of real scans and reference numbers that is not part of the repository."""
    folder = Path(os.environ.get("DIFFSEG_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"the shared data folder is not at {folder}; set DIFFSEG_SHARED to use one elsewhere")
    return folder


@pytest.fixture(autouse=True)
def journals(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's journals lie, so that no test is offered the masks of another one."""
    folder = tmp_path_factory.mktemp("journals")
    monkeypatch.setenv("DIFFSEG_JOURNAL", str(folder))
    return folder


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of this test alone: the same in every run and whatever other tests do."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def qtbot(qtbot: QtBot) -> QtBot:
    """pytest-qt's own, but added widgets stay alive until the test has been torn down.

    pytest-qt remembers them weakly. A widget that became garbage with the test function's variables is still on
    screen afterwards, and Python may collect it in the middle of its own painting, which crashes.
    """
    kept: list[QWidget] = []
    add_weakly = qtbot.addWidget

    def add(widget: QWidget, **options: Any) -> None:
        kept.append(widget)
        add_weakly(widget, **options)

    qtbot.addWidget = add
    return qtbot
