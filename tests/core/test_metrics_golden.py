"""The numbers of the published implementations, run on stored masks (outside the repository)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffseg.metrics.distribution import ged_of, matched_iou, mean_dice, mean_iou
from diffseg.metrics.insight import collective_insight
from diffseg.metrics.maps import ncc
from diffseg.metrics.overlap import dice, iou
from diffseg.metrics.packed import pair_counts
from diffseg.metrics.postprocess import relative_area
from diffseg.metrics.surface import surface_distances

# Tolerances stated beside the files: overlap and GED, NCC (a constant inside its logarithms), MONAI
# (float32).
OVERLAP, NCC, MONAI, DISTANCE = 1e-9, 1e-6, 1e-5, 1e-6


def golden(shared_dir: Path, name: str) -> tuple[Any, dict[str, Any]]:
    """Stored arrays and the values expected of them."""
    folder = shared_dir / "golden/metrics"
    expected = "mask_sets_expected" if name == "mask_sets" else name.replace("_sets", "") + "_expected"
    return np.load(folder / f"{name}.npz"), json.loads((folder / f"{expected}.json").read_text())


def ambiguous_figures(pred: np.ndarray, gt: np.ndarray) -> dict[str, float]:
    """What AmbDiffSeg reports of two sets, in its names, without NCC."""
    counts = pair_counts(pred, gt)
    insight = collective_insight(counts, "ambdiffseg")
    return {
        "S_c": insight.combined_sensitivity,
        "D_max": insight.d_max,
        "D_a": insight.diversity_agreement,
        "CI": insight.score,
        "GED": ged_of(counts).papers,
        "iou": mean_iou(counts),
        "dice": mean_dice(counts),
    }


def test_ambiguous_metrics_agree_with_ambdiffseg_before_and_after_post_processing(shared_dir: Path) -> None:
    arrays, expected = golden(shared_dir, "mask_sets")
    for name, values in expected.items():
        gt, pred = arrays[f"{name}__gt"], arrays[f"{name}__pred"]
        for key, samples in (
            ("ambdiffseg", pred),
            ("ambdiffseg_postprocess", np.stack(relative_area(list(pred)))),
        ):
            found = ambiguous_figures(samples, gt)
            assert found == pytest.approx({k: values[key][k] for k in found}, abs=OVERLAP), (name, key)


def test_ged_and_matching_agree_with_four_implementations(shared_dir: Path) -> None:
    arrays, expected = golden(shared_dir, "mask_sets")
    for name, values in expected.items():
        counts = pair_counts(arrays[f"{name}__pred"], arrays[f"{name}__gt"])
        found = ged_of(counts)
        for key in ("phiseg_ged_foreground", "ssn_ged", "ccdm_ged"):
            assert found.papers == pytest.approx(values[key], abs=OVERLAP), (name, key)
        assert found.each_pair_once == pytest.approx(values["ambdiffseg_ged_skip_same"], abs=OVERLAP), name
        for source in ("ssn", "ccdm"):
            assert found.within_raters == pytest.approx(values[f"{source}_diversity_gt"], abs=OVERLAP), name
            assert found.within_samples == pytest.approx(values[f"{source}_diversity_pred"], abs=OVERLAP), (
                name
            )
        assert matched_iou(counts, "subset") == pytest.approx(values["ccdm_hm_iou"], abs=OVERLAP), name
        assert matched_iou(counts) == pytest.approx(values["ccdm_hm_iou_lcm_repeated"], abs=OVERLAP), name


def test_ncc_agrees_with_phiseg_and_ambdiffseg_where_the_samples_vary(shared_dir: Path) -> None:
    arrays, expected = golden(shared_dir, "mask_sets")
    compared = 0
    for name, values in expected.items():
        gt, pred = arrays[f"{name}__gt"], arrays[f"{name}__pred"]
        if (pred == pred[0]).all():
            assert np.isnan(ncc(pred, gt)), name
            continue
        assert ncc(pred, gt) == pytest.approx(values["phiseg_ncc"], abs=NCC, nan_ok=True), name
        assert ncc(pred, gt) == pytest.approx(values["ambdiffseg"]["ncc"], abs=NCC, nan_ok=True), name
        compared += 1
    assert compared >= 8


def test_several_classes_agree_with_ssn_ccdm_and_phiseg(shared_dir: Path) -> None:
    arrays, expected = golden(shared_dir, "multiclass_sets")
    for name, values in expected.items():
        gt, pred = arrays[f"{name}__gt"], arrays[f"{name}__pred"]
        counts = pair_counts(pred, gt, classes=4)
        found = ged_of(counts)
        for key in ("ssn_ged", "ccdm_ged", "phiseg_ged_labels_1_to_3"):
            assert found.papers == pytest.approx(values[key], abs=OVERLAP), (name, key)
        assert found.within_raters == pytest.approx(values["ssn_diversity_gt"], abs=OVERLAP), name
        assert found.within_samples == pytest.approx(values["ssn_diversity_pred"], abs=OVERLAP), name
        assert matched_iou(counts, "subset") == pytest.approx(values["ccdm_hm_iou"], abs=OVERLAP), name
        assert ncc(pred, gt, classes=4) == pytest.approx(values["phiseg_ncc"], abs=NCC), name


def test_surface_distances_agree_with_monai_and_medpy(shared_dir: Path) -> None:
    arrays, expected = golden(shared_dir, "volumes")
    for name, values in expected.items():
        gt, pred = arrays[f"{name}__gt"], arrays[f"{name}__pred"]
        if not (gt.any() and pred.any()):
            continue
        found = surface_distances(pred, gt, values["spacing"])
        assert found.percentile(95) == pytest.approx(values["monai_hd95"], abs=MONAI), name
        assert found.percentile(100) == pytest.approx(values["monai_hd"], abs=MONAI), name
        assert found.mean() == pytest.approx(values["monai_assd"], abs=MONAI), name
        assert found.within(1.0) == pytest.approx(values["monai_nsd_tol1"], abs=MONAI), name
        assert found.percentile(100) == pytest.approx(values["medpy_hd"], abs=DISTANCE), name
        assert found.a_to_b_mm.mean() == pytest.approx(values["medpy_asd"], abs=DISTANCE), name
        assert dice(pred, gt) == pytest.approx(values["medpy_dc"], abs=OVERLAP), name
        assert iou(pred, gt) == pytest.approx(values["medpy_jc"], abs=OVERLAP), name


def test_surface_distances_agree_with_imgx(shared_dir: Path) -> None:
    arrays = np.load(shared_dir / "golden/imgx_diffseg/surface_metrics.npz")
    for index in np.ndindex(arrays["hausdorff_95"].shape):
        pred, true = (arrays[side][index[0], ..., index[1]] for side in ("pred", "true"))
        if np.isnan(arrays["hausdorff_95"][index]):
            assert pred.any() != true.any()  # ImgX drops a missed organ (NaN); here it is infinitely far
            assert surface_distances(pred, true, arrays["spacing"]).percentile(95) == np.inf
            continue
        found = surface_distances(pred, true, arrays["spacing"])
        assert found.percentile(95) == pytest.approx(arrays["hausdorff_95"][index], abs=DISTANCE)
        assert found.percentile(100) == pytest.approx(arrays["hausdorff_100"][index], abs=DISTANCE)
        assert found.larger_mean() == pytest.approx(arrays["mean_surface_distance"][index], abs=DISTANCE)
        assert found.within(1.0) == pytest.approx(arrays["nsd_tol1"][index], abs=DISTANCE)
        assert dice(pred, true) == pytest.approx(float(arrays["dice"][index]), abs=DISTANCE)
