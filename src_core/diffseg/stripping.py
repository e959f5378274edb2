"""Scans without a skull, made of scans with one, so that a model learns what a black background does to grey values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.float32]

# Black begins so far from the structures, in voxels.
ROOM = (3.0, 14.0)
# At most so many sides of a patch lie outside the brain.
SIDES = 3
# The brain's surface is wavy: height and length of its waves in voxels.
WAVE, WAVE_LENGTH = 1.5, 6.0
# Black is at most so much darker than the darkest voxel, in standard deviations of the patch.
DARKER = 0.5


def stripped(image: Image, labels: NDArray[np.integer], rng: np.random.Generator) -> Image:
    """``image (C, *P)`` with everything black beyond one to three random wavy planes that leave the structures in
    ``labels (*P)`` alone, and normalised again to mean 0 and standard deviation 1, as a stripped scan would have been.

    The image itself where there is no structure, and a channel whose values are all alike.
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
            channel[black] = channel.min() - rng.uniform(0, DARKER) * spread
            channel -= channel.mean()
            channel /= channel.std()
    return out
