"""CDM and CG-CDM by their formula, and CG-Diff by what inversion and guidance must do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diffseg.errors import PlanError
from diffseg.guidance import one_hot
from diffseg.saliency import Models, Question
from diffseg.saliency.cdm import CDM, ddim_step, path
from saliency_cases import drawn, final, made, planted, question
from saliency_oracle import (
    SIDE,
    TIMES,
    GaussianDenoiser,
    PlantedClassifier,
    PlantedDenoiser,
    lesion_image,
    lesion_masks,
)


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
