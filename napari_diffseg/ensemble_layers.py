"""Layers of single masks, of the table of masks, and of the comparison with readers. No torch, no Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffseg.card import ClassInfo
from diffseg.case import Case
from diffseg.ensemble import Snapshot
from diffseg.measurements import MemberMeasure
from diffseg.modes import Mode
from napari_diffseg.ensemble_state import Readers
from napari_diffseg.layerdata import (
    KEY,
    MAGMA,
    Frame,
    LayerData,
    class_table,
    contour_of,
    label_colors,
    layer_name,
    lightened,
    mode_color,
)
from napari_diffseg.state import Maps

# Highest value of GED, so that two cases compare.
GED_TOP = 2.0
READER_MAP_WORDS = {"ged": "GED map", "local_ged": "local GED map"}


def mode_of(position: int, modes: Sequence[Mode]) -> int:
    """Index of the mode of the member at this position of the snapshot; 1 where it is in none."""
    return next((mode.index for mode in modes if position in mode.members), 1)


def members_layer(
    measures: Sequence[MemberMeasure],
    modes: Sequence[Mode],
    table: Mapping[str, Sequence[Any]],
    maps: Maps,
    case: Case,
    frame: Frame,
) -> LayerData:
    """A point per mask at its centre of mass, in the hue of its mode; its features are the table of masks.

    Not shown at first: it is there for napari's own table.
    """
    look = {
        "name": layer_name(case, "masks"),
        "features": {name: list(values) for name, values in table.items()},
        "face_color": [mode_color(mode_of(i, modes)) for i in range(len(measures))],
        "border_color": "white",
        "border_width": 0.1,
        "size": 2.0,
        "visible": False,
        "metadata": {KEY: {"role": "members", "case": case, "roi": maps.roi, "plan": maps.plan}},
    }
    return np.array([m.centre for m in measures], float), look | frame.placed(maps.roi.start), "points"


def member_layer(
    position: int, modes: Sequence[Mode], snapshot: Snapshot, maps: Maps, classes: Sequence[ClassInfo], case: Case,
    frame: Frame,
) -> LayerData:  # fmt: skip
    """One mask ``labels (*roi)`` as a contour, in a lighter hue than its mode."""
    hue = mode_color(mode_of(position, modes))
    shades = [lightened(hue, 0.4 + 0.25 * i) for i in range(max(1, snapshot.classes - 1))]
    member = snapshot.ids[position]
    look = {
        "name": layer_name(case, f"mask {member + 1}"),
        "colormap": label_colors(dict(enumerate(shades, start=1))),
        "features": class_table(classes),
        "contour": contour_of(case),
        "metadata": {KEY: {"role": "member", "case": case, "roi": maps.roi, "member": member, "plan": maps.plan}},
    }
    return snapshot.member(position), look | frame.placed(maps.roi.start), "labels"


def reader_map_layer(which: str, readers: Readers, case: Case, frame: Frame) -> LayerData:
    """A map of ``Readers.maps`` with fixed limits, see-through at 0; the data are a copy."""
    look = {
        "name": layer_name(case, READER_MAP_WORDS[which]),
        "colormap": MAGMA,
        "contrast_limits": (0.0, GED_TOP),
        "blending": "additive",
        "opacity": 0.7,
        "metadata": {
            KEY: {
                "role": which,
                "case": case,
                "roi": readers.box,
                "members": readers.figures.members,
                "readers": readers.names,
                "plan": readers.plan,
            }
        },
    }
    return readers.maps[which].astype(np.float32, copy=True), look | frame.placed(readers.box.start), "image"
