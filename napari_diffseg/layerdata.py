"""Cases, masks, maps and trajectories as napari layer data, and layers back to cases. No torch, no Qt.

The only place that spells layer names, colours and metadata keys. Layers lie in a *frame*, the map from
voxels of the case to napari's world: spacing in mm with the first voxel at the origin, never the oblique
affine, which napari cannot slice. The file's own geometry stays in ``case.origin``, within the layer's
metadata.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from diffseg.card import ClassInfo
from diffseg.case import Case
from diffseg.ensemble import Snapshot
from diffseg.modes import Mode
from diffseg.trajectory import field_stops
from napari_diffseg.session import mode_words
from napari_diffseg.state import Maps, MaskState, TrajectoryView


def _from_nothing(name: str, *colors: str) -> dict[str, Any]:
    """A colormap of evenly spaced colours whose zero, and only that, is transparent."""
    opaque = [[*(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)), 1.0] for c in colors]
    controls = [0.0, 0.02, *(i / (len(colors) - 1) for i in range(1, len(colors)))]
    return {"name": f"{name} from transparent", "colors": [[*opaque[0][:3], 0.0], *opaque], "controls": controls}


LayerData = tuple[Any, dict[str, Any], str]

# Under this key of ``layer.metadata`` lies ``{"role": ..., "case": Case, ...}`` for every layer of ours.
KEY = "napari_diffseg"

# Okabe and Ito's colour-blind-safe hues without the two that the shipped model's classes use, one per mode.
MODE_COLORS = ("#0072b2", "#d55e00", "#cc79a7", "#f0e442", "#009e73", "#56b4e9", "#e69f00")
# The trajectory and its branches; like the modes' hues, but blue first.
LINE_COLORS = ("#56b4e9", "#cc79a7", "#009e73", "#f0e442", "#d55e00", "#0072b2")
RATER_GREYS = ("#f2f2f2", "#bdbdbd", "#8c8c8c", "#d9d9d9", "#a6a6a6", "#737373")
CLASS_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#f0e442")

# Viridis and magma, but see-through at 0.
VIRIDIS = _from_nothing("viridis", "#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
MAGMA = _from_nothing("magma", "#000004", "#51127c", "#b73779", "#fc8961", "#fcfdbf")

# Robust display range of a scan, in percent, estimated on at most so many voxels.
DISPLAY_PERCENT = (0.5, 99.8)
DISPLAY_VOXELS = 200_000
CONTOUR_PIXELS = 2
# napari counts a contour in voxels; on scans of fewer a side, each is several pixels wide on the screen.
FINE_VOXELS = 300
# Several readers' outlines lie on each other.
RATER_PIXELS = 1


@dataclass(frozen=True, eq=False)
class Frame:
    """Where voxels of a case lie in napari's world: ``matrix (n + 1, n + 1)`` from index to world units."""

    matrix: np.ndarray
    units: tuple[Any, ...]
    axis_labels: tuple[str, ...]

    def placed(self, offset: Sequence[float], step: Sequence[float] | None = None) -> dict[str, Any]:
        """Layer arguments for an array whose voxel ``i`` lies at voxel ``offset + step * i`` of the case."""
        n = len(self.units)
        inner = np.eye(n + 1)
        inner[:n, :n] = np.diag(np.ones(n) if step is None else np.asarray(step, float))
        inner[:n, n] = offset
        matrix = self.matrix @ inner
        linear, shift = matrix[:n, :n], matrix[:n, n]
        place: dict[str, Any] = {"units": self.units, "axis_labels": self.axis_labels}
        if np.count_nonzero(linear - np.diag(np.diag(linear))) == 0:
            return place | {"scale": tuple(np.diag(linear)), "translate": tuple(shift)}
        return place | {"affine": matrix}


def frame_of(case: Case) -> Frame:
    """The frame of a case read from a file: millimetres from its first voxel."""
    n = case.ndim
    return Frame(np.diag([*case.spacing_mm, 1.0]), ("mm",) * n, ("z", "y", "x")[-n:])


def prefix(case: Case) -> str:
    """What the names of all layers of a case begin with."""
    return case.channels[0] if len(case.channels) == 1 else case.name


