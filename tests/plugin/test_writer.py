"""File > Save of a Labels layer ends on the scan's own grid, whoever made the layer."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels, Layer
from napari.utils.notifications import Notification, notification_manager

from diffseg.case import Case
from diffseg.grid import Box
from diffseg.io import read_labels
from diffseg.plan import SamplePlan, plan_for
from napari_diffseg import layerdata, reader, writer
from napari_diffseg.state import MaskState
from oracle import tiny_card
from plugin_cases import gradient, scan_file
from scans import affine_of, rotation


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Sentences shown to the person."""
    sentences: list[str] = []

    def keep(notification: Notification) -> None:
        sentences.append(notification.message)

    notification_manager.notification_ready.connect(keep)
    yield sentences
    notification_manager.notification_ready.disconnect(keep)


@pytest.fixture
def scan(tmp_path: Path, rng: np.random.Generator) -> Path:
    """An oblique scan."""
    return scan_file(tmp_path / "scan.nii.gz", (7, 8, 9), affine_of(rotation(rng)))


def case_in(layers: list[layerdata.LayerData]) -> Case:
    case: Case = layers[0][1]["metadata"][layerdata.KEY]["case"]
    return case


def save(layer: Layer, path: Path) -> list[str]:
    data, meta, _ = layer.as_layer_data_tuple()
    return writer.write_labels(str(path), data, meta)


def voxels_of(labels: np.ndarray, case: Case) -> np.ndarray:
    return np.asarray(case.origin.to_file(labels))


def mask_of(case: Case, plan: SamplePlan | None = None) -> tuple[MaskState, Layer]:
    labels = (gradient(case.grid.shape) % 3).astype(np.uint8)
    mask = MaskState(labels, "mode 1 (2/3)", "scan · mask", case, tiny_card().classes, plan)
    data, look, kind = layerdata.mask_layer(mask, layerdata.frame_of(case))
    return mask, Layer.create(data, look, kind)


def test_the_mask_is_written_voxel_for_voxel_with_its_record(scan: Path, tmp_path: Path) -> None:
    case = case_in(reader.read(str(scan)))
    plan = plan_for(tiny_card(), "0" * 64, (scan,), seed=7)
    mask, layer = mask_of(case, plan)
    written = save(layer, tmp_path / "mask.nii.gz")
    assert written == [str(tmp_path / "mask.nii.gz"), str(tmp_path / "mask.plan.json")]
    saved, source = nib.load(written[0]), nib.load(scan)
    assert (np.asarray(saved.dataobj) == voxels_of(mask.labels, case)).all()
    assert saved.get_data_dtype() == np.uint8 and (saved.affine == source.affine).all()
    record = json.loads(Path(written[1]).read_text())
    assert record["source"] == "mode 1 (2/3)" and record["plan"]["seed"] == 7
    assert record["voxels"] == {"1": 168, "2": 168}
    # A third of 504 voxels of 0.5 x 1.25 x 3 mm.
    assert record["volume_ml"]["1"] == pytest.approx(168 * 1.875e-3)
    assert str(tmp_path) not in Path(written[1]).read_text(), "paths are relative, so both can move together"


def test_names_and_colours_of_the_classes_go_where_the_format_has_them(scan: Path, tmp_path: Path) -> None:
    case = case_in(reader.read(str(scan)))
    mask, layer = mask_of(case)
    assert save(layer, tmp_path / "mask.seg.nrrd") and save(layer, tmp_path / "mask.mha")
    header = nrrd.read_header(str(tmp_path / "mask.seg.nrrd"))
    for number, info in enumerate(mask.classes[1:]):
        assert header[f"Segment{number}_Name"] == info.name
        color = [round(255 * float(value)) for value in header[f"Segment{number}_Color"].split()]
        assert "#{:02x}{:02x}{:02x}".format(*color) == info.color
    for suffix in (".seg.nrrd", ".mha"):
        assert (read_labels(tmp_path / f"mask{suffix}", case.grid) == mask.labels).all()


