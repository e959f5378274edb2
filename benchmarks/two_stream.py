"""What a member-step of the two-stream networks costs beside the concatenating U-Net's, and an ensemble of each.

Run: python benchmarks/two_stream.py    (networks of the shipped recipes, untrained: weights do not change the time)
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from diffseg.codec import build_codec
from diffseg.denoise import HEADS, bound
from diffseg.nets.blocks import channels_last
from diffseg.nets.two_stream import TwoStream, TwoStreamConfig
from diffseg.nets.unet import UNet, UNetConfig
from diffseg.noise import CosineSchedule

ROUNDS = 9
VOLUME, SLICE = (16, 32, 64, 128), (32, 64, 96, 128)
CASES: dict[str, tuple[nn.Module, nn.Module, tuple[int, ...], int, int, int]] = {
    # name: U-Net, two streams, image, classes that diffuse, members, steps
    "hippocampus-3d, 48 x 64 x 48": (
        UNet(UNetConfig(3, 1, 3, VOLUME)),
        TwoStream(TwoStreamConfig(3, 1, 3, VOLUME, (16, 32, 64), light_patch=2, fine=8)),
        (48, 64, 48), 3, 16, 5,
    ),
    "lung-nodule-raters-2d, 128 x 128": (
        UNet(UNetConfig(2, 1, 1, SLICE, patch=2)),
        TwoStream(TwoStreamConfig(2, 1, 1, SLICE, (16, 32, 64), patch=2, light_patch=4, fine=8)),
        (128, 128), 1, 16, 10,
    ),
}  # fmt: skip


def seconds(act: Callable[[], object]) -> float:
    """Median seconds of ``act`` over ``ROUNDS``, after one round that is not counted."""
    act()
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        act()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def costs(network: nn.Module, image: Tensor, classes: int) -> tuple[float, float]:
    """Seconds to bind the network to the image, and of one step of one member."""
    network = network.eval().to(memory_format=channels_last(image.ndim - 2))
    kind = ("onehot", classes) if classes > 1 else ("binary", 2)
    head, codec, level = HEADS["x0"](), build_codec(*kind, {}), CosineSchedule().levels(10)[4]
    denoiser = bound(network, image, head, codec)
    x = torch.randn(1, classes, *image.shape[2:])
    return seconds(lambda: bound(network, image, head, codec)), seconds(lambda: denoiser(x, level))


def main() -> None:
    """Print, per model: member-steps, their ratio, and a whole ensemble of each."""
    torch.set_num_threads(2)
    for name, (unet, two, shape, classes, members, steps) in CASES.items():
        image = torch.randn(1, 1, *shape)
        (_, plain), (encode, light) = costs(unet, image, classes), costs(two, image, classes)
        passes = members * steps
        print(f"{name}: a member-step {1e3 * plain:.1f} ms (U-Net), {1e3 * light:.1f} ms (two streams), ")
        print(f"  {plain / light:.1f} times cheaper; the image is encoded once in {1e3 * encode:.1f} ms.")
        whole = passes * plain / (encode + passes * light)
        print(f"  {members} members in {steps} steps: {whole:.1f} times cheaper.")


if __name__ == "__main__":
    main()
