"""Writing so that a reader sees the old content or the new, never something in between.

The new content is written beside its final place, forced to the disk and then renamed over it, so a crash, a
full disk or a kill at any moment leaves the previous file whole.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from diffseg.errors import CaseError

# Temporary files this old belong to a writer that was killed.
_LEFT_S = 3600.0
_DOUBLE_SUFFIXES = (".nii.gz", ".nii.zst", ".seg.nrrd", ".plan.json")


def suffix_of(path: Path) -> str:
    """The suffix of a file name, `.nii.gz` and `.plan.json` counted as one."""
    name = path.name.lower()
    double = next((suffix for suffix in _DOUBLE_SUFFIXES if name.endswith(suffix)), None)
    return path.name[-len(double) :] if double else path.suffix


@contextmanager
def atomic_file(path: Path, mode: int | None = None) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it replaces `path`, on any failure it goes.

    The temporary name keeps the suffix, because libraries choose the format by it. A symbolic link is
    followed. `mode` are the permissions of the result, those of the old file or the usual ones unless given.
    What kills of earlier writers left in the folder is swept away. Raises CaseError with one sentence when the
    system refuses to write.
    """
    try:
        target = Path(os.path.realpath(path))
    except ValueError:
        raise CaseError(f"{str(path)!r} cannot be the name of a file; choose another name.") from None
    with _writing(path):
        _sweep(target)
        temporary = _reserve(target)
        try:
            yield temporary
            # Only now: a library may have put a file of its own in place of the one reserved.
            temporary.chmod(_mode(target) if mode is None else mode)
            _flush(temporary)
            os.replace(temporary, target)
            _flush(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically. Raises CaseError when the system refuses."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise CaseError(
            f"{str(path)!r} could not be written ({reason}); the old one is unchanged, choose another place."
        ) from error


def _reserve(target: Path) -> Path:
    suffix = suffix_of(target)
    handle, name = tempfile.mkstemp(
        prefix=f".{target.name[: len(target.name) - len(suffix)]}.", suffix=suffix, dir=target.parent
    )
    os.close(handle)
    return Path(name)


def _sweep(target: Path) -> None:
    """Remove temporary files of `target` that no living writer can still be at work on."""
    suffix = suffix_of(target)
    stem = re.escape(target.name[: len(target.name) - len(suffix)])
    left = re.compile(rf"\.{stem}\.[a-z0-9_]{{8}}{re.escape(suffix)}")
    with suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if left.fullmatch(entry.name) and time.time() - entry.stat().st_mtime > _LEFT_S:
                os.unlink(entry.path)


def _mode(target: Path) -> int:
    """Permissions of a result: those of the file it replaces, or the usual ones."""
    return target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _flush(path: Path) -> None:
    """Force a file or the entries of a folder to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # folders cannot be opened there
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
