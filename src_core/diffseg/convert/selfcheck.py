"""Does a converted network behave like a trained denoiser? A wrong setting loads without complaint and shows only here.

A disc is noised to several levels and the network is asked for the noise, or for the disc. At the noisiest level the
state is almost nothing but noise, so a network that is told the right time and sees the state in the right channels
gives it back whatever it was trained on; at the cleanest level the same holds for the disc. Numbers are mean squared
errors relative to the best constant guess: 0 is perfect, 1 is no better than the constant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from diffseg.card import Card
from diffseg.checkpoint import build_schedule, image_input
from diffseg.codec import build_codec
from diffseg.denoise import NetworkDenoiser, build_head, eps_from_x0
from diffseg.errors import PlanError
from diffseg.nets.guided_unet import ImageOnly
from diffseg.noise import Level

# Errors above these are suspicious. Trained networks of these systems reach a few hundredths.
NOISE_LIMIT = 0.5
CLEAN_LIMIT = 0.5
# Sides of the trial image by the number of axes: a network of 100 million parameters takes about a second.
SIDES = {2: 64, 3: 32}
# Levels of the long run from which the trials take the first, the middle and the last.
STEPS = 200


@dataclass(frozen=True)
class Finding:
    """One trial: what was measured at which time, whether it looks wrong, and that in a sentence."""

    what: str
    t: float
    error: float
    suspicious: bool
    sentence: str


@dataclass(frozen=True, eq=False)
class Trial:
    """A disc ``x0 (1, C, *S)`` in all diffusing channels, an ``image`` of it as the network takes it, noise ``eps``."""

    x0: Tensor
    image: Tensor
    eps: Tensor

    def at(self, level: Level) -> Tensor:
        """The disc noised to ``level``."""
        return level.alpha * self.x0 + level.sigma * self.eps


def self_check(card: Card, network: nn.Module) -> tuple[Finding, ...]:
    """What the trials of a network show, noisiest level first; a classifier is only asked for finite answers."""
    levels = trial_levels(card)
    trial = make_trial(card, network)
    if card.task == "classifier":
        return tuple(classifier_finding(network, trial.at(v), v) for v in levels)
    head = build_head(card.prediction, card.prediction_settings)
    label = torch.zeros(1, dtype=torch.long) if card.network.get("labels") else None
    bound = ImageOnly(network, label) if card.task == "image" else network
    codec = build_codec(card.codec, len(card.classes), card.codec_settings)
    denoiser = NetworkDenoiser(bound, trial.image, replace(head, clip=False), codec)
    noisiest, middle, cleanest = levels
    return (
        noise_finding(denoiser, trial, noisiest),
        finite_finding(denoiser, trial, middle),
        clean_finding(denoiser, trial, cleanest, card.task),
    )


def trial_levels(card: Card) -> tuple[Level, Level, Level]:
    """The noisiest, the middle and the cleanest noisy level of a long run."""
    schedule = build_schedule(card)
    try:
        levels = schedule.levels(STEPS)
    except PlanError:
        levels = schedule.levels(card.steps)
    return levels[0], levels[(len(levels) - 1) // 2], levels[-2]


def make_trial(card: Card, network: nn.Module) -> Trial:
    """A bright disc on a dark ground, its mask, and noise; always the same."""
    stride = int(network.stride)  # type: ignore[arg-type]
    most = (
        max(card.window) if card.task == "classifier" else SIDES[card.spatial]
    )  # an attention pool takes no other size
    shape = [-(-min(side, most) // stride) * stride for side in card.window]
    axes = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in shape), indexing="ij")
    inside = torch.stack(axes).square().sum(0).sqrt() < 0.5
    image = image_input(card, (inside.float() * 2 - 1).expand(1, len(card.channels), *shape))
    if card.task == "mask":
        codec = build_codec(card.codec, len(card.classes), card.codec_settings)
        x0 = codec.encode(inside.long()[None])
    else:
        x0 = image
    generator = torch.Generator().manual_seed(0)
    return Trial(x0, image, torch.randn(x0.shape, generator=generator))


def noise_finding(denoiser: NetworkDenoiser, trial: Trial, level: Level) -> Finding:
    """How well the noise is recognised where there is little else."""
    x = trial.at(level)
    eps = eps_from_x0(x, denoiser(x, level).x0, level.alpha, level.sigma)
    error = float((eps - trial.eps).square().mean())
    sentence = (
        f"From almost pure noise (told time {level.told:g}) the network should return that noise, but its squared "
        f"error is {error:.2g}, where 0 is perfect and 1 a blind guess; check mask, heads, prediction and schedule."
    )
    return Finding("noise", level.t, error, not error <= NOISE_LIMIT, sentence)


def clean_finding(denoiser: NetworkDenoiser, trial: Trial, level: Level, what: str) -> Finding:
    """How well the disc is recognised where there is almost no noise."""
    x0 = denoiser(trial.at(level), level).x0
    spread = float((trial.x0 - trial.x0.mean()).square().mean())
    error = float((x0 - trial.x0).square().mean()) / spread
    sentence = (
        f"From an almost clean {what} (told time {level.told:g}) the network should return that {what}, but "
        f"its squared error is {error:.2g}, where 0 is perfect and 1 a blind guess; check mask, codec and prediction."
    )
    return Finding(what, level.t, error, not error <= CLEAN_LIMIT, sentence)


def finite_finding(denoiser: NetworkDenoiser, trial: Trial, level: Level) -> Finding:
    """Whether all numbers are finite in between."""
    return _finite(denoiser(trial.at(level), level).x0, level)


@torch.no_grad()
def classifier_finding(network: nn.Module, x: Tensor, level: Level) -> Finding:
    """Whether a classifier's logits are finite."""
    return _finite(network(x, x.new_full((len(x),), level.told)), level)


def _finite(values: Tensor, level: Level) -> Finding:
    share = float((~values.isfinite()).float().mean())
    sentence = f"{share:.0%} of the network's output at told time {level.told:g} is no number; the weights are damaged."
    return Finding("finite", level.t, share, share > 0, sentence)
