"""What every saliency method must do, and what each must do by its formula."""

from __future__ import annotations

import copy
import math
import sys
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from saliency_oracle import (
    SIDE,
    TIMES,
    BrightSpots,
    GaussianDenoiser,
    MeanClassifier,
    PlantedClassifier,
    PlantedDenoiser,
    healthy_image,
    lesion_image,
    lesion_masks,
)
from torch import Tensor, nn

from diffseg.errors import DeviceError, PlanError
from diffseg.guidance import one_hot
from diffseg.saliency import SALIENCY, Models, Question, SaliencyMethod, SaliencyStep
from diffseg.saliency.cam import ActivationMap
from diffseg.saliency.cdm import CDM, LabelDifference, ddim_step, path
from diffseg.saliency.reconstruction import Reconstruction
from diffseg.sample import Noise

# Settings that make a method quick, or fit the exact models, whose classes differ by more than real ones.
QUICK: dict[str, dict[str, Any]] = {
    "cdm": {"q": 300},
    "cg-cdm": {"q": 300, "scale": 0.1},
    "cdm-code": {"q": 300},
    "cg-cdm-code": {"q": 300, "scale": 0.01},
    "cg-diff": {"q": 400, "steps": 40, "scale": 3.0},
    "cg-diff-code": {"q": 400, "stride": 10, "scale": 3.0},
}
PLACES = (0, 4, 7)


def made(name: str, **settings: Any) -> SaliencyMethod:
    if issubclass(SALIENCY[name], ActivationMap) and find_spec("pytorch_grad_cam") is None:
        pytest.skip("class activation maps need the extra cam")
    return SALIENCY[name](**(QUICK.get(name, {}) | settings))


@pytest.fixture(params=SALIENCY.names())
def method(request: pytest.FixtureRequest) -> SaliencyMethod:
    return made(request.param)


def rounding(method: SaliencyMethod, scale: Tensor) -> float:
    """By how much a map may change when sums run in another order.

    States near 3 carry 2e-7 each; ten differences of them are added and multiplied by the gain.
    """
    return 1e-5 * method.gain if isinstance(method, LabelDifference) else 1e-4 * float(scale.abs().max())


def planted(method: SaliencyMethod) -> Models:
    network = BrightSpots() if isinstance(method, ActivationMap) else PlantedClassifier()
    return Models(TIMES, PlantedDenoiser(), network.eval())


def question(places: tuple[int, ...] = PLACES, start: int = 0) -> Question:
    return Question(torch.stack([lesion_image(p) for p in places]), tuple(range(start, start + len(places))))


def final(steps: Any) -> SaliencyStep:
    *_, last = steps
    assert isinstance(last, SaliencyStep)
    return last


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


def drawn(draw: int, asked: Question) -> Tensor:
    """The noise of one draw, by the rule that it hangs on seed, draw and slice alone."""
    return torch.cat([Noise(0, (draw,)).draw(n, (1, SIDE, SIDE)) for n in asked.numbers])


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


# CDM by its formula.


def one_step(mixture: str, tau: float) -> Tensor:
    method = made("cdm", r=1, tau=tau, mixture=mixture)
    *_, last = method.partials(planted(method), question().images, torch.zeros(3, 1, SIDE, SIDE), question())
    return last.map


def test_with_mixed_predictions_one_step_is_the_whole_difference_whatever_tau_is() -> None:
    exact = (
        ddim_step(x := TIMES[300].alpha * question().images, noise(1, x), TIMES[300], TIMES[299])
        - ddim_step(x, noise(0, x), TIMES[300], TIMES[299])
    ).sum(dim=1)
    for tau in (0.0, 0.5, 0.95):
        # float32 rounding of two states near 1, divided by 1 - tau
        assert torch.allclose(one_step("prediction", tau), exact, atol=1e-6 / (1 - tau))


def noise(label: int, x: Tensor) -> Tensor:
    return PlantedDenoiser().eps(x, TIMES[300], one_hot(label, 2))


def test_with_tau_zero_both_mixtures_compare_the_two_classes_themselves() -> None:
    assert torch.allclose(one_step("embedding", 0.0), one_step("prediction", 0.0), atol=1e-6)


