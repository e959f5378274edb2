"""Where to compute: choosing a device and recognising that its memory is full."""

from __future__ import annotations

import gc

import torch

from diffseg.errors import DeviceError

CHOICES = ("auto", "cuda", "mps", "cpu")

# How libraries below torch say it: the CPU's allocator (Linux, Windows), CUDA and MPS, cuBLAS and cuDNN, oneDNN, C++.
_NO_MEMORY = (
    *("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED"),
    *("could not create a primitive", "could not create a memory", "bad_alloc", "bad allocation"),
)


def available() -> tuple[str, ...]:
    """The usable device types, best first; ``cpu`` is always the last."""
    found = ["cuda"] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` picks CUDA, then MPS, then the CPU; anything torch can name may be asked for.

    Raises:
        DeviceError: unknown name, or a device that this machine lacks.
    """
    if name == "auto":
        return torch.device(available()[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"There is no device called {name!r}; choose one of: {', '.join(CHOICES)}.") from None
    if device.type not in available():
        known = ", ".join(available())
        raise DeviceError(f"{name} was asked for, but this machine has only: {known}; use --device auto.")
    return device


def describe(device: torch.device) -> str:
    """The device in words for a status line, such as ``CPU, 2 threads``."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type.upper()
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU allocator raises a plain RuntimeError; MPS likewise.
    text = str(error)
    return isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)


def release_memory() -> None:
    """Give cached device memory back to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
