"""Medical image files as layers, for napari's File > Open and drag and drop. No torch, no Qt.

NIfTI, NRRD, MetaImage, MGZ, DICOM files, and folders of DICOM slices or of the files of one scan; pictures are left
to napari. What is a mask, as ``diffseg.io.is_mask`` tells, becomes a Labels layer, everything else an Image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from diffseg.case import Case, Labels, Origin
from diffseg.errors import CaseError
from diffseg.grid import Grid
from diffseg.io import SUFFIXES as EVERY_SUFFIX
from diffseg.io import is_mask, open_file, read_case, read_labels
from diffseg.io.folders import holds_slices, scans_in
from diffseg.io.formats import PICTURES, stem_of
from napari_diffseg.layerdata import LayerData, label_layers, own, scan_layers

SUFFIXES = tuple(suffix for suffix in EVERY_SUFFIX if suffix not in PICTURES)
# The first number of a NIfTI or Analyze header, in either byte order; other programs have .hdr and .img files too.
_HEADER_SIZES = {(348).to_bytes(4, order) for order in ("little", "big")} | {
    (540).to_bytes(4, order) for order in ("little", "big")
}

Reader = Callable[[str | Sequence[str]], list[LayerData]]


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """The reader, if every path is of a medical format, by its name or, for folders and .hdr, by what is inside."""
    return read if all(_is_ours(Path(p)) for p in _paths(path)) else None


def read(path: str | Sequence[str]) -> list[LayerData]:
    """The layers of each file or folder. One that cannot be used is told in one sentence and leaves no layer."""
    layers: list[LayerData] = []
    for each in [file for one in _paths(path) for file in _files_of(Path(one))]:
        try:
            layers += read_file(each)
        except CaseError as error:
            _tell(str(error))
    # napari's sign for "read, but there is nothing to show"; an empty list would make it try other readers.
    return layers or [(None,)]  # type: ignore[list-item]


def read_file(path: Path) -> list[LayerData]:
    """The layers of one file; none for a slice of a series that is open. CaseError in one sentence for what is neither.

    A segmentation that covers a part of a scan is laid on the scan that is open, if it belongs there.
    """
    if any(path in case.origin.files for case in _open_scans()):
        return []  # napari opens the slices that were dropped together one by one
    if not is_mask(path):
        return scan_layers(read_case([path]))
    volume, name = open_file(path), stem_of(path)
    if volume.partial:
        for case in _open_scans():
            try:
                labels = read_labels(path, case.grid)
            except CaseError:
                continue
            return label_layers(_alone(labels, case.grid, case.origin, name))
    return label_layers(_alone(volume.labels(), volume.grid, volume.origin, name))


def _alone(labels: Labels, grid: Grid, origin: Origin, name: str) -> Case:
    """A case without channels: where the mask lies, so that it can be saved there again."""
    return Case(np.empty((0, *labels.shape), np.float32), grid, (), {name: labels}, origin, name)


def _open_scans() -> Iterator[Case]:
    """The scans in the viewer that is looked at, those opened last first."""
    import napari

    viewer = napari.current_viewer()
    for layer in [] if viewer is None else reversed(list(viewer.layers)):
        noted = own(layer)
        if noted.get("role") == "scan":
            yield noted["case"]


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return holds_slices(path) or bool(_scans_in(path))
    name = path.name.lower()
    if name.endswith((".hdr", ".img")):
        return _begins_like_nifti(path.with_suffix(".hdr" if path.suffix.islower() else ".HDR"))
    return name.endswith(SUFFIXES)


def _files_of(path: Path) -> list[Path]:
    """A folder of scans and masks that are no DICOM slices is its files; everything else is itself."""
    return [path] if not path.is_dir() or holds_slices(path) else _scans_in(path) or [path]


def _scans_in(folder: Path) -> list[Path]:
    """The files of one scan in a folder; pictures are left to napari."""
    try:
        return [file for file in scans_in(folder) if _is_ours(file)]
    except CaseError:
        return []


def _begins_like_nifti(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) in _HEADER_SIZES
    except OSError:
        return False


def _paths(path: str | Sequence[str]) -> list[str]:
    return [str(path)] if isinstance(path, str | Path) else [str(p) for p in path]


def _tell(sentence: str) -> None:
    from napari.utils.notifications import show_error  # napari is there, or nobody would read layers

    show_error(sentence)