def test_for_a_model_that_is_linear_in_its_label_the_mixtures_agree() -> None:
    models = Models(TIMES, GaussianDenoiser())
    maps = []
    for mixture in ("embedding", "prediction"):
        method = made("cdm", mixture=mixture)
        *_, last = method.partials(models, question().images, torch.zeros(3, 1, SIDE, SIDE), question())
        maps.append(last.map)
    assert torch.allclose(maps[0], maps[1], atol=1e-3 * float(maps[0].abs().max()))


def test_cdm_sums_what_its_equation_says() -> None:
    """An independent transcription of algorithm 1, with sqrt(beta) mended."""
    q, r, tau = 300, 4, 0.9
    image, start = question().images, drawn(0, question())
    denoiser = PlantedDenoiser()
    abar = [level.alpha**2 for level in TIMES]
    state = other = abar[q] ** 0.5 * image + (1 - abar[q]) ** 0.5 * start
    total = torch.zeros(3, SIDE, SIDE)
    for t in range(q, q - r, -1):
        e1 = denoiser.eps(state, TIMES[t], torch.tensor([0.0, 1.0]))
        e0 = denoiser.eps(other, TIMES[t], torch.tensor([1 - tau, tau]))
        a, b = abar[t], abar[t - 1]
        state = b**0.5 * (state - (1 - a) ** 0.5 * e1) / a**0.5 + (1 - b) ** 0.5 * e1
        other = b**0.5 * (other - (1 - a) ** 0.5 * e0) / a**0.5 + (1 - b) ** 0.5 * e0
        total += (state - other)[:, 0] / (1 - tau)
    method = CDM(q=q, r=r, tau=tau)
    *_, last = method.partials(Models(TIMES, denoiser), image, start, question())
    assert torch.allclose(last.map, total, atol=1e-3 * float(total.abs().max()))


def test_guidance_of_strength_zero_is_none() -> None:
    plain, guided = made("cdm"), made("cg-cdm", scale=0.0)
    maps = [final(m.explain(planted(m), question())) for m in (plain, guided)]
    assert torch.equal(maps[0].map, maps[1].map)
    assert maps[0].passes == maps[1].passes == 3 * 10 * 2


def test_guidance_doubles_the_passes() -> None:
    assert final(made("cg-cdm").explain(planted(made("cg-cdm")), question(), draws=2)).passes == 2 * 3 * 10 * 4


def test_the_code_variant_starts_one_step_below_its_noise_and_leaves_out_the_factor() -> None:
    code, paper = made("cdm-code", r=1), made("cdm", r=1)
    models = planted(code)
    assert [round(level.told) for level in code.walk(models)] == [299, 298]  # type: ignore[attr-defined]
    assert [round(level.told) for level in paper.walk(models)] == [300, 299]  # type: ignore[attr-defined]
    maps = [final(m.explain(models, question())).map.abs().max() for m in (code, paper)]
    # The clip to [-1, 1] does not act on these images in [0.2, 0.9]; the step next door is nearly the same.
    assert float(maps[1] / maps[0]) == pytest.approx(20, rel=0.1)


def test_strides_lead_where_they_should() -> None:
    assert [level.told for level in path(TIMES, 400, 3, 1)] == [400, 399, 398, 397]
    assert [level.told for level in path(TIMES, 400, 3, 10)] == [400, 390, 380, 370]
    whole = path(TIMES, 400, 10, 0)
    assert [level.told for level in whole[:3]] == [400, 360, 320]
    assert whole[-1].sigma == 0
    assert path(TIMES, 2, 3, 1)[-1].sigma == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"q": 1000}, "time steps 0 to 999"),
        ({"q": 5, "r": 7}, "7 steps of 1 do not fit below time step 5"),
        ({"q": 100, "r": 3, "stride": 50}, "3 steps of 50 do not fit"),
        ({"q": 3, "r": 10, "stride": 0}, "do not fit"),
    ],
)
def test_a_walk_that_does_not_fit_the_schedule_is_refused(settings: dict[str, int], message: str) -> None:
    method = made("cdm", **settings)
    with pytest.raises(PlanError, match=message):
        list(method.explain(planted(method), question()))