def layer_name(case: Case, what: str) -> str:
    """For example ``T1 · variance``."""
    return f"{prefix(case)} · {what}"


def own(layer: Any) -> dict[str, Any]:
    """What we noted on a layer of ours, empty for others."""
    noted = layer.metadata.get(KEY)
    return noted if isinstance(noted, dict) else {}


# ---- scans and raters ----


def files_of_channels(case: Case, files: Sequence[Path]) -> list[tuple[Path, ...]]:
    """The files of each channel: one each, or all of them for all, as slices or as the volumes of one file.

    None where several series of slices are channels, which the case does not tell apart.
    """
    if len(files) == len(case.channels) and not case.origin.files:
        return [(file,) for file in files]
    together = len(case.channels) == 1 or len(files) == 1
    return [tuple(files) if together else ()] * len(case.channels)


@dataclass(frozen=True)
class _Look:
    """What takes a while to find in a large scan: display limits by channel, labels by reader."""

    limits: tuple[tuple[float, float], ...]
    labels: Mapping[str, tuple[int, ...]]


_looks: WeakKeyDictionary[Case, _Look] = WeakKeyDictionary()


def look_at(case: Case) -> _Look:
    """Found once; in a job's thread, before the layers are made in the GUI's."""
    if case not in _looks:
        limits = tuple(display_limits(channel) for channel in case.image)
        _looks[case] = _Look(limits, {name: _used(labels) for name, labels in case.raters.items()})
    return _looks[case]


def _used(labels: np.ndarray) -> tuple[int, ...]:
    """The labels in a mask, without the background; slice by slice, which needs no copy of the whole."""
    return tuple(sorted({int(k) for part in labels for k in np.unique(part)} - {0}))


def scan_layers(case: Case, frame: Frame | None = None) -> list[LayerData]:
    """One Image per channel, then one Labels per rater."""
    place = (frame or frame_of(case)).placed((0,) * case.ndim)
    layers: list[LayerData] = []
    limits = look_at(case).limits
    for i, name in enumerate(case.channels):
        noted = {KEY: {"role": "scan", "case": case, "channel": i}}
        # Without a word napari takes a last axis of 3 or 4 voxels for colours.
        look = {"name": name, "metadata": noted, "contrast_limits": limits[i], "rgb": False}
        layers.append((case.image[i], look | place, "image"))
    return layers + label_layers(case, frame)


def label_layers(case: Case, frame: Frame | None = None) -> list[LayerData]:
    """One Labels per rater, in greys, so that people and model never share a colour."""
    return [rater_layer(name, labels, i, case, frame) for i, (name, labels) in enumerate(case.raters.items())]


def rater_layer(
    name: str, labels: np.ndarray, number: int, case: Case, frame: Frame | None = None, contour: int = 0
) -> LayerData:
    """The mask of one reader, the ``number``-th from 0, as an outline of ``contour`` pixels or filled."""
    place = (frame or frame_of(case)).placed((0,) * case.ndim)
    noted = {KEY: {"role": "rater", "case": case, "rater": name}}
    grey = RATER_GREYS[number % len(RATER_GREYS)]
    used = look_at(case).labels[name] if case.raters.get(name) is labels else _used(labels)
    colors = label_colors(dict.fromkeys(used, grey))
    shown = layer_name(case, name) if case.channels else name
    look: dict[str, Any] = {"name": shown, "metadata": noted, "colormap": colors}
    # Copied, since a layer can be painted on, and the case is what was read.
    return labels.copy(), look | ({"contour": contour} if contour else {}) | place, "labels"


def display_limits(image: np.ndarray) -> tuple[float, float]:
    """A robust display range, never empty."""
    stride = max(1, round((image.size / DISPLAY_VOXELS) ** (1 / image.ndim)))
    low, high = np.percentile(image[(slice(None, None, stride),) * image.ndim], DISPLAY_PERCENT)
    if not low < high:
        low, high = image.min(), image.max()
    return (float(low), float(high)) if low < high else (float(low), float(low) + 1.0)


# ---- a run's layers ----


