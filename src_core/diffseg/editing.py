"""Tools for correcting a mask: filling between slices, largest part, holes, growing and shrinking. No torch.

All take integer labels ``(*S)`` and return a new array of the same shape and type in which only the class ``label``
has changed. What a class loses becomes background. With ``protect`` it gains background only, else also voxels of
other classes. A class that is not there leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from diffseg.errors import CaseError
from diffseg.grid import Box

Labels = NDArray[np.integer[Any]]

# Distances are square roots of sums; what is equal on paper may differ in the last digits.
TOLERANCE_MM = 1e-6


def around(labels: Labels, label: int, margin: int = 1) -> Box | None:
    """The smallest box around the class and ``margin`` more voxels on each side, cut to the array; None without it."""
    found = np.asarray(labels == label)
    axes = range(found.ndim)
    lines = [np.flatnonzero(found.any(axis=tuple(a for a in axes if a != axis))) for axis in axes]
    if lines[0].size == 0:
        return None
    box = Box(tuple(x[0] - margin for x in lines), tuple(x[-1] + 1 + margin for x in lines))
    return box.clipped(found.shape)


def fill_between(
    labels: Labels,
    label: int,
    axis: int,
    spacing_mm: Sequence[float],
    keys: Sequence[int] | None = None,
    protect: bool = True,
) -> Labels:
    """The class redrawn in the slices between neighbouring ``keys``, slices along ``axis`` that hold it.

    Shape-based interpolation (Raya and Udupa, IEEE TMI 1990): the signed distance to the outline in mm is
    interpolated linearly, after both shapes were moved to the centroid interpolated between theirs (Herman et al.,
    IEEE CG&A 1992), so that an oblique structure does not break up. ``keys`` are by default all slices with the class:
    then only gaps are filled. Keys without the class are passed over; fewer than two change nothing.

    Raises:
        CaseError: a key outside the array.
    """
    found = np.moveaxis(np.asarray(labels == label), axis, 0)
    chosen = range(len(found)) if keys is None else sorted(set(keys))
    if any(not 0 <= key < len(found) for key in chosen):
        raise CaseError(f"Slices {list(chosen)} do not all lie within 0 to {len(found) - 1}; choose other slices.")
    held = [key for key in chosen if found[key].any()]
    plane_mm = [mm for a, mm in enumerate(spacing_mm) if a != axis % labels.ndim]
    shape = found.copy()
    for low, high in pairwise(held):
        if high - low > 1:
            shape[low + 1 : high] = _morphed(found[low], found[high], high - low, plane_mm)
    return _put(labels, np.moveaxis(shape, 0, axis), label, protect)


def _morphed(low: NDArray[np.bool_], high: NDArray[np.bool_], gap: int, plane_mm: Sequence[float]) -> NDArray[np.bool_]:
    """The ``gap - 1`` shapes between two, ``(gap - 1, *plane)``."""
    centres = [np.array(ndimage.center_of_mass(one)) for one in (low, high)]
    way = centres[1] - centres[0]
    # Room for what the shift brings in, so that the result does not depend on how much of the plane is given.
    room = [(n, n) for n in np.ceil(np.abs(way)).astype(int) + 1]
    ends = [signed_distance(np.pad(one, room, mode="edge"), plane_mm) for one in (low, high)]
    inner = tuple(slice(n, -n) for n, _ in room)
    shapes = []
    for step in range(1, gap):
        part = step / gap
        # Each end is moved to the centroid that lies between theirs.
        moves = (part * way, (part - 1) * way)
        moved = [ndimage.shift(end, move, order=1, mode="nearest") for end, move in zip(ends, moves, strict=True)]
        shapes.append(((1 - part) * moved[0] + part * moved[1] > TOLERANCE_MM)[inner])
    return np.stack(shapes)


def signed_distance(shape: NDArray[np.bool_], spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """Distance in mm to the nearest voxel centre on the other side, positive inside; ``shape`` must not be empty.

    A shape that fills the array counts as if it went on beyond it.
    """
    inside = ndimage.distance_transform_edt(np.pad(shape, 1, mode="edge"), sampling=spacing_mm)
    core = inside[(slice(1, -1),) * shape.ndim] if not shape.all() else np.full(shape.shape, max(spacing_mm))
    return np.asarray(core - ndimage.distance_transform_edt(~shape, sampling=spacing_mm))


def keep_largest(labels: Labels, label: int) -> Labels:
    """The class without all but its largest connected part (by voxels, the first one on a tie; corners connect)."""
    found = np.asarray(labels == label)
    parts, count = ndimage.label(found, ndimage.generate_binary_structure(found.ndim, found.ndim))
    if count < 2:
        return labels.copy()
    sizes = np.bincount(parts.reshape(-1))[1:]
    return _put(labels, parts == 1 + int(sizes.argmax()), label, True)


def fill_holes(labels: Labels, label: int, axis: int | None = None, protect: bool = True) -> Labels:
    """The class and all that it encloses; along ``axis`` in every slice by itself, where one voxel of outline between
    hole and surroundings is enough. Without ``axis`` an axis of one voxel does not count.
    """
    found = np.asarray(labels == label)
    if axis is None:
        thick = tuple(a for a, n in enumerate(found.shape) if n == 1)
        filled = np.expand_dims(ndimage.binary_fill_holes(found.squeeze(thick)), thick)
    else:
        slices = np.moveaxis(found, axis, 0)
        filled = np.moveaxis(np.stack([ndimage.binary_fill_holes(one) for one in slices]), 0, axis)
    return _put(labels, filled, label, protect)


def grow(labels: Labels, label: int, mm: float, spacing_mm: Sequence[float], protect: bool = True) -> Labels:
    """The class with every voxel whose centre lies at most ``mm`` from one of its own; with a negative ``mm`` without
    every voxel whose centre lies at most that far from one outside. What lies beyond the array counts as going on
    like its border, so nothing shrinks from there.

    Raises:
        CaseError: a distance that is no finite number.
    """
    if not np.isfinite(mm):
        raise CaseError(f"The class cannot grow by {mm} mm; give a finite distance.")
    found = np.asarray(labels == label)
    if mm == 0 or not found.any() or found.all():
        return labels.copy()
    if mm > 0:
        shape = ndimage.distance_transform_edt(~found, sampling=spacing_mm) <= mm + TOLERANCE_MM
    else:
        shape = ndimage.distance_transform_edt(found, sampling=spacing_mm) > -mm + TOLERANCE_MM
    return _put(labels, shape, label, protect)


def _put(labels: Labels, shape: NDArray[np.bool_], label: int, protect: bool) -> Labels:
    """Labels in which the class has this shape, as far as it may."""
    new = labels.copy()
    new[(labels == label) & ~shape] = 0
    new[shape & (labels == 0) if protect else shape] = label
    return new
