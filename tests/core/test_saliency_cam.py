"""Activation maps: what the package is asked, and what it must answer on a classifier done by hand."""

from __future__ import annotations

import sys

import pytest
import torch

from diffseg.errors import PlanError
from diffseg.saliency import SALIENCY, Question
from saliency_cases import final, made, planted, question
from saliency_oracle import lesion_image, lesion_masks


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
