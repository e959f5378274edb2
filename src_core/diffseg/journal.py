"""The journal of a mask: every edit on disk within moments, readable up to the last whole record whatever happens.

A file of records, each ``tag (4 bytes), length (u32), CRC-32 of the rest (u32), payload``, little-endian, after eight
bytes that tell what it is:

- ``HEAD``: JSON of ``JournalHead``, what the mask is drawn on;
- ``BASE``: plane number (u8) and all voxels of it, zlib; one per plane, the first is the mask itself;
- ``SAME``: plane number and the number of an earlier plane (u8 each) that held the same voxels, in place of a ``BASE``;
- ``EDIT``: plane number (u8), axes (u8), start and stop of a box (u32 each), the voxels in it, zlib;
- ``STAT``: JSON of ``JournalState``, where the person was.

The file comes into being whole, by renaming, and then only grows. A kill cuts off at most the record that was being
written; reading stops at the first that is cut short or does not have its checksum, and returns what came before.
Nothing of a scan's header is kept, only where its files lie. No torch.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import CaseError, JournalError
from diffseg.io.atomic import atomic_file
from diffseg.records import from_json, to_json

MAGIC = b"DSJ1\r\n\x1a\n"
# The plane that every journal has.
LABELS = "labels"
# A journal is written anew once its edits take this much, and this many times the room of its beginning.
SPARE_BYTES = 16 * 2**20
SPARE_TIMES = 4
# Fast rather than small: label maps compress a hundredfold anyway.
_LEVEL = 1
_RECORD = struct.Struct("<4sII")
_EDIT = struct.Struct("<BB")

Plane = NDArray[np.uint8]
Piece = tuple[slice, ...]


@dataclass(frozen=True)
class JournalHead:
    """What the mask is drawn on and began as. ``files`` and ``raters`` are absolute paths, ``affine`` the 16 numbers
    of the grid's matrix (display order, mm); ``plan`` is the run behind the mask as plain values.
    """

    shape: tuple[int, ...]
    planes: tuple[str, ...] = (LABELS,)
    files: tuple[str, ...] = ()
    raters: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    affine: tuple[float, ...] = ()
    source: str = ""
    start: dict[str, Any] | None = None
    plan: dict[str, Any] | None = None
    model: str | None = None
    began: float = 0.0


@dataclass(frozen=True)
class JournalState:
    """Where the person was: ``voxel`` of the scan on display, settings, the mask's file if it was saved."""

    voxel: tuple[float, ...] | None = None
    view: str | None = None
    mode: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    roi: str | None = None
    selected: int = 1
    edited: bool = False
    dirty: bool = True
    saved: str | None = None


@dataclass(frozen=True, eq=False)
class Recovered:
    """What a journal held. ``planes`` maps names to ``(*S)`` uint8; ``edits`` counts records of edits, ``whole`` is
    False when the file ended in a record that was cut short or damaged, ``written`` is when it was last written to
    (seconds since 1970).
    """

    path: Path
    head: JournalHead
    planes: Mapping[str, Plane]
    state: JournalState
    edits: int
    whole: bool
    written: float

    @property
    def labels(self) -> Plane:
        """The mask."""
        return self.planes[LABELS]


