"""What a run does when memory runs out: fewer members at a time, fewer slices, windows, and last the CPU.

Each change is told in a sentence. Fewer members or slices at a time change masks by rounding only; windows of a region
that was denoised in one piece change them a little, since a network sees less at their borders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from diffseg.devices import is_out_of_memory
from diffseg.errors import DeviceError

# Members denoised together on a GPU; a CPU gains nothing from batches.
GPU_BATCH = 8
# Slices of a volume that a slice model sees together.
SLICES = 16


@dataclass(frozen=True)
class Means:
    """How a run fits into memory: where it computes, how many members and slices at a time, whole or in windows."""

    device: torch.device
    members: int = 1
    slices: int = SLICES
    windowed: bool = False


def means_on(device: torch.device) -> Means:
    """What a run begins with."""
    return Means(device, GPU_BATCH if device.type == "cuda" else 1)


def smaller(
    means: Means, members: int, shape: Sequence[int], window: Sequence[int], whole: bool
) -> tuple[Means, str]:
    """The next way that needs less memory after it ran out with ``members`` at a time, and the sentence for it.

    ``shape`` is that of the region on the model's grid, with an axis more than ``window`` for a slice model; ``whole``
    says whether it was denoised in one piece, so that windows are still to be tried.

    Raises:
        DeviceError: nothing smaller is left.
    """
    if members > 1:
        half = members // 2
        return replace(means, members=half), f"Memory ran out with {members} members at a time; going on with {half}."
    stack = shape[0] if len(shape) > len(window) else 1
    slices = min(means.slices, stack)
    if slices > 1:
        half = slices // 2
        return replace(means, slices=half), f"Memory ran out with {slices} slices at a time; going on with {half}."
    inner = shape[-len(window) :]
    if whole and not means.windowed and any(n > side for n, side in zip(inner, window, strict=True)):
        return replace(means, windowed=True), (
            f"Memory ran out with {_size(inner)} voxels in one piece; going on with windows of {_size(window)}, which "
            "may differ a little at their borders."
        )
    if means.device.type != "cpu":
        note = f"The memory of {means.device.type.upper()} is too small for this region; going on with the CPU."
        return means_on(torch.device("cpu")), note
    raise DeviceError(
        f"Memory ran out with one member of {_size(shape)} voxels; close other programs or choose a smaller region."
    )


@contextmanager
def memory_told(shape: Sequence[int]) -> Iterator[None]:
    """Raise ``DeviceError`` where memory runs out inside, for a region of ``shape`` voxels."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"Memory ran out with a region of {_size(shape)} voxels; close other programs or choose a smaller region."
        ) from None


def _size(shape: Sequence[int]) -> str:
    return "×".join(str(n) for n in shape)
