"""Damage to checkpoints that byte noise would hardly find: JSON headers, cards, zip entries and their sizes."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from typing import Any

import numpy as np

from rig.mutations import GENERIC, Rng

CARD = "diffseg"
EXTREMES: tuple[Any, ...] = (
    None, True, 0, 1, -1, 2, 7, 1000, 100_000, 2**31, 2**63, 10**30, 0.0, 1e308, -1e308, float("nan"), float("inf"),
    "", "x", "cpu", "0", [], {}, [1], [[]], [0, 0], {"a": 1}, [8] * 40, "a" * 10_000, [10**9, 10**9], "F32",
    "I64", "BOOL",
)  # fmt: skip


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and numbers of a whole safetensors file."""
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header: str, rest: bytes) -> bytes:
    """A safetensors file of a header text and numbers."""
    text = header.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + rest


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def changed_json(rng: Rng, value: Any, count: int) -> Any:
    """``value`` with ``count`` entries replaced, taken out or added."""
    value = json.loads(json.dumps(value))
    for _ in range(count):
        paths = places(value)
        if not paths:
            return value
        *way, last = paths[int(rng.integers(0, len(paths)))]
        target = value
        for key in way:
            target = target[key]
        kind = rng.random()
        if kind < 0.75:
            target[last] = EXTREMES[int(rng.integers(0, len(EXTREMES)))]
        elif kind < 0.85 or not isinstance(target, dict):
            del target[last]
        elif kind < 0.95:
            target["unheard of"] = EXTREMES[int(rng.integers(0, len(EXTREMES)))]
        else:
            target[f"{last}x"] = target.pop(last)
    return value


def card_entry(rng: Rng, data: bytes) -> bytes:
    """The card of a house checkpoint with one to three entries changed."""
    header, rest = split(data)
    card = json.loads(header["__metadata__"][CARD])
    text = json.dumps(changed_json(rng, card, int(rng.integers(1, 4))))
    if rng.random() < 0.1:
        text = ("[" * 100_000, '{"a":' * 50_000, text[: len(text) // 2], text + text, "null", '"text"')[
            int(rng.integers(0, 6))
        ]
    header["__metadata__"][CARD] = text
    return joined(json.dumps(header), rest)


def header_entry(rng: Rng, data: bytes) -> bytes:
    """Types, shapes, offsets, names or metadata of the tensors changed; the length of the header stays right."""
    header, rest = split(data)
    header = changed_json(rng, header, int(rng.integers(1, 4)))
    text = json.dumps(header)
    if rng.random() < 0.1:
        text = ("[" * 200_000, "{" + text, text + "}", text.replace("F32", "F64"), text.replace(":", " "), "\ud800")[
            int(rng.integers(0, 6))
        ]
    return joined(text, rest)


def header_length(rng: Rng, data: bytes) -> bytes:
    """The length of the header."""
    value = int(rng.choice(np.array((0, 1, 2, 7, 100, 2**24, 2**31, 2**32 - 1, 2**40, 2**63 - 1), np.uint64)))
    if rng.random() < 0.5:
        value = max(0, struct.unpack("<Q", data[:8])[0] + int(rng.integers(-16, 17)))
    return struct.pack("<Q", value) + data[8:]


def weight_values(rng: Rng, data: bytes) -> bytes:
    """A few numbers among the weights become NaN, infinite or enormous."""
    (size,) = struct.unpack("<Q", data[:8])
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        place = 8 + size + 4 * int(rng.integers(0, max((len(data) - 8 - size) // 4, 1)))
        if place + 4 <= len(out):
            out[place : place + 4] = struct.pack("<f", float(rng.choice((np.nan, np.inf, -np.inf, 3e38, 1e-45))))
    return bytes(out)


def zip_entry(rng: Rng, data: bytes) -> bytes:
    """One entry of a zip checkpoint damaged and packed again with a right check sum."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {n: archive.read(n) for n in archive.namelist()}
    names = list(entries)
    target = next((n for n in names if n.endswith("data.pkl")), names[0])
    if rng.random() < 0.3:
        target = names[int(rng.integers(0, len(names)))]
    for _ in range(int(rng.integers(1, 3))):
        entries[target] = GENERIC[int(rng.integers(0, len(GENERIC)))](rng, entries[target])
    return packed(entries)


def zip_shape(rng: Rng, data: bytes) -> bytes:
    """Entries left out, renamed, deflated, doubled, or blown up (a bomb of zeros)."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {n: archive.read(n) for n in archive.namelist()}
    names = list(entries)
    name = names[int(rng.integers(0, len(names)))]
    kind = int(rng.integers(0, 6))
    if kind == 0:
        del entries[name]
    elif kind == 1:
        entries["../" * 3 + name] = entries.pop(name)
    elif kind == 2:
        return packed(entries, zipfile.ZIP_DEFLATED)
    elif kind == 3:
        entries[name] = bytes(64_000_000)
        return packed(entries, zipfile.ZIP_DEFLATED)
    elif kind == 4:
        entries["byteorder"] = b"big"
    else:
        entries |= {f"other/{n}": v for n, v in entries.items()}
    return packed(entries)


def packed(entries: dict[str, bytes], way: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", way) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()
