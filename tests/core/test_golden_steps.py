"""Single steps of the samplers against recorded steps of the public implementations, state by state.

The networks are tested elsewhere: here what the network saw is taken from the record. Tolerances are those that the
READMEs beside the records state; hold another set against them with DIFFSEG_GOLDEN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffseg.codec import BinaryCodec, MaskCodec
from diffseg.denoise import HEADS, BothHead, EpsHead, Head, Prediction, X0ValueHead, eps_from_x0, x0_from_eps
from diffseg.noise import CosineSchedule, Level, LinearSchedule, LinearSimpleSchedule, NoiseSchedule, TableSchedule
from diffseg.sample import DDIM, DDPM, Noise, Sampler, transition
from golden import arrays, flags, found, tensors

CODEC = BinaryCodec()
STEP = 5e-5
GUIDED = ("guided_diffusion", "cimd", "wolleb_seg")
HEAD_NAMES = {"x": "x0-value", "eps": "eps", "v": "v", "p": "x0-probability", "p_logits": "x0"}


@dataclass(frozen=True)
class Recorded(Noise):
    """Gives one recorded draw whatever is asked for."""

    value: Tensor | None = None

    def draw(self, index: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        assert self.value is not None and self.value.shape[1:] == tuple(shape)
        return self.value


def one_step(
    sampler: Sampler, seen: Prediction, x: Tensor, noise: Tensor | None, levels: Sequence[Level], k: int
) -> Tensor:
    """The state after the step that leaves ``levels[k]``, for a denoiser that saw ``seen``."""
    steps = sampler.steps(lambda x, level: seen, x, Recorded(0, (), noise), levels, k)
    return next(steps).x


def amplitudes(level: Level) -> tuple[Tensor, Tensor]:
    return torch.tensor(level.alpha), torch.tensor(level.sigma)


def close(ours: Tensor, expected: Tensor, what: str, atol: float = STEP, rtol: float = 1e-6) -> None:
    torch.testing.assert_close(ours, expected, rtol=rtol, atol=atol, msg=lambda m: f"{what}: {m}")


def in_float32(levels: Sequence[Level]) -> list[Level]:
    """The levels as the published DDIM has them: ``1 - abar`` is a difference of float32 numbers there.

    Near the clean end that costs up to 3e-4 of sigma; states off the data, as recorded, have an eps of hundreds that
    shows it. Ours is exact, so the comparison must make the same loss.
    """
    sigmas = [float(np.sqrt(np.float32(1) - np.float32(v.alpha**2))) for v in levels]
    return [replace(v, sigma=s) for v, s in zip(levels, sigmas, strict=True)]


def table(path: Path, respacing: str = "") -> TableSchedule:
    made = flags(path)
    rescale = made["rescale_timesteps"]
    return TableSchedule(made["noise_schedule"], made["diffusion_steps"], respacing, rescale)


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
@pytest.mark.parametrize("kind", ["EPSILON", "START_X"])
@pytest.mark.parametrize("path", found("guided_diffusion/p_mean_variance.npz"))
def test_mean_and_variance_of_every_guided_choice(path: Path, kind: str, variance: str) -> None:
    named = {"small": "FIXED_SMALL", "large": "FIXED_LARGE", "learned": "LEARNED_RANGE"}[variance]
    d = tensors(path)
    count = max(int(d["t"].max()) + 1, 1000)
    levels = TableSchedule(str(arrays(path)["schedule"]), count).levels(count)  # type: ignore[arg-type]
    for clip in (True, False) if variance == "learned" else (True,):
        stem = f"{kind}_{named}" if clip else f"{kind}_{named}_noclip"
        head = {"EPSILON": EpsHead, "START_X": X0ValueHead}[kind](variance == "learned", clip=clip)
        for i, t in enumerate(d["t"].tolist()):
            k = count - 1 - t
            x, output = d["x"][i][None], d["model_output"][i][None]
            output = output if variance == "learned" else output[:, :1]
            seen = head.predict(output, x, *amplitudes(levels[k]), CODEC)
            mean, log_variance = DDPM(variance).moments(seen, x, transition(levels, k))  # type: ignore[arg-type]
            log_variance = torch.as_tensor(log_variance, dtype=torch.float32).expand_as(mean)
            # rtol: without clipping x0 reaches 1 / sqrt(abar) = 158 times the output, in float32.
            close(seen.x0[0], d[f"{stem}_pred_xstart"][i], f"{stem} x0 at {t}", rtol=1e-5)
            close(mean[0], d[f"{stem}_mean"][i], f"{stem} mean at {t}", rtol=1e-5)
            close(log_variance[0], d[f"{stem}_log_variance"][i], f"{stem} log variance at {t}", rtol=1e-5)


@pytest.mark.parametrize("path", found("guided_diffusion/p_mean_variance.npz"))
def test_noising_and_posterior_of_guided_diffusion(path: Path) -> None:
    d = tensors(path)
    count = max(int(d["t"].max()) + 1, 1000)
    levels = TableSchedule(str(arrays(path)["schedule"]), count).levels(count)  # type: ignore[arg-type]
    for i, t in enumerate(d["t"].tolist()):
        level, way = levels[count - 1 - t], transition(levels, count - 1 - t)
        x, eps = d["x"][i], d["model_output"][i, :1]
        close(level.alpha * x + level.sigma * eps, d["q_sample_x"][i], f"noised at {t}")
        mean = way.on_x * d["q_sample_x"][i] + way.on_x0 * x
        close(mean, d["q_posterior_mean"][i], f"mean at {t}")
        close(torch.full_like(x, way.small), d["q_posterior_variance"][i], f"variance at {t}")
        close(torch.full_like(x, way.log_small), d["q_posterior_log_variance_clipped"][i], f"log at {t}")


def learned(d: dict[str, Tensor], i: int, way: object) -> Prediction:
    """What the network saw, with the fraction that its recorded log variance means."""
    low, high = way.log_small, way.log_beta  # type: ignore[attr-defined]
    fraction = (d["single_log_variance"][i].double() - low) / (high - low) if high > low else None
    return Prediction(d["single_pred_xstart"][i], variance_fraction=fraction)


@pytest.mark.parametrize("path", found(*(f"{g}/steps_*.npz" for g in GUIDED)))
def test_single_steps_of_the_guided_family(path: Path) -> None:
    d = tensors(path)
    schedule = table(path)
    levels = schedule.levels(schedule.count)
    for i, t in enumerate(d["single_t"].tolist()):
        k = schedule.count - 1 - t
        x, noise = d["single_x"][i], d["single_noise"][i]
        seen = learned(d, i, transition(levels, k))
        if seen.variance_fraction is not None:
            mean, log_variance = DDPM("learned").moments(seen, x, transition(levels, k))
            close(mean, d["single_mean"][i], f"mean at {t}")
            close(torch.as_tensor(log_variance).exp().float(), d["single_variance"][i], f"variance at {t}")
            ours = one_step(DDPM("learned"), seen, x, noise, levels, k).float()
            close(ours, d["single_ddpm_sample"][i], f"ddpm at {t}")
        for key in [key for key in d if key.startswith("single_ddim")]:
            digits = key.removeprefix("single_ddim").removesuffix("_sample")
            eta = float(digits[0] + "." + digits[1:]) if len(digits) > 1 else float(digits)
            rounded = [*levels[: k + 1], *in_float32(levels[k + 1 :])]
            # The recorded states lie off the data, so that eps reaches hundreds, each with the rounding of float32.
            eps = eps_from_x0(x, seen.x0, levels[k].alpha, levels[k].sigma)
            atol = STEP + 2**-24 * float(eps.abs().max())
            close(one_step(DDIM(eta), seen, x, noise, rounded, k), d[key][i], f"{key} at {t}", atol)


@pytest.mark.parametrize("path", found(*(f"{g}/traj_*_ddim*.npz" for g in GUIDED)))
def test_ddim_runs_of_the_guided_family_step_by_step(path: Path) -> None:
    d, raw = tensors(path), arrays(path)
    steps = len(d["timestep_map"])
    levels = table(path, str(raw["respacing"])).levels(steps)
    assert [v.told for v in levels[:-1]] == raw["timestep_map"][::-1].tolist()
    for k in range(steps):
        seen = Prediction(d["pred_xstart"][k])
        ours = one_step(DDIM(float(raw["eta"])), seen, d["x"][k], d["noise"][k], levels, k)
        close(ours, d["x"][k + 1], f"step {k + 1}", atol=1e-4)


@pytest.mark.parametrize("path", found(*(f"{g}/traj_*_ddpm*.npz" for g in GUIDED)))
def test_ddpm_runs_of_the_guided_family_stay_within_the_variance_bounds(path: Path) -> None:
    d, raw = tensors(path), arrays(path)
    steps = len(d["timestep_map"])
    levels = table(path, str(raw["respacing"])).levels(steps)
    for k in range(steps - 1):
        # The fraction that the network gave is not recorded: it is read off the state and must explain the step.
        way = transition(levels, k)
        mean = way.on_x * d["x"][k].double() + way.on_x0 * d["pred_xstart"][k].double()
        spread = (d["x"][k + 1].double() - mean) / d["noise"][k].double()
        sure = d["noise"][k].abs() > 0.5
        assert (spread[sure] > 0).all()
        fraction = (2 * spread.clamp_min(1e-12).log() - way.log_small) / (way.log_beta - way.log_small)
        seen = Prediction(d["pred_xstart"][k], variance_fraction=fraction)
        ours = one_step(DDPM("learned"), seen, d["x"][k], d["noise"][k], levels, k).float()
        close(ours[sure], d["x"][k + 1][sure], f"step {k + 1}", atol=1e-4)
    last = one_step(DDPM("learned"), Prediction(d["pred_xstart"][-1], variance_fraction=torch.zeros(1)),
                    d["x"][-2], None, levels, steps - 1)  # fmt: skip
    close(last, d["x"][-1], "last step")


def channels_first(d: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: t.movedim(-1, 1) if t.ndim > 2 and key != "label" else t for key, t in d.items()}


@pytest.mark.parametrize("path", found("imgx_diffseg/steps.npz"))
def test_imgx_encoding_noising_and_conversions(path: Path) -> None:
    d = channels_first(tensors(path))
    levels = LinearSchedule().levels(int(d["K"]))
    codec = MaskCodec(d["model_out"].shape[1])
    assert torch.equal(codec.encode(d["label"]), d["x_start"])
    for i, t in enumerate(d["t_index"].tolist()):
        k = int(d["K"]) - 1 - t
        level, way = levels[k], transition(levels, k)
        x0, eps, x = d["x_start"][i], d["noise"][i], d["x_t"][i]
        close(level.alpha * x0 + level.sigma * eps, x, f"noised at {t}", atol=1e-5)
        close(way.on_x * x + way.on_x0 * x0, d["q_posterior_mean"][i], f"mean at {t}", atol=1e-5)
        log_small = torch.full_like(d["q_posterior_log_variance"][i], way.log_small)
        close(log_small, d["q_posterior_log_variance"][i], f"log variance at {t}", atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("kind", ["x_start", "noise"])
@pytest.mark.parametrize("path", found("imgx_diffseg/steps.npz"))
def test_imgx_steps(path: Path, kind: str, variance: str) -> None:
    d = channels_first(tensors(path))
    levels = LinearSchedule().levels(int(d["K"]))
    codec = MaskCodec(d["model_out"].shape[1])
    head: Head = HEADS["x0"]() if kind == "x_start" else EpsHead(clip=False)
    stem = f"{kind}_fixed_{variance}"
    for i, t in enumerate(d["t_index"].tolist()):
        k = int(d["K"]) - 1 - t
        x, noise = d["x_t"][i][None], d["noise2"][i][None]
        seen = head.predict(d["model_out"][i][None], x, *amplitudes(levels[k]), codec)
        sampler = DDPM(variance)  # type: ignore[arg-type]
        mean, log_variance = sampler.moments(seen, x, transition(levels, k))
        scalar = d[f"{stem}_ddpm_log_variance"][i].flatten()
        for ours, key in [(seen.x0, "ddpm_pred_x_start"), (mean, "ddpm_mean")]:
            close(ours[0], d[f"{stem}_{key}"][i], f"{stem}_{key} at {t}", atol=1e-5, rtol=1e-4)
        close(torch.as_tensor(log_variance).float().expand_as(scalar), scalar, "log variance", atol=1e-5, rtol=1e-4)
        for made, key in [(sampler, "ddpm_sample"), (DDIM(), "ddim_sample")]:
            ours = one_step(made, seen, x, noise, levels, k)
            close(ours[0], d[f"{stem}_{key}"][i], f"{stem}_{key} at {t}", atol=1e-5, rtol=1e-4)


def ambdiffseg_schedule(path: Path) -> NoiseSchedule:
    made = flags(path)["diffusion"]
    kinds = {"cosine": CosineSchedule, "linear_simple": LinearSimpleSchedule}
    schedule: NoiseSchedule = kinds[made["noise_schedule"]](made["input_scale"])
    return schedule


@pytest.mark.parametrize("path", found("ambdiffseg/steps.npz"))
def test_ambdiffseg_steps(path: Path) -> None:
    d = tensors(path)
    n = int(d["num_steps"])
    levels = ambdiffseg_schedule(path).levels(n)
    seen = Prediction(d["pred_x"], d["pred_eps"])
    for key in [key for key in d if key.startswith(("ddpm", "ddim"))]:
        name, *choice, index = key.split("_")
        sampler: Sampler = DDIM() if name == "ddim" else DDPM(choice[0])
        noise = d.get(f"noise_{choice[0]}_{index}") if choice else None
        close(one_step(sampler, seen, d["x_t"], noise, levels, n - 1 - int(index)), d[key], key)
    for key in [key for key in d if key.startswith("std_")]:
        _, choice_, index = key.split("_")
        way = transition(levels, n - 1 - int(index))
        variance = way.small if choice_ == "small" else way.large
        assert variance**0.5 == pytest.approx(float(d[key]), rel=1e-6), key


@pytest.mark.parametrize("path", found("ambdiffseg/traj_*.npz"))
def test_ambdiffseg_runs_step_by_step(path: Path) -> None:
    d = tensors(path)
    _, kind, name, variance, steps = path.stem.split("_")
    n = int(steps)
    levels = ambdiffseg_schedule(path).levels(n)
    sampler: Sampler = DDIM() if name == "ddim" else DDPM(variance)  # type: ignore[arg-type]
    told = torch.tensor([v.told for v in levels[:-1]])
    close(told, d["t_cond"], "times", atol=1e-6)
    states = [*d["x_in"][1:], d["final"]]
    for k in range(n):
        noise = d["noise"][k] if name == "ddpm" and k < n - 1 else None
        ours = one_step(sampler, Prediction(d["pred_x_clipped"][k]), d["x_in"][k], noise, levels, k)
        # Where x0 was clipped DDIM goes on with an eps that is not recorded.
        told_all = name == "ddpm" or kind == "x" or k == n - 1
        sure = torch.ones_like(ours, dtype=torch.bool) if told_all else d["pred_x_clipped"][k].abs() < 1
        # Where eps comes back from x0 through 1 / sigma, float32 keeps about 1e-4.
        close(ours[sure], states[k][sure], f"step {k + 1}", atol=1e-4)
    assert torch.equal(CODEC.labels(d["final"]).bool(), d["mask"][:, 0])


@pytest.mark.parametrize("kind", ["x", "eps", "v", "p", "p_logits", "both"])
@pytest.mark.parametrize("path", found("ambdiffseg/conversions.npz"))
def test_ambdiffseg_predictions(path: Path, kind: str) -> None:
    d = tensors(path)
    amounts = CosineSchedule(0.1).at(d["t"].double().numpy())
    alpha, sigma = (torch.as_tensor(a).float().view(-1, 1, 1, 1) for a in amounts)
    close(alpha * d["x0"] + sigma * d["eps"], d["x_t"], "noised", atol=1e-5)
    output = d["model_output_both"] if kind == "both" else d["model_output"]
    for clip in (False, True):
        settings = {"keep_eps": True, "clip": clip}
        head = BothHead(published_weights=True, **settings) if kind == "both" else HEADS[HEAD_NAMES[kind]](**settings)
        seen = head.predict(output, d["x_t"], alpha, sigma, CODEC)
        assert seen.eps is not None
        # Up to 1 / alpha = 318 times the output, and 1 / sigma of x0, in float32.
        close(seen.x0, d[f"pred_x_{kind}_clip" if clip else f"pred_x_{kind}"], kind, rtol=1e-5)
        close(seen.eps, d[f"pred_eps_{kind}"], kind, rtol=1e-5)


def test_eps_and_x0_are_each_other_s_inverse() -> None:
    x, eps = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0)).double()
    x0 = x0_from_eps(x, eps, 0.6, 0.8)
    torch.testing.assert_close(eps_from_x0(x, x0, 0.6, 0.8), eps)
