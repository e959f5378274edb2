"""Make the training slices of brain-lesion-hint-2d, and the real slices that it is measured on.

    python scripts/make_brain_slices.py LESION_DATA OUT [COUNT]

LESION_DATA holds ms_patient07 and ms_patient19 (Lesjak et al. 2017, CC BY). Written are

    OUT/brain-lesion/        COUNT axial slices of 2 mm, half of them with lesions: images/, labels.csv, split.json;
                             the slices on the split's list "validation" also have labels/, for choosing settings
    OUT/brain-lesion-real/   patient 19, every fourth axial slice as scanned: images/, labels/

Nothing of patient 19 enters the first folder. Its slices come from patient 07 and from the ICBM 152 template rendered
as FLAIR, each cut obliquely and warped anew, and both brains give both classes by the same steps. Lesions are those of
patient 07 or painted; where a slice must be free of them, patient 07 has its lesions filled in. Values are those that
a whole volume would have after the intensity rule, so that one slice's brightness says nothing about its class.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from brain_anatomy import Brain, Volume, real_brain, template_brain
from brain_lesions import PIXEL_MM, Plane, Slice, noise_field, painted, place, spot, touched
from numpy.typing import NDArray
from scipy import ndimage

SHAPE = (96, 80)  # rows from front to back, columns from right to left, 2 mm
CENTRE_MM = (0.0, -17.0)  # MNI x and y of the middle of a slice
HEIGHTS_MM = (-30.0, 62.0)
COUNT = 4000
DEVELOPMENT = 120
SHARE_RENDERED = 0.35
# A slice of patient 07 counts as one with lesions from this many pixels on.
FEWEST_PIXELS = 3
SEED = 2017


@dataclass(frozen=True, eq=False)
class Sample:
    """A finished slice: values in [0, 1], whether it has lesions, and where (empty if not)."""

    name: str
    image: Plane
    lesion: bool
    mask: NDArray[np.bool_]


def plane(height_mm: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """MNI coordinates ``(3, H, W)`` of a slice: tilted, scaled, warped and maybe mirrored."""
    rows, columns = np.indices(SHAPE, dtype=np.float64)
    flat = np.stack([-(columns - (SHAPE[1] - 1) / 2), -(rows - (SHAPE[0] - 1) / 2), np.zeros(SHAPE)]) * PIXEL_MM
    if rng.random() < 0.5:
        flat[0] *= -1
    pitch, roll, yaw = np.deg2rad(rng.normal(0, (6, 3, 5)))
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_y = np.array([[np.cos(roll), 0, np.sin(roll)], [0, 1, 0], [-np.sin(roll), 0, np.cos(roll)]])
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    matrix = about_z @ about_y @ about_x @ np.diag(rng.uniform(0.95, 1.15, 3))
    warp = np.stack([noise_field(SHAPE, 9, rng) for _ in range(3)]) * rng.uniform(0, (3.0, 3.0, 2.5))[:, None, None]
    shift = np.array([*CENTRE_MM, height_mm]) + rng.uniform(-4, 4, 3) * (1, 1, 0)
    return np.einsum("ij,jyx->iyx", matrix, flat) + warp + shift[:, None, None]


def sampled(volume: Volume, brain: Brain, at: NDArray[np.float64]) -> Plane:
    """The volume at MNI coordinates ``(3, H, W)``, linear, 0 outside."""
    index = np.einsum("ij,jyx->iyx", brain.to_voxel[:3, :3], at) + brain.to_voxel[:3, 3][:, None, None]
    return np.asarray(ndimage.map_coordinates(volume, index, order=1), dtype=np.float32)


def widened(brain: Brain, at: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The same coordinates pulled towards the ventricles, which so become up to 5 mm wider on each side."""
    far = sampled(brain.ventricle_mm, brain, at)
    if not far.any():
        return at
    pull = rng.uniform(0, 5) * (rng.random() < 0.6) * np.exp(-far / 18) * (far > 0)
    # d(distance)/d(coordinate) from the slice itself: distances change along rows and columns.
    step = np.stack(np.gradient(ndimage.gaussian_filter(far, 0.7), PIXEL_MM))
    rows, columns = np.indices(SHAPE, dtype=np.float64)
    moved = [rows - pull * step[0] / PIXEL_MM, columns - pull * step[1] / PIXEL_MM]
    return np.stack([ndimage.map_coordinates(c, moved, order=1, mode="nearest") for c in at])


def cut(brain: Brain, healed: bool, at: NDArray[np.float64], rng: np.random.Generator) -> tuple[Slice, Plane]:
    """A slice of the brain with its own anatomy and contrast, and the share of real lesion in it."""
    at = widened(brain, at, rng)
    volumes = (brain.healed if healed else brain.flair, brain.wm, brain.gm, brain.inside, brain.ventricle_mm)
    image, wm, gm, inside, ventricle_mm = (sampled(v, brain, at) for v in volumes)
    inside = (inside > 0.5).astype(np.float32)
    lesion = np.zeros_like(image) if healed or brain.rendered else sampled(brain.lesion, brain, at)
    if brain.rendered:
        image = rendered(wm, gm, inside, rng)
    else:
        image = np.asarray(np.clip(image, 0.02, 3) ** rng.uniform(0.75, 1.15), dtype=np.float32)
    return Slice(varied(image, wm, gm, ventricle_mm, rng) * inside, wm, gm, inside, ventricle_mm), lesion


