"""Layers as a case: our own, and those that other readers or people made. No torch, no Qt, no napari.

A layer that is not ours carries no patient orientation. Its array is then taken as it is shown, axes (z, y,
x) running inferior, posterior and left, with millimetres and position from its ``data_to_world``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from diffseg.case import Case, Labels, Origin, origin_of
from diffseg.errors import CaseError
from diffseg.grid import Box, Grid
from diffseg.outputs import full
from napari_diffseg.layerdata import Frame, frame_of, own

# World (z, y, x) of napari to RAS: z runs inferior, y posterior, x left.
_TO_RAS = np.zeros((4, 4))
_TO_RAS[[0, 1, 2], [2, 1, 0]] = -1.0
_TO_RAS[3, 3] = 1.0

TOLERANCE_VOXELS = 0.1


@dataclass(frozen=True, eq=False)
class Found:
    """A case made of layers, the files it came from where known, and a sentence if something was assumed."""

    case: Case
    frame: Frame
    files: tuple[Path, ...] = ()
    rater_files: tuple[Path, ...] = ()
    note: str = ""


def case_from_layers(images: Sequence[Any], raters: Sequence[Any] = ()) -> Found:
    """The case of these Image layers, one per channel, with Labels layers as raters.

    Layers that show one case in its own order give that very case back.

    Raises:
        CaseError: no layer, a kind of layer that is no scan, or grids that differ.
    """
    if not images:
        raise CaseError("No scan was chosen; choose one Image layer per channel of the model.")
    for layer in images:
        _refuse_kind(layer)
    parts = [_part(layer) for layer in images]
    whole, frame = parts[0].case, parts[0].frame
    shown = [own(layer).get("channel", 0) for layer in images]
    if all(p.case is whole for p in parts) and shown == list(range(len(whole.channels))) and not raters:
        return Found(whole, frame, _known_files(parts), (), parts[0].note)
    for part, layer in zip(parts, images, strict=True):
        if not part.case.grid.same_as(whole.grid, TOLERANCE_VOXELS * min(whole.spacing_mm)):
            raise CaseError(
                f"{layer.name!r} and {images[0].name!r} lie on different grids; resample one of them first."
            )
    channels = [p.case.image[channel] for p, channel in zip(parts, shown, strict=True)]
    masks = {layer.name: labels_on(whole, frame, layer) for layer in raters}
    names = tuple(layer.name for layer in images)
    case = Case(np.stack(channels), whole.grid, names, masks, whole.origin, whole.name)
    files = _known_files(parts)
    rater_files = _files(own(layer).get("case") for layer in raters)
    return Found(case, frame, files, rater_files, parts[0].note)


def _known_files(parts: Sequence[_Part]) -> tuple[Path, ...]:
    """The files of these layers, none unless every one is known."""
    return tuple(path for p in parts for path in p.files) if all(p.files for p in parts) else ()


def _files(cases: Iterable[Case | None]) -> tuple[Path, ...]:
    """The files of these cases, none unless every one is known: a plan must not name half of its inputs."""
    origins = [case.origin if case is not None else None for case in cases]
    if any(origin is None or origin.path is None for origin in origins):
        return ()
    found = (origin.files or (origin.path,) for origin in origins if origin is not None)
    return tuple(path for files in found for path in files if path is not None)


def labels_on(case: Case, frame: Frame, layer: Any) -> Labels:
    """A copy of a Labels layer as labels ``(*S)`` of the case, uint8 or uint16; axes may be reversed.

    Raises:
        CaseError: no Labels layer, one on another grid, or values that are no labels.
    """
    if getattr(layer, "_type_string", "") != "labels":
        raise CaseError(f"{layer.name!r} is no Labels layer; choose one, or convert it first.")
    labels = np.asarray(layer.data)
    if "case" in own(layer):
        _refuse_other_patient_space(case, layer)
        labels = placed(labels, own(layer).get("roi"), case)
        return labels.astype(_label_type(layer.name, labels))
    shape, n = case.grid.shape, case.ndim
    relative = np.linalg.inv(frame.matrix) @ world_matrix(layer) if labels.ndim == n else np.zeros((n + 1, n + 1))
    signs = np.sign(np.diag(relative)[:n])
    # A reversed axis begins at the other end of the grid.
    begin = np.where(signs < 0, np.array(shape) - 1, 0)
    expected = np.diag([*signs, 1.0])
    expected[:n, n] = begin
    off = np.abs(relative - expected) @ np.array([*shape, 1.0])
    if labels.shape != shape or (signs == 0).any() or off[:n].max() > TOLERANCE_VOXELS:
        raise CaseError(f"{layer.name!r} does not lie on the scan's grid; resample it to the scan first.")
    straight = labels[tuple(slice(None, None, int(s)) for s in signs)]
    return straight.astype(_label_type(layer.name, labels))


def placed(labels: np.ndarray, roi: Box | None, case: Case) -> np.ndarray:
    """Labels of a box of the case (None: all of it) on its whole grid, in a new array.

    Raises:
        CaseError: an array of another shape than the box.
    """
    box = roi or Box.whole(case.grid.shape)
    if labels.shape != box.shape:
        raise CaseError(f"The layer has {labels.shape} voxels but belongs on {box.shape}; undo that change first.")
    return full(labels, box, case.grid.shape)


def _refuse_other_patient_space(case: Case, layer: Any) -> None:
    """All scans are shown from the same corner, so it is the files' geometry that tells two places apart."""
    if not own(layer)["case"].grid.same_as(case.grid, TOLERANCE_VOXELS * min(case.spacing_mm)):
        raise CaseError(f"{layer.name!r} does not lie on the scan's grid; resample it to the scan first.")


