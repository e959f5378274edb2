"""The sample scan ``brain-lesion``: a slice of the ICBM 152 template, rendered as FLAIR, with painted lesions."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from brain_anatomy import Brain, Volume, template_brain
from numpy.typing import NDArray
from scipy import ndimage

NAME = "brain_lesion"
HEIGHT_MM = 24  # MNI z
FIRST_MM, SHAPE = (-76, -108), (152, 184)  # MNI x and y of the first pixel; pixels of 1 mm to the left and the front
# Spots as x, y in MNI mm, the two radii in mm, and the angle of the first one in degrees.
SPOTS = ((-27, 8, 6, 3.5, 60), (30, -38, 7, 4, 120), (-36, -20, 3, 2.5, 0), (26, 26, 2.5, 2.5, 0), (40, 4, 3.5, 2, 30))
CAP_MM = 4.5  # width of the caps at the ends of the ventricles
WHITE = 600.0  # grey value of white matter
FLUID, GREY, LESION = 0.3, 1.14, 1.42  # the others', as multiples of it
SEED = 152
MNI_SPACE = 4


def plane(brain: Brain, volume: Volume) -> Volume:
    """The slice of a volume, ``(X, Y)``, x growing to the right and y to the front."""
    x, y, z = np.rint(brain.to_voxel @ [*FIRST_MM, HEIGHT_MM, 1.0])[:3].astype(int)
    return volume[x : x + SHAPE[0], y : y + SHAPE[1], z]


def smooth_noise(sigma_mm: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise of standard deviation 1."""
    field = ndimage.gaussian_filter(rng.standard_normal(SHAPE), sigma_mm)
    return np.asarray(field / field.std())


def lesion_share(brain: Brain, rng: np.random.Generator) -> NDArray[np.float64]:
    """The share of lesion, 0 to 1: spots of uneven outline, and caps where the ventricles end, within white matter."""
    x, y = np.indices(SHAPE, dtype=float) + np.array(FIRST_MM)[:, None, None]
    white, far = plane(brain, brain.wm), plane(brain, brain.ventricle_mm)
    uneven = 0.2 * smooth_noise(2.5, rng)
    depth = np.full(SHAPE, -9.0)
    for at_x, at_y, first, second, degrees in SPOTS:
        angle = np.deg2rad(degrees)
        u = (x - at_x) * np.cos(angle) + (y - at_y) * np.sin(angle)
        v = (y - at_y) * np.cos(angle) - (x - at_x) * np.sin(angle)
        depth = np.maximum(depth, (1 + uneven - np.hypot(u / first, v / second)) * second)
    rows = y[far == 0]
    ends = np.minimum(np.abs(y - rows.min()), np.abs(y - rows.max()))
    depth = np.maximum(depth, CAP_MM * np.exp(-((ends / 11) ** 2)) * (1 + uneven) - far)
    return np.asarray(np.clip(depth / 1.2 + 0.5, 0, 1) * np.clip(2 * white, 0, 1) * (far > 0))


def rendered(brain: Brain, lesion: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int16]:
    """FLAIR grey values: fluid dark, grey matter a little brighter than white, lesions brighter still, with noise."""
    white, grey, inside = (plane(brain, v) for v in (brain.wm, brain.gm, brain.inside))
    fluid = np.clip(inside - white - grey, 0, 1) ** 0.6
    tissue = white + GREY * grey + np.clip(1 - white - grey, 0, 1)
    image = tissue * (1 - fluid) + FLUID * fluid
    image = image + lesion * np.clip(LESION - image, 0, None)
    image = image * (1 + 0.02 * smooth_noise(4, rng) + 0.02 * smooth_noise(0.7, rng))
    return np.asarray(np.rint(WHITE * image * (inside > 0.5)), dtype=np.int16)


def store(path: Path, pixels: NDArray, words: bytes) -> Path:
    """A slice as NIfTI in MNI space; the same pixels give the same bytes."""
    affine = np.eye(4)
    affine[:3, 3] = (*FIRST_MM, HEIGHT_MM)
    image = nib.Nifti1Image(pixels[..., None], affine)
    image.set_sform(affine, MNI_SPACE)
    image.set_qform(affine, MNI_SPACE)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = words
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=9, mtime=0))
    return path


def write_sample(folder: Path) -> list[Path]:
    """Write the image and the mask of the painted lesions below ``folder``."""
    brain, rng = template_brain(), np.random.default_rng(SEED)
    lesion = lesion_share(brain, rng)
    return [
        store(folder / NAME / "rendered_flair.nii.gz", rendered(brain, lesion, rng), b"rendered from ICBM 152 2009a"),
        store(folder / NAME / "painted.nii.gz", (lesion > 0.5).astype(np.uint8), b"painted lesions"),
    ]
