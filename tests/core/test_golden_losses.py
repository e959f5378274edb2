"""Losses against the numbers of the published code; the weights are those of the reference networks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from diffseg.convert.infer import infer_unet
from diffseg.convert.weights import read_weights
from diffseg.losses import (
    WEIGHTINGS,
    Transitions,
    cross_entropy,
    dice_loss,
    dice_per_class,
    focal,
    hybrid,
    level_weights,
    log_snr_slope,
)
from diffseg.losses.weights import Sigmoid
from diffseg.nets.guided_unet import GuidedUNet, GuidedUNetConfig
from diffseg.noise import CosineSchedule

Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def golden() -> Path:
    """Folder of reference numbers; another set of the same layout can be named by DIFFSEG_GOLDEN."""
    shared = Path(os.environ.get("DIFFSEG_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    folder = Path(os.environ.get("DIFFSEG_GOLDEN", shared / "golden"))
    if not folder.is_dir():
        pytest.skip(f"the reference numbers are not at {folder}; set DIFFSEG_GOLDEN to use some elsewhere")
    return folder


def arrays(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def tensor(values: NDArray[Any]) -> torch.Tensor:
    return torch.as_tensor(values if values.dtype.kind in "iu" else values.astype(np.float32))


def network(folder: Path, flags: dict[str, Any]) -> GuidedUNet:
    """The reference network: shapes from its tensors, heads from its flags."""
    weights = read_weights(folder / (flags.get("_safetensors") or flags["_pt_file"]))
    config = infer_unet(weights.shapes) | {
        "heads": flags["num_heads"],
        "heads_up": None if flags["num_heads_upsample"] == -1 else flags["num_heads_upsample"],
        "head_channels": None if flags["num_head_channels"] == -1 else flags["num_head_channels"],
        "head_order": "new" if flags["use_new_attention_order"] else "legacy",
    }
    net = GuidedUNet(GuidedUNetConfig(**config)).eval()
    net.load_state_dict(weights.tensors)
    return net


def guided_abar(kind: str, count: int) -> NDArray[np.float64]:
    """Schedules of guided-diffusion, written out."""
    if kind == "linear":
        scale = 1000 / count
        return np.cumprod(1 - np.linspace(scale * 1e-4, scale * 0.02, count))
    u = np.arange(count + 1) / count
    bar = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.cumprod(1 - np.minimum(1 - bar[1:] / bar[:-1], 0.999))


HYBRID = [("guided_diffusion", "heads"), ("cond_ddpm_wsss", "a"), ("wolleb_seg", "a")]


@pytest.mark.parametrize(("system", "name"), HYBRID, ids=[s for s, _ in HYBRID])
@torch.no_grad()
def test_hybrid_loss_and_bound_are_those_of_the_published_code(golden: Path, system: str, name: str) -> None:
    folder = golden / system
    flags, want = json.loads((folder / f"flags_{name}.json").read_text()), arrays(folder / f"loss_{name}.npz")
    net = network(folder, flags)
    transitions = Transitions.of(guided_abar(flags["noise_schedule"], flags["diffusion_steps"]))
    x0 = tensor(want["mask"] if "mask" in want else want["x_start"])
    eps, t = tensor(want["noise"]), tensor(want["t"])
    x = transitions.at("alpha", t, x0) * x0 + transitions.at("sigma", t, x0) * eps
    told = t * (1000 / flags["diffusion_steps"]) if flags["rescale_timesteps"] else t
    image = tensor(want["image"]) if "image" in want else None
    out = net(x, told, image, tensor(want["y"]) if "y" in want else None)
    mse, bits = hybrid(transitions, t, x0, eps, out, flags["rescale_learned_sigmas"])
    # Networks agree to 2e-5; at step 0 the variance is 1e-8 and multiplies what is left of that.
    np.testing.assert_allclose(mse, want["mse"], atol=5e-5)
    np.testing.assert_allclose(bits, want["vb"], atol=2e-4, rtol=1e-3)
    np.testing.assert_allclose(mse + bits, want["loss"], atol=3e-4)


NAMES = {"SNR": "snr", "SNR_trunc": "snr-truncated", "SNR_plus1": "snr-plus-one", "uniform": "uniform"}


def test_weightings_are_those_of_the_published_code(golden: Path) -> None:
    want = arrays(golden / "ambdiffseg" / "loss_weights.npz")
    schedule, t = CosineSchedule(input_scale=0.1), want["t"]
    # Their time is float32 (1e-7 relative in alpha and sigma), the derivative is taken by differences here.
    np.testing.assert_allclose(log_snr_slope(schedule, t), want["diff_logsnr"], rtol=1e-6)
    checked = 0
    for key in (k for k in want if k not in ("t", "diff_logsnr")):
        name, decoupled = key.removesuffix("_decoupled"), key.endswith("_decoupled")
        if name.startswith("sigmoid"):
            bias = float(name.partition("_")[2] or 0)
            weighting = WEIGHTINGS["sigmoid-code"](bias=bias)  # type: ignore[call-arg]
            paper = Sigmoid(bias=-bias)
            np.testing.assert_array_equal(level_weights(weighting, schedule, t), level_weights(paper, schedule, t))
        else:
            weighting = WEIGHTINGS[NAMES[name]]()
        np.testing.assert_allclose(level_weights(weighting, schedule, t, decoupled), want[key], rtol=1e-6, err_msg=key)
        checked += 1
    assert checked >= 10


def test_weighted_losses_of_every_prediction_are_those_of_the_published_code(golden: Path) -> None:
    want = arrays(golden / "ambdiffseg" / "conversions.npz")
    weighting = WEIGHTINGS["snr-truncated"]()
    weights = level_weights(weighting, CosineSchedule(input_scale=0.1), want["t"].astype(np.float64))
    np.testing.assert_allclose(weights, want["loss_weights"], rtol=1e-6)
    for kind in (k.removeprefix("losses_") for k in want if k.startswith("losses_")):
        error = (want[f"pred_x_{kind}"] - want["x0"]).astype(np.float64) ** 2
        got = weights * error.reshape(len(error), -1).mean(1)
        np.testing.assert_allclose(got, want[f"losses_{kind}"], rtol=1e-5, err_msg=kind)
        np.testing.assert_allclose(got.mean(), want[f"loss_{kind}"], rtol=1e-5, err_msg=kind)


def test_mask_losses_are_those_of_the_published_code(golden: Path) -> None:
    want = arrays(golden / "imgx_diffseg" / "losses.npz")
    logits, labels = tensor(want["logits"]).movedim(-1, 1), tensor(want["label"])
    p, q = logits.softmax(1), logits.sigmoid()
    got = {
        "dice_loss_per_class_softmax": dice_per_class(p, labels),
        "dice_loss_per_class_sigmoid": dice_per_class(q, labels),
        "dice_loss_foreground_mean": dice_loss(p, labels),
        "cross_entropy_softmax": cross_entropy(p, labels),
        "cross_entropy_sigmoid": cross_entropy(q, labels, exclusive=False),
        "focal_softmax": focal(p, labels),
        "focal_sigmoid": focal(q, labels, exclusive=False),
        "total_dice_plus_ce": dice_loss(p, labels) + cross_entropy(p, labels),
        "total_dice_plus_focal": dice_loss(p, labels) + focal(p, labels),
    }
    for name, values in got.items():
        np.testing.assert_allclose(values, want[name], atol=1e-5, err_msg=name)
