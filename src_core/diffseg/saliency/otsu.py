"""From a saliency map to a mask: Otsu's threshold and the largest component. NumPy, SciPy, scikit-image; no torch.

References:
    Otsu 1979, "A threshold selection method from gray-level histograms".
    Hu et al. 2023, "Conditional diffusion models for weakly supervised medical image segmentation", section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from diffseg.registry import Registry

Map = NDArray[np.floating[Any]]
BINS = 256


@dataclass(frozen=True, eq=False)
class Cut:
    """A mask ``(N, H, W)`` of the pixels strictly above the ``thresholds (N,)`` of their slices.

    ``cut_map`` gives it in the shape of its map.
    """

    mask: NDArray[np.bool_]
    thresholds: NDArray[np.float64]


class Threshold(Protocol):
    """``(mean, first) -> Cut``: maps ``(N, H, W)``, averaged over all draws of noise and of draw 0 alone."""

    def __call__(self, mean: Map, first: Map) -> Cut:
        """The mask."""
        ...


THRESHOLDS: Registry[Threshold] = Registry("threshold")


def otsu(values: Map) -> float:
    """Otsu's threshold of one map with 256 bins between its extremes; of a constant map, its value."""
    if values.min() == values.max():
        return float(values.flat[0])
    return float(threshold_otsu(values, nbins=BINS))


def cut_slices(maps: Map) -> Cut:
    """Each slice of ``maps (N, H, W)`` at its own Otsu threshold; a constant slice has an empty mask."""
    thresholds = np.array([otsu(m) for m in maps], dtype=np.float64)
    return Cut(maps > thresholds[:, None, None], thresholds)


@THRESHOLDS.add("otsu-average", "Otsu's threshold of each slice, on the map averaged over all draws of noise")
def otsu_average(mean: Map, first: Map) -> Cut:
    """Averaging first, one threshold per slice after it; the threshold of a single draw jumps with its noise.

    Hu et al. write of "average Otsu thresholding" without saying what is averaged; their code averages nothing.
    """
    return cut_slices(mean)


@THRESHOLDS.add("otsu-slice", "Otsu's threshold of each slice, on the map of the first draw (published code)")
def otsu_slice(mean: Map, first: Map) -> Cut:
    """What the published code of Hu et al. does with its only draw."""
    return cut_slices(first)


@THRESHOLDS.add("otsu-volume", "One Otsu threshold for all slices, so that slices without a lesion may stay empty")
def otsu_volume(mean: Map, first: Map) -> Cut:
    """Otsu per slice finds a foreground in every slice, also where there is nothing; one threshold need not."""
    threshold = otsu(mean)
    return Cut(mean > threshold, np.full(len(mean), threshold))


def above(maps: Map, threshold: float) -> Cut:
    """Every slice of ``maps (N, H, W)`` at one threshold, such as a person's."""
    return Cut(maps > threshold, np.full(len(maps), threshold))


def cut_map(mean: Map, first: Map, rule: str, threshold: float | None = None, largest: bool = False) -> Cut:
    """The mask of a map ``(Z, Y, X)`` or ``(Y, X)``, in its shape, by a rule of ``THRESHOLDS`` or one ``threshold``.

    ``first`` is the map of the first draw; with ``largest`` only the largest part of each slice stays.
    """
    maps, firsts = (m[None] if m.ndim == 2 else m for m in (mean, first))
    cut = THRESHOLDS[rule](maps, firsts) if threshold is None else above(maps, threshold)
    mask = largest_per_slice(cut.mask) if largest else cut.mask
    return Cut(mask.reshape(mean.shape), cut.thresholds)


def minmax(maps: Map) -> NDArray[np.float32]:
    """``maps`` stretched to [0, 1] over all slices together, for display; constant maps become 0."""
    low, high = float(maps.min()), float(maps.max())
    if low == high:
        return np.zeros(maps.shape, np.float32)
    return np.asarray((maps - low) / (high - low), dtype=np.float32)


def largest_component(mask: NDArray[np.bool_], connectivity: int = 1) -> NDArray[np.bool_]:
    """The largest connected part of a mask ``(H, W)`` or ``(Z, Y, X)``; of equal ones the first in index order.

    ``connectivity`` 1 joins pixels that share an edge (voxels: a face), as the published code does in 2D; 2 also
    those that share a corner (voxels: an edge). An empty mask stays empty.
    """
    parts, count = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, connectivity))
    if count == 0:
        return np.zeros_like(mask, dtype=bool)
    sizes = np.bincount(parts.ravel())[1:]
    return np.asarray(parts == 1 + int(sizes.argmax()))


def largest_per_slice(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``largest_component`` of every slice of ``(N, H, W)`` by itself, joined by edges."""
    return np.stack([largest_component(m) for m in masks])
