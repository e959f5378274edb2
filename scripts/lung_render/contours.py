"""Reads the four-rater outlines, their nodules' ratings, and real slices kept for validation."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Masks = NDArray[np.bool_]
RATERS = 4
RATINGS = ("subtlety", "calcification", "margin", "lobulation", "spiculation", "texture")


@dataclass(frozen=True)
class NoduleRow:
    """One nodule: patient, slice geometry and the four raters' ratings (each rating: 4 numbers)."""

    patient: str
    thickness_mm: float
    spacing_mm: float
    first_pixel: tuple[int, int]
    ratings: dict[str, NDArray]


@dataclass(frozen=True)
class NoduleSlice:
    """One slice of a nodule: ``masks`` bool (4, 128, 128) and those of the slices below and above, with their
    distances in mm; a neighbour is None where no rater marked anything."""

    index: int
    nodule: NoduleRow
    masks: Masks
    neighbours: tuple[Masks | None, Masks | None]
    apart_mm: tuple[float, float]


@dataclass(frozen=True)
class Contours:
    """All slices, packed; :meth:`slice` unpacks one with its neighbours."""

    packed: NDArray
    nodule: NDArray
    z_mm: NDArray
    rows: list[NoduleRow]

    def patient(self, index: int) -> str:
        """Patient of a slice."""
        return self.rows[int(self.nodule[index])].patient

    def masks(self, index: int) -> Masks:
        """Masks of a slice, bool (4, 128, 128)."""
        return np.unpackbits(self.packed[index], axis=-1).astype(bool)

    def slice(self, index: int) -> NoduleSlice:
        """A slice and what lies below and above it."""
        row = self.rows[int(self.nodule[index])]
        same = np.flatnonzero(self.nodule == self.nodule[index])
        away = self.z_mm[same] - self.z_mm[index]
        usual = float(np.min(np.abs(away[away != 0]))) if same.size > 1 else row.thickness_mm
        found: list[Masks | None] = []
        apart: list[float] = []
        for side in (-1, 1):
            near = (away * side > 0) & (away * side < 1.5 * usual)
            found.append(self.masks(int(same[near][0])) if near.any() else None)
            apart.append(abs(float(away[near][0])) if near.any() else usual)
        return NoduleSlice(index, row, self.masks(index), (found[0], found[1]), (apart[0], apart[1]))


def read_contours(folder: Path) -> Contours:
    """The outlines of ``folder`` (lidc_4rater_slices_train.npz, lidc_nodules_train.csv)."""
    with np.load(folder / "lidc_4rater_slices_train.npz") as store:
        packed, nodule, z_mm = store["masks_packed"], store["nodule"], store["z_mm"]
    with (folder / "lidc_nodules_train.csv").open(newline="", encoding="utf-8") as file:
        rows = [_row(record) for record in csv.DictReader(file)]
    return Contours(packed, nodule, z_mm, rows)


def _row(record: dict[str, str]) -> NoduleRow:
    ratings = {name: np.array([float(record[f"{name}_r{i}"]) for i in range(RATERS)]) for name in RATINGS}
    return NoduleRow(
        record["patient_id"],
        float(record["slice_thickness_mm"]),
        float(record["pixel_spacing_mm"]),
        (int(record["crop_x0"]), int(record["crop_y0"])),
        ratings,
    )


def read_real(folder: Path) -> tuple[NDArray, NDArray]:
    """A real slice: grey values uint8 (128, 128) and the raters' masks, bool (4, 128, 128)."""
    image = np.asarray(Image.open(folder / "image.png").convert("L"))
    masks = [np.asarray(Image.open(folder / f"rater{i + 1}.png").convert("L")) > 127 for i in range(RATERS)]
    return image, np.stack(masks)
