"""Converted networks against outputs of the public implementations: forward passes, time embeddings, gradients.

Tolerances are those that the READMEs beside the records state; hold another set against them with DIFFSEG_GOLDEN.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from converted import PROFILES, classifier_of, network_of
from diffseg.nets.blocks import sinusoid
from diffseg.nets.guided_unet import GuidedUNet
from golden import found, tensors

FORWARD = 2e-5
# No published network has heads of four channels.
WRONG = {"head_channels": 4}
GUIDED = [name for name in PROFILES if name != "ambdiffseg"]


def close(ours: Tensor, expected: Tensor, what: str, atol: float = FORWARD) -> None:
    torch.testing.assert_close(ours.detach(), expected, rtol=0, atol=atol, msg=lambda m: f"{what}: {m}")


@pytest.mark.parametrize("path", found(*(f"{name}/forward_*.npz" for name in GUIDED)))
def test_networks_of_the_guided_family_give_the_recorded_output(path: Path) -> None:
    d = tensors(path)
    network: Any = network_of(path.parent, path.stem.removeprefix("forward_")).network
    with torch.no_grad():
        close(network(d["x"], d["t"], None, d.get("y")), d["out"], "square")
        ours = network(d["x_nonsquare"], d["t_float"], None, d.get("y_nonsquare"))
        close(ours, d["out_nonsquare"], "not square, fractional times")
        close(sinusoid(d["t"], d["timestep_embedding"].shape[1]), d["timestep_embedding"], "sinusoid")
        close(network.time_embed(d["timestep_embedding"]), d["time_embed_out"], "time embedding")


@pytest.mark.parametrize("path", found("ambdiffseg/forward*.npz"))
def test_ambdiffseg_gives_the_recorded_output(path: Path) -> None:
    d = tensors(path)
    network: Any = network_of(path.parent, path.stem.removeprefix("forward").lstrip("_")).network
    with torch.no_grad():
        out = network(d["x"], d["t"], d["image"])
        close(out, d["out_no_activation"], "without activation")
        close(out.tanh(), d["out_tanh"], "with tanh")
        out = network(d["x_nonsquare"], d["t_scalar"].reshape(1), d["image_nonsquare"])
        close(out, d["out_nonsquare_no_activation"], "not square")
        close(out.tanh(), d["out_nonsquare_tanh"], "not square, with tanh")
    embedding = sinusoid(d["t"], d["timestep_embedding"].shape[1], network.config.max_period)
    close(embedding, d["timestep_embedding"], "sinusoid")


@pytest.mark.parametrize("path", found(*(f"{name}/classifier*forward*.npz" for name in GUIDED)))
def test_classifiers_give_the_recorded_logits_and_gradients(path: Path) -> None:
    d = tensors(path)
    tag = path.stem.removeprefix("classifier").replace("_forward", "")
    network = classifier_of(path.parent, tag).network
    x = d["x"].clone().requires_grad_(True)
    logits = network(x, d["t"])
    log_prob = logits.log_softmax(dim=1)[range(len(x)), d["y"]]
    (gradient,) = torch.autograd.grad(log_prob.sum(), x)
    close(logits, d["logits"], "logits")
    close(log_prob, d["log_prob_y"], "log probability")
    close(gradient, d["grad"], "gradient", atol=1e-5)


@pytest.mark.parametrize("path", found(*(f"{name}/flags_*.json" for name in GUIDED)))
def test_the_architecture_read_from_the_tensors_is_the_one_that_made_them(path: Path) -> None:
    flags = json.loads(path.read_text())
    tag = path.stem.removeprefix("flags_")
    if tag.startswith("classifier"):
        made = classifier_of(path.parent, tag.removeprefix("classifier"))
        config: Any = made.network.config
        mult, base = tuple(flags["channel_mult"]), flags["model_channels"]
        factors = tuple(flags["attention_resolutions"])
        assert config.outputs == flags["out_channels"] and config.pool == flags["pool"]
    else:
        made = network_of(path.parent, tag)
        config = made.network.config
        mult = tuple(float(m) for m in flags["channel_mult"].split(","))
        base = flags["num_channels"]
        factors = tuple(flags["image_size"] // int(r) for r in flags["attention_resolutions"].split(","))
        assert (config.inputs, config.outputs) == (flags["_in_channels"], flags["_out_channels"])
        assert config.labels == (flags["_num_classes"] or 0)
        assert made.card.task == ("mask" if path.parent.name in ("cimd", "wolleb_seg") else "image")
        assert count(made) == flags.get("_parameters", count(made))
    assert config.base == base and config.widths == tuple(int(base * m) for m in mult)
    assert config.blocks == (flags["num_res_blocks"],) * len(mult)
    # Factors beyond the lowest resolution name no level.
    assert set(config.attention) == {2**level for level in range(len(mult))} & set(factors)
    assert config.scale_shift == flags["use_scale_shift_norm"]
    assert config.resblock_updown == (flags["resblock_updown"] and len(mult) > 1)


def count(made: Any) -> int:
    """Parameters of a converted network."""
    return sum(p.numel() for p in made.network.parameters())


@pytest.mark.parametrize("path", found("ambdiffseg/flags*.json"))
def test_ambdiffseg_is_read_as_it_was_made(path: Path) -> None:
    flags = json.loads(path.read_text())
    made = network_of(path.parent, path.stem.removeprefix("flags").lstrip("_"))
    config: Any = made.network.config
    unet = flags["unet"]
    assert config.widths == tuple(unet["num_channels"] * m for m in unet["channel_mult"])
    assert config.blocks == tuple(unet["num_res_blocks"])
    assert config.middle_blocks == unet["num_middle_res_blocks"] and config.heads == unet["num_heads"]
    assert count(made) == flags["_parameters"] and len(made.network.state_dict()) == flags["_tensors"]
    assert made.card.steps == flags["sampling"]["num_timesteps"]


@pytest.mark.parametrize("path", found(*(f"{name}/forward_*.npz" for name in GUIDED)))
def test_a_wrong_number_of_heads_would_be_seen(path: Path) -> None:
    """The record can tell heads apart, although the weights fit all of them."""
    right: Any = network_of(path.parent, path.stem.removeprefix("forward_")).network
    wrong = GuidedUNet(dataclasses.replace(right.config, **WRONG)).eval()
    wrong.load_state_dict(right.state_dict())
    d = tensors(path)
    with torch.no_grad():
        error = (wrong(d["x"], d["t"], None, d.get("y")) - d["out"]).abs().max()
    assert error > 10 * FORWARD