def trajectory_layer(
    view: TrajectoryView,
    which: str,
    case: Case,
    frame: Frame,
    classes: Sequence[ClassInfo] = (),
    letter: str = "A",
) -> LayerData:
    """``which`` of "x" and "x0", ``(step, *W)``, with fixed limits.

    x_t is grey, and black is see-through; x̂0 has the colours of its classes, a branch the hues of its letter, the
    more opaque the more certain.
    """
    place = frame.placed(view.offset, view.step)
    n = len(place["units"])
    place["units"] = ("pixel", *place["units"])
    place["axis_labels"] = ("step", *place["axis_labels"])
    if "affine" in place:
        whole = np.eye(n + 2)
        whole[1:, 1:] = place["affine"]
        place["affine"] = whole
    else:
        place["scale"], place["translate"] = (1.0, *place["scale"]), (0.0, *place["translate"])
    words = {"x": "x_t", "x0": "x̂0"}[which] + ("" if letter == "A" else f" {letter}")
    role = which if letter == "A" else f"branch {which}"
    noted = {"role": role, "case": case, "run": view.run_id, "seed": view.seed, "letter": letter}
    look: dict[str, Any] = {"colormap": "gray", "blending": "additive"}
    if which == "x0":
        # Between two classes there is no third one, so voxels are not blended.
        nearest = {"interpolation2d": "nearest", "interpolation3d": "nearest"}
        look = {"colormap": field_colormap(line_shades(letter, classes)), "blending": "translucent", **nearest}
    name = layer_name(case, words)
    return (
        getattr(view, which),
        {"name": name, "contrast_limits": (-1.0, 1.0), "rgb": False, "metadata": {KEY: noted}, **look, **place},
        "image",
    )


def map_layer(name: str, maps: Maps, classes: Sequence[ClassInfo], case: Case, frame: Frame) -> LayerData:
    """One of ``session.MAP_NAMES``; the data are a copy, to be refreshed in place."""
    noted = {"role": name, "case": case, "roi": maps.roi, "members": maps.members, "plan": maps.plan}
    common = {"metadata": {KEY: noted}, **frame.placed(maps.roi.start)}
    values = getattr(maps, name).copy()
    if name in ("inner", "outer"):
        words = {"inner": "95 % inner", "outer": "5 % outer"}[name]
        lighter = 0.0 if name == "inner" else 0.5
        colors = {k: lightened(color, lighter) for k, color in class_colors(classes).items()}
        table = class_table(classes)
        line = {"colormap": label_colors(colors), "features": table, "contour": contour_of(case)}
        return values, {"name": layer_name(case, words), **line, **common}, "labels"
    colormap, top = {
        "variance": (MAGMA, 0.25),
        "entropy": (VIRIDIS, float(np.log(max(2, len(classes))))),
        "mean": ("gray", 1.0),
    }[name]
    look = {"colormap": colormap, "contrast_limits": (0.0, top), "blending": "additive", "rgb": False}
    return values, {"name": layer_name(case, name), **look, **common}, "image"


def contour_of(case: Case) -> int:
    """How many voxels wide an outline is: one where a wider line would cover a small structure."""
    return CONTOUR_PIXELS if sorted(case.grid.shape)[-2] > FINE_VOXELS else 1


def mode_layer(
    mode: Mode, snapshot: Snapshot, maps: Maps, classes: Sequence[ClassInfo], case: Case, frame: Frame
) -> LayerData:
    """The representative mask ``labels (*roi)`` of a mode, as a contour in the mode's own hue."""
    shades = [lightened(mode_color(mode.index), 0.35 * i) for i in range(max(1, len(classes) - 1))]
    look = {
        "colormap": label_colors(dict(enumerate(shades, start=1))),
        "features": class_table(classes),
        "contour": contour_of(case),
        "metadata": {KEY: {"role": "mode", "case": case, "roi": maps.roi, "mode": mode.index, "plan": maps.plan}},
    }
    name = layer_name(case, mode_words(mode, len(snapshot)))
    return snapshot.member(mode.medoid), {"name": name, **look, **frame.placed(maps.roi.start)}, "labels"


def mask_layer(mask: MaskState, frame: Frame) -> LayerData:
    """The editable mask: filled, in the classes' colours, on the whole grid of the scan."""
    noted = {"role": "mask", "case": mask.case, "source": mask.source, "plan": mask.plan, "begun": mask.begun}
    look = {
        "colormap": label_colors(class_colors(mask.classes)),
        "features": class_table(mask.classes),
        "metadata": {KEY: noted},
        "opacity": 0.5,
    }
    return mask.labels, {"name": mask.name, **look, **frame.placed((0,) * mask.case.ndim)}, "labels"


