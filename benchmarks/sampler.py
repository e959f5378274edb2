"""Cost of the samplers and of an ensemble. Run: python benchmarks/sampler.py"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from diffseg.checkpoint import Checkpoint, load_checkpoint
from diffseg.ensemble import Ensemble
from diffseg.sample import SAMPLERS, Noise
from diffseg.zoo import find_model

ROUNDS = 7


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def sampler_overhead(checkpoint: Checkpoint) -> None:
    """Sampler time over the time of as many bare forward passes, alternating, median of the ratios."""
    levels = checkpoint.schedule.levels(checkpoint.card.steps)
    image = torch.randn(1, 1, *checkpoint.card.window, generator=torch.Generator().manual_seed(0))
    denoiser = checkpoint.denoiser(image)
    noise = Noise(0, (0,))
    x = noise.draw(0, (len(checkpoint.card.classes), *checkpoint.card.window))
    for name in SAMPLERS:
        sampler = SAMPLERS[name]()

        @torch.no_grad()
        def bare() -> None:
            for level in levels[:-1]:
                checkpoint.network(x, torch.tensor([level.told]), image)

        def full(sampler: object = sampler) -> None:
            for _ in sampler.steps(denoiser, x, noise, levels):  # type: ignore[attr-defined]
                pass

        bare(), full()
        ratios, times = [], []
        for _ in range(ROUNDS):
            b, f = seconds(bare), seconds(full)
            ratios.append(f / b)
            times.append(f)
        ratio, member_s = statistics.median(ratios), statistics.median(times)
        print(f"{name}: sampler over bare passes {ratio:.3f}; one member {member_s:.2f} s")


def ensemble_memory() -> None:
    """Bytes of an ensemble's maps with 4 and with 32 members."""
    shape, rng = (48, 64, 48), np.random.default_rng(0)
    ensemble, sizes = Ensemble(3, shape), {}
    for i in range(32):
        ensemble.add(rng.integers(0, 3, shape).astype(np.uint8), i)
        if i + 1 in (4, 32):
            sizes[i + 1] = ensemble.snapshot().votes.nbytes
    packed = sum(m.nbytes for m in ensemble.snapshot().members)
    print(f"ensemble: maps {sizes[4]} bytes at 4 members, {sizes[32]} at 32; members {packed / 32:.0f} bytes each")


def main() -> None:
    """Print every figure."""
    torch.set_num_threads(2)
    sampler_overhead(load_checkpoint(find_model("hippocampus-3d")))
    ensemble_memory()


if __name__ == "__main__":
    main()
