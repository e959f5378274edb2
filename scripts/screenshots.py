"""The pictures of the documentation, from the shipped models and samples. Run: make screenshots

Writes ``docs/images/<page>.png``, 1280 x 800, and ``docs/images/trajectory.gif``. Needs a display, or a virtual one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import napari
from PIL import Image
from qtpy.QtWidgets import QScrollArea

from diffseg.errors import DiffsegError
from diffseg.keeper import FOLDER_VARIABLE
from napari_diffseg import commands, launch
from napari_diffseg.runs import live
from napari_diffseg.saliency_commands import explain
from napari_diffseg.session import Session
from napari_diffseg.widgets.dock import Dock
from napari_diffseg.widgets.readers_section import ReadersSection

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
WINDOW_PX = (1280, 800)
RUN_S = 600.0
MEMBERS = 16
# A README is not to take long to load.
MOST_BYTES = 300_000


class Camera:
    """A viewer with the dock; commands, and a picture of what came of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.viewer: napari.Viewer
        self.dock: Dock
        self.session: Session
        self.viewer, self.dock, self.session = launch.open_viewer()
        self.viewer.window.resize(*WINDOW_PX)

    def do(self, act: Callable[[], bool]) -> None:
        """Carry out a command and wait for its end.

        Raises:
            DiffsegError: it was refused, or it failed.
        """
        if not act():
            raise DiffsegError(self.session.message.text if self.session.message else "refused")
        problem = launch.wait_until_idle(self.session, RUN_S)
        launch.wait_until(lambda: live(self.session).job is None, RUN_S)
        if problem:
            raise DiffsegError(problem)

    def open(self, sample: str) -> None:
        """A sample alone in the viewer."""
        commands.reset(self.session)
        self.viewer.layers.clear()
        self.do(lambda: commands.open_sample(self.session, sample))

    def take(self, name: str, page: str) -> None:
        """Write ``<name>.png``, with this page in front."""
        self.dock.turn_to(page)
        path = self.folder / f"{name}.png"
        launch.screenshot(self.viewer, path)
        with Image.open(path) as picture:
            small = picture.convert("RGB")
        small.save(path, optimize=True)
        if path.stat().st_size > MOST_BYTES:
            small.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path.name}: {small.width} x {small.height}, {path.stat().st_size / 1000:.0f} kB")

    def compare(self) -> None:
        """Unfold the comparison with the readers, which computes it, and scroll down to it.

        Raises:
            DiffsegError: there was none.
        """
        self.dock.turn_to("Ensemble")
        section = self.dock.findChild(ReadersSection)
        assert section is not None
        section.unfold()
        if not launch.wait_until(lambda: self.session.readers is not None, RUN_S):
            raise DiffsegError("There was no comparison with the readers.")
        area = section.parentWidget()
        while area is not None and not isinstance(area, QScrollArea):
            area = area.parentWidget()
        bar = area.verticalScrollBar() if area is not None else None
        launch.wait_until(lambda: bar is None or bar.maximum() > 0, 2)
        if bar is not None:
            bar.setValue(bar.maximum())


def hippocampus(camera: Camera) -> None:
    """Case, Ensemble of a volume, and Mask."""
    session = camera.session
    camera.open("hippocampus")
    commands.show_region_box(session, True)
    camera.take("case", "Case")
    commands.show_region_box(session, False)
    camera.do(lambda: commands.grow_ensemble(session, MEMBERS))
    camera.take("ensemble", "Ensemble")
    camera.do(lambda: commands.promote(session, session.sources()[0][0]))
    camera.take("mask", "Mask")


def nodule(camera: Camera) -> None:
    """Denoise with a branch, and the comparison with readers."""
    session = camera.session
    camera.open("lung-nodule")
    camera.do(lambda: commands.play(session))
    commands.show_step(session, 2)
    camera.do(lambda: commands.branch_here(session))
    commands.show_step(session, 6)
    camera.take("denoise", "Denoise")
    camera.do(lambda: commands.grow_ensemble(session, MEMBERS))
    camera.compare()
    camera.take("readers", "Ensemble")


def film(camera: Camera) -> None:
    """The animation. A small window, since noise cannot be compressed."""
    session = camera.session
    camera.open("hippocampus")
    camera.do(lambda: commands.play(session))
    path = camera.folder / "trajectory.gif"
    camera.do(lambda: commands.export_trajectory(session, path))
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


def lesion(camera: Camera) -> None:
    """Saliency."""
    camera.open("brain-lesion")
    camera.do(lambda: explain(camera.session))
    camera.take("saliency", "Saliency")


def main() -> int:
    """Take every picture; exit code 2 when something could not be shown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER", help="instead of docs/images")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as journals:
        # What the person at this computer left unsaved is not offered in the pictures.
        os.environ[FOLDER_VARIABLE] = journals
        return take_all(Camera(options.output))


def take_all(camera: Camera) -> int:
    """See ``main``."""
    try:
        # The volume first: napari's sliders keep traces of earlier ones.
        for scene in (hippocampus, nodule, lesion, film):
            scene(camera)
    except DiffsegError as error:
        sys.stderr.write(f"The pictures stopped: {error}\n")
        return 2
    finally:
        camera.viewer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
