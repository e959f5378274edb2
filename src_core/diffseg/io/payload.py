"""The numbers behind a text header (NRRD, MetaImage): read up to what the header promises, and no further.

A file that holds less, whose checksum is wrong or that unpacks to more than it says is refused. Nothing is allocated
before the promise has been compared with the size of the file.
"""

from __future__ import annotations

import bz2
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import CaseError
from diffseg.io.volume import cut_short, named, too_large

Packing: TypeAlias = Literal["raw", "gzip", "zlib", "bzip2", "text"]

# How many times a packing can shrink at most; a header that promises more is wrong. Text needs 2 bytes a number.
_SHRINKS = {"raw": 1, "gzip": 1100, "zlib": 1100, "bzip2": 100_000, "text": 8}
_CHUNK = 1 << 20


def read_numbers(
    path: Path, count: int, dtype: np.dtype, packing: Packing = "raw", skip: int = 0, lines: int = 0
) -> NDArray[Any]:
    """`count` numbers (count,) of a file from byte `skip`, after so many `lines`; -1 skips to the last numbers.

    Raises CaseError for a file that is missing, damaged, cut short or too large for the memory.
    """
    if not os.path.isfile(path):  # a header may name anything, which Path.is_file does not bear
        raise CaseError(f"The file {named(path)} with the voxels is missing; put it beside its header.")
    promised = count * dtype.itemsize
    if promised > path.stat().st_size * _SHRINKS[packing]:
        raise cut_short(path)
    try:
        with path.open("rb") as file:
            for _ in range(lines):
                file.readline(_CHUNK)
            if skip < 0:
                file.seek(-promised, 2)
            else:
                file.seek(skip, 1)
            return _numbers(path, file, count, dtype, packing)
    except MemoryError:
        raise too_large(path) from None
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise cut_short(path) from error


def _numbers(path: Path, file: BinaryIO, count: int, dtype: np.dtype, packing: Packing) -> NDArray[Any]:
    if packing == "text":
        numbers = np.array(file.read().split(), dtype=dtype)
    elif packing == "raw":
        numbers = np.fromfile(file, dtype, count)
    else:
        numbers = np.frombuffer(_unpacked(path, file, count * dtype.itemsize, packing), dtype)
    if len(numbers) != count:
        raise cut_short(path)
    return numbers


def _unpacked(path: Path, file: BinaryIO, size: int, packing: Packing) -> bytearray:
    """Exactly `size` bytes; the stream must end there, with the right checksum."""
    if packing == "bzip2":
        opened = bz2.BZ2File(file)
        found = bytearray(opened.read(size))
        if len(found) != size or opened.read(1):
            raise cut_short(path)
        return found
    stream = zlib.decompressobj(zlib.MAX_WBITS | (16 if packing == "gzip" else 0))
    found = bytearray()
    packed = b""
    while not stream.eof:
        packed = stream.unconsumed_tail or file.read(_CHUNK)
        # One byte more than there may be, to notice it.
        found += stream.decompress(packed, min(_CHUNK, size + 1 - len(found)))
        if len(found) > size or (not packed and not stream.eof):
            raise cut_short(path)
    return found