def test_results_of_a_region_are_written_with_background_around_them(scan: Path, tmp_path: Path) -> None:
    case = case_in(reader.read(str(scan)))
    box = Box((1, 2, 3), (3, 5, 6))
    part = np.full(box.shape, 2, np.uint8)
    noted = {layerdata.KEY: {"role": "inner", "case": case, "roi": box}}
    save(Labels(part, metadata=noted, name="scan · 95 % inner"), tmp_path / "inner.nii")
    whole = np.zeros(case.grid.shape, np.uint8)
    whole[box.slices] = 2
    assert (np.asarray(nib.load(tmp_path / "inner.nii").dataobj) == voxels_of(whole, case)).all()


def test_a_new_layer_of_napari_is_written_on_the_scan_that_it_covers(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = ViewerModel()
    small = scan_file(tmp_path / "small.nii", (3, 4, 5))
    for data in [*reader.read(str(small)), *reader.read(str(scan))]:
        viewer.add_layer(Layer.create(*data))
    monkeypatch.setattr("napari.current_viewer", lambda: viewer)
    image = viewer.layers[1]
    drawn = Labels((gradient(image.data.shape) % 2).astype(int), scale=image.scale, units=image.units, name="mine")
    save(drawn, tmp_path / "mine.nii.gz")
    saved = nib.load(tmp_path / "mine.nii.gz")
    case = own_case(image)
    assert (saved.affine == nib.load(scan).affine).all()
    assert (np.asarray(saved.dataobj) == voxels_of(drawn.data, case)).all()
    assert json.loads((tmp_path / "mine.plan.json").read_text())["plan"] is None


def own_case(layer: Any) -> Case:
    case: Case = layerdata.own(layer)["case"]
    return case


def test_a_layer_without_any_scan_is_written_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari.current_viewer", lambda: None)
    data = (gradient((4, 5, 6)) % 3).astype(np.int64)
    save(Labels(data, scale=(3, 2, 1), translate=(9, 0, 0), name="alone"), tmp_path / "alone.nii")
    saved = nib.load(tmp_path / "alone.nii")
    assert (np.asarray(saved.dataobj) == data.T).all()
    assert saved.affine == pytest.approx(np.array([[-1, 0, 0, 0], [0, -2, 0, 0], [0, 0, -3, -9], [0, 0, 0, 1]]))


def test_a_mask_file_may_be_saved_over_itself_but_never_over_the_scan(
    scan: Path, tmp_path: Path, told: list[str]
) -> None:
    case = case_in(reader.read(str(scan)))
    _, layer = mask_of(case)
    before = scan.read_bytes()
    assert save(layer, scan) == []
    assert scan.read_bytes() == before and "never overwritten" in told[0]
    save(layer, tmp_path / "r1_mask.nii.gz")
    (opened,) = (Layer.create(*d) for d in reader.read(str(tmp_path / "r1_mask.nii.gz")))
    opened.data_setitem((np.array([0]), np.array([0]), np.array([0])), 2)
    assert save(opened, tmp_path / "r1_mask.nii.gz")
    again = reader.read(str(tmp_path / "r1_mask.nii.gz"))[0][0]
    assert again[0, 0, 0] == 2 and (again == opened.data).all()


def test_a_folder_that_may_not_be_written_is_told(
    scan: Path, tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, layer = mask_of(case_in(reader.read(str(scan))))
    # Permissions do not bind the superuser, who may be running the tests, so the system's answer is given
    # here.
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == tmp_path and mode == os.W_OK))
    assert save(layer, tmp_path / "mask.nii") == [] and "may write to" in told[0]


def test_what_cannot_be_saved_is_told_in_a_sentence_and_leaves_nothing(
    scan: Path, tmp_path: Path, told: list[str]
) -> None:
    case = case_in(reader.read(str(scan)))
    _, layer = mask_of(case)
    assert save(layer, tmp_path / "no" / "such" / "mask.nii") == []
    layer.data = layer.data[1:]
    assert save(layer, tmp_path / "mask.nii") == []
    assert len(told) == 2 and "no folder" in told[0] and "undo that change" in told[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["scan.nii.gz"]
