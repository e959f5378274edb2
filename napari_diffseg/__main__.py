"""``napari-diffseg [FILES] [--sample NAME] [--screenshot PNG]``: napari with the DiffSeg dock.

Exit codes: 0 done; 2 wrong usage or unusable input, with one sentence on standard error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from diffseg import __version__
from diffseg.errors import CaseError, DiffsegError
from diffseg.zoo import find_sample, sample_scans


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="napari-diffseg", description="Open napari with the DiffSeg dock.")
    words = "a scan: a file per channel, or a folder of DICOM slices"
    made.add_argument("files", nargs="*", type=Path, metavar="FILE", help=words)
    made.add_argument("--sample", metavar="NAME", help=f"open a sample scan: {', '.join(sample_scans())}")
    made.add_argument("--screenshot", type=Path, metavar="PNG", help="take a picture of the window and leave")
    made.add_argument("--version", action="version", version=__version__)
    return made


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be opened or written before a window appears.

    Raises:
        DiffsegError: what is wrong, in one sentence.
    """
    if options.sample is not None:
        if options.files:
            raise CaseError("Both files and --sample were given; choose one of them.")
        find_sample(options.sample)
    for path in options.files:
        if not path.exists():
            raise CaseError(f"There is no file {path}; check the path.")
    picture = options.screenshot
    if picture is not None and not picture.absolute().parent.is_dir():
        raise CaseError(f"There is no folder {picture.absolute().parent} for the screenshot; make it first.")


def show(options: argparse.Namespace) -> str:
    """Open the window and stay until it is closed; an empty string, or what went wrong in one sentence."""
    import napari  # only now, so that --help and refusals answer at once

    # Before Qt: PySide6 looks into modules while they are imported, which breaks the lazy ones of pydantic.
    import pydantic.types  # noqa: F401

    from napari_diffseg import commands, launch

    viewer, _, session = launch.open_viewer()
    if options.sample is not None:
        commands.open_sample(session, options.sample)
    elif options.files:
        commands.open_files(session, options.files)
    if options.screenshot is None:
        napari.run()
        return ""
    problem = launch.wait_until_idle(session, launch.OPENING_S)
    if not problem:
        launch.screenshot(viewer, options.screenshot)
    viewer.close()
    return problem


def main(arguments: Sequence[str] | None = None) -> int:
    """Open napari and return the exit code."""
    try:
        options = parser().parse_args(arguments)
        check(options)
        problem = show(options)
    except DiffsegError as error:
        problem = str(error)
    except KeyboardInterrupt:
        return 130
    if problem:
        sys.stderr.write(f"napari-diffseg: {problem}\n")
    return 2 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
