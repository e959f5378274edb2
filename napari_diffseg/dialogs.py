"""Asking for files: what can be opened, and what a mask can be saved as."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QWidget

from diffseg.io import FORMATS, SUFFIXES

SCANS = f"Scans and masks ({' '.join('*' + suffix for suffix in SUFFIXES)});;All files, for DICOM without suffix (*)"
MASKS = ";;".join(f"{words} ({' '.join('*' + suffix for suffix in suffixes)})" for words, suffixes in FORMATS)


def ask_for_files(parent: QWidget, title: str) -> list[Path]:
    """Files to open; none if the person thinks better of it."""
    names, _ = QFileDialog.getOpenFileNames(parent, title, "", SCANS)
    return [Path(name) for name in names]


def ask_for_folder(parent: QWidget, title: str) -> Path | None:
    """A folder of slices, or None."""
    name = QFileDialog.getExistingDirectory(parent, title)
    return Path(name) if name else None


def ask_where_to_save(parent: QWidget, proposal: Path) -> Path | None:
    """Where to save a mask, with a suffix of the format that was chosen if the name has none; None for nowhere."""
    name, chosen = QFileDialog.getSaveFileName(parent, "Save the mask", str(proposal), MASKS)
    if not name:
        return None
    suffixes = next((suffixes for words, suffixes in FORMATS if chosen.startswith(f"{words} (")), FORMATS[0][1])
    path = Path(name)
    known = tuple(suffix for _, each in FORMATS for suffix in each)
    return path if path.name.lower().endswith(known) else path.with_name(path.name + suffixes[0])
