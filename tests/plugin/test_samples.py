"""File > Open Sample."""

from __future__ import annotations

import numpy as np
import pytest

from diffseg.errors import CaseError
from diffseg.zoo import find_sample, sample_scans
from napari_diffseg import samples
from napari_diffseg.layerdata import KEY


def test_every_shipped_scan_opens_with_its_channels_and_raters() -> None:
    for name, scan in sample_scans().items():
        layers = samples.open_sample(name)
        assert [look["name"] for _, look, kind in layers if kind == "image"] == list(scan.channels)
        assert [kind for _, _, kind in layers] == ["image"] * len(scan.paths) + ["labels"] * len(scan.raters)


def test_the_entry_of_the_manifest_is_the_hippocampus_with_its_region_inside() -> None:
    ((data, look, kind),) = samples.hippocampus()
    scan = find_sample("hippocampus")
    assert kind == "image" and look["metadata"][KEY]["case"].origin.path == scan.paths[0]
    assert scan.roi is not None and scan.roi.clipped(data.shape) == scan.roi


def test_the_nodule_comes_with_four_radiologists_who_disagree_around_its_middle() -> None:
    (image, _, _), *outlines = samples.lung_nodule()
    masks = np.stack([data for data, _, _ in outlines])
    assert masks.shape == (4, *image.shape) and set(np.unique(masks)) == {0, 1}
    assert len({int(mask.sum()) for mask in masks}) == 4
    # The nodule's core stands out of the lung by at least half the step from air to soft tissue.
    assert image[masks.all(axis=0)].mean() > np.median(image[~masks.any(axis=0)]) + 500


def test_the_painted_lesions_are_the_brightest_part_of_their_slice() -> None:
    (image, _, _), (painted, look, _) = samples.brain_lesion()
    assert look["name"].endswith("painted") and set(np.unique(painted)) == {0, 1}
    brain = image[image > 0]
    assert np.percentile(image[painted > 0], 10) > np.percentile(brain, 90)


def test_an_unknown_sample_is_refused_with_the_known_names() -> None:
    with pytest.raises(CaseError, match="hippocampus"):
        samples.open_sample("femur")