def region_layer(corners: np.ndarray, case: Case, frame: Frame) -> LayerData:
    """The region as a rectangle with ``corners (4, ndim)`` in voxels of the case."""
    look = {
        "name": layer_name(case, "region"),
        "shape_type": "rectangle",
        "edge_color": "#ffd166",
        "edge_width": 0.6,
        "face_color": "transparent",
        "ndim": case.ndim,
        "metadata": {KEY: {"role": "region", "case": case}},
    }
    return [corners], look | frame.placed((0,) * case.ndim), "shapes"


# ---- colours ----


def mode_color(index: int) -> str:
    """The hue of the mode with this ``index`` (from 1), in layers, gallery and plots alike."""
    return MODE_COLORS[(index - 1) % len(MODE_COLORS)]


def line_color(letter: str) -> str:
    """The hue of a trajectory ("A") or of a branch of it, in layers, list and curves alike."""
    return LINE_COLORS["ABCDEF".index(letter)]


def line_shades(letter: str, classes: Sequence[ClassInfo]) -> list[str]:
    """Colours of the foreground classes in the x̂0 of a line: their own for A, shades of its hue for a branch."""
    count = max(1, len(classes) - 1)
    if letter == "A":
        return list(class_colors(classes).values())[:count]
    return [whitened(line_color(letter), 0.5 * i / max(1, count - 1)) for i in range(count)]


def field_colormap(colors: Sequence[str]) -> dict[str, Any]:
    """The colormap in which x̂0 is shown; see ``diffseg.trajectory.class_field``."""
    controls, shades = field_stops(colors)
    return {"name": f"classes {' '.join(colors)}", "colors": [list(shade) for shade in shades], "controls": controls}


def class_colors(classes: Sequence[ClassInfo]) -> dict[int, str]:
    """Label to colour for the foreground classes; without a model, for a handful of labels."""
    if len(classes) < 2:
        return dict(enumerate(CLASS_COLORS, start=1))
    return {k: info.color for k, info in enumerate(classes) if k}


def class_table(classes: Sequence[ClassInfo]) -> dict[str, list[Any]] | None:
    """The ``features`` with which napari names the class under the mouse."""
    if len(classes) < 2:
        return None
    return {"index": list(range(len(classes))), "class": [info.name for info in classes]}


def class_infos(meta: Mapping[str, Any]) -> tuple[ClassInfo, ...]:
    """The classes of a Labels layer by its ``class_table`` and colours, background first; none without such a table."""
    table = meta.get("features")
    if table is None or not {"index", "class"} <= set(table):
        return ()
    if list(table["index"]) != list(range(len(table["index"]))):
        return ()
    colors = getattr(meta.get("colormap"), "color_dict", {})
    rgb = (np.asarray(colors.get(k, (0, 0, 0, 0)))[:3] for k in table["index"])
    hexes = ("#" + "".join(f"{round(255 * float(value)):02x}" for value in color) for color in rgb)
    return tuple(ClassInfo(str(name), color) for name, color in zip(table["class"], hexes, strict=True))


def label_colors(colors: Mapping[int, str]) -> dict[int | None, str]:
    """A direct label colormap: background and unlisted labels are transparent."""
    found: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    for label, color in colors.items():
        found[label] = color
    return found


def whitened(color: str, amount: float) -> str:
    """The colour mixed with ``amount`` in [0, 1] of white, and so paler, which ``lightened`` is not."""
    mixed = (int(color[i : i + 2], 16) * (1 - amount) + 255 * amount for i in (1, 3, 5))
    return "#" + "".join(f"{round(v):02x}" for v in mixed)


def lightened(color: str, amount: float) -> str:
    """The same hue, ``amount`` in [0, 1] of the way to white."""
    r, g, b = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, light, full = colorsys.rgb_to_hls(r, g, b)
    r, g, b = colorsys.hls_to_rgb(hue, light + (1 - light) * min(max(amount, 0.0), 1.0), full)
    return "#" + "".join(f"{round(255 * v):02x}" for v in (r, g, b))
