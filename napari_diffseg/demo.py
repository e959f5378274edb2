"""``make demo``: the sample scan, its trajectory, an ensemble and a saved mask.

    python -m napari_diffseg.demo                     opens napari and starts the trajectory
    python -m napari_diffseg.demo --output FOLDER     takes the whole journey by itself, into FOLDER
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import napari
import numpy as np

from diffseg.errors import DiffsegError
from diffseg.outputs import write_outputs
from napari_diffseg import commands, launch
from napari_diffseg.runs import live
from napari_diffseg.session import Session
from napari_diffseg.widgets.dock import Dock

SAMPLE = "hippocampus"
MEMBERS = 8
WINDOW_PX = (1280, 800)
# Generous: two slow cores need a few seconds for a mask.
RUN_S = 600.0


class Journey:
    """One trip through the dock, page by page, with a picture of each."""

    def __init__(self, viewer: napari.Viewer, dock: Dock, session: Session, folder: Path) -> None:
        self.viewer, self.dock, self.session, self.folder = viewer, dock, session, folder

    def run(self) -> None:
        """All stations, in the order of the work.

        Raises:
            DiffsegError: the first that failed.
        """
        self.viewer.window.resize(*WINDOW_PX)
        commands.open_sample(self.session, SAMPLE)
        self._arrive("Case")
        commands.play(self.session)
        self._arrive("Denoise")
        commands.grow_ensemble(self.session, MEMBERS)
        self._arrive("Ensemble")
        commands.promote(self.session, self.session.sources()[0][0])
        commands.save_mask(self.session, self.folder / "mask.nii.gz")
        launch.wait_until(lambda: live(self.session).saving is None, RUN_S)
        self._arrive("Mask")
        self._write_layers()

    def _arrive(self, page: str) -> None:
        problem = launch.wait_until_idle(self.session, RUN_S)
        if problem:
            raise DiffsegError(problem)
        self.dock.turn_to(page)
        launch.screenshot(self.viewer, self.folder / f"{page.lower()}.png")
        print(f"{page}: {self.session.message.text if self.session.message else 'done.'}")

    def _write_layers(self) -> None:
        """The ensemble and the trajectory as NIfTI files on the grid of the scan."""
        session = self.session
        opened, view, snapshot = live(session).opened, session.trajectory, session.snapshot
        assert opened is not None and view is not None and snapshot is not None
        prepared, case = opened.run.prepared, opened.request.case
        fields = [prepared.restore(x[None].astype(np.float32))[0] for x in view.x]
        card = opened.run.checkpoint.card
        write_outputs(self.folder / "layers", case, card, opened.plan, prepared.roi, snapshot, fields)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration and return its exit code: 0, or 2 when a step failed."""
    parser = argparse.ArgumentParser(prog="napari_diffseg.demo", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="take the journey, into this folder")
    options = parser.parse_args(arguments)
    try:
        return show() if options.output is None else travel(options.output)
    except KeyboardInterrupt:
        return 130


def show() -> int:
    """Open the sample, start its trajectory, and leave the window to the person."""
    _, dock, session = launch.open_viewer()
    commands.open_sample(session, SAMPLE)
    if not launch.wait_until_idle(session, launch.OPENING_S):
        dock.turn_to("Denoise")
        commands.play(session)
    napari.run()
    return 0


def travel(folder: Path) -> int:
    """Take the whole journey and leave what it made in ``folder``, which is emptied first."""
    viewer, dock, session = launch.open_viewer()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        Journey(viewer, dock, session, folder).run()
    except DiffsegError as error:
        sys.stderr.write(f"The demonstration stopped: {error}\n")
        return 2
    finally:
        viewer.close()
    print(f"Layers, the mask and a screenshot of every page are in {folder.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
