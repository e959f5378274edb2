"""File > Open Sample."""

from __future__ import annotations

import pytest

from diffseg.errors import CaseError
from diffseg.zoo import find_sample, sample_scans
from napari_diffseg import samples
from napari_diffseg.layerdata import KEY


def test_every_shipped_scan_opens_with_its_channels() -> None:
    for name, scan in sample_scans().items():
        layers = samples.open_sample(name)
        assert [look["name"] for _, look, _ in layers] == list(scan.channels)


def test_the_entry_of_the_manifest_is_the_hippocampus_with_its_region_inside() -> None:
    ((data, look, kind),) = samples.hippocampus()
    scan = find_sample("hippocampus")
    assert kind == "image" and look["metadata"][KEY]["case"].origin.path == scan.paths[0]
    assert scan.roi is not None and scan.roi.clipped(data.shape) == scan.roi


def test_an_unknown_sample_is_refused_with_the_known_names() -> None:
    with pytest.raises(CaseError, match="hippocampus"):
        samples.open_sample("femur")
