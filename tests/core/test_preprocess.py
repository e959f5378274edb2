"""From a scan to a model's input and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffseg.case import Case, origin_of
from diffseg.errors import CaseError, PlanError
from diffseg.grid import Box
from diffseg.io import read_case
from diffseg.metrics.surface import surface_distances
from diffseg.preprocess import ImageRule, prepare


def case_of(image: np.ndarray, spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Case:
    """A case showing `image` (C, *S) in display order with that spacing."""
    ndim = image.ndim - 1
    shape = image.shape[:0:-1]
    affine = np.diag([*spacing_mm[::-1], *[1.0] * (4 - ndim)])
    origin = origin_of(shape, affine)
    channels = tuple(f"channel {number}" for number in range(len(image)))
    return Case(image.astype(np.float32), origin.display_grid(), channels, {}, origin, "made")


def rule(**changes: Any) -> ImageRule:
    """No resampling, no clipping, no normalising, windows of any side, unless changed."""
    parts: dict[str, Any] = {
        "spacing_mm": None,
        "clip_percentiles": (0, 100),
        "normalise": "none",
        "multiple_of": 1,
    }
    return ImageRule(**(parts | changes))


def centre_of_mass(values: np.ndarray) -> np.ndarray:
    """Centre of mass in voxel coordinates."""
    return np.array([np.average(axis, weights=values) for axis in np.indices(values.shape)])


def blob(shape: tuple[int, ...], centre: tuple[float, ...], width: tuple[float, ...]) -> np.ndarray:
    """A Gaussian blob with its centre of mass at voxel coordinates `centre`."""
    arms = [
        np.exp(-(((np.arange(n) - c) / w) ** 2) / 2) for n, c, w in zip(shape, centre, width, strict=True)
    ]
    return arms[0].reshape(-1, 1, 1) * arms[1].reshape(-1, 1) * arms[2]


@pytest.mark.parametrize("shape", [(9, 10, 11), (10, 11)])
def test_a_region_that_fits_is_the_scan_itself(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    image = rng.normal(size=(2, *shape)).astype(np.float32)
    box = Box((1,) * len(shape), (5,) * len(shape))
    prepared = prepare(case_of(image, (1.0,) * len(shape)), rule(multiple_of=4), box)
    # Clipped at the region's own extremes, which it holds by definition.
    np.testing.assert_array_equal(prepared.image, image[(slice(None), *box.slices)])
    assert prepared.offset == (1.0,) * len(shape) and prepared.step == (1.0,) * len(shape)


def test_the_window_grows_evenly_into_the_scan_and_repeats_its_edge_beyond(rng: np.random.Generator) -> None:
    image = rng.uniform(1, 2, size=(1, 12, 9, 20)).astype(np.float32)
    image[0, 4, 4, 7], image[0, 4, 4, 8] = 0, 3  # the region's extremes bound the clip, so nothing is clipped
    box = Box((3, 0, 5), (9, 9, 12))
    prepared = prepare(case_of(image), rule(multiple_of=8), box)
    assert prepared.image.shape == (1, 8, 16, 8) and prepared.offset == (2.0, -3.0, 5.0)
    padded = np.pad(image[0], ((0, 0), (3, 4), (0, 0)), mode="edge")
    np.testing.assert_array_equal(prepared.image[0], padded[2:10, :, 5:13])


@settings(max_examples=60)
@given(st.data())
def test_without_resampling_the_way_back_is_an_exact_crop(data: st.DataObject) -> None:
    ndim = data.draw(st.sampled_from((2, 3)))
    shape = tuple(data.draw(st.integers(2, 12)) for _ in range(ndim))
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    labels = np.random.default_rng(0).integers(0, 5, shape).astype(np.uint8)
    case = case_of(labels[None], (1.0,) * ndim)
    prepared = prepare(case, rule(multiple_of=data.draw(st.integers(1, 8))), Box(start, stop))
    encoded = prepared.encode_labels(labels)
    assert encoded.shape == prepared.image.shape[1:] and encoded.dtype == np.uint8
    hot = np.stack([encoded == label for label in range(5)]).astype(np.float32)
    back = prepared.restore(hot)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back.argmax(axis=0), labels[prepared.roi.slices])
    assert set(np.unique(back)) <= {0.0, 1.0}


@pytest.mark.parametrize(
    "model_mm", [(0.7, 0.7, 0.7), (1.0, 1.3, 2.0), (2.0, 2.0, 2.0), (3.1, 2.9, 1.0), (1.5, 4.0, 0.4)]
)
@pytest.mark.parametrize("scan_mm", [(1.0, 1.0, 1.0), (3.0, 0.8, 0.8)])
def test_a_resampled_phantom_keeps_its_place(model_mm: tuple[float, ...], scan_mm: tuple[float, ...]) -> None:
    centre_mm, width_mm = np.array([30.3, 28.6, 31.9]), 6.0
    shape = tuple(int(62 / spacing) for spacing in scan_mm)
    centre = tuple(centre_mm / scan_mm)
    image = blob(shape, centre, tuple(width_mm / np.array(scan_mm)))
    case = case_of(image[None], scan_mm)
    prepared = prepare(case, rule(spacing_mm=model_mm, multiple_of=8), None)
    assert prepared.spacing_mm == pytest.approx(model_mm)
    found = centre_of_mass(prepared.image[0]) * prepared.step + prepared.offset
    # Half a voxel is the bar; linear sampling of a smooth blob stays within a tenth of the coarser grid's.
    np.testing.assert_array_less(np.abs(found - centre) * scan_mm, 0.1 * np.maximum(model_mm, scan_mm))
    back = prepared.restore(prepared.image)[0]
    assert back.shape == shape
    np.testing.assert_array_less(
        np.abs(centre_of_mass(back) - centre) * scan_mm, 0.1 * np.maximum(model_mm, scan_mm)
    )


@pytest.mark.parametrize("factor", [0.6, 1.3, 1.6, 2.0, 3.0])
def test_labels_and_image_stay_aligned_to_half_a_voxel(factor: float) -> None:
    labels = np.zeros((40, 44, 48), np.uint8)
    labels[9:31, 12:30, 11:35] = 1
    labels[15:25, 14:28, 13:23] = 2
    prepared = prepare(case_of((labels > 0)[None]), rule(spacing_mm=(factor,) * 3, multiple_of=4), None)
    encoded = prepared.encode_labels(labels)
    half = centre_of_mass(prepared.image[0]) - centre_of_mass((encoded > 0).astype(float))
    np.testing.assert_array_less(np.abs(half), 0.5)
    for label in (1, 2):
        place = centre_of_mass((encoded == label).astype(float)) * prepared.step + prepared.offset
        np.testing.assert_array_less(
            np.abs(place - centre_of_mass((labels == label).astype(float))), 0.5 * factor
        )
    hot = np.stack([encoded == label for label in range(3)]).astype(np.float32)
    back = prepared.restore(hot)
    np.testing.assert_allclose(back.sum(axis=0), 1, atol=1e-6)  # float32 weights
    for label in (1, 2):
        surfaces = surface_distances(back.argmax(axis=0) == label, labels == label, (1.0, 1.0, 1.0))
        assert surfaces.mean() < 0.5 * max(factor, 1)


def test_a_linear_ramp_is_reproduced_exactly_by_resampling_and_back() -> None:
    # Linear interpolation is exact on a ramp, and a symmetric filter leaves it alone away from the ends.
    z, y, x = np.indices((30, 30, 30))
    image = (2.0 * z - 3.0 * y + 0.5 * x)[None]
    prepared = prepare(case_of(image), rule(spacing_mm=(2.0, 1.4, 0.6)), None)
    at = [
        o + s * np.arange(n)
        for o, s, n in zip(prepared.offset, prepared.step, prepared.image.shape[1:], strict=True)
    ]
    expected = 2.0 * at[0].reshape(-1, 1, 1) - 3.0 * at[1].reshape(-1, 1) + 0.5 * at[2]
    inner = (slice(4, -4),) * 3
    np.testing.assert_allclose(
        prepared.image[0][inner], expected[inner], atol=1e-4
    )  # float32 at values near 100
    np.testing.assert_allclose(prepared.restore(prepared.image)[0][(slice(8, -8),) * 3],
                               image[0][(slice(8, -8),) * 3], atol=2e-4)  # fmt: skip


def test_shrinking_averages_instead_of_skipping() -> None:
    image = np.zeros((1, 40, 40, 40))
    image[..., ::2] = 1.0  # the finest pattern: skipping every other voxel would see only one of its values
    prepared = prepare(case_of(image), rule(spacing_mm=(1.0, 1.0, 4.0)), None)
    inner = prepared.image[..., 2:-2]
    assert np.abs(inner - 0.5).max() < 0.02


def test_spacing_within_two_per_cent_is_left_alone() -> None:
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 8))
    near = prepare(case_of(image, (1.015, 0.985, 1.0)), rule(spacing_mm=(1.0, 1.0, 1.0)), None)
    assert near.step == (1.0, 1.0, 1.0) and near.spacing_mm == pytest.approx((1.015, 0.985, 1.0))
    far = prepare(case_of(image, (1.03, 1.0, 1.0)), rule(spacing_mm=(1.0, 1.0, 1.0)), None)
    assert far.step == pytest.approx((1 / 1.03, 1.0, 1.0)) and far.step[1] == 1.0


@pytest.mark.parametrize(
    ("length", "scan", "model", "size"),
    [(30, 1.0, 3.0, 10), (30, 1.0, 0.3, 100), (7, 0.7, 0.35, 14), (10, 1.0, 3.0, 4)],
)
def test_the_window_covers_the_region_and_no_more(length: int, scan: float, model: float, size: int) -> None:
    image = np.random.default_rng(0).normal(size=(1, length, length))
    prepared = prepare(case_of(image, (scan, scan)), rule(spacing_mm=(model, model)), None)
    assert prepared.image.shape == (1, size, size)


def test_statistics_are_those_of_the_region_not_of_context_or_padding(rng: np.random.Generator) -> None:
    image = rng.normal(500, 20, size=(2, 20, 20, 20))
    image[:, 8:14, 8:14, 8:14] = rng.normal(10, 2, size=(2, 6, 6, 6))
    box = Box((8, 8, 8), (14, 14, 14))
    for name, low, high in (("zscore", 0.0, 1.0), ("minus1_1", -1.0, 1.0)):
        prepared = prepare(case_of(image), rule(normalise=name, multiple_of=16), box)
        inside = prepared.restore(prepared.image)
        for channel in inside.astype(np.float64):
            if name == "zscore":
                assert (channel.mean(), channel.std()) == pytest.approx((low, high), abs=1e-6)  # float32
            else:
                assert (channel.min(), channel.max()) == pytest.approx((low, high), abs=1e-6)


def test_values_are_clipped_at_the_percentiles_of_the_region(rng: np.random.Generator) -> None:
    image = rng.normal(size=(1, 12, 12, 12)).astype(np.float32)
    prepared = prepare(case_of(image), rule(clip_percentiles=(5, 90)), None)
    low, high = np.percentile(image, (5, 90))
    np.testing.assert_array_equal(prepared.image, np.clip(image, np.float32(low), np.float32(high)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0, 51], [102, 204]], [[0, 0.2], [0.4, 0.8]]),  # 8 bit, though not up to 255
        ([[0.0, 0.25], [0.5, 0.9]], [[0.0, 0.25], [0.5, 0.9]]),
        ([[0, 50.5], [100, 200]], [[0, 0.2525], [0.5, 1]]),
        ([[-1000, -500], [0, 1000]], [[0, 0.25], [0.5, 1]]),
    ],
)
def test_unit_keeps_published_ranges_and_stretches_others(
    values: list[list[float]], expected: list[list[float]]
) -> None:
    image = np.array([values], dtype=np.float32)
    prepared = prepare(case_of(image, (1.0, 1.0)), rule(normalise="unit", clip_percentiles=(0.0, 100.0)), None)
    np.testing.assert_allclose(prepared.image[0], expected, atol=1e-6)


@pytest.mark.parametrize("normalise", ["zscore", "minus1_1", "unit", "none"])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e30])
def test_a_constant_channel_becomes_zeros(normalise: str, value: float) -> None:
    image = np.full((1, 6, 6, 6), value)
    prepared = prepare(
        case_of(image), rule(normalise=normalise, multiple_of=4, clip_percentiles=(0.5, 99.5)), None
    )
    assert (prepared.image == 0).all() and prepared.image.shape == (1, 8, 8, 8)


def test_a_small_structure_on_plain_ground_is_not_clipped_away() -> None:
    image = np.zeros((1, 20, 20, 20))
    image[0, 10, 10, 8:12] = 5.0  # fewer voxels than the percentiles cut off
    prepared = prepare(case_of(image), rule(normalise="minus1_1", clip_percentiles=(0.5, 99.5)), None)
    assert prepared.image.max() == 1 and np.count_nonzero(prepared.image == 1) == 4


def test_a_region_may_reach_beyond_the_scan_but_not_lie_beside_it() -> None:
    case = case_of(np.random.default_rng(0).normal(size=(1, 6, 6, 6)))
    assert prepare(case, rule(), Box((-2, 0, 0), (3, 6, 99))).roi == Box((0, 0, 0), (3, 6, 6))
    with pytest.raises(CaseError):
        prepare(case, rule(), Box((6, 0, 0), (9, 6, 6)))


def test_a_model_of_other_dimensions_is_refused() -> None:
    with pytest.raises(CaseError, match="2D"):
        prepare(case_of(np.zeros((1, 6, 6)), (1.0, 1.0)), rule(spacing_mm=(1.0, 1.0, 1.0)), None)


def test_values_on_another_window_are_not_restored() -> None:
    prepared = prepare(case_of(np.zeros((1, 6, 6, 6))), rule(), None)
    with pytest.raises(CaseError):
        prepared.restore(np.zeros((2, 6, 6, 7), np.float32))


@pytest.mark.parametrize(
    "wrong",
    [
        {"clip_percentiles": (5, 5)},
        {"clip_percentiles": (-1, 50)},
        {"clip_percentiles": (1, 101)},
        {"normalise": "minmax"},
        {"multiple_of": 0},
        {"spacing_mm": (1.0, 0.0, 1.0)},
        {"spacing_mm": (1.0, float("nan"), 1.0)},
    ],
)
def test_an_impossible_rule_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(PlanError):
        rule(**wrong)


def test_a_real_hippocampus_goes_to_the_model_and_back(shared_dir: Path) -> None:
    folder = shared_dir / "data/volumes3d/hippocampus"
    path = sorted((folder / "images").glob("*.nii.gz"))[0]
    case = read_case([path], [folder / "labels" / path.name])
    labels = next(iter(case.raters.values()))
    house = ImageRule((1.0, 1.0, 1.0), (0.5, 99.5), "zscore", 8)
    prepared = prepare(case, house, None)
    assert all(side % 8 == 0 for side in prepared.image.shape[1:])
    hot = np.stack([prepared.encode_labels(labels) == k for k in range(3)]).astype(np.float32)
    np.testing.assert_array_equal(prepared.restore(hot).argmax(axis=0), labels)