def _label_type(name: str, labels: np.ndarray) -> type[np.uint8] | type[np.uint16]:
    if labels.min(initial=0) < 0 or labels.max(initial=0) > 65535:
        raise CaseError(f"{name!r} has labels below 0 or above 65535; renumber them first.")
    return np.uint8 if labels.max(initial=0) <= 255 else np.uint16


def world_matrix(layer: Any) -> np.ndarray:
    """``(n + 1, n + 1)`` from data index to world of a layer, all of its transforms included."""
    n = layer.data.ndim
    origin = np.asarray(layer.data_to_world((0,) * n), float)
    matrix = np.eye(n + 1)
    matrix[:n, n] = origin
    for axis, unit in enumerate(np.eye(n)):
        matrix[:n, axis] = np.asarray(layer.data_to_world(tuple(unit)), float) - origin
    return matrix


@dataclass(frozen=True, eq=False)
class _Part:
    """What one layer gives."""

    case: Case
    frame: Frame
    files: tuple[Path, ...] = ()
    note: str = ""


# Array, place and case of layers that are not ours; gone with the layer.
_known: WeakKeyDictionary[Any, tuple[Any, np.ndarray, _Part]] = WeakKeyDictionary()


def _part(layer: Any) -> _Part:
    noted = own(layer)
    if noted.get("role") == "scan":
        case, frame = noted["case"], noted.get("frame")
        # A case of several channels names the file of one of them only.
        files = noted.get("files") or (_files([case]) if len(case.channels) == 1 else ())
        return _Part(case, frame or frame_of(case), files)
    return _foreign(layer)


def case_of_labels(layer: Any) -> tuple[Case, Frame]:
    """A case without channels on the grid of a Labels layer that belongs to no scan."""
    if layer.data.ndim not in (2, 3):
        raise CaseError(f"{layer.name!r} has {layer.data.ndim} axes; a mask has two or three.")
    _, grid, origin, frame = _geometry(layer)
    return Case(np.empty((0, *grid.shape), np.float32), grid, (), {}, origin, layer.name), frame


def _foreign(layer: Any) -> _Part:
    """The same case as before while the layer holds the same array at the same place."""
    known = _known.get(layer)
    if known is not None and known[0] is layer.data and np.array_equal(known[1], world_matrix(layer)):
        return known[2]
    part = _read(layer)
    _known[layer] = (layer.data, world_matrix(layer), part)
    return part


def _read(layer: Any) -> _Part:
    data = np.asarray(layer.data)
    if not np.isfinite(data).all():
        bad = int(np.count_nonzero(~np.isfinite(data)))
        raise CaseError(f"{layer.name!r} has {bad} voxels that are no finite numbers; mend the scan first.")
    image, grid, origin, frame = _geometry(layer)
    case = Case(np.ascontiguousarray(image, dtype=np.float32)[None], grid, (layer.name,), {}, origin, layer.name)
    spacing = " × ".join(f"{v:.3g}" for v in grid.spacing_mm)
    note = (
        f"{layer.name!r} was not opened by DiffSeg, so its orientation in the patient is unknown: axes are "
        f"taken as inferior, posterior, left with voxels of {spacing} mm."
    )
    return _Part(case, frame, (), note)


def _geometry(layer: Any) -> tuple[np.ndarray, Grid, Origin, Frame]:
    """Data in display order, their grid and origin, and the frame in which they are shown."""
    data = np.asarray(layer.data)
    n = data.ndim
    mm = np.array([*_mm_per_unit(layer), 1.0])
    to_mm = np.eye(4)
    to_mm[3 - n :, 3 - n :] = np.diag(mm) @ world_matrix(layer)
    # File order is (x, y, z), as in NIfTI; a flat scan is one voxel thick.
    reverse = np.eye(4)[[2, 1, 0, 3]]
    shape = data.shape[::-1] if n == 3 else (*data.shape[::-1], 1)
    origin = origin_of(shape, _TO_RAS @ to_mm @ reverse)
    grid = origin.display_grid()
    world = np.linalg.inv(_TO_RAS) @ grid.affine
    frame = Frame(np.diag(1 / mm) @ world[3 - n :, 3 - n :], tuple(layer.units), tuple(layer.axis_labels))
    return origin.to_display(data.T.reshape(shape)), grid, origin, frame


def _mm_per_unit(layer: Any) -> list[float]:
    """Millimetres per world unit of each axis; what is no length counts as mm."""
    factors = []
    for unit in layer.units:
        try:
            factors.append(float((1 * unit).to("mm").magnitude))
        except Exception:  # noqa: BLE001 - pint has many ways to say that a pixel is no length
            factors.append(1.0)
    return factors


def _refuse_kind(layer: Any) -> None:
    if getattr(layer, "_type_string", "") != "image" or getattr(layer, "rgb", False):
        raise CaseError(f"{layer.name!r} is no grey-value image; choose an Image layer that is.")
    if getattr(layer, "multiscale", False) or layer.data.ndim not in (2, 3):
        raise CaseError(f"{layer.name!r} is no plain 2D or 3D image; choose one volume or slice.")
