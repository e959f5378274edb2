"""Set metrics at full size: 16 members and 4 raters of 512 x 512 x 300. Run: python benchmarks/metrics.py"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from diffseg.metrics.distribution import ged_of, ged_per_slice, matched_iou
from diffseg.metrics.insight import READINGS, collective_insight
from diffseg.metrics.maps import ged_map
from diffseg.metrics.packed import pack, pair_counts

SHAPE, MEMBERS, RATERS = (300, 512, 512), 16, 4


def masks(count: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """Balls of slightly different centres and radii, one after the other."""
    rng = np.random.default_rng(seed)
    axes = [np.arange(n, dtype=np.float32) for n in SHAPE]
    for _ in range(count):
        z, y, x = ((a - n / 2 - rng.normal(0, 4)) ** 2 for a, n in zip(axes, SHAPE, strict=True))
        yield z[:, None, None] + y[:, None] + x < rng.uniform(80, 110) ** 2


def main() -> None:
    """Print time and peak memory of every set figure and of the map, from packed masks."""
    samples, raters = pack(masks(MEMBERS, 0)), pack(masks(RATERS, 1))
    begin = time.perf_counter()
    counts = pair_counts(samples, raters)
    ged, curve = ged_of(counts), ged_per_slice(counts)[0]
    insight = [collective_insight(counts, reading).score for reading in READINGS]
    local = ged_map(samples, raters)
    seconds = time.perf_counter() - begin
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"GED {ged.papers:.4f}, matched IoU {matched_iou(counts):.4f}, {len(curve)} slices, {len(insight)} readings")
    print(f"GED map up to {float(local.max()):.2f}; {seconds:.1f} s (target 20), peak {peak_gb:.2f} GB (target 2)")


if __name__ == "__main__":
    main()
