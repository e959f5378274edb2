"""Sets of label arrays at one bit a voxel and foreground class, and what any two of them share.

Every distribution metric needs only the voxel counts of pairs, or the masks of one plane at a time; both come
from the packed bits, so that sets of large volumes fit in memory and label arrays can be streamed in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffseg.errors import CaseError

_WORD = 64


@dataclass(frozen=True, eq=False)
class PackedLabels:
    """N label arrays of one shape. `bits` is (N, K - 1, Z, words) uint64: class k of plane z as whole words.

    `shape` is (z, y, x), or (y, x) with Z = 1. `classes` is K, background included.
    """

    bits: NDArray[np.uint64]
    shape: tuple[int, ...]
    classes: int

    def __len__(self) -> int:
        return len(self.bits)

    @property
    def planes(self) -> int:
        """Number of planes Z."""
        return int(self.bits.shape[2])

    def plane(self, z: int) -> NDArray[np.uint8]:
        """The masks of one plane, (N, K - 1, y, x), 0 or 1."""
        rows, columns = self.shape[-2:]
        octets = np.ascontiguousarray(self.bits[:, :, z]).view(np.uint8)
        return np.unpackbits(octets, axis=-1, count=rows * columns).reshape(*octets.shape[:2], rows, columns)

    def votes(self, z: int) -> NDArray[np.int64]:
        """How many of the N arrays have each class at each voxel of a plane: (K, y, x), background first."""
        foreground = self.plane(z).sum(axis=0, dtype=np.int64)
        return np.concatenate([len(self) - foreground.sum(axis=0, keepdims=True), foreground])


def pack(labels: Iterable[NDArray[Any]], classes: int = 2) -> PackedLabels:
    """Pack label arrays (*S) with values 0 to `classes` - 1 (bool counts as 0 and 1), one after the other.

    Raises CaseError for no arrays at all, for arrays of different shapes and for a label outside the classes.
    """
    shape: tuple[int, ...] | None = None
    bits: list[NDArray[np.uint64]] = []
    for number, array in enumerate(labels, start=1):
        shape = shape or array.shape
        if array.shape != shape or array.ndim not in (2, 3):
            raise CaseError(
                f"Mask {number} has {array.shape} voxels but the first {shape}; bring them to one grid."
            )
        bits.append(_packed(array, classes))
    if shape is None:
        raise CaseError("A set of masks is empty; give at least one mask to compare.")
    return PackedLabels(np.stack(bits), shape, classes)


@dataclass(frozen=True, eq=False)
class PairCounts:
    """Voxels that pairs share, for a set of samples and a set of raters.

    `shared` is (K - 1, Z, T, T) int64 over the T = `n_samples` + `n_raters` arrays, samples first; its
    diagonal holds their sizes. `unions` is (K - 1, 3): voxels in any sample, in any rater, and in both
    unions. `voxels` is the size of one array.
    """

    shared: NDArray[np.int64]
    unions: NDArray[np.int64]
    n_samples: int
    n_raters: int
    voxels: int

    @property
    def classes(self) -> int:
        """Number of classes K, background included."""
        return len(self.shared) + 1

    def iou(self) -> NDArray[np.float64]:
        """IoU of every pair (T, T), mean over the foreground classes; a class absent from both counts 1."""
        return overlap_ratio(self.shared.sum(axis=1), "iou").mean(axis=0)

    def dice(self) -> NDArray[np.float64]:
        """Dice of every pair (T, T), mean over the foreground classes; a class absent from both counts 1."""
        return overlap_ratio(self.shared.sum(axis=1), "dice").mean(axis=0)


def pair_counts(
    samples: PackedLabels | Iterable[NDArray[Any]],
    raters: PackedLabels | Iterable[NDArray[Any]],
    classes: int = 2,
) -> PairCounts:
    """Count what every pair of arrays shares; `classes` only matters for arrays that are not packed yet.

    Raises CaseError for sets of different shapes or classes, and as `pack`.
    """
    one, two = packed_sets(samples, raters, classes)
    bits = [*one.bits, *two.bits]
    _, foreground, planes, _ = one.bits.shape
    shared = np.zeros((foreground, planes, len(bits), len(bits)), dtype=np.int64)
    common = np.empty_like(bits[0])
    for i, first in enumerate(bits):
        for j in range(i, len(bits)):
            np.bitwise_and(first, bits[j], out=common)
            shared[:, :, i, j] = shared[:, :, j, i] = _population(common)
    any_sample, any_rater = (np.bitwise_or.reduce(side.bits, axis=0) for side in (one, two))
    unions = [_population(union).sum(axis=1) for union in (any_sample, any_rater, any_sample & any_rater)]
    return PairCounts(shared, np.stack(unions, axis=1), len(one), len(two), int(np.prod(one.shape)))


def packed_sets(
    samples: PackedLabels | Iterable[NDArray[Any]],
    raters: PackedLabels | Iterable[NDArray[Any]],
    classes: int,
) -> tuple[PackedLabels, PackedLabels]:
    """Both sets packed; CaseError when they do not lie on one grid or differ in their classes."""
    one = samples if isinstance(samples, PackedLabels) else pack(samples, classes)
    two = raters if isinstance(raters, PackedLabels) else pack(raters, classes)
    if one.shape != two.shape or one.classes != two.classes:
        raise CaseError(
            f"Samples of {one.shape} voxels in {one.classes} classes cannot be compared with raters of "
            f"{two.shape} in {two.classes}; bring them to one grid and one list of classes."
        )
    return one, two


def overlap_ratio(shared: NDArray[np.int64], kind: str) -> NDArray[np.float64]:
    """IoU ("iou") or Dice ("dice") from counts (..., T, T) whose diagonal holds the sizes; both empty: 1."""
    sizes = np.diagonal(shared, axis1=-2, axis2=-1)
    total = sizes[..., :, None] + sizes[..., None, :]
    top, bottom = (shared, total - shared) if kind == "iou" else (2 * shared, total)
    return np.where(total == 0, 1.0, top / np.maximum(bottom, 1))


def _packed(labels: NDArray[Any], classes: int) -> NDArray[np.uint64]:
    """(K - 1, Z, words)."""
    planes = labels[None] if labels.ndim == 2 else labels
    words = -(-planes[0].size // _WORD)
    bits = np.zeros((classes - 1, len(planes), words), dtype=np.uint64)
    octets = bits.view(np.uint8)
    for z, plane in enumerate(planes):
        if plane.dtype != np.bool_ and not (plane.min() >= 0 and plane.max() < classes):
            stray = plane.min() if plane.min() < 0 else plane.max()
            raise CaseError(
                f"A mask holds the label {stray}, but {classes} classes have the labels 0 to {classes - 1}; "
                "give all classes, or make the mask binary."
            )
        flat = plane.ravel()
        for label in range(1, classes):
            row = np.packbits(flat if plane.dtype == np.bool_ and label == 1 else flat == label)
            octets[label - 1, z, : len(row)] = row
    return bits


def _population(bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Number of set bits along the last axis."""
    return np.bitwise_count(bits).sum(axis=-1, dtype=np.int64)
