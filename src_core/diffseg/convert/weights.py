"""The tensors of a foreign checkpoint, whatever they are wrapped in."""

from __future__ import annotations

import pickle
import re
import tarfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from diffseg.card import METADATA_KEY
from diffseg.convert.pickles import DAMAGE
from diffseg.convert.torchfile import plain, read_torch_file
from diffseg.errors import CheckpointError

# Names under which training scripts put a network's weights, in the order in which they are tried.
WRAPPERS = ("state_dict", "model", "model_state_dict", "network", "net", "ema", "model_ema")
# Wrappers of PyTorch and of training frameworks that prefix every key.
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")


@dataclass(frozen=True, eq=False)
class Weights:
    """``tensors`` by their published names, ``settings`` that lay beside them, and ``notes`` for the
    person.
    """

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def read_weights(path: Path, tensors_only: bool = False) -> Weights:
    """The network in a ``.pt``, ``.pth``, ``.ckpt`` or ``.safetensors`` file; nothing in it is executed.

    A dictionary around the weights is taken off, and prefixes such as ``module.`` are stripped. A file with
    objects that PyTorch's safe loader refuses is read by ``read_torch_file``.

    Raises:
        CheckpointError: missing, damaged, an optimiser's state, without tensors, or a file that would run
        code.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint at {path}; check the path.")
    value, notes = _open(path, tensors_only)
    refuse_optimiser(value, path)
    state, settings = _unwrap(value, path)
    tensors = {k: v for k, v in state.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not tensors:
        raise CheckpointError(f"{path.name} holds no tensors by name; give a file with a network's state_dict.")
    tensors = _without_prefix(tensors)
    return Weights({k: _widened(v) for k, v in tensors.items()}, settings, (*notes, *_average_beside(path)))


def _open(path: Path, tensors_only: bool) -> tuple[Any, tuple[str, ...]]:
    if path.suffix.lower() == ".safetensors":
        return _open_safetensors(path), ()
    if is_tar(path):
        raise CheckpointError(
            f"{path.name} is in the format that PyTorch wrote before 2017, which is unpacked to be read; save its "
            "state_dict again with a newer PyTorch and convert that file."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch talks to developers about formats
            return torch.load(path, map_location="cpu", weights_only=True), ()
    except pickle.UnpicklingError:
        value = read_torch_file(path, tensors_only)
        return value, ("The file also holds objects; only its tensors and plain settings were read, nothing was run.",)
    except DAMAGE:
        raise CheckpointError(
            f"{path.name} is not a whole PyTorch checkpoint; copy or download it again, or save its state_dict anew."
        ) from None


def is_tar(path: Path) -> bool:
    """Whether a file is an uncompressed tar archive, as the first versions of PyTorch wrote."""
    try:
        with tarfile.open(path, "r:"):
            return True
    except DAMAGE:
        return False


def _open_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            house = METADATA_KEY in (file.metadata() or {})
        if house:
            raise CheckpointError(f"{path.name} is a house checkpoint already; there is nothing to convert.")
        return load_file(path)
    except (SafetensorError, OSError):
        raise CheckpointError(f"{path.name} is damaged or cut short; copy or download it again.") from None


def refuse_optimiser(value: Any, path: Path) -> None:
    """Raise ``CheckpointError`` for the state of an optimiser, a frequent mistake."""
    if isinstance(value, Mapping) and {"state", "param_groups"} <= set(value):
        stem = path.name.removeprefix("opt")
        hint = f" ({stem})" if stem != path.name else ""
        raise CheckpointError(
            f"{path.name} is the state of an optimiser, not a network; give the model's own file{hint} instead."
        )


def _unwrap(value: Any, path: Path) -> tuple[Mapping[Any, Any], dict[str, Any]]:
    """The dictionary of tensors, and the plain settings stored beside it under ``config`` or similar."""
    settings: dict[str, Any] = {}
    for _ in range(3):
        if not isinstance(value, Mapping):
            break
        if any(isinstance(v, Tensor) for v in value.values()):
            return value, settings
        for key in ("config", "cfg", "args", "hyper_parameters"):
            found = plain(value.get(key))
            settings = found if isinstance(found, dict) and found else settings
        value = next((value[k] for k in WRAPPERS if isinstance(value.get(k), Mapping)), None)
    raise CheckpointError(
        f"{path.name} holds no state_dict where one is expected (top level, or under {', '.join(WRAPPERS)}); "
        "save the network's state_dict alone and convert that file."
    )


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for _ in range(4):
        prefix = next((p for p in PREFIXES if all(k.startswith(p) for k in tensors)), None)
        if prefix is None:
            return tensors
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _average_beside(path: Path) -> tuple[str, ...]:
    """A sentence if the averaged (EMA) weights of the same training step lie in the same folder."""
    step = re.search(r"(\d{3,})$", path.stem)
    if step is None or path.name.startswith("ema"):
        return ()
    pattern = re.compile(rf"ema.*_{step[1]}{re.escape(path.suffix)}$")
    found = sorted(p.name for p in path.parent.iterdir() if pattern.match(p.name))
    return (f"Averaged weights of the same step lie beside it in {found[0]}; they usually do better.",) if found else ()
