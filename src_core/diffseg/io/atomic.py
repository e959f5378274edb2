"""Writing so that a reader sees the old content or the new, never something in between.

The new content is written beside its final place, forced to the disk and then renamed over it, so a crash, a
full disk or a kill at any moment leaves the previous file whole.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from diffseg.errors import CaseError

_DOUBLE_SUFFIXES = (".nii.gz", ".plan.json")


def suffix_of(path: Path) -> str:
    """The suffix of a file name, `.nii.gz` and `.plan.json` counted as one."""
    name = path.name.lower()
    double = next((suffix for suffix in _DOUBLE_SUFFIXES if name.endswith(suffix)), None)
    return path.name[-len(double) :] if double else path.suffix


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success it replaces `path`, on any failure it goes.

    The temporary name keeps the suffix, because libraries choose the format by it. A symbolic link is
    followed. Raises CaseError with one sentence when the system refuses to write.
    """
    target = Path(os.path.realpath(path))
    with _writing(path):
        temporary = _reserve(target)
        try:
            yield temporary
            _flush(temporary)
            os.replace(temporary, target)
            _flush(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `path` on success, in place of a folder that was there.

    Missing parents are made. Between moving the old folder aside and the new one in, which are two renames,
    a kill leaves the old content under a hidden name beside `path`; an error puts it back. Raises CaseError
    with one sentence when the system refuses to write, or when `path` is a file.
    """
    target = Path(os.path.realpath(path))
    with _writing(path):
        if target.exists() and not target.is_dir():
            raise CaseError(f"{str(path)!r} is a file; choose a folder for the results.")
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        try:
            temporary.chmod(0o777 & ~_umask())
            yield temporary
            for item in temporary.rglob("*"):
                _flush(item)
            _flush(temporary)
            _swap_folder(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


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
    temporary = Path(name)
    # mkstemp makes private files; a result keeps the permissions of the file it replaces, or the usual ones.
    temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
    return temporary


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


def _swap_folder(new: Path, target: Path) -> None:
    if not target.exists():
        os.replace(new, target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    os.replace(target, aside)
    try:
        os.replace(new, target)
    except OSError:
        with suppress(OSError):
            os.replace(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)
