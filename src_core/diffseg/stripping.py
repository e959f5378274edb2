"""Scans without a skull, made of scans with one, so that a model learns what a black background does to grey values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]

# Black begins so far from the structures, in voxels.
ROOM = (0.0, 10.0)
# Fluid round the brain goes with the skull: up to this share of the voxels, the darkest ones.
FLUID = 0.15
# At most so many sides of a patch lie outside the brain.
SIDES = 3
# The brain's surface is wavy: height and length of its waves in voxels.
WAVE, WAVE_LENGTH = 1.5, 6.0
# Black is at most so much darker than the darkest voxel, in standard deviations of the patch.
DARKER = 0.5


def stripped(image: Image, labels: NDArray[np.integer], rng: np.random.Generator) -> Image:
    """``image (C, *P)`` as it would be without a skull: black beyond one to three random wavy planes and where a
    channel is darkest, but never at the structures in ``labels (*P)``, and normalised again to mean 0 and standard
    deviation 1.

    The image itself where there is no structure; a channel whose values are all alike stays as it is.
    """
    seen = np.argwhere(labels > 0)
    if len(seen) == 0:
        return image
    places = np.stack(np.meshgrid(*(np.arange(n) for n in labels.shape), indexing="ij"), axis=-1)
    waves = ndimage.gaussian_filter(rng.standard_normal(labels.shape), WAVE_LENGTH)
    waves *= WAVE / waves.std()
    black = np.zeros(labels.shape, bool)
    for _ in range(rng.integers(1, SIDES, endpoint=True)):
        normal = rng.standard_normal(labels.ndim)
        normal /= np.linalg.norm(normal)
        limit = (seen @ normal).max() + rng.uniform(*ROOM)
        black |= (places @ normal + waves > limit) & (labels == 0)
    out = image.copy()
    for channel in out:
        spread = channel.std()
        if spread > 0:
            fluid = (channel < np.quantile(channel, rng.uniform(0, FLUID))) & (labels == 0)
            channel[black | fluid] = channel.min() - rng.uniform(0, DARKER) * spread
            channel -= channel.mean()
            channel /= channel.std()
    return out
