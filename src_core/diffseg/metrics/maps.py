"""Where a set of samples and a set of raters differ: maps, and the correlation of two maps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from diffseg.errors import CaseError
from diffseg.metrics.packed import PackedLabels, packed_sets

MaskSet: TypeAlias = PackedLabels | Iterable[NDArray[Any]]

# Voxels of all masks together that one slab of the local map unpacks.
_SLAB_VOXELS = 32_000_000


def ged_map(
    samples: MaskSet, raters: MaskSet, classes: int = 2, dtype: DTypeLike = np.float32
) -> NDArray[np.floating[Any]]:
    """GED of the label at each voxel under the Hamming distance (0 if equal, else 1), (*S), in [0, 2].

    It is the sum over all classes of (p_k - q_k)^2, with p and q the frequencies among samples and raters;
    for two classes 2 (p - q)^2 with the frequencies of the foreground. Pairs of a mask with itself are kept.
    """
    one, two = packed_sets(samples, raters, classes)
    result = np.empty((one.planes, *one.shape[-2:]), dtype=dtype)
    for z in range(one.planes):
        gap = one.votes(z) / len(one) - two.votes(z) / len(two)
        result[z] = np.square(gap).sum(axis=0)
    return result.reshape(one.shape)


def local_ged_map(
    samples: MaskSet,
    raters: MaskSet,
    half_width: Sequence[int],
    classes: int = 2,
    dtype: DTypeLike = np.float32,
) -> NDArray[np.floating[Any]]:
    """GED with d = 1 - IoU inside a window around each voxel, (*S), in [0, 2]; the papers' estimator.

    The window reaches `half_width` voxels to both sides along each axis and is cut at the ends of the array.
    Two masks that are both empty in it have IoU 1, so the map is 0 away from all masks. The time grows with
    the square of the number of masks and with the box that holds them all, not with the volume.
    """
    one, two = packed_sets(samples, raters, classes)
    if len(half_width) != len(one.shape) or min(half_width) < 0:
        raise CaseError(
            f"The window needs {len(one.shape)} half widths of 0 or more voxels, not {half_width}."
        )
    reach = (0, *half_width)[-3:]
    shape = (one.planes, *one.shape[-2:])
    result = np.zeros(shape, dtype=dtype)
    box = _busy_box(one, two, reach, shape)
    if box is None:
        return result.reshape(one.shape)
    depth = _slab_depth(box, reach, len(one) + len(two))
    for low in range(box[0].start, box[0].stop, depth):
        slab = slice(low, min(low + depth, box[0].stop))
        result[(slab, *box[1:])] = _local_slab(one, two, (slab, *box[1:]), reach)
    return result.reshape(one.shape)


def ncc(samples: MaskSet, raters: MaskSet, classes: int = 2) -> float:
    """Correlation of the samples' own variability with their error against each rater, in [-1, 1] (PHiSeg).

    PHiSeg's maps are mean cross-entropies of hard masks; up to a positive factor and an offset, which a
    correlation ignores, they are 1 - sum_k p_k^2 and 1 - p_y for the rater's label y, and are computed so
    here, exactly in whole numbers. Averaged over the raters; NaN when a map is constant, as when all samples
    agree.
    """
    one, two = packed_sets(samples, raters, classes)
    sums = [[0] * 5 for _ in range(len(two))]
    for z in range(one.planes):
        votes = one.votes(z)
        own = len(one) ** 2 - np.square(votes).sum(axis=0)
        for rater, masks in enumerate(two.plane(z)):
            error = len(one) - _votes_for(votes, masks)
            terms = own.sum(), error.sum(), (own * own).sum(), (error * error).sum(), (own * error).sum()
            sums[rater] = [total + int(term) for total, term in zip(sums[rater], terms, strict=True)]
    voxels = int(np.prod(one.shape))
    return float(np.mean([_correlation(voxels, *rater) for rater in sums]))


def _votes_for(votes: NDArray[np.int64], masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Votes (K, y, x) for the label that masks (K - 1, y, x) have at each voxel."""
    background = 1 - masks.sum(axis=0, dtype=np.int64)
    return votes[0] * background + (votes[1:] * masks).sum(axis=0)


