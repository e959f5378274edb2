"""A saliency map and what lies above its threshold, as napari layer data. No torch, no Qt."""

from __future__ import annotations

from diffseg.case import Case
from napari_diffseg.layerdata import KEY, Frame, LayerData, label_colors, layer_name
from napari_diffseg.saliency_state import SaliencyCut, SaliencyView

# A light blue that stands out of inferno, and that no mode wears.
HINT_COLOR = "#7df9ff"
# Inferno that lets the scan through where there is little.
_INFERNO = ("#000004", "#420a68", "#932667", "#dd513a", "#fca50a", "#fcffa4")
INFERNO = {
    "name": "inferno from transparent",
    "colors": [
        [*(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)), k / (len(_INFERNO) - 1)] for k, c in enumerate(_INFERNO)
    ],
}


def saliency_layer(view: SaliencyView, case: Case, frame: Frame) -> LayerData:
    """The map in [0, 1] so far; the data are a copy, to be refreshed in place."""
    look = {
        "name": layer_name(case, "saliency"),
        "colormap": INFERNO,
        "contrast_limits": (0.0, 1.0),
        "blending": "translucent",
        "metadata": {KEY: {"role": "saliency", "case": case, "roi": view.roi, "plan": view.plan}},
    }
    return view.shown.copy(), look | frame.placed(view.roi.start), "image"


def cut_layer(cut: SaliencyCut, case: Case, frame: Frame) -> LayerData:
    """What lies above the threshold, as a contour."""
    view = cut.view
    look = {
        "name": layer_name(case, f"saliency > {f'{cut.line:.2f}' if cut.own else 'Otsu'}"),
        "colormap": label_colors({1: HINT_COLOR}),
        "contour": 1,
        "metadata": {KEY: {"role": "cut", "case": case, "roi": view.roi, "plan": view.plan}},
    }
    return cut.mask.copy(), look | frame.placed(view.roi.start), "labels"
