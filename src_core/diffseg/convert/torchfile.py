"""PyTorch's zip checkpoints, read by ``PickleReader``: tensors come out as tensors, all other objects as
``Opaque``.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffseg.convert.pickles import DAMAGE, Global, Opaque, PickleReader
from diffseg.errors import CheckpointError

DTYPES = {
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
# Packages whose objects are settings and counters: dropping them loses nothing of the network.
HARMLESS_PACKAGES = (
    "addict.",
    "collections.",
    "easydict.",
    "enum.",
    "hydra.",
    "ml_collections.",
    "numpy.",
    "omegaconf.",
    "typing.",
    "yacs.",
)
HARMLESS_NAMES = {
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in (
        *("bool", "bytearray", "complex", "dict", "float", "frozenset", "int", "list", "object", "range"),
        *("set", "slice", "str", "tuple", "long", "unicode", "xrange"),
    )),
    *(f"{module}._reconstructor" for module in ("copyreg", "copy_reg")),
    *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")),
    *("_codecs.encode", "argparse.Namespace", "datetime.date", "datetime.datetime", "datetime.timedelta"),
    *("torch.Size", "torch.device", "torch.dtype", "uuid.UUID"),
}  # fmt: skip


class TorchFile:
    """One zip checkpoint, open for reading."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self.archive = path, archive
        names = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(names) != 1:
            raise CheckpointError(f"{path.name} is a zip file but no PyTorch checkpoint; give the checkpoint itself.")
        self.root = names[0].removesuffix("data.pkl")
        self.left = path.stat().st_size
        self.storages: dict[str, Tensor] = {}

    def read(self) -> tuple[Any, set[str]]:
        """The saved value, and the names of all classes and functions that the file mentions.

        Raises:
            CheckpointError: damage, or data that this reader does not know.
        """
        if self.root + "byteorder" in self.archive.namelist() and self._bytes("byteorder", 16) != b"little":
            raise CheckpointError("Its numbers are stored big-endian; save it on another machine.")
        reader = PickleReader(
            {
                "collections.OrderedDict": lambda arguments: dict(*arguments),
                "torch._utils._rebuild_tensor": lambda a: self._tensor(*a[:4]),
                "torch._utils._rebuild_tensor_v2": lambda a: self._tensor(*a[:4]),
                "torch._utils._rebuild_parameter": lambda a: a[0],
                "torch._utils._rebuild_parameter_with_state": lambda a: a[0],
            },
            self._storage,
        )
        return reader.read(self._bytes("data.pkl", self.left)), reader.globals

    def _bytes(self, name: str, most: int) -> bytes:
        entry = self.archive.getinfo(self.root + name)
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > most:
            raise CheckpointError("It is packed in a way that PyTorch does not use.")
        return self.archive.read(entry)

    def _storage(self, reference: Any) -> Tensor:
        """The flat tensor that a reference ``("storage", class, key, device, count)`` means; read once."""
        kind, cls, key, _, count = reference
        if kind != "storage" or not isinstance(cls, Global) or cls.name not in DTYPES:
            raise CheckpointError(f"It holds numbers of a kind that is not known here ({getattr(cls, 'name', cls)}).")
        if not isinstance(key, str) or not isinstance(count, int):
            raise TypeError("a storage is named by text and counted by a number")
        if key not in self.storages:
            dtype = DTYPES[cls.name]
            data = self._bytes(f"data/{key}", self.left)
            # No file can hold more than its size: entries that overlap to claim more are refused.
            self.left -= len(data)
            if len(data) != count * dtype.itemsize:
                raise ValueError("a storage of another size than announced")
            self.storages[key] = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
        return self.storages[key]

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
        """A tensor of its own memory, cut from its storage within bounds."""
        if not isinstance(storage, Tensor) or not all(isinstance(n, int) and n >= 0 for n in (offset, *size, *stride)):
            raise TypeError("a tensor needs a storage and non-negative numbers")
        count = math.prod(size)
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if count > len(storage) or (count and last >= len(storage)):
            raise ValueError("a tensor reaches beyond its storage")
        return torch.as_strided(storage, size, stride, offset).clone(memory_format=torch.contiguous_format)


def read_torch_file(path: Path, tensors_only: bool = False) -> Any:
    """What a zip checkpoint holds, with every object that is neither a plain value nor a tensor as
    ``Opaque``.

    Raises:
        CheckpointError: damage; the format of PyTorch before 1.6; or, unless ``tensors_only``, an object
        other than
            the settings and counters that checkpoints are known to hold.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            value, names = TorchFile(path, archive).read()
    except zipfile.BadZipFile:
        raise CheckpointError(
            f"{path.name} holds objects and not only tensors, in a format that cannot be read without "
            "running it; save its state_dict alone with torch.save and convert that file."
        ) from None
    except (CheckpointError, *DAMAGE) as bad:
        reason = str(bad) if isinstance(bad, CheckpointError) else "A part of it is missing or damaged."
        if reason.startswith(path.name):
            raise
        reason = reason[0].lower() + reason[1:]
        raise CheckpointError(f"{path.name} cannot be read as a PyTorch checkpoint: {reason}") from None
    strangers = sorted(n for n in names if not is_harmless(n))
    if strangers and not tensors_only:
        raise CheckpointError(
            f"{path.name} would run code when opened ({', '.join(strangers[:3])}), so it is refused; if you "
            "trust its tensors, read nothing but them with --tensors-only."
        )
    return value


def is_harmless(name: str) -> bool:
    """Whether a class or function named in a file is a tensor's or of a kind that only holds settings."""
    tensors = name in DTYPES or name.startswith("torch._utils._rebuild_")
    return tensors or name in HARMLESS_NAMES or name.startswith(HARMLESS_PACKAGES)


def plain(value: Any, budget: Iterator[int] | None = None) -> Any:
    """``value`` as plain data: settings objects become what they hold, anything else unknown None.

    An OmegaConf container keeps its entries in ``_content`` and a leaf its value in ``_val``. At most 10,000
    values are visited, since lists may contain each other many times over.
    """
    budget = iter(range(10_000)) if budget is None else budget
    if next(budget, None) is None:
        return None
    if isinstance(value, Opaque):
        state = value.state if isinstance(value.state, dict) else {}
        return plain(state.get("_content", state.get("_val", state)), budget)
    if isinstance(value, dict):
        return {k: plain(v, budget) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, budget) for v in value]
    return value if isinstance(value, str | int | float | bool) else None