def test_settings_out_of_range_and_comparisons_with_itself_are_refused() -> None:
    with pytest.raises(PlanError, match="tau"):
        made("cdm", tau=1.0)
    with pytest.raises(PlanError, match="itself"):
        Question(torch.zeros(1, 1, 4, 4), (0,), target=0, background=0)
    with pytest.raises(PlanError, match="N numbers"):
        Question(torch.zeros(2, 1, 4, 4), (0,))


def test_a_model_without_labels_is_refused_by_cdm() -> None:
    with pytest.raises(PlanError, match="takes no class label"):
        list(made("cdm").explain(Models(TIMES, GaussianDenoiser(labels=0)), question()))


def test_a_class_that_the_model_does_not_know_is_refused() -> None:
    asked = Question(question().images, (0, 1, 2), target=2)
    with pytest.raises(PlanError, match="no class 2"):
        list(made("cdm").explain(planted(made("cdm")), asked))


# CG-Diff.


def test_without_guidance_encoding_and_decoding_return_the_image() -> None:
    """DDIM inversion is exact in the limit of small steps, at first order."""
    image = Question(lesion_image(4)[None], (0,))
    errors = []
    for steps in (25, 50, 100):
        method = made("cg-diff", steps=steps, scale=0.0, q=400)
        models = Models(TIMES, GaussianDenoiser(spread=0.5), PlantedClassifier())
        errors.append(float(final(method.explain(models, image)).map.max()))
    assert errors[2] < 0.05
    rates = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert min(rates) > 0.7


def test_guidance_heals_the_lesion_and_leaves_the_rest() -> None:
    method = made("cg-diff")
    image = Question(lesion_image(4)[None], (0,))
    change = final(method.explain(planted(method), image)).map[0]
    lesion = lesion_masks()[4]
    assert float(change[lesion].mean()) > 0.3  # of a step of 0.7
    assert float(change[~lesion].mean()) < 0.05


def test_every_step_back_is_shown() -> None:
    method = made("cg-diff", steps=10)
    steps = list(method.explain(planted(method), question()))
    assert len(steps) == 20
    assert float(steps[9].map.abs().max()) == 0 and float(steps[10].map.abs().max()) > 0


# Activation maps.


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(PlanError, match=r"pip install napari-diffseg\[cam\]"):
        list(SALIENCY["grad-cam"]().explain(planted(SALIENCY["grad-cam"]()), question()))


def test_grad_cam_weighs_channels_by_their_mean_gradient() -> None:
    """By hand: the head's weights over the number of pixels are the gradients, the same in every pixel."""
    found = final(made("grad-cam").explain(planted(made("grad-cam")), question((4,)))).map[0]
    image = lesion_image(4)[0]
    evidence = 10 * (image - 0.5).relu() - (0.5 - image).relu()
    expected = evidence.relu() / evidence.max()
    assert torch.allclose(found, expected, atol=1e-5)  # the package divides by maximum + 1e-7, twice


def test_smoothing_by_augmentation_costs_six_passes() -> None:
    methods = [made("grad-cam", aug_smooth=smooth) for smooth in (False, True)]
    assert [final(m.explain(planted(m), question())).passes for m in methods] == [3, 18]


def test_score_cam_asks_once_for_every_channel(capsys: pytest.CaptureFixture[str]) -> None:
    assert final(made("score-cam").explain(planted(made("score-cam")), question())).passes == 3 * (1 + 2)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "")


def test_the_first_principal_component_shows_the_lesion_or_its_negative() -> None:
    found = final(made("layer-cam", eigen_smooth=True).explain(planted(made("layer-cam")), question((4,)))).map[0]
    lesion = lesion_masks()[4]
    assert float(found[lesion].std()) < 1e-5 and float(found[~lesion].std()) < 1e-5
    assert abs(float(found[lesion].mean() - found[~lesion].mean())) > 0.5


@pytest.mark.parametrize(
    ("settings", "target", "message"),
    [
        ({"layer": "nowhere"}, 1, "no layer 'nowhere'.*middle_block"),
        ({"layer": "head"}, 1, "'head' and class 1 .* give no map"),
        ({}, 5, "class 5 .* give no map"),
    ],
)
def test_a_layer_or_class_without_map_is_refused(settings: dict[str, str], target: int, message: str) -> None:
    method = made("grad-cam", **settings)
    with pytest.raises(PlanError, match=message):
        list(method.explain(planted(method), Question(question().images, (0, 1, 2), target=target)))
