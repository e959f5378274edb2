"""Whole runs: converted networks and our samplers together, against recorded runs of the public implementations.

Recorded noise stands in for ours. Every run is held against the record twice: step by step from the recorded states,
and from the first state to the last. Tolerances are those that the READMEs beside the records state; hold another set
against them with DIFFSEG_GOLDEN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from converted import PROFILES, classifier_of, network_of
from diffseg.checkpoint import build_schedule
from diffseg.codec import build_codec
from diffseg.convert.conversion import Conversion
from diffseg.denoise import Denoiser, NetworkDenoiser, build_head, eps_from_x0, x0_from_eps
from diffseg.guidance import class_gradient, guided_eps, guided_mean
from diffseg.nets.guided_unet import ImageOnly
from diffseg.noise import Level
from diffseg.sample import DDIM, DDPM, Noise, Sampler, Step, transition
from golden import arrays, found, tensors

GUIDED = [name for name in PROFILES if name != "ambdiffseg"]
ONE_STEP, FED, FINAL = 5e-5, 1e-4, 1e-3
# Agreement of network outputs; in a clean state made from predicted noise it appears sigma / alpha times larger.
OUTPUT = 2e-5


@dataclass(frozen=True)
class Recorded(Noise):
    """The recorded draw of every step, whatever seed and members; ``values[k]`` belongs to step k + 1."""

    values: tuple[Tensor, ...] = ()

    def draw(self, index: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        value = self.values[index - 1]
        assert value.shape[1:] == tuple(shape)
        return value


def close(ours: Tensor, expected: Tensor, what: str, atol: float) -> None:
    torch.testing.assert_close(ours, expected, rtol=0, atol=atol, msg=lambda m: f"{what}: {m}")


def clean(level: Level, atol: float) -> float:
    """Tolerance of a clean state seen from ``level``."""
    return max(atol, OUTPUT * level.sigma / level.alpha)


def in_float32(levels: Sequence[Level]) -> list[Level]:
    """The levels as published DDIM code has them: ``1 - abar`` is a difference of float32 numbers there."""
    sigmas = [float(np.sqrt(np.float32(1) - np.float32(v.alpha**2))) for v in levels]
    return [replace(v, sigma=s) for v, s in zip(levels, sigmas, strict=True)]


def denoiser_of(made: Conversion, d: dict[str, Tensor], **head_changes: Any) -> NetworkDenoiser:
    """The converted model bound to what the record says it saw: an image as the network takes it, or labels."""
    card = made.card
    head = replace(build_head(card.prediction, card.prediction_settings), **head_changes)
    codec = build_codec(card.codec, len(card.classes), card.codec_settings)
    if card.task == "mask":
        return NetworkDenoiser(Batched(made.network, d["image"]), d["image"][:1], head, codec)
    return NetworkDenoiser(ImageOnly(made.network, d.get("y")), torch.zeros(1, 0, 1, 1), head, codec)


class Batched(torch.nn.Module):
    """A mask network that sees another image in every row of the batch, as the records have it."""

    def __init__(self, network: torch.nn.Module, images: Tensor) -> None:
        super().__init__()
        self.network, self.images = network, images

    def forward(self, x: Tensor, t: Tensor, image: Tensor) -> Tensor:
        out: Tensor = self.network(x, t, self.images)
        return out


def levels_of(made: Conversion, respacing: str) -> tuple[Level, ...]:
    """The levels of a recorded run."""
    schedule: Any = replace(build_schedule(made.card), respacing=respacing)  # type: ignore[type-var]
    steps = sum(int(n) for n in respacing.removeprefix("ddim").split(",")) if respacing else schedule.count
    levels: tuple[Level, ...] = schedule.levels(steps)
    return levels


def run(sampler: Sampler, denoiser: Denoiser, x: Tensor, noise: Noise, levels: Sequence[Level]) -> list[Step]:
    return list(sampler.steps(denoiser, x, noise, levels))


def first(sampler: Sampler, denoiser: Denoiser, x: Tensor, noise: Noise, levels: Sequence[Level], k: int) -> Step:
    """The step that leaves ``levels[k]``."""
    return next(iter(sampler.steps(denoiser, x, noise, levels, k)))


def ancestral(made: Conversion) -> DDPM:
    """The sampler of the guided family: learned variance, or beta where none was learned."""
    return DDPM("learned" if made.card.prediction_settings["learned_variance"] else "large")


def without_noise(folder: str, noise: Tensor) -> Tensor:
    """cond_ddpm_wsss leaves the noise out of its DDIM."""
    return torch.zeros_like(noise) if folder == "cond_ddpm_wsss" else noise


@pytest.mark.parametrize("path", found(*(f"{name}/traj_*.npz" for name in GUIDED)))
def test_runs_of_the_guided_family(path: Path) -> None:
    d, raw = tensors(path), arrays(path)
    tag, kind = path.stem.removeprefix("traj_").rsplit("_", 1)
    made = network_of(path.parent, tag)
    levels = levels_of(made, str(raw["respacing"]))
    assert [v.told for v in levels[:-1]] == raw["timestep_map"][::-1].tolist()
    noise, sampler = d["noise"], ancestral(made) if kind.startswith("ddpm") else DDIM(float(raw["eta"]))
    if isinstance(sampler, DDIM):
        noise = without_noise(path.parent.name, noise)
    recorded, denoiser = Recorded(0, (), tuple(noise)), denoiser_of(made, d)
    for k in range(len(levels) - 1):
        step = first(sampler, denoiser, d["x"][k], recorded, levels, k)
        close(step.x0, d["pred_xstart"][k], f"clean state of step {k + 1}", clean(levels[k], FED))
        close(step.x, d["x"][k + 1], f"state after step {k + 1}", FED)
    steps = run(sampler, denoiser, d["x"][0], recorded, levels)
    close(steps[-1].x, d["x"][-1], "last state", FINAL)


@pytest.mark.parametrize("path", found(*(f"{name}/steps_*.npz" for name in GUIDED)))
def test_single_steps_of_all_thousand(path: Path) -> None:
    d = tensors(path)
    made = network_of(path.parent, path.stem.removeprefix("steps_"))
    levels, denoiser = levels_of(made, ""), denoiser_of(made, d)
    for i, t in enumerate(d["single_t"].tolist()):
        k, x = len(levels) - 2 - t, d["single_x"][i]
        seen, way = denoiser(x, levels[k]), transition(levels, k)
        close(seen.x0, d["single_pred_xstart"][i], f"clean state at {t}", clean(levels[k], ONE_STEP))
        mean, log_variance = ancestral(made).moments(seen, x, way)
        close(mean, d["single_mean"][i], f"mean at {t}", ONE_STEP)
        log_variance = torch.as_tensor(log_variance).float()
        close(log_variance.exp(), d["single_variance"][i], f"variance at {t}", ONE_STEP)
        # Log variances reach -18: relative rounding of that size.
        torch.testing.assert_close(log_variance, d["single_log_variance"][i], rtol=1e-5, atol=ONE_STEP)
        for key in [key for key in d if key.startswith("single_dd")]:
            check_sample(key, d, i, (denoiser, x, levels, k, ancestral(made)), path.parent.name)


def check_sample(key: str, d: dict[str, Tensor], i: int, place: tuple[Any, ...], folder: str) -> None:
    """One recorded sample of a single step, ``single_ddpm_sample`` or ``single_ddim<eta>_sample``."""
    denoiser, x, levels, k, sampler = place
    name = key.removeprefix("single_").removesuffix("_sample")
    noise = d["single_noise"][i]
    if name != "ddpm":
        digits = name.removeprefix("ddim")
        sampler = DDIM(float(f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits))
        levels = [*levels[: k + 1], *in_float32(levels[k + 1 :])]
        noise = without_noise(folder, noise)
    recorded = Recorded(0, (), (noise,) * (k + 1))
    step = first(sampler, denoiser, x, recorded, levels, k)
    # The recorded states lie off the data, so that eps reaches hundreds, each with the rounding of float32.
    eps = eps_from_x0(x, step.x0, levels[k].alpha, levels[k].sigma)
    close(step.x, d[key][i], f"{name} from level {k}", ONE_STEP + 2**-24 * float(eps.abs().max()))


@pytest.mark.parametrize("path", found("guided_diffusion/guided_steps*.npz"))
def test_steps_guided_by_a_classifier(path: Path) -> None:
    d, raw = tensors(path), arrays(path)
    made, classifier = guided_pair(path, d["x"].shape[1])
    levels = levels_of(made, str(len(raw["timestep_map"])))
    assert [v.told for v in levels[:-1]] == raw["timestep_map"][::-1].tolist()
    scale = float(raw["scale"])
    for i, index in enumerate(d["t_index"].tolist()):
        k, x, noise = len(levels) - 2 - index, d["x"][i : i + 1], d["noise"][i : i + 1]
        level, way = levels[k], transition(levels, k)
        seen = denoiser_of(made, {})(x, level)
        gradient = class_gradient(classifier.network, x, level.told, int(d["y"][i]))
        mean, log_variance = ancestral(made).moments(seen, x, way)
        log_variance = torch.as_tensor(log_variance)
        ours = guided_mean(mean, log_variance.exp(), gradient, scale)
        if index:
            ours = ours + (log_variance / 2).exp() * noise
        close(ours.float(), d["ddpm_sample"][i : i + 1], "guided ancestral step", ONE_STEP)
        close(seen.x0, d["ddpm_pred_xstart"][i : i + 1], "clean state, unguided", ONE_STEP)
        eps = guided_eps(eps_from_x0(x, seen.x0, level.alpha, level.sigma), gradient, level, scale)
        x0 = x0_from_eps(x, eps, level.alpha, level.sigma)
        close(x0, d["ddim_pred_xstart"][i : i + 1], "clean state, guided", clean(level, ONE_STEP))
        below = levels[k + 1]
        sample = below.alpha * x0 + below.sigma * eps
        close(sample, d["ddim_sample"][i : i + 1], "guided deterministic step", ONE_STEP)


def guided_pair(path: Path, channels: int) -> tuple[Conversion, Conversion]:
    """The U-Net and the classifier that were run together: those for as many channels, without labels."""
    folder = path.parent
    tags = [p.stem.removeprefix("flags_") for p in sorted(folder.glob("flags_*.json"))]
    nets = [network_of(folder, tag) for tag in tags if not tag.startswith("classifier")]
    wanted = [n for n in nets if len(n.card.channels) == channels and not n.card.network["labels"]]
    return wanted[0], classifier_of(folder, "")


@pytest.mark.parametrize("path", found("cimd/repo_loop_*.npz"))
def test_the_loop_of_the_cimd_repository(path: Path) -> None:
    d, raw = tensors(path), arrays(path)
    made = network_of(path.parent, path.stem.removeprefix("repo_loop_"))
    # The image goes the way of a person's image: one grey channel, of which the card makes four.
    image = d["image_first"].repeat(1, made.card.image.repeat, 1, 1)
    steps = len(raw["timestep_map"])
    levels = levels_of(made, str(steps))
    assert sorted(v.told for v in levels[:-1]) == sorted(raw["timestep_map"].tolist())
    recorded = Recorded(0, (), tuple(d["noise"]))
    states = run(ancestral(made), denoiser_of(made, {"image": image}), d["x_init"], recorded, levels)
    close(states[0].x, d["step0"], "first state", FED)
    close(states[-1].x, d["final"], "last state", FINAL)


@pytest.mark.parametrize("path", found("ambdiffseg/traj_*.npz"))
def test_runs_of_ambdiffseg(path: Path) -> None:
    d, raw = tensors(path), arrays(path)
    prediction, kind, variance, steps = path.stem.removeprefix("traj_").split("_")
    made = network_of(path.parent, "")
    heads = {"x": "x0-tanh", "p": "x0-probability"}
    settings = dict(made.card.prediction_settings)
    if prediction == "both":
        settings["published_weights"] = True
    card = replace(made.card, prediction=heads.get(prediction, prediction), prediction_settings=settings)
    made = replace(made, card=card)
    levels = build_schedule(card).levels(int(steps))
    np.testing.assert_allclose([v.told for v in levels[:-1]], raw["t_cond"], rtol=0, atol=1e-7)
    sampler: Sampler = DDPM(variance) if kind == "ddpm" else DDIM()  # type: ignore[arg-type]
    recorded, denoiser = Recorded(0, (), tuple(d["noise"])), denoiser_of(made, d)
    after = [*d["x_in"][1:], d["final"]]
    for k in range(int(steps)):
        step = first(sampler, denoiser, d["x_in"][k], recorded, levels, k)
        close(step.x0, d["pred_x_clipped"][k], f"clean mask of step {k + 1}", clean(levels[k], FED))
        close(step.x, after[k], f"state after step {k + 1}", FED)
    states = run(sampler, denoiser, d["x_init"], recorded, levels)
    close(states[-1].x, d["final"], "last state", FINAL)
    codec = build_codec(card.codec, 2, card.codec_settings)
    agree = (codec.labels(states[-1].x) == d["mask"][:, 0]).float().mean()
    # Random weights leave many pixels near the threshold, where 1e-3 decides.
    assert agree > 0.995
