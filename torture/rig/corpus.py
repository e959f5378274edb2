"""The whole files that are damaged: small ones written here, and real ones of the shared data folder."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from rig import REPOSITORY, model_mutations, mutations
from rig.mutations import GENERIC, Mutation, Rng

SHARED = Path(os.environ.get("DIFFSEG_SHARED", REPOSITORY.parent / "shared")) / "data/formats"
LARGEST_SEED = 300_000


@dataclass(frozen=True)
class Kind:
    """One kind of file: how its name ends, how it is judged, whole examples, and what else may be damaged in it.

    ``beside`` are files that must lie beside it under these names (the other half of a pair, slices of a series).
    ``share`` is its part of all files.
    """

    name: str
    suffix: str
    how: str
    seeds: tuple[bytes, ...]
    special: tuple[Mutation, ...] = ()
    gzipped: bool = False
    beside: dict[str, bytes] = field(default_factory=dict)
    share: float = 1.0

    @property
    def worker(self) -> str:
        """The kind of child that judges it."""
        return "data" if self.how == "image" else "models"

    def damaged(self, rng: Rng) -> tuple[bytes, str]:
        """A damaged file, and what was done to it."""
        data = self.seeds[int(rng.integers(0, len(self.seeds)))]
        inside = self.gzipped and rng.random() < 0.7
        if inside:
            data = gzip.decompress(data)
        done = []
        for _ in range(1 if rng.random() < 0.7 else 2):
            pool = self.special if self.special and (inside or not self.gzipped) and rng.random() < 0.6 else GENERIC
            mutation = pool[int(rng.integers(0, len(pool)))]
            done.append(mutation.__name__)
            try:
                data = mutation(rng, data)
            except Exception:  # noqa: BLE001
                data = mutations.overwrite(rng, data)  # the file was damaged too much for this one already
        if inside:
            data = gzip.compress(data, 1)
        return data, "+".join(done)


def volume(rng: Rng) -> np.ndarray:
    """A small volume of whole numbers that is a picture, a scan and a mask at once."""
    return rng.integers(0, 5, (12, 10, 8)).astype(np.uint8)


def nifti(array: np.ndarray, suffix: str, kind: type = nib.Nifti1Image, **fields: object) -> dict[str, bytes]:
    """The files of a NIfTI image by their suffixes."""
    affine = np.diag([-0.9, 1.1, 2.5, 1.0])
    affine[:3, 3] = (10, -20, 30)
    image = kind(array, affine)
    for name, value in fields.items():
        image.header[name] = value
    with tempfile.TemporaryDirectory() as folder:
        nib.save(image, Path(folder) / f"seed{suffix}")
        return {p.name.removeprefix("seed"): p.read_bytes() for p in Path(folder).iterdir()}


def picture(mode: str, **options: object) -> bytes:
    """A picture of 24 x 20 pixels with label numbers."""
    values = np.random.default_rng(0).integers(0, 5, (20, 24))
    out = io.BytesIO()
    kind = {"I;16": np.uint16, "F": np.float32}.get(mode, np.uint8)
    image = Image.fromarray(values.astype(kind) if mode in ("I;16", "F", "L") else values.astype(np.uint8))
    if mode in ("1", "P", "RGB", "RGBA", "LA"):
        image = Image.fromarray((values * 60).astype(np.uint8)).convert(mode)
    image.save(out, **options)
    return out.getvalue()


def shared(*names: str) -> tuple[bytes, ...]:
    """Real files, those of them that are there and not too large."""
    found = (SHARED / name for name in names)
    return tuple(p.read_bytes() for p in found if p.is_file() and p.stat().st_size <= LARGEST_SEED)


def bombs() -> tuple[bytes, ...]:
    """Gzip streams of NIfTI that hold, or promise, far more than a computer should give them."""
    def promising(dim: tuple[int, ...], datatype: int, bits: int) -> bytearray:
        raw = bytearray(nifti(np.zeros((4, 4, 4), np.uint8), ".nii")[".nii"])
        raw[40:56] = np.array((len(dim), *dim, *[1] * (7 - len(dim))), "<i2").tobytes()
        raw[70:74] = np.array((datatype, bits), "<i2").tobytes()
        return raw

    endless = gzip.compress(bytes(32_000_000), 9)
    return (
        gzip.compress(bytes(promising((1500, 1500, 1500), 2, 8))) + endless * 110,  # 3.4 GB are promised and there
        gzip.compress(bytes(promising((900, 900, 900), 64, 64))) + endless * 170,  # 5.8 GB of float64
        gzip.compress(bytes(promising((32000, 32000, 32000), 2, 8))) + endless,
        gzip.compress(bytes(promising((4, 4, 4), 2, 8))) + endless * 20,  # 640 MB behind a small volume
        gzip.compress(bytes(promising((120, 120, 120), 2, 8))) + endless,
        gzip.compress(bytes(promising((680, 680, 640), 2, 8))) + endless * 10,  # fits once, but not as float32
    )


def data_kinds() -> Iterator[Kind]:
    """Scans, masks and pictures."""
    array = volume(np.random.default_rng(0))
    field_ = (mutations.nifti_field,)
    plain = tuple(
        nifti(a, ".nii", k)[".nii"]
        for a in (array, array.astype(np.int16), array.astype(np.float32), array.astype(np.float64), array[..., :1])
        for k in (nib.Nifti1Image, nib.Nifti2Image)
    )
    big = (nib.Nifti1Image(array, np.eye(4)).to_bytes(),)
    real = shared("real/vector_5d_small.nii", "real/functional_scaled_4d.nii", "real/anatomical_big_endian.nii")
    yield Kind("NIfTI", ".nii", "image", plain + big + real, field_, share=3)
    packed = tuple(gzip.compress(p) for p in plain) + shared("derived/oblique.nii.gz", "derived/nan_inf.nii.gz")
    yield Kind("NIfTI gzip", ".nii.gz", "image", packed, field_, gzipped=True, share=2)
    pair = nifti(array, ".hdr", nib.Nifti1Pair)
    yield Kind("NIfTI pair header", ".hdr", "image", (pair[".hdr"],), field_, beside={".img": pair[".img"]}, share=0.5)
    yield Kind("NIfTI pair voxels", ".img", "image", (pair[".img"],), beside={".hdr": pair[".hdr"]}, share=0.3)
    modes = ("L", "I;16", "1", "P", "RGB", "RGBA", "LA")
    pngs = tuple(picture(m, format="PNG") for m in modes)
    yield Kind("PNG", ".png", "image", pngs, (mutations.png_field,), share=2)
    tiffs = tuple(picture(m, format="TIFF") for m in ("L", "I;16", "F", "1"))
    tiffs += tuple(picture("L", format="TIFF", compression=c) for c in ("tiff_lzw", "tiff_deflate", "packbits"))
    yield Kind("TIFF", ".tif", "image", tiffs, (mutations.tiff_field,))
    yield Kind("JPEG", ".jpg", "image", (picture("L", format="JPEG"), picture("RGB", format="JPEG")))


def itk_kinds() -> Iterator[Kind]:
    """Formats that another library reads; none where it is not installed."""
    try:
        import SimpleITK as itk  # noqa: N813
    except ImportError:
        return
    image = itk.GetImageFromArray(volume(np.random.default_rng(1)))
    image.SetSpacing((0.9, 1.1, 2.5))
    text = (mutations.number_in_text, mutations.line_of_text)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for way in (False, True):
            for suffix in (".nrrd", ".mha", ".mhd", ".nhdr"):
                itk.WriteImage(image, str(folder / f"{way:d}{suffix}"), way)
        # Headers name the file of their voxels, which takes the name of the damaged one.
        read = {p.name: p.read_bytes().replace(b"0.raw", b"damaged.raw") for p in folder.iterdir()}
        beside = {n[1:]: v for n, v in read.items() if n.startswith("0") and n.endswith(".raw")}
        yield Kind("NRRD", ".nrrd", "image", (read["0.nrrd"], read["1.nrrd"], *shared("derived/volume.nrrd")), text)
        yield Kind("NRRD header", ".nhdr", "image", (read["0.nhdr"],), text, beside=beside, share=0.4)
        yield Kind("segmentation NRRD", ".seg.nrrd", "image", (read["1.nrrd"],), text, share=0.4)
        yield Kind("MetaImage", ".mha", "image", (read["0.mha"], read["1.mha"], *shared("derived/volume.mha")), text)
        yield Kind("MetaImage header", ".mhd", "image", (read["0.mhd"],), text, beside=beside, share=0.4)


def further_kinds() -> Iterator[Kind]:
    """MGH and Zstandard files."""
    array = volume(np.random.default_rng(2))
    mgh = nib.MGHImage(array, np.diag([-0.9, 1.1, 2.5, 1.0])).to_bytes()
    yield Kind("MGH", ".mgh", "image", (mgh,), (mutations.integer, mutations.overwrite))
    yield Kind("MGH gzip", ".mgz", "image", (gzip.compress(mgh),), (mutations.integer,), gzipped=True, share=0.5)
    try:
        from backports import zstd
    except ImportError:
        return
    raw = nifti(array, ".nii")[".nii"]
    yield Kind("NIfTI Zstandard", ".nii.zst", "image", (zstd.compress(raw),), share=0.5)


def dicom_kinds() -> Iterator[Kind]:
    """One slice of a series damaged, the others whole; the folder is what is opened."""
    slices = dicom_slices()
    if not slices:
        return
    first, *others = slices
    beside = {f"/{n}.dcm": data for n, data in enumerate(others, start=1)}
    special = (mutations.dicom_field, mutations.dicom_field, mutations.number_in_text)
    yield Kind("DICOM series", "/0.dcm", "image", (first,), special, beside=beside)
    singles = (first, *shared("dicom/mr_rle/0.dcm", "dicom/seg_liver.dcm"))
    yield Kind("DICOM file", ".dcm", "image", singles, special, share=0.5)


def dicom_slices() -> list[bytes]:
    """Four small slices of a series, written by SimpleITK; none without it."""
    try:
        import SimpleITK as itk  # noqa: N813
    except ImportError:
        return []
    out = []
    with tempfile.TemporaryDirectory() as name:
        for z in range(4):
            values = np.random.default_rng(z).integers(0, 5, (10, 12)).astype(np.int16)
            image = itk.GetImageFromArray(values[None])
            image.SetSpacing((0.9, 1.1, 2.5))
            tags = {
                "0008|0060": "CT", "0020|000d": "1.2.826.0.1.1", "0020|000e": "1.2.826.0.1.2", "0020|0013": str(z),
                "0020|0032": f"0\\0\\{2.5 * z}", "0020|0037": "1\\0\\0\\0\\1\\0", "0018|0050": "2.5",
                "0008|0018": f"1.2.826.0.1.3.{z}", "0028|1052": "0", "0028|1053": "1", "0020|0052": "1.2.826.0.1.4",
            }  # fmt: skip
            for tag, value in tags.items():
                image.SetMetaData(tag, value)
            writer = itk.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            writer.SetFileName(f"{name}/{z}.dcm")
            writer.Execute(image)
            out.append(Path(name, f"{z}.dcm").read_bytes())
    return out


def model_kinds() -> Iterator[Kind]:
    """House checkpoints and checkpoints of other code bases."""
    import torch

    from diffseg.nets.guided_unet import GuidedUNet, GuidedUNetConfig
    from oracle import save_tiny

    house = (
        *(model_mutations.card_entry, model_mutations.card_entry, model_mutations.header_entry),
        *(model_mutations.header_length, model_mutations.weight_values),
    )
    with tempfile.TemporaryDirectory() as name:
        save_tiny(Path(name) / "tiny.safetensors")
        tiny = (Path(name) / "tiny.safetensors").read_bytes()
        yield Kind("house checkpoint", ".safetensors", "house", (tiny,), house, share=1.5)
        config = {"base": 32, "widths": (32, 32), "blocks": (1, 1), "inputs": 3, "outputs": 6, "scale_shift": True}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = GuidedUNet(GuidedUNetConfig(**config)).state_dict()
        state = {k: v.half() for k, v in state.items()}
        seeds = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}
        for way, options in seeds.items():
            torch.save({"state_dict": state, "step": 1, "config": {"a": [1, "b"]}}, f"{name}/{way}.pt", **options)
        saved = {way: Path(name, f"{way}.pt").read_bytes() for way in seeds}
        shaped = (model_mutations.zip_entry, model_mutations.zip_entry, model_mutations.zip_shape)
        yield Kind("PyTorch checkpoint", ".pt", "foreign", (saved["zip"],), shaped, share=0.8)
        yield Kind("old PyTorch checkpoint", ".pth", "foreign", (saved["legacy"],), share=0.5)
        from safetensors.torch import save

        header = (model_mutations.header_entry, model_mutations.header_length)
        yield Kind("foreign safetensors", ".safetensors", "foreign", (save(state),), header, share=0.5)


def all_kinds() -> Iterator[Kind]:
    """Every kind, those of data first."""
    families: tuple[Callable[[], Iterator[Kind]], ...] = (
        data_kinds, itk_kinds, further_kinds, dicom_kinds, model_kinds,
    )  # fmt: skip
    for family in families:
        yield from family()


def generator(seed: int, kind: Kind, number: int) -> Rng:
    """The random numbers of one file: every file can be made again by itself."""
    return np.random.default_rng((seed, zlib.crc32(kind.name.encode()), number))
