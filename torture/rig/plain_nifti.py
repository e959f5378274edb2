"""A second reader of NIfTI-1, written from the standard's header alone; shares nothing with nibabel or this program."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 512: "u2"}


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Voxels in file order, and the 4 x 4 matrix from indices to RAS mm (the sform, without one the qform)."""
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    order = "<" if struct.unpack("<i", raw[:4])[0] == 348 else ">"
    dim = struct.unpack(order + "8h", raw[40:56])
    (datatype,) = struct.unpack(order + "h", raw[70:72])
    pixdim = struct.unpack(order + "8f", raw[76:108])
    (offset,) = struct.unpack(order + "f", raw[108:112])
    qform_code, sform_code = struct.unpack(order + "2h", raw[252:256])
    shape = dim[1 : 1 + dim[0]]
    voxels = np.frombuffer(raw, order + TYPES[datatype], int(np.prod(shape)), int(offset)).reshape(shape, order="F")
    affine = np.eye(4)
    if sform_code > 0:
        affine[:3] = np.array(struct.unpack(order + "12f", raw[280:328])).reshape(3, 4)
    elif qform_code > 0:
        affine[:3, :3] = _rotation(*struct.unpack(order + "3f", raw[256:268]))
        affine[:3, :3] *= np.array(pixdim[1:4]) * (1, 1, pixdim[0] if pixdim[0] in (1, -1) else 1)
        affine[:3, 3] = struct.unpack(order + "3f", raw[268:280])
    else:
        affine[:3, :3] *= pixdim[1:4]
    return voxels, affine


def _rotation(b: float, c: float, d: float) -> np.ndarray:
    """The rotation of a unit quaternion whose first part is not negative, as nifti1_io.c has it (half turns apart)."""
    a = 1 - (b * b + c * c + d * d)
    if a < 1e-7:
        length = (b * b + c * c + d * d) ** 0.5
        a, b, c, d = 0.0, b / length, c / length, d / length
    else:
        a = a**0.5
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
