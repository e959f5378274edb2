"""A small scan with an odd orientation, and a Session that runs its jobs in the caller."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from napari_diffseg import commands
from napari_diffseg.session import Session
from oracle import save_tiny

# Voxels to RAS: axes run (P, I, R), 1.2 x 2 x 0.9 mm, turned by 10 degrees about z and shifted.
TURN = np.deg2rad(10)
ODD_AFFINE = np.array(
    [
        [0.0, 0.0, 0.9, -20.0],
        [-1.2, 0.0, 0.0, 31.5],
        [0.0, -2.0, 0.0, 12.25],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
ODD_AFFINE[:3, :3] = (
    np.array([[np.cos(TURN), -np.sin(TURN), 0], [np.sin(TURN), np.cos(TURN), 0], [0, 0, 1]]) @ ODD_AFFINE[:3, :3]
)
SHAPE = (18, 14, 22)


def write_scan(path: Path, seed: int = 0) -> Path:
    """A scan without any symmetry, int16, on ``ODD_AFFINE``, with scanner codes in its header."""
    rng = np.random.default_rng(seed)
    x, y, z = np.meshgrid(*(np.linspace(0, 1, n) for n in SHAPE), indexing="ij")
    data = (600 * x + 250 * y**2 + 100 * z + 40 * rng.standard_normal(SHAPE)).astype(np.int16)
    image = nib.Nifti1Image(data, ODD_AFFINE)
    image.set_sform(ODD_AFFINE, 1)
    image.set_qform(ODD_AFFINE, 1)
    nib.save(image, path)
    return path


def open_session(folder: Path) -> Session:
    """A Session whose jobs end before the command returns, with the small scan and the tiny model open."""
    session = Session(inline=True)
    save_tiny(folder / "tiny.safetensors")
    commands.choose_model(session, folder / "tiny.safetensors")
    commands.open_files(session, [write_scan(folder / "scan.nii.gz")])
    return session
