"""Memory that runs out on purpose: at one operation, from one operation on, or for tensors of some size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

ALLOCATOR = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."
ERRORS: tuple[Callable[[], BaseException], ...] = (
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    MemoryError,
    lambda: RuntimeError(ALLOCATOR),
    lambda: RuntimeError("could not create a primitive descriptor for a convolution forward propagation primitive"),
)


class Failing(TorchDispatchMode):
    """Every operation of torch is counted; those that ``when(number)`` names fail with ``error()`` instead."""

    def __init__(self, when: Callable[[int], bool], error: Callable[[], BaseException]) -> None:
        super().__init__()
        self.when, self.error, self.count, self.failed = when, error, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        if self.when(self.count):
            self.failed += 1
            raise self.error()
        return func(*args, **(kwargs or {}))


class Pretended(TorchFunctionMode):
    """A graphics processor that is none: whatever is sent to CUDA stays on the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if _cuda(kwargs.get("device")):
            kwargs["device"] = torch.device("cpu")
        return func(*[torch.device("cpu") if _cuda(a) else a for a in args], **kwargs)


def _cuda(value: Any) -> bool:
    return isinstance(value, torch.device) and value.type == "cuda"


class Small(TorchDispatchMode):
    """A pretended processor on which an operation fails whose result has more than ``most`` elements."""

    def __init__(self, most: int, there: Callable[[], bool]) -> None:
        super().__init__()
        self.most, self.there = most, there

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if self.there() and isinstance(out, torch.Tensor) and out.numel() > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return out


@contextmanager
def pretended_cuda() -> Iterator[None]:
    """Programs may ask for CUDA and compute on the CPU."""
    found, emptied = torch.cuda.is_available, torch.cuda.empty_cache
    torch.cuda.is_available = lambda: True
    torch.cuda.empty_cache = lambda: None
    try:
        with Pretended():
            yield
    finally:
        torch.cuda.is_available, torch.cuda.empty_cache = found, emptied
