"""Every orientation that a header can state: read, shown, saved and read again by two other programs.

    python torture/orientations.py [--count 576] [--seed 0]

48 orientations x {sform only, qform only, both, two that disagree, oblique, sheared} x {volume, slice}. Of each:

- *read*: every voxel shown lies where the header says, checked voxel by voxel with the affine of the standard;
- *shown*: the display axes are those of the 48 permutations and reversals that lie nearest to (I, P, L);
- *saved*: the mask's header states the geometry of the scan bit for bit, and reading it back gives the same labels;
- *two readers*: a reader written from the standard alone, and ITK, find every label at the scan's own voxel, and at the
  same millimetres as this program (to 1e-3 mm) where ITK knows the geometry (it has no shear);
- *other formats*: masks of volumes written as NRRD, segmentation NRRD and MetaImage lie at the same millimetres in ITK.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
from rig import plain_nifti

from diffseg.case import Case
from diffseg.errors import DiffsegError
from diffseg.io import read_case, read_labels, write_labels
from scans import affine_of, orientations, rotation

WAYS = ("sform only", "qform only", "both", "disagreeing", "oblique", "sheared")
SHAPES = {"volume": (4, 5, 6), "slice": (5, 6, 1), "flat": (5, 6)}
GEOMETRY = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z", "xyzt_units", "dim_info",
)  # fmt: skip
# Scans that ITK itself cannot read, and so cannot be compared in.
unread: list[str] = []
# Quaternions are float32: millimetres of corners agree to this.
NEAR_MM = 1e-3


@dataclass(frozen=True)
class Stated:
    """One case: which of the 48, how the header states it, and the shape."""

    number: int
    way: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}, {self.way}, orientation {self.number}"


def every() -> Iterator[Stated]:
    """All of them; slices alternate between (X, Y, 1) and (X, Y)."""
    for way, kind, number in product(WAYS, ("volume", "slice"), range(48)):
        yield Stated(number, way, "flat" if kind == "slice" and number % 2 else kind)


def written(path: Path, case: Stated, rng: np.random.Generator) -> Path:
    """A scan whose voxels are all different, with the geometry stated in that way."""
    shape = SHAPES[case.kind]
    directions = list(orientations())[case.number]
    near = np.eye(3)
    if case.way in ("oblique", "disagreeing"):
        near = small_turn(rng)
    if case.way == "sheared":
        near = small_turn(rng) @ (np.eye(3) + np.triu(rng.uniform(-0.2, 0.2, (3, 3)), 1))
    spacing = tuple(rng.uniform(0.4, 4, 3))
    affine = affine_of(near @ directions, spacing, tuple(rng.normal(scale=60, size=3)))
    voxels = rng.permutation(int(np.prod(shape))).astype(np.int16).reshape(shape)
    image = nib.Nifti1Image(voxels, None)
    image.header.set_xyzt_units("mm")
    codes = {"sform only": (2, 0), "qform only": (0, 1), "both": (1, 1), "disagreeing": (4, 1)}.get(case.way, (1, 1))
    if case.way == "sheared":
        codes = (2, 0)
    image.header.set_sform(affine, code=codes[0])
    other = affine_of(rotation(rng), spacing) if case.way == "disagreeing" else affine
    image.header.set_qform(other, code=codes[1], strip_shears=True)
    nib.save(image, path)
    return path


def small_turn(rng: np.random.Generator) -> np.ndarray:
    """A rotation by at most 25 degrees about any axis."""
    axis = rng.normal(size=3)
    x, y, z = axis / np.linalg.norm(axis)
    turn = np.deg2rad(rng.uniform(3, 25))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(turn) * cross + (1 - np.cos(turn)) * cross @ cross


def three(array: np.ndarray) -> np.ndarray:
    """An array with a third axis."""
    return array if array.ndim == 3 else array[..., None]


def indices(shape: tuple[int, ...]) -> np.ndarray:
    """The indices of all voxels, ``(N, ndim)``."""
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, len(shape))


def through(affine: np.ndarray) -> np.ndarray:
    """A matrix of a slice whose third column may lie anywhere outside the plane, for inversion."""
    out = affine.copy()
    if np.linalg.matrix_rank(out[:3, :3]) < 3:
        out[:3, 2] = np.cross(out[:3, 0], out[:3, 1])
    return out


def fault_of_reading(path: Path, case: Case) -> str:
    """Every voxel shown lies where the standard's reader says."""
    voxels, affine = plain_nifti.read(path)
    shown = indices(case.grid.shape)
    world = case.grid.world(shown)
    inside = (world - affine[:3, 3]) @ np.linalg.inv(through(affine)[:3, :3]).T
    nearest = np.rint(inside).astype(int)
    off = np.abs(inside - nearest)[:, : case.ndim]  # the third axis of a slice has no voxels
    if off.max() > 1e-3:
        return "voxels lie between those of the file"
    values = three(voxels)[tuple((nearest * (1, 1, voxels.ndim > 2 and case.ndim == 3)).T)]
    if not np.array_equal(values, case.image[0][tuple(shown.T)]):
        return "values lie elsewhere"
    return ""