def _correlation(n: int, a: int, b: int, aa: int, bb: int, ab: int) -> float:
    """Pearson correlation from whole sums of a, b, a^2, b^2 and ab over n points."""
    spread_a, spread_b = n * aa - a * a, n * bb - b * b
    if spread_a == 0 or spread_b == 0:
        return float("nan")
    return (n * ab - a * b) / float(np.sqrt(float(spread_a)) * np.sqrt(float(spread_b)))


def _busy_box(
    one: PackedLabels, two: PackedLabels, reach: Sequence[int], shape: Sequence[int]
) -> tuple[slice, slice, slice] | None:
    """The box of voxels whose window touches any mask; None when all masks are empty."""
    planes = np.zeros(shape[0], dtype=bool)
    footprint = np.zeros(shape[1:], dtype=bool)
    for z in range(shape[0]):
        for side in (one, two):
            touched = np.any(side.plane(z), axis=(0, 1))
            planes[z] |= touched.any()
            footprint |= touched
    if not planes.any():
        return None
    extents = [np.flatnonzero(line) for line in (planes, footprint.any(axis=1), footprint.any(axis=0))]
    sides = [
        slice(max(int(found[0]) - margin, 0), min(int(found[-1]) + margin + 1, length))
        for found, margin, length in zip(extents, reach, shape, strict=True)
    ]
    return sides[0], sides[1], sides[2]


def _slab_depth(box: tuple[slice, slice, slice], reach: Sequence[int], masks: int) -> int:
    area = (box[1].stop - box[1].start) * (box[2].stop - box[2].start)
    return max(_SLAB_VOXELS // (area * masks) - 2 * reach[0], 1)


def _local_slab(
    one: PackedLabels, two: PackedLabels, box: tuple[slice, slice, slice], reach: Sequence[int]
) -> NDArray[np.float64]:
    """The local GED of one box: the mean over foreground classes of the weighted IoU of all pairs."""
    first = max(box[0].start - reach[0], 0)
    planes = range(first, min(box[0].stop + reach[0], one.planes))
    # Nothing lies beside the busy box, so windows that leave it within a plane lose nothing.
    inside = (slice(None), slice(None), *box[1:])
    masks = np.stack([np.concatenate([one.plane(z)[inside], two.plane(z)[inside]]) for z in planes], axis=2)
    kept = slice(box[0].start - first, box[0].stop - first)
    total = np.zeros(masks[0, 0, kept].shape)
    for label in range(masks.shape[1]):
        total += _local_binary(masks[:, label], reach, kept, len(one))
    return total / masks.shape[1]


def _local_binary(masks: NDArray[np.uint8], reach: Sequence[int], kept: slice, n: int) -> NDArray[np.float64]:
    """GED in windows for binary masks (T, z, y, x), the first n of them samples; (kept, y, x)."""
    m = len(masks) - n
    sizes = [_window_sums(mask, reach)[kept] for mask in masks]
    total = np.zeros(sizes[0].shape)
    for i in range(len(masks)):
        for j in range(i + 1, len(masks)):
            shared = _window_sums(masks[i] & masks[j], reach)[kept]
            union = sizes[i] + sizes[j] - shared
            distance = np.where(union == 0, 0.0, 1 - shared / np.maximum(union, 1))
            total += distance * (2 / (n * m) if i < n <= j else -2 / n**2 if j < n else -2 / m**2)
    return total


def _window_sums(mask: NDArray[np.uint8], reach: Sequence[int]) -> NDArray[np.int32]:
    """Set voxels in the window around each voxel, in whole numbers."""
    sums = mask.astype(np.int32)
    for axis, half in enumerate(reach):
        if half == 0:
            continue
        padding = [(half + 1, half) if other == axis else (0, 0) for other in range(sums.ndim)]
        running = np.cumsum(np.pad(sums, padding), axis=axis, dtype=np.int32)
        ends = np.arange(sums.shape[axis])
        sums = np.take(running, ends + 2 * half + 1, axis=axis) - np.take(running, ends, axis=axis)
    return sums
