"""What a 1000-step sampler costs against 10 steps. Run: python benchmarks/cost.py

The long one is measured on a few passes of a CIMD-size network (85.6 M parameters, 128 x 128) and multiplied,
which leaves its sampler arithmetic out and so flatters it.
"""

from __future__ import annotations

import statistics
import time

import torch

from diffseg.codec import MaskCodec
from diffseg.denoise import HEADS, NetworkDenoiser
from diffseg.nets.guided_unet import GuidedUNet, GuidedUNetConfig
from diffseg.nets.unet import UNet, UNetConfig
from diffseg.noise import CosineSchedule
from diffseg.sample import DDIM, Noise

CIMD = GuidedUNetConfig(
    inputs=5, outputs=2, base=128, widths=(128, 128, 256, 384, 512), blocks=(2,) * 5, attention=(8,)
)
LONG, SHORT, ROUNDS = 1000, 10, 5


@torch.no_grad()
def cimd_pass_s() -> float:
    """Seconds of one pass of the CIMD-size network."""
    network = GuidedUNet(CIMD).eval()
    x, t, image = torch.randn(1, 1, 128, 128), torch.tensor([500.0]), torch.randn(1, 4, 128, 128)
    network(x, t, image)
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        network(x, t, image)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def ours_s(steps: int) -> float:
    """Seconds of one mask of the house's 2D network by DDIM, sampler included."""
    network = UNet(UNetConfig(2, 1, 2)).eval()
    denoiser = NetworkDenoiser(network, torch.randn(1, 1, 128, 128), HEADS["x0"](), MaskCodec(2))
    noise, levels = Noise(0, (0,)), CosineSchedule().levels(steps)
    x = noise.draw(0, (2, 128, 128))
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in DDIM().steps(denoiser, x, noise, levels):
            pass
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def main() -> None:
    """Print both ratios."""
    torch.set_num_threads(2)
    one, short, long = cimd_pass_s(), ours_s(SHORT), ours_s(LONG // 10)
    print(f"CIMD-size network: {one:.2f} s a pass, {one * LONG:.0f} s for {LONG} steps")
    print(f"house 2D network: {short:.3f} s for {SHORT} steps")
    print(f"one mask of ours against one of a {LONG}-step CIMD-size sampler: {one * LONG / short:.0f} times faster")
    print(f"the same network with {LONG // 10} steps against {SHORT}: {long / short:.1f} times the time")


if __name__ == "__main__":
    main()
