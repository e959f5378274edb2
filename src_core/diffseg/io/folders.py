"""What a folder that was given stands for: the slices of a series, or the files of one scan."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from diffseg.errors import CaseError
from diffseg.io.atomic import suffix_of
from diffseg.io.formats import SUFFIXES, is_dicom

_LOOKED_AT = 200
# Contrasts and masks of one scan; a folder of more is a data set.
_MOST_FILES = 24


def holds_slices(folder: Path, deeper: int = 3) -> bool:
    """Whether one of the first files of a folder, or of the folders in it, is DICOM; False if it cannot be read."""
    try:
        with os.scandir(folder) as scanned:
            entries = [Path(entry) for entry in islice(scanned, _LOOKED_AT)]
    except OSError:
        return False
    if any(is_dicom(entry) for entry in entries if entry.is_file()):
        return True
    return deeper > 0 and any(holds_slices(entry, deeper - 1) for entry in entries if entry.is_dir())


def files_of(path: Path) -> tuple[Path, ...]:
    """A file, or a folder of DICOM slices, is itself; a folder of scans and masks without any is the files in it.

    Also itself is a folder in which there is nothing to be read. Raises CaseError as ``scans_in``.
    """
    if not path.is_dir() or holds_slices(path):
        return (path,)
    return scans_in(path) or (path,)


def scans_in(folder: Path) -> tuple[Path, ...]:
    """The scans and masks that lie in a folder; none if it cannot be read.

    Raises:
        CaseError: so many that they cannot be of one scan.
    """
    try:
        found = sorted(entry for entry in folder.iterdir() if _readable(entry))
    except OSError:
        found = []
    if len(found) > _MOST_FILES:
        raise CaseError(f"The folder {folder.name!r} holds {len(found)} scans and masks; give the files of one scan.")
    return tuple(found)


def _readable(path: Path) -> bool:
    name = path.name.lower()
    known = suffix_of(path).lower() in SUFFIXES or path.suffix.lower() in SUFFIXES
    # The voxels of a header are read with it.
    return known and not name.startswith(".") and not name.endswith(".img") and path.is_file()
