"""The shipped sample scans, for napari's File > Open Sample. No torch, no Qt."""

from __future__ import annotations

from diffseg.io import read_case
from diffseg.zoo import find_sample
from napari_diffseg.layerdata import LayerData, scan_layers


def hippocampus() -> list[LayerData]:
    """T1-weighted MR of the head; the dock adds the region around the right hippocampus."""
    return open_sample("hippocampus")


def lung_nodule() -> list[LayerData]:
    """Rendered CT slice of a lung nodule with the masks of four radiologists."""
    return open_sample("lung-nodule")


def brain_lesion() -> list[LayerData]:
    """Brain slice rendered as FLAIR with painted lesions, and where they were painted."""
    return open_sample("brain-lesion")


def open_sample(name: str) -> list[LayerData]:
    """The layers of a shipped sample, an Image per channel and a Labels per rater; CaseError for an unknown name."""
    scan = find_sample(name)
    return scan_layers(read_case(scan.paths, scan.raters, scan.channels))
