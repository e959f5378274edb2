"""Objectives: which noise is drawn, what the network is shown, and what the losses are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffseg.card import Card
from diffseg.data import Example
from diffseg.denoise import X0TanhHead
from diffseg.errors import CheckpointError, PlanError
from diffseg.losses import Transitions, hybrid
from diffseg.nets.guided_unet import GuidedUNet, GuidedUNetConfig
from diffseg.noise import CosineSchedule, Level, LinearSchedule, TableSchedule, log_snr
from diffseg.objectives import OBJECTIVES, Batch, MaskObjective, Times
from diffseg.self_condition import SelfConditioned, is_self_conditioned
from diffseg.train_plan import AugmentPlan, DataPlan, FitPlan, TrainPlan
from oracle import tiny_card

NOWHERE = DataPlan(Path("nowhere"), Path("nowhere"))


def plan(card: Card | None = None, **changes: Any) -> TrainPlan:
    settings: dict[str, Any] = {"updates": 1, "uniform_fraction": 0.0, "recycling": "none"} | changes
    return TrainPlan(Path("nowhere"), NOWHERE, FitPlan(**settings), card or tiny_card(), AugmentPlan())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(b: int = 1, side: int = 4, spatial: int = 3) -> Batch:
    labels = torch.zeros(b, *[side] * spatial, dtype=torch.long)
    labels[:, 1:3] = 1
    image = torch.randn(b, 1, *[side] * spatial, generator=generator(1))
    return Batch(image, labels, torch.arange(b) % 2)


class Recorder(nn.Module):
    """A network that keeps what it was shown and answers as told."""

    def __init__(self, answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.answer = answer
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor, image: Tensor) -> Tensor:
        self.seen.append((x, t, image))
        return self.answer(x, t, image)


def background(x: Tensor, t: Tensor, image: Tensor) -> Tensor:
    """Logits of nothing but background."""
    logits = torch.zeros_like(x)
    logits[:, 0] = 50
    return logits


@pytest.mark.parametrize(("recycling", "before"), [("next", 0.25), ("max", 1.0)])
def test_recycled_masks_come_from_the_published_time(recycling: str, before: float) -> None:
    times = Times(LinearSchedule(), plan(recycling=recycling).fit)
    t = times.draw(1000, generator())
    assert set(t.tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}
    earlier = times.before(t)
    assert set(earlier[t == 0].tolist()) == {before}
    assert set(earlier[t == 1].tolist()) == {1.0}


def test_stratified_times_fall_one_into_each_part_of_the_axis() -> None:
    anywhere = Times(CosineSchedule(), plan(stratified=True, uniform_fraction=1.0).fit)
    levels = Times(LinearSchedule(), plan(stratified=True, diffusion_steps=8).fit)
    orders = set()
    for seed in range(20):
        t = anywhere.draw(8, generator(seed))
        assert sorted((t * 8).floor().long().tolist()) == list(range(8))
        orders.add(tuple(t.argsort().tolist()))
        assert sorted(levels.index(levels.draw(8, generator(seed))).tolist()) == list(range(8))
    assert len(orders) > 10, "which sample gets which part is random"


def test_no_time_above_the_noisiest_is_drawn() -> None:
    for stratified in (False, True):
        some = {"noisiest": 0.5, "stratified": stratified}
        levels = Times(LinearSchedule(), plan(**some, uniform_fraction=0.0).fit)
        assert set(levels.draw(300, generator()).tolist()) == {0.0, 0.25, 0.5}
        anywhere = Times(LinearSchedule(), plan(**some, uniform_fraction=1.0).fit).draw(300, generator())
        assert 0.45 < float(anywhere.max()) <= 0.5


def test_the_network_is_told_the_time_in_its_own_unit() -> None:
    schedule = TableSchedule("linear", 4000, rescale=True)
    times = Times(schedule, plan(diffusion_steps=4000).fit)
    t = times.draw(50, generator())
    at = times.at(t, torch.zeros(50, 1, 2, 2))
    np.testing.assert_allclose(at.told, times.index(t) / 4, atol=1e-4)
    # Between two levels it is told what lies between.
    half = times.at(torch.tensor([0.5 / 3999], dtype=torch.float64), torch.zeros(1, 1, 2, 2))
    assert float(half.told) == pytest.approx(0.125, abs=1e-6)


def test_recycling_starts_from_the_prediction_and_not_from_the_truth() -> None:
    objective = MaskObjective(plan(recycling="max"))
    objective.times.t, objective.times.told = np.zeros(2), np.zeros(2)  # x_t is nearly the mask it was made from
    net = Recorder(background)
    ones = replace(batch(), labels=torch.ones(1, 4, 4, 4, dtype=torch.long))
    objective(net, ones, generator())
    assert len(net.seen) == 2
    # sigma is 0.01 at abar 0.9999; 0.1 is ten of them.
    assert float((net.seen[1][0][:, 0] - 1).abs().max()) < 0.1, "the second pass must see the predicted background"


def self_conditioned_card() -> Card:
    card = tiny_card()
    return replace(card, network=card.network | {"image_channels": 1 + 3})


def test_self_conditioned_networks_see_zeros_or_their_own_estimate() -> None:
    objective = MaskObjective(plan(self_conditioned_card(), self_condition=0.5))
    net = Recorder(background)
    objective(net, batch(64), generator())
    first, second = (image[:, 1:] for _, _, image in net.seen)
    assert float(first.abs().max()) == 0
    shown = second.flatten(1).abs().amax(1) > 0
    assert 20 <= int(shown.sum()) <= 44, "a half, give or take three standard deviations"
    assert bool((second[shown][:, 0] == 1).all()), "the estimate is background everywhere"
    assert torch.equal(net.seen[0][0], net.seen[1][0]), "both passes see the same x_t"


def test_a_self_conditioned_denoiser_shows_each_step_the_one_before() -> None:
    objective = MaskObjective(plan(self_conditioned_card(), self_condition=0.5))
    net = Recorder(background)
    denoiser = SelfConditioned(net, torch.zeros(1, 1, 4, 4, 4), objective.head, objective.codec)
    x, level = torch.randn(2, 3, 4, 4, 4, generator=generator()), Level(0.5, 0.5, 0.6, 0.8)
    first = denoiser(x, level)
    denoiser(x, level)
    assert float(net.seen[0][2].abs().max()) == 0
    assert torch.equal(net.seen[1][2][:, 1:], first.x0)
    resumed = SelfConditioned(net, torch.zeros(1, 1, 4, 4, 4), objective.head, objective.codec, previous=first.x0)
    resumed(x, level)
    assert torch.equal(net.seen[2][2], net.seen[1][2])


def test_the_card_shows_whether_a_network_is_self_conditioned() -> None:
    assert is_self_conditioned(self_conditioned_card())
    assert not is_self_conditioned(tiny_card())
    card = tiny_card()
    with pytest.raises(CheckpointError, match="3 input channels besides the noisy mask"):
        is_self_conditioned(replace(card, network=card.network | {"image_channels": 3}))


def guided_card(task: str = "mask", **changes: Any) -> Card:
    """A card of the guided-diffusion family: one image channel, one diffusing channel, learned variance."""
    network = {"inputs": 2, "outputs": 2, "base": 32, "widths": [32, 32], "blocks": [1, 1]}
    settings: dict[str, Any] = {
        "task": task,
        "architecture": "guided-unet",
        "network": network if task == "mask" else network | {"inputs": 1, "labels": 2},
        "schedule": "guided",
        "prediction": "eps",
        "prediction_settings": {"learned_variance": True},
        "codec": "binary",
        "codec_settings": {},
        "labels": () if task == "mask" else ("normal", "lesion"),
    }
    return replace(tiny_card(spatial=2, classes=2), **(settings | changes))


HYBRID = {"dice": 0.0, "cross_entropy": 0.0, "mse": 1.0, "bound": 1.0, "diffusion_steps": 1000}


def random_network(card: Card) -> GuidedUNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = GuidedUNet(
            GuidedUNetConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in card.network.items()})
        )
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.05 * torch.randn(p.shape))
    return net.eval()


@pytest.mark.parametrize("task", ["mask", "image"])
@torch.no_grad()
def test_the_hybrid_objective_is_the_hybrid_loss(task: str) -> None:
    card = guided_card(task)
    net, data = random_network(card), batch(3, 16, 2)
    for rescaled, factor in ((False, 1.0), (True, 0.25)):
        objective = OBJECTIVES[task](plan(card, **(HYBRID | {"diffusion_steps": 250}), rescale_bound=rescaled))
        got = objective(net, data, generator())
        draws = generator()
        x0 = objective.codec.encode(data.labels) if task == "mask" else data.image
        t = objective.times.draw(3, draws)
        eps = torch.randn(x0.shape, generator=draws)
        transitions = Transitions.of_levels(objective.schedule.levels(250))
        index = objective.times.index(t)
        x = transitions.at("alpha", index, x0) * x0 + transitions.at("sigma", index, x0) * eps
        told = objective.times.at(t, x0).told
        out = net(x, told, data.image) if task == "mask" else net(x, told, label=data.kinds)
        mse, bits = hybrid(transitions, index, x0, eps, out)
        # x_0 predicted from the noise loses digits at the noisiest levels, where it is multiplied by up to 160.
        assert float(got["mse"]) == pytest.approx(float(mse.mean()), rel=1e-4)
        assert float(got["bound"]) == pytest.approx(factor * float(bits.mean()), rel=1e-3)
        assert float(got["total"]) == pytest.approx(float(got["mse"] + got["bound"]), rel=1e-6)


def test_weightings_multiply_the_error_of_the_clean_mask() -> None:
    card = guided_card(
        prediction="x0-tanh", prediction_settings={}, schedule="cosine", network={"inputs": 2}, sampler="ddpm"
    )
    answer = 0.25
    net = Recorder(lambda x, t, image: torch.full_like(x, float(np.arctanh(answer))))
    weights = {"dice": 0.0, "cross_entropy": 0.0, "mse": 2.0, "mse_of": "x0", "weighting": "snr-truncated"}
    objective = OBJECTIVES["mask"](plan(card, **weights, uniform_fraction=1.0))
    assert isinstance(objective.head, X0TanhHead)
    data = batch(4, 4, 2)
    got = objective(net, data, generator())
    t = objective.times.draw(4, generator()).numpy()
    snr = np.exp(log_snr(objective.schedule, t))
    error = float((answer - objective.codec.encode(data.labels)).square().mean())
    assert float(got["mse"]) == pytest.approx(2.0 * error * np.maximum(snr, 1).mean(), rel=1e-5)


def test_mask_losses_have_the_weights_of_the_plan() -> None:
    net, data = Recorder(lambda x, t, image: 0 * x), batch(2)
    got = {}
    for name in ("dice", "cross_entropy", "focal"):
        weights = {"dice": 0.0, "cross_entropy": 0.0, "focal": 0.0} | {name: 3.0}
        losses = MaskObjective(plan(**weights))(net, data, generator())
        assert set(losses) == {name, "total"}
        got[name] = float(losses[name])
    # Equal logits of three classes: the true one has 1/3. Class 1 is in half of the voxels.
    assert got["cross_entropy"] == pytest.approx(3 * np.log(3), rel=1e-6)
    assert got["focal"] == pytest.approx(3 * (2 / 3) ** 2 * np.log(3), rel=1e-6)
    assert got["dice"] == pytest.approx(3 * (1 - 2 * (0.5 / 3) / (1 / 3 + 0.5)), rel=1e-6)


@pytest.mark.parametrize(
    ("card", "changes", "says"),
    [
        (guided_card(), {}, "set both or neither"),
        (tiny_card(), {"bound": 1.0}, "set both or neither"),
        (guided_card(), HYBRID | {"uniform_fraction": 0.2}, "uniform_fraction to 0"),
        (tiny_card(), {"weighting": "snr"}, "set fit.mse_of to 'x0'"),
        (tiny_card(), {"weighting": "sigmoid", "mse_of": "x0", "weighting_settings": {"bais": 1}}, "bais"),
        (tiny_card(), {"weighting": "snr", "mse_of": "x0", "weighting_settings": {"bias": 1}}, "bias"),
        (tiny_card(), {"self_condition": 0.5}, "3 more input channels"),
        (self_conditioned_card(), {}, "does take the previous estimate"),
        (guided_card("image", prediction="v"), HYBRID, "predict noise, not 'v'"),
    ],
    ids=[
        "no bound",
        "no variance",
        "between levels",
        "weights of noise",
        "misspelt",
        "no bias",
        "no channels",
        "no share",
        "velocity",
    ],
)
def test_settings_that_contradict_each_other_are_refused(card: Card, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PlanError, match=says):
        OBJECTIVES[card.task](plan(card, **changes))


def test_of_a_volume_the_slice_with_most_structure_is_scored_for_every_rater() -> None:
    card = tiny_card(spatial=2)
    full, empty = np.ones((1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8)
    image = np.zeros((1, 8, 8), np.float32)
    examples = [Example("a", image, np.concatenate([m, full])) for m in (empty, full)]

    def all_one(x: Tensor, t: Tensor, image: Tensor) -> Tensor:
        logits = torch.zeros_like(x)
        logits[:, 1] = 50
        return logits

    score = MaskObjective(plan(card)).score(Recorder(all_one), examples, torch.device("cpu"))
    assert score["anterior"] == 1.0
    assert np.isnan(score["posterior"]), "absent from mask and label"
    first = MaskObjective(plan(card)).score(Recorder(all_one), examples[:1], torch.device("cpu"))
    assert first["anterior"] == 0.5, "one rater says nothing, the other everything"
