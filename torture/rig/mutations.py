"""Ways in which a file is damaged, by chance or on purpose. Each takes and returns bytes; a seed decides everything."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable

import numpy as np

Rng = np.random.Generator
Mutation = Callable[[Rng, bytes], bytes]

NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
EXTREME_TEXT = (
    b"0", b"-1", b"1", b"2", b"3", b"4", b"7", b"255", b"65536", b"2147483647", b"4294967296", b"9223372036854775807",
    b"99999999999999999999", b"nan", b"inf", b"-inf", b"1e308", b"1e-308", b"", b"x", b"1 1", b"none", b"(1,0,0)",
)  # fmt: skip
EXTREME_INTEGERS = (
    *(0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 32767, 32768, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1),
)
EXTREME_FLOATS = (0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-45, 1e-30, 1e30, 3.4e38, -3.4e38, 0.5, 352.0, 1e9)


def spot(rng: Rng, size: int) -> int:
    """A place in a file; half of the time in its first kilobyte, where headers are."""
    return int(rng.integers(0, min(size, 1024) if rng.random() < 0.5 else size)) if size else 0


def flip_bits(rng: Rng, data: bytes) -> bytes:
    """One to eight single bits."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 9)) if out else 0):
        out[spot(rng, len(out))] ^= 1 << int(rng.integers(0, 8))
    return bytes(out)


def overwrite(rng: Rng, data: bytes) -> bytes:
    """A range of bytes with noise, zeros, ones or a copy from elsewhere."""
    start, length = spot(rng, len(data)), int(rng.integers(1, 65))
    kind = int(rng.integers(0, 4))
    elsewhere = spot(rng, len(data))
    patch = [rng.bytes(length), bytes(length), b"\xff" * length, data[elsewhere : elsewhere + length]][kind]
    return data[:start] + patch + data[start + len(patch) :]


def truncate(rng: Rng, data: bytes) -> bytes:
    """The beginning of the file, sometimes nothing of it."""
    return data[: spot(rng, len(data) + 1)]


def remove(rng: Rng, data: bytes) -> bytes:
    """A range cut out."""
    start = spot(rng, len(data))
    return data[:start] + data[start + int(rng.integers(1, 257)) :]


def insert(rng: Rng, data: bytes) -> bytes:
    """A range put in, or the file repeated behind itself."""
    if rng.random() < 0.1:
        return data + data
    start = spot(rng, len(data))
    return data[:start] + rng.bytes(int(rng.integers(1, 257))) + data[start:]


def integer(rng: Rng, data: bytes) -> bytes:
    """A number of 1 to 8 bytes with an extreme value, in either byte order; lengths and counts are such numbers."""
    width = int(rng.choice((1, 2, 4, 8)))
    value = int(rng.choice(np.array(EXTREME_INTEGERS, np.uint64))) & (256**width - 1)
    start = spot(rng, max(len(data) - width, 1))
    patch = value.to_bytes(width, "little" if rng.random() < 0.7 else "big")
    return data[:start] + patch + data[start + width :]


def number_in_text(rng: Rng, data: bytes) -> bytes:
    """One to three numbers written in the first 4 kB as text, replaced by extreme ones."""
    for _ in range(int(rng.integers(1, 4))):
        found = list(NUMBER.finditer(data[:4096]))
        if not found:
            return integer(rng, data)
        hit = found[int(rng.integers(0, len(found)))]
        word = EXTREME_TEXT[int(rng.integers(0, len(EXTREME_TEXT)))]
        data = data[: hit.start()] + word + data[hit.end() :]
    return data


def line_of_text(rng: Rng, data: bytes) -> bytes:
    """A line of a text header left out, doubled, emptied behind its colon or made very long."""
    end = data.find(b"\n\n")
    head, rest = (data[:end], data[end:]) if 0 < end < 8192 else (data[:1024], data[1024:])
    lines = head.split(b"\n")
    k = int(rng.integers(0, len(lines)))
    kind = int(rng.integers(0, 4))
    if kind == 0:
        del lines[k]
    elif kind == 1:
        lines.insert(k, lines[k])
    elif kind == 2:
        lines[k] = re.split(rb"[:=]", lines[k])[0] + b": "
    else:
        lines[k] += b" " + b"9" * int(rng.integers(1, 100_000))
    return b"\n".join(lines) + rest


GENERIC: tuple[Mutation, ...] = (flip_bits, overwrite, truncate, remove, insert, integer)

# Offset, struct code and count of the fields of a NIfTI header, by its size.
NIFTI = {
    348: (
        (0, "i", 1), (39, "B", 1), (40, "h", 8), (68, "h", 1), (70, "h", 1), (72, "h", 1), (76, "f", 8), (108, "f", 1),
        (112, "f", 1), (116, "f", 1), (123, "B", 1), (252, "h", 1), (254, "h", 1), (256, "f", 6), (280, "f", 12),
        (344, "i", 1),
    ),
    540: (
        (0, "i", 1), (4, "i", 2), (12, "h", 1), (14, "h", 1), (16, "q", 8), (104, "d", 8), (168, "q", 1), (176, "d", 1),
        (184, "d", 1), (344, "i", 1), (348, "i", 1), (352, "d", 6), (400, "d", 12), (500, "i", 1), (524, "B", 1),
    ),
}  # fmt: skip
DATATYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 511, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, -1, 32767)


