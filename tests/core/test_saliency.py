"""What every saliency method must do."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from diffseg.errors import DeviceError, PlanError
from diffseg.saliency import SALIENCY, Models, Question, SaliencyMethod
from diffseg.saliency.cam import ActivationMap
from diffseg.saliency.reconstruction import Reconstruction
from saliency_cases import PLACES, drawn, final, made, planted, question, rounding
from saliency_oracle import (
    SIDE,
    TIMES,
    BrightSpots,
    GaussianDenoiser,
    MeanClassifier,
    PlantedClassifier,
    PlantedDenoiser,
    healthy_image,
    lesion_masks,
)


@pytest.fixture(params=SALIENCY.names())
def method(request: pytest.FixtureRequest) -> SaliencyMethod:
    return made(request.param)


def test_a_planted_lesion_is_found(method: SaliencyMethod) -> None:
    """Its pixels come before all others, by a wide gap: the exact model has no doubt after four draws."""
    last = final(method.explain(planted(method), question(), draws=4))
    for found, place in zip(last.map, PLACES, strict=True):
        lesion = lesion_masks()[place]
        assert float(found[lesion].min()) > 4 * float(found[~lesion].max().clamp_min(0))
        assert float(found[lesion].min()) > 0


def test_a_constant_image_of_a_model_that_knows_no_places_gives_a_flat_map(method: SaliencyMethod) -> None:
    models = Models(TIMES, GaussianDenoiser(), MeanClassifier().eval())
    flat = Question(healthy_image()[None], (0,))
    # Where a method adds noise to the image itself (not only to x_Q) that noise is no part of the answer.
    quiet = torch.zeros_like(flat.images)
    noise = quiet if isinstance(method, Reconstruction) else drawn(0, flat)
    *_, last = method.partials(models, flat.images, noise, flat)
    # Differences of float32 numbers near 1, times 1/(1 - tau) = 20, summed over ten steps.
    assert float(last.map.max() - last.map.min()) < 20 * 10 * 1e-6


def test_the_same_seed_gives_the_same_map_and_another_one_another(method: SaliencyMethod) -> None:
    one, same, other = (final(method.explain(planted(method), question(), seed=s)).map for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert torch.equal(one, other) is not method.random


def test_a_slice_has_the_same_map_alone_and_in_any_batch(method: SaliencyMethod) -> None:
    together = final(method.explain(planted(method), question(), draws=2, batch=5)).map
    for k, place in enumerate(PLACES):
        alone = final(method.explain(planted(method), question((place,), start=k), draws=2, batch=1)).map
        assert torch.allclose(alone[0], together[k], atol=rounding(method, together))


def test_draws_are_averaged(method: SaliencyMethod) -> None:
    models = planted(method)
    both = final(method.explain(models, question(), draws=2))
    first = final(method.explain(models, question(), draws=1))
    assert torch.allclose(both.first, first.map, atol=rounding(method, first.map))
    assert both.draws == (2 if method.random else 1)
    if method.random:
        *_, second = method.partials(models, question().images, drawn(1, question()), question())
        assert torch.allclose(2 * both.map - first.map, second.map, atol=2 * rounding(method, second.map))


def test_partial_maps_are_finite_and_lie_in_the_declared_range(method: SaliencyMethod) -> None:
    steps = list(method.explain(planted(method), question(), draws=2, batch=2))
    low, high = method.range
    assert [s.done for s in steps] == sorted({s.done for s in steps})
    assert steps[-1].done == steps[-1].total
    for step in steps:
        assert step.map.shape == (3, SIDE, SIDE)
        assert step.map.dtype == torch.float32
        assert bool(step.map.isfinite().all())
        assert low <= float(step.map.min()) and float(step.map.max()) <= high


def test_a_kept_step_never_changes(method: SaliencyMethod) -> None:
    kept = []
    for step in method.explain(planted(method), question(), draws=2, batch=2):
        kept.append((step, step.map.clone(), step.first.clone()))
    assert all(torch.equal(s.map, m) and torch.equal(s.first, f) for s, m, f in kept)


def test_the_passes_told_before_a_run_are_those_it_makes(method: SaliencyMethod) -> None:
    asked = question()
    last = final(method.explain(planted(method), asked, draws=2))
    draws = 2 if method.random else 1
    assert method.passes(planted(method)) * len(asked.images) * draws == last.passes


def test_passes_and_time_only_grow(method: SaliencyMethod) -> None:
    steps = list(method.explain(planted(method), question(), draws=2, batch=2))
    passes, seconds = [s.passes for s in steps], [s.seconds for s in steps]
    assert passes == sorted(passes) and passes[0] > 0
    assert seconds == sorted(seconds) and seconds[0] > 0


def test_networks_are_left_as_they_were(method: SaliencyMethod) -> None:
    network = BrightSpots() if isinstance(method, ActivationMap) else PlantedClassifier()
    network.train()  # a mode that a method might be tempted to change
    before = copy.deepcopy(network.state_dict())
    final(method.explain(Models(TIMES, PlantedDenoiser(), network), question()))
    assert network.training and all(m.training for m in network.modules())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert not any(m._forward_hooks for m in network.modules())


def test_closing_half_way_leaves_no_gradient_mode_behind(method: SaliencyMethod) -> None:
    steps = method.explain(planted(method), question(), draws=2, batch=1)
    next(steps)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    steps.close()  # type: ignore[attr-defined]
    assert torch.is_grad_enabled()


def test_a_caller_in_inference_mode_gets_the_same_map(method: SaliencyMethod) -> None:
    outside = final(method.explain(planted(method), question())).map
    models = planted(method)
    with torch.inference_mode():
        inside = final(method.explain(models, question())).map
    assert torch.allclose(inside, outside, atol=1e-5 * float(outside.abs().max()))


def test_a_missing_model_is_named(method: SaliencyMethod) -> None:
    with pytest.raises(PlanError, match=r"needs (an image diffusion model|a classifier)"):
        next(iter(method.explain(Models(TIMES), question())))


class Hungry(nn.Module):
    """A classifier without memory for more than ``room`` images."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.inner, self.room = PlantedClassifier(), room

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        out: Tensor = self.inner(x, told)
        return out


def test_when_memory_runs_out_smaller_batches_give_the_same_map_and_say_so() -> None:
    method = made("cg-cdm")
    plenty = final(method.explain(Models(TIMES, PlantedDenoiser(), PlantedClassifier()), question(), batch=3))
    steps = list(method.explain(Models(TIMES, PlantedDenoiser(), Hungry(1)), question(), batch=3))
    assert torch.allclose(steps[-1].map, plenty.map, atol=1e-4 * float(plenty.map.abs().max()))
    assert steps[0].note == "Memory ran out with 3 images at a time; going on with 1."
    assert steps[-1].done == steps[-1].total


def test_memory_too_small_for_one_image_is_an_error_in_words() -> None:
    with pytest.raises(DeviceError, match="16×16 pixels"):
        list(made("cg-cdm").explain(Models(TIMES, PlantedDenoiser(), Hungry(0)), question()))
