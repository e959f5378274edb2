"""Losses against the numbers of the published code; the weights are those of the reference networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffseg.codec import MaskCodec
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
from diffseg.noise import CosineSchedule, LinearSchedule, TableSchedule
from diffseg.objectives import Amplitudes, Times
from diffseg.objectives.mask import recycled
from diffseg.train_plan import FitPlan
from golden import arrays, flags, found, tensors


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


# All systems but AmbDiffSeg, whose loss_weights.npz is something else.
@pytest.mark.parametrize("path", found("[!a]*/loss_*.npz"))
@torch.no_grad()
def test_hybrid_loss_and_bound_are_those_of_the_published_code(path: Path) -> None:
    told_flags, want = flags(path), tensors(path)
    net = network(path.parent, told_flags)
    schedule = TableSchedule(told_flags["noise_schedule"], told_flags["diffusion_steps"])
    transitions = Transitions.of_levels(schedule.levels(schedule.count))
    x0 = want["mask"] if "mask" in want else want["x_start"]
    eps, t = want["noise"], want["t"]
    x = transitions.at("alpha", t, x0) * x0 + transitions.at("sigma", t, x0) * eps
    told = t * (1000 / schedule.count) if told_flags["rescale_timesteps"] else t
    out = net(x, told, want.get("image"), want.get("y"))
    mse, bits = hybrid(transitions, t, x0, eps, out)
    if told_flags["rescale_learned_sigmas"]:
        bits = bits * schedule.count / 1000
    # Networks agree to 2e-5; at step 0 the variance is 1e-8 and multiplies what is left of that.
    np.testing.assert_allclose(mse, want["mse"], atol=5e-5)
    np.testing.assert_allclose(bits, want["vb"], atol=2e-4, rtol=1e-3)
    np.testing.assert_allclose(mse + bits, want["loss"], atol=3e-4)


NAMES = {"SNR": "snr", "SNR_trunc": "snr-truncated", "SNR_plus1": "snr-plus-one", "uniform": "uniform"}


@pytest.mark.parametrize("path", found("ambdiffseg/loss_weights*.npz"))
def test_weightings_are_those_of_the_published_code(path: Path) -> None:
    want = arrays(path)
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


@pytest.mark.parametrize("path", found("ambdiffseg/conversions*.npz"))
def test_weighted_losses_of_every_prediction_are_those_of_the_published_code(path: Path) -> None:
    want = arrays(path)
    weighting = WEIGHTINGS["snr-truncated"]()
    weights = level_weights(weighting, CosineSchedule(input_scale=0.1), want["t"].astype(np.float64))
    np.testing.assert_allclose(weights, want["loss_weights"], rtol=1e-6)
    for kind in (k.removeprefix("losses_") for k in want if k.startswith("losses_")):
        error = (want[f"pred_x_{kind}"] - want["x0"]).astype(np.float64) ** 2
        got = weights * error.reshape(len(error), -1).mean(1)
        np.testing.assert_allclose(got, want[f"losses_{kind}"], rtol=1e-5, err_msg=kind)
        np.testing.assert_allclose(got.mean(), want[f"loss_{kind}"], rtol=1e-5, err_msg=kind)


@pytest.mark.parametrize("path", found("imgx_diffseg/losses*.npz"))
def test_mask_losses_are_those_of_the_published_code(path: Path) -> None:
    want = tensors(path)
    logits, labels = want["logits"].movedim(-1, 1), want["label"]
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


@pytest.mark.parametrize("kind", ["next", "max"])
@pytest.mark.parametrize("path", found("imgx_diffseg/recycling*.npz"))
def test_recycling_is_that_of_the_published_code(path: Path, kind: str) -> None:
    want = tensors(path)
    count, label = int(want["K"]), want["label"]
    want = {k: v.movedim(-1, 1) if v.shape == want["noise"].shape else v for k, v in want.items()}
    times = Times(LinearSchedule(), FitPlan(updates=1, diffusion_steps=count, recycling=kind))  # type: ignore[arg-type]
    t = torch.as_tensor(times.t)[want[f"{kind}_t_index"].long()]
    before = times.before(t)
    assert times.index(before).tolist() == want[f"{kind}_t_index_re"].tolist()
    codec = MaskCodec(want["W"].shape[0])
    seen: list[torch.Tensor] = []

    def see(x: torch.Tensor, at: Amplitudes) -> torch.Tensor:
        """The published network's stand-in: it is given ``clip((x + 1) / 2, 0, 1)`` and the step's number."""
        mask = ((x + 1) / 2).clamp(0, 1)
        step = times.index(at.t).view(-1, 1, 1, 1, 1)
        out = torch.einsum("bk...,kl->bl...", mask, want["W"]) + want["bias"].view(1, -1, 1, 1, 1) + 0.1 * step
        seen.extend((x, out))
        return codec.from_logits(out)

    x0 = codec.encode(label)
    start = recycled(see, x0, times.at(before, x0), want["noise_re"])
    at = times.at(t, x0)
    see(at.noised(start, want["noise"]), at)
    got = dict(zip(("x_t_re", "model_out_re", "x_t", "model_out"), seen, strict=True)) | {"x_start_pred_re": start}
    for name, values in got.items():
        np.testing.assert_allclose(values, want[f"{kind}_{name}"], atol=1e-5, err_msg=name)
