"""From a region of a scan to a model's input, by the model's own rule, and back. No torch.

Training and sampling both come through here, so a network sees in use what it saw in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseg.case import Case, Labels
from diffseg.errors import CaseError, PlanError
from diffseg.grid import Box

Normalisation = Literal["zscore", "minus1_1", "unit", "none"]

# A spacing this near to the model's is left alone: resampling would blur more than it would correct.
_SPACING_TOLERANCE = 0.02
# Above this factor of shrinking, linear interpolation skips over detail, so a Gaussian averages it first.
_ANTIALIAS_ABOVE = 1.5


@dataclass(frozen=True)
class ImageRule:
    """What a model expects of an image.

    `spacing_mm` is the model's grid along (z, y, x) or (y, x); None keeps each scan's own. Every channel is
    clipped to `clip_percentiles` (0 to 100) of the region's voxels and then normalised by them: "zscore" to
    mean 0 and standard deviation 1, "minus1_1" from the clip bounds to [-1, 1], "unit" to [0, 1], "none" not
    at all. "unit" leaves values as they are that lie in [0, 1], divides 8-bit ones by 255 as published code does,
    and stretches all others from the clip bounds. Window sides are multiples of `multiple_of`
    voxels. Raises PlanError for values out of range.
    """

    spacing_mm: tuple[float, ...] | None
    clip_percentiles: tuple[float, float]
    normalise: Normalisation
    multiple_of: int

    def __post_init__(self) -> None:
        low, high = self.clip_percentiles
        if not 0 <= low < high <= 100:
            raise PlanError(
                f"Clip percentiles must rise within 0 to 100, not {self.clip_percentiles}; correct them."
            )
        if self.normalise not in get_args(Normalisation):
            known = ", ".join(get_args(Normalisation))
            raise PlanError(f"There is no normalisation {self.normalise!r}; choose one of: {known}.")
        if self.multiple_of < 1:
            raise PlanError(f"Window sides must be multiples of 1 voxel or more, not {self.multiple_of}.")
        if self.spacing_mm is not None and not (
            np.isfinite(self.spacing_mm).all() and min(self.spacing_mm) > 0
        ):
            raise PlanError(
                f"The model's spacing must be positive millimetres, not {self.spacing_mm}; correct it."
            )


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model's input, and the way back to the scan.

    `image` is (C, *W) float32 on the window; `roi` is the region asked for, on the case grid. Window voxel i
    lies at case voxel coordinate `offset + step * i`, per axis; `spacing_mm` is the window's.
    """

    image: NDArray[np.float32]
    roi: Box
    offset: tuple[float, ...]
    step: tuple[float, ...]
    spacing_mm: tuple[float, ...]

    def restore(self, probs: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Values (K, *W) on the window to (K, *roi.shape) on the case grid, by linear interpolation.

        Probabilities that sum to 1 keep doing so. Where the window has the scan's spacing this is an exact
        crop.
        """
        if probs.shape[1:] != self.image.shape[1:]:
            raise CaseError(f"Expected values on a window {self.image.shape[1:]} but got {probs.shape[1:]}.")
        offset = [(a - o) / s for a, o, s in zip(self.roi.start, self.offset, self.step, strict=True)]
        step = [1 / s for s in self.step]
        return _resample(np.asarray(probs, dtype=np.float32), offset, step, self.roi.shape)

    def encode_labels(self, labels: Labels) -> Labels:
        """Labels (*S) on the case grid to (*W) on the window: at each voxel the label that covers most of it.

        Beyond the scan the nearest voxel counts, as for the image. Equal shares go to the smaller label.
        """
        shape = self.image.shape[1:]
        if all(step == 1.0 for step in self.step):
            return _take(labels, self.offset, shape)
        best = np.full(shape, -1.0, dtype=np.float32)
        encoded = np.zeros(shape, dtype=labels.dtype)
        for label in np.unique(labels):
            share = _resample((labels == label)[None].astype(np.float32), self.offset, self.step, shape)[0]
            ahead = share > best
            encoded[ahead], best[ahead] = label, share[ahead]
        return encoded


def prepare(case: Case, rule: ImageRule, roi: Box | None, spatial: int | None = None) -> Prepared:
    """Bring a region of a case (None: all of it) to the model's grid and intensities.

    `spatial` is the model's number of axes; a volume for a slice model (2) is brought to its grid within the slices
    and keeps its own slices along z.

    The window is the region, grown evenly on both sides until its sides are multiples of `rule.multiple_of`;
    it takes in what the scan shows around the region, and repeats the scan's outermost voxels only beyond its
    end. A scan whose spacing is within 2 % of the model's is not resampled. Statistics are those of the
    region's own voxels; a channel without any contrast there becomes zeros. Raises CaseError when the region
    misses the scan or the model's grid has another number of axes.
    """
    box = (roi or Box.whole(case.grid.shape)).clipped(case.grid.shape)
    step, shape, offset = _placed(box, case.spacing_mm, rule, spatial or case.ndim)
    image = _resample(case.image, offset, step, shape)
    for channel, (values, source) in enumerate(zip(image, case.image, strict=True)):
        image[channel] = _normalised(values, source[box.slices], rule)
    spacing_mm = tuple(size * factor for size, factor in zip(case.spacing_mm, step, strict=True))
    return Prepared(image, box, offset, step, spacing_mm)


def window_shape(box: Box, spacing_mm: Sequence[float], rule: ImageRule, spatial: int) -> tuple[int, ...]:
    """Shape of the window that `prepare` makes of this region of a scan, without making it."""
    return _placed(box, spacing_mm, rule, spatial)[1]


def _placed(
    box: Box, spacing_mm: Sequence[float], rule: ImageRule, spatial: int
) -> tuple[tuple[float, ...], tuple[int, ...], tuple[float, ...]]:
    """Step, shape and offset of the window on a region."""
    stacked = box.ndim - spatial
    step = (1.0,) * stacked + _steps(spacing_mm[stacked:], rule)
    multiples = (1,) * stacked + (rule.multiple_of,) * spatial
    return step, *_window(box, step, multiples)


def _steps(spacing_mm: Sequence[float], rule: ImageRule) -> tuple[float, ...]:
    """Scan voxels of this spacing per window voxel along each axis."""
    if rule.spacing_mm is None:
        return (1.0,) * len(spacing_mm)
    if len(rule.spacing_mm) != len(spacing_mm):
        raise CaseError(f"The model works in {len(rule.spacing_mm)}D, the scan is {len(spacing_mm)}D; choose another.")
    factors = [model / scan for model, scan in zip(rule.spacing_mm, spacing_mm, strict=True)]
    return tuple(1.0 if abs(factor - 1) <= _SPACING_TOLERANCE else float(factor) for factor in factors)


def _window(
    box: Box, step: Sequence[float], multiples: Sequence[int]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape of the window, and the case coordinate of its first voxel."""
    shape, offset = [], []
    for start, length, factor, multiple_of in zip(box.start, box.shape, step, multiples, strict=True):
        needed = int(np.ceil(length / factor - 1e-6))  # less rounding: 30 mm / 3 mm are 10 voxels, never 11
        size = -(-max(needed, 1) // multiple_of) * multiple_of
        if factor == 1.0:  # whole voxels, so that nothing is interpolated
            first = float(start - (size - length) // 2)
        else:
            first = start + (length - 1) / 2 - factor * (size - 1) / 2
        shape.append(size)
        offset.append(first)
    return tuple(shape), tuple(offset)


def _resample(
    values: NDArray[np.float32], offset: Sequence[float], step: Sequence[float], shape: Sequence[int]
) -> NDArray[np.float32]:
    """Values (C, *S) at coordinates offset + step * i, linear, edge values beyond the array; (C, *shape)."""
    for axis, (first, factor, size) in enumerate(zip(offset, step, shape, strict=True), start=1):
        last = values.shape[axis] - 1
        at = np.clip(first + factor * np.arange(size), 0, last)
        if factor > _ANTIALIAS_ABOVE:
            values, at = _smoothed(values, axis, at, sigma=(factor - 1) / 2)
        below = np.floor(at).astype(np.intp)
        weight = (at - below).astype(np.float32).reshape((-1,) + (1,) * (values.ndim - 1 - axis))
        lower = np.take(values, below, axis=axis)
        if weight.any():
            above = np.take(values, np.minimum(below + 1, values.shape[axis] - 1), axis=axis)
            lower += weight * (above - lower)
        values = lower
    return np.ascontiguousarray(values, dtype=np.float32)


def _smoothed(
    values: NDArray[np.float32], axis: int, at: NDArray[np.float64], sigma: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The stretch of `values` around the coordinates `at`, smoothed along `axis`, and `at` counted in it."""
    reach = int(np.ceil(4 * sigma)) + 1
    first = max(int(at.min()) - reach, 0)
    stretch = np.take(values, np.arange(first, min(int(at.max()) + reach + 1, values.shape[axis])), axis=axis)
    return ndimage.gaussian_filter1d(stretch, sigma, axis=axis, mode="nearest", truncate=4.0), at - first


def _take(labels: Labels, offset: Sequence[float], shape: Sequence[int]) -> Labels:
    picks = [
        np.clip(int(first) + np.arange(size), 0, length - 1)
        for first, size, length in zip(offset, shape, labels.shape, strict=True)
    ]
    return np.ascontiguousarray(labels[np.ix_(*picks)])


def _unit(region: NDArray[np.float32], low: float, high: float) -> tuple[float, float]:
    """Shift and scale that bring `region` to [0, 1]; see `ImageRule`."""
    least, most = float(region.min()), float(region.max())
    if least >= 0 and most <= 1:
        return 0.0, 1.0
    if least >= 0 and most <= 255 and np.array_equal(region, np.round(region)):
        return 0.0, 255.0
    return low, high - low


def _normalised(
    values: NDArray[np.float32], region: NDArray[np.float32], rule: ImageRule
) -> NDArray[np.float32]:
    """Clip and normalise `values` by the statistics of `region`."""
    low, high = (float(bound) for bound in np.percentile(region, rule.clip_percentiles))
    if low == high:  # a small structure on plain ground: the percentiles see only the ground
        low, high = float(region.min()), float(region.max())
    if low == high:
        return np.zeros_like(values)
    clipped = np.clip(values, low, high)
    if rule.normalise == "none":
        return clipped
    if rule.normalise == "minus1_1":
        shift, scale = (low + high) / 2, (high - low) / 2
    elif rule.normalise == "unit":
        shift, scale = _unit(region, low, high)
    else:
        inside = np.clip(region, low, high)
        shift, scale = float(inside.mean(dtype=np.float64)), float(inside.std(dtype=np.float64))
    return ((clipped.astype(np.float64) - shift) / scale).astype(np.float32)