def nifti_field(rng: Rng, data: bytes) -> bytes:
    """One to three header fields set to extreme values; types and dimensions more often than others."""
    if len(data) < 348:
        return overwrite(rng, data)
    order = "<" if data[1] or data[0] else ">"
    fields = NIFTI.get(struct.unpack(order + "i", data[:4])[0], NIFTI[348])
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        offset, code, count = fields[int(rng.integers(0, len(fields)))]
        if rng.random() < 0.3:
            offset, code, count = next(f for f in fields if f[2] == 8)
        width = struct.calcsize(code)
        place = offset + width * int(rng.integers(0, count))
        if place + width <= len(out):
            out[place : place + width] = _extreme(rng, order, code, place in (12, 70))
    return bytes(out)


def _extreme(rng: Rng, order: str, code: str, datatype: bool) -> bytes:
    if code in "fd":
        return struct.pack(order + code, float(rng.choice(EXTREME_FLOATS)))
    width = struct.calcsize(code)
    if datatype:
        value = DATATYPES[int(rng.integers(0, len(DATATYPES)))]
    else:
        value = int(rng.choice(np.array(EXTREME_INTEGERS, np.uint64))) * int(rng.choice((1, 1, 1, -1)))
    return (value & (256**width - 1)).to_bytes(width, "little" if order == "<" else "big")


def png_field(rng: Rng, data: bytes) -> bytes:
    """A field of the header with a right check sum, or the length of a chunk."""
    if rng.random() < 0.4:
        starts = [m.start() - 4 for m in re.finditer(rb"IHDR|IDAT|IEND|PLTE|tRNS|gAMA|pHYs", data)]
        start = starts[int(rng.integers(0, len(starts)))] if starts else 8
        value = int(rng.choice(np.array(EXTREME_INTEGERS, np.uint64))) & 0xFFFFFFFF
        return data[:start] + struct.pack(">I", value) + data[start + 4 :]
    head = bytearray(data[12:29])
    if len(head) < 17:
        return overwrite(rng, data)
    if rng.random() < 0.6:
        value = int(rng.choice((0, 1, 2, 9, 100, 9000, 14000, 65535, 2**31 - 1, 2**32 - 1)))
        place = int(rng.choice((4, 8)))
        head[place : place + 4] = struct.pack(">I", value)
    else:
        head[int(rng.integers(12, 17))] = int(rng.integers(0, 256))
    return data[:12] + bytes(head) + struct.pack(">I", zlib.crc32(bytes(head))) + data[33:]


def tiff_field(rng: Rng, data: bytes) -> bytes:
    """A value, type or count in the directory of a TIFF."""
    if len(data) < 16:
        return overwrite(rng, data)
    order = "<" if data[:2] == b"II" else ">"
    (first,) = struct.unpack(order + "I", data[4:8])
    if not 8 <= first < len(data) - 2:
        return integer(rng, data)
    (count,) = struct.unpack(order + "H", data[first : first + 2])
    entry = first + 2 + 12 * int(rng.integers(0, max(count, 1)))
    place = entry + int(rng.choice((0, 2, 4, 8)))
    value = int(rng.choice(np.array(EXTREME_INTEGERS, np.uint64))) & 0xFFFFFFFF
    packed = struct.pack(order + "H", value & 0xFFFF) if place < entry + 4 else struct.pack(order + "I", value)
    return data[:place] + packed + data[place + len(packed) :]


def dicom_field(rng: Rng, data: bytes) -> bytes:
    """The value, length or type of an explicit little-endian element that decides about pixels or place."""
    tags = ((0x28, 0x10), (0x28, 0x11), (0x28, 0x100), (0x28, 0x101), (0x28, 0x103), (0x28, 0x02), (0x28, 0x08),
            (0x28, 0x30), (0x28, 0x1052), (0x28, 0x1053), (0x20, 0x32), (0x20, 0x37), (0x18, 0x50), (0x20, 0x0D),
            (0x20, 0x0E), (0x20, 0x13), (0x02, 0x10), (0x02, 0x00), (0x28, 0x04), (0x7FE0, 0x10))  # fmt: skip
    group, element = tags[int(rng.integers(0, len(tags)))]
    place = data.find(struct.pack("<HH", group, element))
    if place < 0 or place + 12 > len(data):
        return number_in_text(rng, data)
    kind = int(rng.integers(0, 4))
    if kind == 0:
        vr = [b"US", b"SS", b"DS", b"OW", b"SQ", b"UN", b"OB", b"FD", b"zz"][int(rng.integers(0, 9))]
        return data[: place + 4] + vr + data[place + 6 :]
    if kind == 1:
        length = int(rng.choice((0, 1, 2, 7, 0x7FFF, 0xFFFF)))
        return data[: place + 6] + struct.pack("<H", length) + data[place + 8 :]
    (length,) = struct.unpack("<H", data[place + 6 : place + 8])
    if data[place + 4 : place + 6] in (b"US", b"SS", b"UL"):
        value = int(rng.choice((0, 1, 7, 12, 32, 255, 32767, 65535)))
        return data[: place + 8] + struct.pack("<H", value) + data[place + 10 :]
    word = EXTREME_TEXT[int(rng.integers(0, len(EXTREME_TEXT)))]
    text = (word + b"\\" + word + b"\\" + word + b"\\" + word)[:length].ljust(length)
    return data[: place + 8] + text + data[place + 8 + length :]