def rendered(wm: Plane, gm: Plane, inside: Plane, rng: np.random.Generator) -> Plane:
    """FLAIR contrast from shares of tissue: fluid dark, grey matter a little brighter than white; with texture."""
    power = rng.uniform(1.0, 2.5)  # an average of many brains is blurred: sharpen its fluid at random
    fluid = np.clip(inside - wm - gm, 0, 1) ** (1 / power)
    sulci = np.clip(noise_field(SHAPE, 0.8, rng) - rng.uniform(0.8, 1.6), 0, 1) * np.clip(gm * 1.5 - wm, 0, 1)
    fluid = np.clip(fluid + rng.uniform(0, 0.8) * sulci, 0, 1)
    solid = wm + rng.uniform(1.04, 1.28) * gm + (1 - np.clip(wm + gm, 0, 1))
    image = solid * (1 - fluid) + rng.uniform(0.15, 0.5) * fluid
    texture = 0.05 * rng.uniform(0.3, 1) * noise_field(SHAPE, 0.6, rng) + 0.03 * noise_field(SHAPE, 3, rng)
    return np.asarray(image * (1 + texture), dtype=np.float32)


def varied(image: Plane, wm: Plane, gm: Plane, ventricle_mm: Plane, rng: np.random.Generator) -> Plane:
    """What differs between people without being a lesion: cortex, the ventricles' lining, choroid plexus."""
    image = image * (1 + gm * (rng.uniform(-0.06, 0.05) + rng.uniform(0, 0.06) * noise_field(SHAPE, 4, rng)))
    lining = np.exp(-((ventricle_mm / rng.uniform(0.8, 1.8)) ** 2)) * (ventricle_mm > 0)
    image = image + rng.uniform(0, 0.25) * lining * np.clip(1.5 * (wm + gm), 0, 1)
    fluid = np.asarray(ventricle_mm == 0, dtype=np.float32)
    for _ in range(rng.integers(0, 3)):
        centre = place(fluid, rng)
        if centre is not None:
            inside_only = Slice(image, fluid, gm, fluid, ventricle_mm)
            image = image + rng.uniform(0.1, 0.7) * spot(inside_only, (1.0, 3.0), False, rng) * fluid
    return np.asarray(image, dtype=np.float32)


def scanned(at: Slice, rng: np.random.Generator) -> Plane:
    """The slice as a scanner and the model's intensity rule give it: blur, noise, bias field; values in [0, 1]."""
    image = ndimage.gaussian_filter(at.image, rng.uniform(0, 0.5))
    image = image * np.exp(rng.uniform(0, 0.1) * noise_field(SHAPE, 16, rng))
    image = image + rng.uniform(0.005, 0.035) * rng.standard_normal(SHAPE)
    return np.asarray(np.clip(image * at.inside * rng.uniform(0.5, 0.76), 0, 1), dtype=np.float32)


def sample(name: str, brains: tuple[Brain, Brain], lesion: bool, rng: np.random.Generator) -> Sample:
    """One slice of the wanted class; which brain it comes from does not depend on the class."""
    real, template = brains
    brain = template if rng.random() < SHARE_RENDERED else real
    own = lesion and not brain.rendered and rng.random() < 0.3
    while True:
        at = plane(float(rng.uniform(*HEIGHTS_MM)), rng)
        here, share = cut(brain, not own, at, rng)
        mask = share > 0.4
        if own and mask.sum() < FEWEST_PIXELS:
            continue
        if rng.random() < 0.4:
            here = replace(here, image=touched(here, rng))
        if lesion and (not own or rng.random() < 0.5):
            image, drawn = painted(here, rng)
            if drawn.sum() < FEWEST_PIXELS:
                continue
            here, mask = replace(here, image=image), mask | drawn
        return Sample(name, scanned(here, rng), lesion, mask)


def store(path: Path, pixels: NDArray[np.generic]) -> None:
    """A slice ``(H, W)`` as a NIfTI file whose display order is the same; images as 16-bit shares of 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = pixels.T[..., None]
    affine = np.diag([-PIXEL_MM, -PIXEL_MM, PIXEL_MM, 1.0])
    if pixels.dtype == bool:
        image = nib.Nifti1Image(stored.astype(np.uint8), affine)
    else:
        image = nib.Nifti1Image(np.rint(stored * 65535).astype(np.uint16), affine)
        image.header.set_slope_inter(1 / 65535, 0)
    nib.save(image, path)


def training_slices(source: Path, out: Path, count: int) -> None:
    """Write the folder of training slices; one in two has lesions."""
    template = template_brain()
    brains = real_brain(source / "ms_patient07", "patient07", template), template
    names: list[str] = []
    rows: list[tuple[str, str]] = []
    for k in range(count):
        made = sample(f"slice_{k:04d}", brains, bool(k % 2), np.random.default_rng((SEED, k)))
        store(out / "images" / f"{made.name}.nii.gz", made.image)
        if k < DEVELOPMENT:
            store(out / "labels" / f"{made.name}.nii.gz", made.mask)
        names.append(made.name)
        rows.append((made.name, "lesion" if made.lesion else "healthy"))
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("case", "label"), *rows])
    split = {"train": names[DEVELOPMENT:], "validation": names[:DEVELOPMENT]}
    (out / "split.json").write_text(json.dumps(split, indent=0) + "\n", encoding="utf-8")


def real_slices(source: Path, out: Path, every: int = 4) -> None:
    """Write every fourth axial slice of patient 19's brain, with its lesions."""
    for part, folder in (("flair", "images"), ("lesion", "labels")):
        image = nib.load(source / "ms_patient19" / f"{part}.nii.gz").slicer[:, :, 40:142:every]
        image.set_sform(image.affine, 4)
        (out / folder).mkdir(parents=True, exist_ok=True)
        nib.save(image, out / folder / "patient19.nii.gz")


def main() -> None:
    """See the module."""
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    real_slices(source, out / "brain-lesion-real")
    training_slices(source, out / "brain-lesion", int(sys.argv[3]) if len(sys.argv) > 3 else COUNT)


if __name__ == "__main__":
    main()
