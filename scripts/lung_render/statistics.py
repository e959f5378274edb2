"""Grey-level statistics by which renderings are compared with real slices."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

RATIOS = (0.03, 0.08, 0.13, 0.18, 0.25, 0.35, 0.45)
NAMES = (
    "lung grey",
    "soft tissue grey",
    "soft tissue share",
    "lung noise",
    "soft tissue noise",
    "structures in lung",
    "steep edges",
    "nodule contrast",
    "area at half height",
    *(f"log10 power {k:.2f}/px" for k in RATIOS[1:]),
)


def describe(image: NDArray, masks: NDArray) -> NDArray[np.float64]:
    """The measures ``NAMES`` of one slice; NaN where it has too little of a tissue.

    Noise is the robust spread of the difference from a 3 x 3 mean, in the darker and brighter tissue away from edges,
    per contrast between the two. Structures are the share of lung a quarter of the contrast above its level. Steep
    edges: 99th percentile of the gradient per contrast. Area at half height: pixels around the outlines above
    half of the nodule's contrast, per mean outline area. Power is relative to that at the lowest frequencies.
    """
    grey = image.astype(float)
    union, some = masks.any(axis=0), masks.sum(axis=0) >= max(1, masks.any(axis=(1, 2)).sum())
    half = threshold(grey)
    lung, soft = grey < half, grey >= half
    level, tissue = np.median(grey[lung]), np.median(grey[soft]) if soft.sum() > 200 else np.nan
    contrast = tissue - level
    fine = grey - ndimage.uniform_filter(grey, 3)
    dark = ndimage.maximum_filter(grey, 5) < level + 0.25 * contrast
    bright = ndimage.minimum_filter(grey, 7) > level + 0.75 * contrast
    near = ndimage.binary_dilation(union, iterations=3)
    top = np.percentile(grey[some], 70) if some.any() else np.nan
    bottom = np.percentile(grey[near & ~union], 25)
    pieces, _ = ndimage.label(near & (grey > (top + bottom) / 2))
    touched = np.bincount(pieces[union], minlength=1)
    touched[0] = 0
    area = (pieces == touched.argmax()).sum() if touched.any() else 0
    inner = ndimage.binary_erosion(grey < level + 0.9 * contrast, iterations=4) & ~near
    return np.array(
        [
            level,
            tissue,
            soft.mean(),
            _spread(fine[dark]) / contrast,
            _spread(fine[bright]) / contrast,
            (grey[inner] > level + 0.2 * contrast).mean() if inner.any() else np.nan,
            np.percentile(np.hypot(*np.gradient(grey)), 99) / contrast,
            (top - bottom) / contrast,
            area / masks[masks.any(axis=(1, 2))].sum(axis=(1, 2)).mean(),
            *_power(grey),
        ]
    )


def threshold(grey: NDArray) -> float:
    """Otsu's threshold between lung and soft tissue, on values up to their 99th percentile."""
    values = np.clip(grey, 0, np.percentile(grey, 99))
    counts = np.bincount(values.astype(int).ravel(), minlength=256).astype(float)
    weight, total = np.cumsum(counts), np.cumsum(counts * np.arange(256))
    rest = weight[-1] - weight
    with np.errstate(divide="ignore", invalid="ignore"):
        between = weight * rest * (total / weight - (total[-1] - total) / rest) ** 2
    return float(np.nanargmax(between)) + 0.5


def _spread(values: NDArray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if values.size > 100 else float("nan")


def _power(grey: NDArray) -> NDArray:
    taper = np.hanning(grey.shape[0])[:, None] * np.hanning(grey.shape[1])[None, :]
    power = np.abs(np.fft.fft2((grey - grey.mean()) * taper)) ** 2
    far = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1])[None, :])
    rings = [np.log10(power[np.abs(far - k) < 0.02].mean()) for k in RATIOS]
    return np.array(rings[1:]) - rings[0]


def table(real: Iterable[tuple[NDArray, NDArray]], rendered: Iterable[tuple[NDArray, NDArray]]) -> str:
    """Range of the real slices beside the 5th, 50th and 95th percentile of the rendered ones, a line per measure."""
    a = np.stack([describe(*pair) for pair in real])
    b = np.stack([describe(*pair) for pair in rendered])
    lines = [f"{'':24}{'real: lowest, median, highest':>34}{'rendered: 5 %, 50 %, 95 %':>34}"]
    for i, name in enumerate(NAMES):
        parts = [np.nanpercentile(v[:, i], q) for v, q in ((a, (0, 50, 100)), (b, (5, 50, 95)))]
        lines.append(f"{name:24}" + "".join("    " + "".join(f"{x:10.3f}" for x in part) for part in parts))
    return "\n".join(lines)