class Journal:
    """A journal being written. Not for several threads at once; but other threads may draw on the plane ``labels``
    meanwhile, what is read half-changed is read again by the next ``record``. Other planes must not be written to.

    Raises:
        JournalError: the file cannot be written; nothing is left behind then.
    """

    def __init__(
        self, path: Path, head: JournalHead, planes: Mapping[str, Plane], state: JournalState | None = None
    ) -> None:
        self.path, self.head = path, head
        self._state = state or JournalState()
        self._known = {name: planes[name] for name in head.planes}
        if any(plane.shape != head.shape for plane in self._known.values()):
            raise JournalError(f"A journal of {head.shape} voxels was given planes of another shape; begin a new one.")
        self._known[LABELS] = np.array(planes[LABELS], np.uint8, order="C")
        self._file: BinaryIO | None = None
        self._base = 0
        # Whether something that is known here could not be appended.
        self._behind = False
        self._rewrite()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return 0 if self._file is None else self._file.tell()

    def record(self, planes: Mapping[str, Plane], state: JournalState | None = None) -> bool:
        """Append what differs from the last record, and force it to the disk; tells whether there was anything.

        ``planes`` are planes of the head, of the same shape; one that is left out has not changed.
        """
        if self._file is None:
            raise JournalError(f"The journal {self.path.name} is closed; begin a new one.")
        parts: list[bytes] = []
        for number, name in enumerate(self.head.planes):
            if name in planes:
                parts += self._edits(number, name, planes[name])
        if state is not None and state != self._state:
            self._state = state
            parts.append(_record(b"STAT", to_json(state).encode()))
        if not parts and not self._behind:
            return False
        if self._behind:
            self._rewrite()
            return True
        self._append(b"".join(parts))
        if self.size - self._base > max(SPARE_BYTES, SPARE_TIMES * self._base):
            self._rewrite()
        return True

    def close(self, keep: bool) -> None:
        """Stop; without ``keep`` the file goes. Safe to call again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
        if not keep:
            self.path.unlink(missing_ok=True)

    def _edits(self, number: int, name: str, now: Plane) -> list[bytes]:
        known, parts = self._known[name], list[bytes]()
        for piece in changed(now, known) if now is not known else ():
            values = np.array(now[piece], np.uint8, order="C")
            if name == LABELS:
                known[piece] = values
            ends = [end for part in piece for end in (part.start, part.stop)]
            place = _EDIT.pack(number, len(piece)) + struct.pack(f"<{len(ends)}I", *ends)
            parts.append(_record(b"EDIT", place + zlib.compress(values.data, _LEVEL)))
        if name != LABELS:
            self._known[name] = now
        return parts

    def _base_of(self, number: int) -> bytes:
        planes = [self._known[name] for name in self.head.planes]
        twin = next((k for k in range(number) if _same(planes[k], planes[number])), None)
        if twin is not None:
            return _record(b"SAME", bytes([number, twin]))
        return _record(b"BASE", bytes([number]) + zlib.compress(np.ascontiguousarray(planes[number]).data, _LEVEL))

    def _append(self, data: bytes) -> None:
        assert self._file is not None
        end = self._file.tell()
        try:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            # Records after half a record would never be read, so the next one is a new beginning.
            self._behind = True
            with suppress(OSError):
                self._file.truncate(end)
            raise JournalError(
                f"The journal cannot be written ({error.strerror}); save the mask, and make room in "
                f"{self.path.parent}."
            ) from error

    def _rewrite(self) -> None:
        """The whole content anew, in one piece; the old file stays until then."""
        parts = [MAGIC, _record(b"HEAD", to_json(self.head).encode())]
        parts += [self._base_of(number) for number in range(len(self.head.planes))]
        parts.append(_record(b"STAT", to_json(self._state).encode()))
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic_file(self.path, mode=0o600) as temporary:
                temporary.write_bytes(b"".join(parts))
            if self._file is not None:
                self._file.close()
            self._file = self.path.open("r+b", buffering=0)
            self._base, self._behind = self._file.seek(0, os.SEEK_END), False
        except (CaseError, OSError) as error:
            reason = str(error.__cause__ or error)
            raise JournalError(
                f"The journal cannot be written ({reason}); save often, or make room in {self.path.parent}."
            ) from error


def _same(a: Plane, b: Plane) -> bool:
    return a is b or all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def changed(now: Plane, known: Plane) -> Iterator[Piece]:
    """Boxes that together hold every voxel in which two arrays differ; one per run of neighbouring slices."""
    rows = [i for i in range(len(now)) if not np.array_equal(now[i], known[i])]
    runs = np.split(np.array(rows, int), np.flatnonzero(np.diff(rows) > 1) + 1) if rows else []
    for run in runs:
        first, last = int(run[0]), int(run[-1]) + 1
        differs = now[first:last] != known[first:last]
        box = [slice(first, last)]
        for axis in range(1, now.ndim):
            where = np.flatnonzero(differs.any(axis=tuple(a for a in range(now.ndim) if a != axis)))
            # Another thread may have taken the change back meanwhile.
            box.append(slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 1))
        yield tuple(box)


def read_journal(path: Path) -> Recovered:
    """What a journal holds, up to its last whole record.

    Raises:
        JournalError: no such file, no journal, or damaged before the first mask in it.
    """
    try:
        data, written = path.read_bytes(), path.stat().st_mtime
    except (OSError, MemoryError):
        raise JournalError(f"The journal {path.name} cannot be read; nothing of it can be recovered.") from None
    if not data.startswith(MAGIC):
        raise JournalError(f"{path.name} is no journal of a mask; nothing of it can be recovered.")
    content = _Content(path)
    end = len(MAGIC)
    for tag, payload, after in _records(data, end):
        if not content.take(tag, payload):
            break
        end = after
    if content.head is None or len(content.planes) < len(content.head.planes):
        raise JournalError(f"The journal {path.name} is damaged at its beginning; nothing of it can be recovered.")
    names = content.head.planes
    planes = dict(zip(names, (content.planes[k] for k in range(len(names))), strict=True))
    return Recovered(path, content.head, planes, content.state, content.edits, end == len(data), written)


class _Content:
    """The state after the records taken so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.head: JournalHead | None = None
        self.state = JournalState()
        self.planes: dict[int, Plane] = {}
        self.edits = 0

    def take(self, tag: bytes, payload: bytes) -> bool:
        """Apply one record; False for one that makes no sense."""
        try:
            if tag == b"HEAD":
                self.head = from_json(JournalHead, payload, self.path.name, JournalError)
            elif tag == b"STAT":
                self.state = from_json(JournalState, payload, self.path.name, JournalError)
            elif tag == b"BASE" and self.head is not None:
                self.planes[payload[0]] = _voxels(payload[1:], self.head.shape).copy()
            elif tag == b"SAME":
                self.planes[payload[0]] = self.planes[payload[1]].copy()
            elif tag == b"EDIT":
                self._edit(payload)
            else:
                return False
        except (JournalError, ValueError, IndexError, KeyError, struct.error, zlib.error, MemoryError):
            return False
        return True

    def _edit(self, payload: bytes) -> None:
        number, axes = _EDIT.unpack_from(payload)
        plane = self.planes[number]
        numbers = struct.unpack_from(f"<{2 * axes}I", payload, _EDIT.size)
        ends = list(zip(numbers[::2], numbers[1::2], strict=True))
        if axes != plane.ndim or any(not a < b <= n for (a, b), n in zip(ends, plane.shape, strict=True)):
            raise ValueError("a box outside the mask")
        values = _voxels(payload[_EDIT.size + 8 * axes :], tuple(b - a for a, b in ends))
        plane[tuple(slice(a, b) for a, b in ends)] = values
        self.edits += 1


def _voxels(data: bytes, shape: tuple[int, ...]) -> Plane:
    """Exactly the voxels of ``shape``; never unpacks more than that."""
    wanted = int(np.prod(shape, dtype=np.int64))
    values = zlib.decompressobj().decompress(data, wanted + 1)
    if len(values) != wanted:
        raise ValueError("another number of voxels")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _records(data: bytes, at: int) -> Iterator[tuple[bytes, bytes, int]]:
    """``(tag, payload, where the next one begins)`` of the whole records from ``at`` on."""
    view = memoryview(data)
    while len(data) - at >= _RECORD.size:
        tag, length, check = _RECORD.unpack_from(data, at)
        end = at + _RECORD.size + length
        if end > len(data) or _check(tag, length, view[at + _RECORD.size : end]) != check:
            return
        yield tag, bytes(view[at + _RECORD.size : end]), end
        at = end


def _record(tag: bytes, payload: bytes) -> bytes:
    return _RECORD.pack(tag, len(payload), _check(tag, len(payload), payload)) + payload


def _check(tag: bytes, length: int, payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(tag + length.to_bytes(4, "little")))