def fault_of_showing(path: Path, case: Case) -> str:
    """No other permutation and reversal of the file's axes lies nearer to (I, P, L)."""
    if case.ndim == 2:
        return ""
    _, affine = plain_nifti.read(path)
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(unit)
    unit = left @ right
    wanted = np.array([[0, 0, -1], [0, -1, 0], [-1, 0, 0]])
    best = max(
        sum(float(sign * wanted[a] @ unit[:, order[a]]) for a, sign in enumerate(signs))
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
    )
    mine = case.grid.affine[:3, :3] / np.linalg.norm(case.grid.affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(mine)
    found = float(np.trace(wanted @ (left @ right)))
    if np.linalg.det(mine) * np.linalg.det(wanted.T) <= 0:
        return "shown as in a mirror"
    return "" if found > best - 1e-9 else "another order of axes lies nearer"


def fault_of_saving(path: Path, mask: Path, labels: np.ndarray) -> str:
    """The same geometry, bit for bit, and the same labels when read back."""
    one, two = nib.load(path), nib.load(mask)
    for field in GEOMETRY:
        if one.header[field].tobytes() != two.header[field].tobytes():
            return f"{field} was changed"
    if one.header["pixdim"][:4].tobytes() != two.header["pixdim"][:4].tobytes() or one.shape != two.shape:
        return "voxel size or shape was changed"
    again = next(iter(read_case([path], [mask]).raters.values()))
    return "" if np.array_equal(again, labels) else "other labels were read back"


def fault_of_readers(path: Path, mask: Path, case: Case, labels: np.ndarray, sheared: bool) -> str:
    """Both other readers find every label at the voxel of the scan where it was drawn."""
    scan, scan_affine = plain_nifti.read(path)
    found, mask_affine = plain_nifti.read(mask)
    if scan_affine.tobytes() != mask_affine.tobytes():
        return "the standard's reader sees another place"
    # Values of the scan are all different, so a label belongs to one of them.
    drawn = dict(zip(case.image[0].ravel().astype(int).tolist(), labels.ravel().tolist(), strict=True))
    if any(drawn[int(v)] != int(m) for v, m in zip(scan.ravel(), found.ravel(), strict=True)):
        return "the standard's reader finds labels elsewhere"
    itk = simple_itk()
    if itk is None or sheared:
        return ""
    try:
        one = itk.ReadImage(str(path))
    except RuntimeError:
        unread.append(path.name)  # a flat picture that does not lie in the axial plane
        return ""
    two = itk.ReadImage(str(mask))
    if one.GetOrigin() != two.GetOrigin() or one.GetDirection() != two.GetDirection():
        return "ITK sees another place"
    if one.GetSpacing() != two.GetSpacing():
        return "ITK sees another voxel size"
    values, marks = itk.GetArrayFromImage(one).ravel().tolist(), itk.GetArrayFromImage(two).ravel().tolist()
    return "" if all(drawn[v] == m for v, m in zip(values, marks, strict=True)) else "ITK finds labels elsewhere"


def fault_of_formats(folder: Path, case: Case, labels: np.ndarray) -> str:
    """Masks in other formats lie at the same millimetres in ITK, and read back the same."""
    itk = simple_itk()
    if itk is None or case.ndim == 2:
        return ""
    for suffix in (".nrrd", ".seg.nrrd", ".mha"):
        path = folder / f"mask{suffix}"
        write_labels(path, labels, case)
        image = itk.ReadImage(str(path))
        array = itk.GetArrayFromImage(image)
        for label in np.unique(labels)[1:]:
            points = np.argwhere(array == label)[:, ::-1]
            drawn = case.grid.world(np.argwhere(labels == label))
            centre = image.TransformContinuousIndexToPhysicalPoint(points.mean(axis=0).tolist())
            if len(points) != len(drawn) or np.abs(np.array(centre) * (-1, -1, 1) - drawn.mean(axis=0)).max() > NEAR_MM:
                return f"{suffix} lies elsewhere in ITK"
        if not np.array_equal(read_labels(path, case.grid), labels):
            return f"{suffix} was read back otherwise"
    return ""


def simple_itk() -> object | None:
    """SimpleITK, or None where it is not installed."""
    try:
        import SimpleITK as itk  # noqa: N813
    except ImportError:
        return None
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    return itk


def judged(case: Stated, folder: Path, seed: int) -> dict[str, str]:
    """What was wrong, by the check; empty strings where nothing was."""
    rng = np.random.default_rng((seed, case.number, WAYS.index(case.way), len(case.kind)))
    path, mask = folder / "scan.nii", folder / "mask.nii.gz"
    written(path, case, rng)
    scan = read_case([path])
    labels = rng.integers(0, 4, scan.grid.shape).astype(np.uint8)
    write_labels(mask, labels, scan)
    return {
        "read": fault_of_reading(path, scan),
        "shown": fault_of_showing(path, scan),
        "saved": fault_of_saving(path, mask, labels),
        "two readers": fault_of_readers(path, mask, scan, labels, case.way == "sheared"),
        "other formats": "" if case.way == "sheared" else fault_of_formats(folder, scan, labels),
    }


def main() -> int:
    """Exit 1 when anything lies elsewhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, help="how many of the 576, spread evenly; all without it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cases = list(every())
    if options.count is not None:
        cases = [cases[int(k)] for k in np.unique(np.linspace(0, len(cases) - 1, options.count).round())]
    faults: Counter[str] = Counter()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        for case in cases:
            try:
                found = judged(case, Path(name), options.seed)
            except DiffsegError as error:
                found = {"refused": str(error)}
            for check, words in found.items():
                faults[check] += bool(words)
                if words:
                    print(f"    {case}: {check}: {words}")
    print(f"orientations, seed {options.seed}: {len(cases)} headers, faults {dict(faults)}")
    print(f"{len(unread)} scans that ITK cannot read were compared without it; {time.monotonic() - begin:.0f} s")
    return int(sum(faults.values()) > 0)


if __name__ == "__main__":
    sys.exit(main())
