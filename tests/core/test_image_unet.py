"""The small networks of images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffseg.errors import CheckpointError
from diffseg.nets.image_unet import ImageClassifier, ImageNetConfig, ImageUNet
from diffseg.saliency import SALIENCY, Models, Question
from saliency_cases import final, made
from saliency_oracle import TIMES

CONFIG = ImageNetConfig(channels=2, labels=3, widths=(8, 16), blocks=2, groups=4)
X, T = torch.randn(3, 2, 24, 20, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 0.4, 1.0])


def stirred(network: nn.Module) -> nn.Module:
    """The network with all weights drawn anew: fresh ones have zeros, which hide what passes through them."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


@torch.no_grad()
def test_the_denoiser_keeps_the_shape_and_mixes_labels_in_its_embedding() -> None:
    network = stirred(ImageUNet(CONFIG))
    named, weighed = network(X, T, label=torch.tensor([0, 2, 1])), network(X, T, label=torch.eye(3)[[0, 2, 1]])
    assert named.shape == X.shape and torch.equal(named, weighed)
    mixture = torch.tensor([[0.25, 0.0, 0.75]])
    expected = 0.25 * network.embed(T, torch.tensor([0])) + 0.75 * network.embed(T, torch.tensor([2]))
    torch.testing.assert_close(network.embed(T, mixture), expected)
    for changed in (network(X, T, label=torch.tensor([1, 1, 1])), network(X, T.flip(0), label=torch.tensor([0, 2, 1]))):
        assert not torch.allclose(changed[0], named[0])


@torch.no_grad()
def test_a_fresh_denoiser_predicts_zero_and_every_pixel_reaches_the_output() -> None:
    assert not ImageUNet(CONFIG)(X, T, label=torch.zeros(3, dtype=torch.long)).any()
    network, moved = stirred(ImageUNet(CONFIG)), X.clone()
    moved[:, :, 5, 7] += 1
    label = torch.zeros(3, dtype=torch.long)
    assert ((network(moved, T, label) - network(X, T, label))[:, :, 5, 7] != 0).all()


def test_what_cannot_be_built_or_asked_is_refused() -> None:
    with pytest.raises(CheckpointError, match="multiples of 8"):
        ImageNetConfig(widths=(12, 24))
    with pytest.raises(CheckpointError, match="at least 2 classes"):
        ImageClassifier(ImageNetConfig())
    with pytest.raises(CheckpointError, match="3 class labels"):
        ImageUNet(CONFIG)(X, T)
    assert ImageUNet(CONFIG).stride == ImageClassifier(CONFIG).stride == 4


@torch.no_grad()
def test_the_classifier_takes_any_size_and_sees_one_bright_pixel_in_a_large_image() -> None:
    network, change = stirred(ImageClassifier(CONFIG)), []
    for side in (16, 64):
        image = torch.zeros(1, 2, side, side)
        spot = image.clone()
        spot[:, :, 9, 9] = 20
        change.append(float((network(spot, T[:1]) - network(image, T[:1])).abs().max()))
    assert change[1] > change[0] / 4, "a mean would fade sixteenfold with the size of the image, a maximum does not"


@pytest.mark.parametrize("name", ["grad-cam", "grad-cam++", "score-cam", "layer-cam"])
def test_its_layers_give_activation_maps(name: str) -> None:
    models = Models(TIMES, None, stirred(ImageClassifier(CONFIG)))
    for layer in ("middle_block", "encoder.stages.0"):
        method = made(name, layer=layer)
        assert name in SALIENCY
        found = final(method.explain(models, Question(X, (0, 1, 2)))).map
        assert found.shape == (3, 24, 20) and torch.isfinite(found).all()
