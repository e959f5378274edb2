"""Codecs: labels, states and probabilities agree, whatever the range and threshold."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from diffseg.codec import CODECS, BinaryCodec, ImageCodec, build_codec
from diffseg.errors import CheckpointError, PlanError

LABELS = torch.randint(2, (2, 6, 7), generator=torch.Generator().manual_seed(2))
RANGES: list[dict[str, Any]] = [{}, {"low": 0.0}, {"low": 0.0, "threshold": 0.0}, {"threshold": 0.4}]


@pytest.mark.parametrize("settings", RANGES, ids=str)
def test_binary_labels_survive_and_probabilities_cross_one_half_at_the_threshold(settings: dict[str, Any]) -> None:
    codec = build_codec("binary", 2, settings)
    x0 = codec.encode(LABELS)
    assert x0.shape == (2, codec.channels, 6, 7)
    assert torch.equal(codec.labels(x0), LABELS)
    x = torch.linspace(-1.5, 1.5, 301)[None, None]
    p = codec.probabilities(x)
    torch.testing.assert_close(p.sum(1), torch.ones(1, 301))
    # Closer to the threshold than 1e-5 float32 probabilities round to one half.
    threshold = settings.get("threshold", (codec.encode(LABELS).min() + 1) / 2)
    clear = (x[:, 0] - threshold).abs() > 1e-5
    assert torch.equal((p[:, 1] > 0.5)[clear], codec.labels(x)[clear].bool())
    assert float(p.min()) == 0 and float(p.max()) == 1 and bool((p[0, 1].diff() >= 0).all())
    # A clean structure is certain; a clean background is too, unless the threshold lies on it.
    q = codec.probabilities(codec.encode(torch.tensor([[0, 1]])))[0, 1].tolist()
    assert q == ([0.5, 1.0] if settings.get("threshold") == 0 else [0.0, 1.0])


@pytest.mark.parametrize("settings", RANGES, ids=str)
def test_certain_logits_give_clean_masks_and_the_field_to_look_at_spans_both_signs(settings: dict[str, Any]) -> None:
    codec = build_codec("binary", 2, settings)
    logits = (LABELS[:, None] * 2 - 1) * 100.0
    torch.testing.assert_close(codec.from_logits(logits), codec.encode(LABELS))
    torch.testing.assert_close(codec.foreground(codec.encode(LABELS)), LABELS * 2.0 - 1)


@pytest.mark.parametrize(
    ("classes", "settings"),
    [(3, {}), (2, {"low": 1.0, "high": 0.0}), (2, {"threshold": 1.0}), (2, {"low": 0.0, "colour": 1})],
)
def test_impossible_binary_codecs_are_refused(classes: int, settings: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError):
        build_codec("binary", classes, settings)


def test_images_pass_unchanged_and_are_no_masks() -> None:
    codec = ImageCodec(channels=3, clip=(0.0, 1.0))
    image = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(codec.encode(image), image)
    torch.testing.assert_close(codec.foreground(image), image.mean(1) * 2 - 1)
    with pytest.raises(PlanError, match="draws images"):
        codec.labels(image)


def test_every_codec_can_be_built_from_its_name() -> None:
    assert [build_codec(name, 2, {}).classes for name in CODECS] == [2] * len(CODECS.names())
    assert build_codec("onehot", 4, {}).channels == 4
    assert BinaryCodec(2).cut == 0
