"""Brains to cut slices from: a real FLAIR scan, or one rendered from the tissue maps of the ICBM 152 template.

All volumes of a brain lie on one grid in MNI space; intensities are relative to white matter, which is 1.
Helper of make_brain_slices.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Volume = NDArray[np.float32]
# The box in MNI space, in mm, in which the lateral ventricles lie.
VENTRICLES_MM = ((-42.0, 42.0), (-62.0, 42.0), (-22.0, 38.0))
# How near to the template's ventricles those of a patient are looked for, and the smallest piece that counts.
NEAR_MM, FEWEST_VOXELS = 5.0, 60
TEMPLATE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


@dataclass(frozen=True, eq=False)
class Brain:
    """One brain. Volumes are float32 in the file's own order; ``to_voxel`` maps MNI mm to their indices.

    ``flair`` is the image, ``lesion`` the share of lesion in it. ``healed`` is the same image with its lesions
    filled in. ``wm`` and ``gm`` are shares of tissue, ``inside`` is 1 in the brain, ``ventricle_mm`` the distance
    to the lateral ventricles. Where ``rendered``, the image is made anew for every slice from the tissue shares.
    """

    name: str
    to_voxel: NDArray[np.float64]
    flair: Volume
    healed: Volume
    lesion: Volume
    wm: Volume
    gm: Volume
    inside: Volume
    ventricle_mm: Volume
    rendered: bool = field(default=False)


def smooth_in_plane(volume: NDArray[Any]) -> Volume:
    """Less detail along the first two axes, so that samples 2 mm apart do not alias (as the model's rule does)."""
    return np.asarray(ndimage.gaussian_filter(volume.astype(np.float32), (0.5, 0.5, 0.0)), dtype=np.float32)


def ventricle_distance(ventricle: NDArray[np.bool_]) -> Volume:
    """Distance in mm (voxels of 1 mm) to the ventricles."""
    return np.asarray(ndimage.distance_transform_edt(~ventricle), dtype=np.float32)


def template_ventricle(fluid: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The largest piece of fluid in the middle of the brain."""
    box = np.zeros_like(fluid)
    corners = nib.affines.apply_affine(np.linalg.inv(affine), np.array(VENTRICLES_MM).T)
    low, high = np.sort(np.rint(corners).astype(int), axis=0)
    box[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    pieces, _ = ndimage.label(ndimage.binary_opening(fluid & box))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())


def real_ventricle(fluid: NDArray[np.bool_], affine: NDArray[np.float64], template: Brain) -> NDArray[np.bool_]:
    """The pieces of fluid near the template's ventricles; narrow ones have no connection that could be followed."""
    matrix = template.to_voxel @ affine
    far = ndimage.affine_transform(template.ventricle_mm, matrix, output_shape=fluid.shape, order=1, cval=99.0)
    pieces, _ = ndimage.label(fluid & (far < NEAR_MM))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(sizes[pieces] > FEWEST_VOXELS)


def healed_of(flair: Volume, lesion: NDArray[np.bool_], wm: NDArray[np.bool_]) -> Volume:
    """The image with lesions, and their blurred rims, replaced by the local mean and texture of white matter."""
    hole = ndimage.binary_dilation(lesion, iterations=2)
    known = (wm & ~hole).astype(np.float32)
    weight = ndimage.gaussian_filter(known, 4.0)
    level = ndimage.gaussian_filter(flair * known, 4.0) / np.maximum(weight, 1e-3)
    # Texture from a little way off: what is finer than the local mean, a few millimetres beside the hole.
    texture = np.roll(np.where(known > 0, flair - level, 0.0), 9, axis=1)
    blend = ndimage.gaussian_filter(hole.astype(np.float32), 0.7)
    return np.asarray(flair * (1 - blend) + (level + texture) * blend, dtype=np.float32)


def tissue_means(t1: Volume, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Typical T1 intensities of fluid, grey and white matter: three means, found by Lloyd's iteration."""
    values = t1[inside][::50].astype(np.float64)
    means = np.percentile(values, [5, 40, 85])
    for _ in range(50):
        nearest = np.abs(values[:, None] - means).argmin(axis=1)
        means = np.array([values[nearest == k].mean() for k in range(3)])
    return means


def real_brain(folder: Path, name: str, template: Brain) -> Brain:
    """The patient in a folder with ``flair``, ``t1`` and ``lesion``, skull removed, in MNI space."""
    image = nib.load(folder / "flair.nii.gz")
    flair, t1, mask = (
        np.asanyarray(nib.load(folder / f"{part}.nii.gz").dataobj).astype(np.float32)
        for part in ("flair", "t1", "lesion")
    )
    inside = ndimage.binary_fill_holes(flair > 5)
    lesion = mask > 0
    means = tissue_means(ndimage.gaussian_filter(t1, 0.6), inside)
    nearest = np.abs(ndimage.gaussian_filter(t1, 0.6)[..., None] - means).argmin(axis=-1)
    wm = inside & ((nearest == 2) | ndimage.binary_dilation(lesion, iterations=2))
    white = float(np.median(flair[wm & ~lesion]))
    flair = np.clip(flair, 0, None) / white
    fluid = inside & (nearest == 0) & (flair < 0.75)
    ventricle = real_ventricle(fluid, image.affine, template)
    parts = (healed_of(flair, lesion, wm), lesion, wm, inside & (nearest == 1) & ~wm, inside)
    smooth = [smooth_in_plane(v) for v in (flair, *parts)]
    return Brain(name, np.linalg.inv(image.affine), *smooth, ventricle_distance(ventricle))


def template_brain() -> Brain:
    """The ICBM 152 average as nilearn ships it; no lesions."""
    folder = files("nilearn").joinpath("datasets", "data")
    images = [nib.load(str(folder.joinpath(TEMPLATE.format(part)))) for part in ("t1", "gm", "wm")]
    t1, gm, wm = (np.asanyarray(image.dataobj).astype(np.float32) / 255 for image in images)
    inside = ndimage.binary_fill_holes(t1 > 0.15)
    fluid = inside & (gm + wm < 0.5)
    nothing = np.zeros_like(t1)
    smooth = [smooth_in_plane(v) for v in (wm, gm, inside)]
    affine = images[0].affine
    far = ventricle_distance(template_ventricle(fluid, affine))
    return Brain("icbm", np.linalg.inv(affine), nothing, nothing, nothing, *smooth, far, True)
