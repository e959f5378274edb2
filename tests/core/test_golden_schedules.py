"""Schedules, respacing and posterior coefficients against the tables of the public implementations.

Tolerances are those that the READMEs beside the tables state; hold another set against them with DIFFSEG_GOLDEN.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diffseg.noise import CosineSchedule, Level, LinearSchedule, LinearSimpleSchedule, TableSchedule, kept_indices
from diffseg.noise_tables import make_betas
from diffseg.sample import transition
from golden import GOLDEN, arrays, found

# The spelling of the published code on the left.
IMGX_BETAS = {"linear": "linear", "quadradic": "quadratic", "cosine": "cosine-imgx"}


def posterior(levels: Sequence[Level]) -> dict[str, NDArray[np.float64]]:
    """The published tables, cleanest first, from our levels."""
    ways = [transition(levels, k) for k in range(len(levels) - 1)][::-1]
    alpha = np.array([v.alpha for v in levels[:-1]])[::-1]
    sigma = np.array([v.sigma for v in levels[:-1]])[::-1]
    return {
        "betas": np.array([w.large for w in ways]),
        "alphas_cumprod": alpha**2,
        "posterior_variance": np.array([w.small for w in ways]),
        "posterior_log_variance_clipped": np.array([w.log_small for w in ways]),
        "posterior_mean_coef1": np.array([w.on_x0 for w in ways]),
        "posterior_mean_coef2": np.array([w.on_x for w in ways]),
        "posterior_mean_coeff_start": np.array([w.on_x0 for w in ways]),
        "posterior_mean_coeff_t": np.array([w.on_x for w in ways]),
        "sqrt_alphas_cumprod": alpha,
        "sqrt_one_minus_alphas_cumprod": sigma,
        "log_one_minus_alphas_cumprod": 2 * np.log(sigma),
        "sqrt_recip_alphas_cumprod": 1 / alpha,
        "sqrt_recipm1_alphas_cumprod": sigma / alpha,
        "sqrt_recip_alphas_cumprod_minus_one": sigma / alpha,
        "alphas_cumprod_prev": np.append(1, alpha[:-1] ** 2),
        "alphas_cumprod_next": np.append(alpha[1:] ** 2, 0),
    }


def tables() -> list[tuple[str, int]]:
    """Name and length of every guided-diffusion table."""
    names = [path.stem.split("_") for path in GOLDEN.glob("guided_diffusion/schedule_*.npz")]
    return [(name, int(count)) for _, name, count in names]


@pytest.mark.parametrize("path", found("guided_diffusion/schedule_*.npz"))
def test_guided_tables_and_their_posteriors(path: Path) -> None:
    _, name, count = path.stem.split("_")
    ours = posterior(TableSchedule(name, int(count)).levels(int(count)))  # type: ignore[arg-type]
    for key, value in arrays(path).items():
        np.testing.assert_allclose(ours[key], value, rtol=1e-10, err_msg=key)


@pytest.mark.parametrize("path", found("guided_diffusion/spaced_*.npz"))
def test_guided_tables_after_respacing(path: Path) -> None:
    respacing = path.stem.removeprefix("spaced_").replace("_", ",")
    expected = arrays(path)
    kept = expected.pop("timestep_map")
    # The file does not say of which table it was made.
    for name, count in [("linear", 1000), *tables()]:
        schedule = TableSchedule(name, count, respacing)  # type: ignore[arg-type]
        levels = schedule.levels(len(kept))
        ours = posterior(levels)
        if np.allclose(ours["alphas_cumprod"], expected["alphas_cumprod"], rtol=1e-10):
            break
    assert [v.told for v in levels[:-1]] == kept[::-1].tolist()
    for key, value in expected.items():
        np.testing.assert_allclose(ours[key], value, rtol=1e-10, err_msg=key)


@pytest.mark.parametrize("path", found("guided_diffusion/respacing.json"))
def test_respacing_keeps_the_published_steps_and_others_evenly(path: Path) -> None:
    for key, kept in json.loads(path.read_text()).items():
        count, request = key.split("|")
        ours = kept_indices(int(count), request)
        if isinstance(kept, list):
            assert ours == kept, key
            continue
        # The published rule refuses these; ours keeps as many, from the first to the last, evenly.
        steps = sum(int(part) for part in request.removeprefix("ddim").split(","))
        assert (len(ours), ours[0], ours[-1]) == (steps, 0, int(count) - 1), key
        gaps = np.diff(ours)
        assert gaps.max() - gaps.min() <= 1, key


@pytest.mark.parametrize("path", found("imgx_diffseg/beta_schedules.npz"))
def test_imgx_betas(path: Path) -> None:
    for key, value in arrays(path).items():
        kind = IMGX_BETAS.get(key, key)
        ours = make_betas(kind, len(value), 1e-4, 0.02)  # type: ignore[arg-type]
        # Computed there in float32, so to about 1e-7 of 1 - beta.
        np.testing.assert_allclose(ours, value, rtol=1e-4, atol=1e-7, err_msg=key)


@pytest.mark.parametrize("path", found("imgx_diffseg/resampled.npz"))
def test_imgx_resampled_tables(path: Path) -> None:
    d = arrays(path)
    for key, value in d.items():
        match = re.fullmatch(r"K(\d+)_(\w+)", key)
        assert match
        ours = posterior(LinearSchedule().levels(int(match[1])))[match[2]]
        # That code subtracts float32 numbers from 1: beta, near 1 where steps are few, and abar, near 1 when clean.
        lost = sum(2.0**-24 / (1 - d[f"K{match[1]}_{name}"].max()) for name in ("betas", "alphas_cumprod"))
        np.testing.assert_allclose(ours, value, rtol=1e-4 + lost, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("path", found("ambdiffseg/schedule.npz"))
def test_continuous_schedules_with_input_scale_and_limits(path: Path) -> None:
    values = arrays(path)
    kinds = {"cosine": CosineSchedule, "linear_simple": LinearSimpleSchedule}
    for key in [k for k in values if k.endswith("_gamma")]:
        name, b = key.removesuffix("_gamma").rsplit("_b", 1)
        alpha, sigma = kinds[name](float(b), 20.0).at(values["t"])
        stem = key.removesuffix("gamma")
        np.testing.assert_allclose(alpha**2, values[key], rtol=1e-6, err_msg=key)
        np.testing.assert_allclose(alpha, values[stem + "alpha"], rtol=1e-6, err_msg=key)
        np.testing.assert_allclose(sigma, values[stem + "sigma"], rtol=1e-6, err_msg=key)
        np.testing.assert_allclose((alpha / sigma) ** 2, values[stem + "snr"], rtol=1e-5, err_msg=key)
        np.testing.assert_allclose(2 * np.log(alpha / sigma), values[stem + "logsnr"], atol=1e-5, err_msg=key)
