"""How long one network pass takes on this machine, found by making one."""

from __future__ import annotations

import time

import torch

from diffseg.checkpoint import Checkpoint
from diffseg.devices import choose_device, release_memory


def time_pass(checkpoint: Checkpoint, device: str = "auto") -> tuple[float, int]:
    """Seconds of one pass over the model's window, and the voxels of that window.

    The first pass, which also sets things up, does not count. The network goes back to the CPU.

    Raises:
        DeviceError: a device that this machine lacks.
    """
    where, card = choose_device(device), checkpoint.card
    checkpoint.network.to(where)
    try:
        with torch.no_grad():
            denoiser = checkpoint.denoiser(torch.zeros(1, len(card.channels), *card.window, device=where))
            x = torch.zeros(1, checkpoint.codec.channels, *card.window, device=where)
            level = checkpoint.schedule.levels(card.steps)[0]
            for _ in range(2):
                begin = time.perf_counter()
                # A GPU only promises the result; looking at it waits.
                float(denoiser(x, level).x0.sum())
                seconds = time.perf_counter() - begin
    finally:
        checkpoint.network.to("cpu")
        if where.type != "cpu":
            release_memory()
    return seconds, x[0, 0].numel()
