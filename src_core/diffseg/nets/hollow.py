"""A network without its numbers, to see what tensors it has before memory or time is spent on them.

A card may ask for anything. A network that a file can fill has about as many parameters as the file has tensors, so
building stops soon after, and shapes are compared while they are still only shapes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as registration

from diffseg.errors import CheckpointError, DiffsegError

# No network has as many channels, blocks or heads.
LARGEST_SETTING = 65_536
# Layers without parameters, such as activations, per tensor of the file.
PLAIN_LAYERS = 20


def hollow_network(
    make: Callable[[], nn.Module], settings: Mapping[str, Any], tensors: int, what: str
) -> nn.Module:
    """The network that ``make`` builds of ``settings``, of at most ``tensors`` parameters, without memory for them
    (device ``meta``).

    Raises:
        CheckpointError: settings that no network has, more parameters than ``tensors``, or a network that cannot
            be built; ``what`` is what the sentence is about.
    """
    largest = max(_numbers(settings), default=0)
    if largest > LARGEST_SETTING:
        raise CheckpointError(f"{what} asks for {largest:g} of something, which no network has; get the file again.")
    try:
        with torch.device("meta"), _at_most(tensors, what):
            return make()
    except DiffsegError:
        raise
    except Exception as bad:  # noqa: BLE001 - layers refuse impossible numbers with one of many unrelated types
        raise CheckpointError(
            f"{what} describes a network that cannot be built ({type(bad).__name__}); get the file again."
        ) from None


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        yield len(value)
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield abs(value)


@contextmanager
def _at_most(tensors: int, what: str) -> Iterator[None]:
    """Stop, in this thread, a network with more parameters than ``tensors``."""
    thread, left = threading.get_ident(), {"parameters": tensors, "layers": PLAIN_LAYERS * (tensors + 10)}

    def counted(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: str, added: Any) -> None:
            if threading.get_ident() != thread or added is None:
                return
            left[name] -= 1
            if left[name] < 0:
                raise CheckpointError(f"{what} describes a far larger network than its tensors; get it again.")

        return hook

    handles = (
        registration.register_module_parameter_registration_hook(counted("parameters")),
        registration.register_module_module_registration_hook(counted("layers")),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
