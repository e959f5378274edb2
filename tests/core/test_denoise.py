"""Heads, codec and the bound network."""

from __future__ import annotations

import pytest
import torch

from diffseg.codec import BinaryCodec, MaskCodec
from diffseg.denoise import HEADS, BothHead, EpsHead, Head, NetworkDenoiser, build_head, eps_from_x0
from diffseg.errors import CheckpointError
from diffseg.noise import Level

CODEC = MaskCodec(3)


def noisy() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x0 = CODEC.encode(torch.randint(3, (2, 4, 5), generator=g)).double()
    eps = torch.randn(x0.shape, generator=g).double()
    alpha, sigma = torch.tensor(0.6).double(), torch.tensor(0.8).double()
    return x0, eps, alpha * x0 + sigma * eps, alpha, sigma


@pytest.mark.parametrize("name", [n for n in HEADS if n not in ("x0", "x0-tanh")])
def test_a_perfect_output_gives_back_the_clean_mask(name: str) -> None:
    x0, eps, x, alpha, sigma = noisy()
    head = HEADS[name]()
    target = head.target(x0, eps, alpha, sigma)
    assert target is not None
    torch.testing.assert_close(head.x0(target, x, alpha, sigma, CODEC), x0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", HEADS.names())
def test_the_noise_of_an_unclipped_prediction_is_the_one_that_its_mask_implies(name: str) -> None:
    _, eps, x, alpha, sigma = noisy()
    head = HEADS[name](keep_eps=True, clip=False)
    output = torch.cat((eps, eps.flip(0)), dim=1) if name == "both" else 3 * eps
    seen = head.predict(output, x, alpha, sigma, CODEC)
    assert seen.eps is not None
    expected = eps if name == "both" else eps_from_x0(x, seen.x0, alpha, sigma)
    # The amplitudes are float32 numbers, so their squares sum to 1 only to 1e-7.
    torch.testing.assert_close(seen.eps, expected, rtol=0, atol=1e-6)


def test_clipping_follows_the_codec_and_keeps_the_noise_only_where_asked() -> None:
    _, eps, x, alpha, sigma = noisy()
    narrow = BinaryCodec(2, low=0.0, clip=(0.0, 1.0))
    clipped = EpsHead().predict(4 * eps, x, alpha, sigma, narrow)
    assert float(clipped.x0.min()) == 0 and float(clipped.x0.max()) == 1 and clipped.eps is None
    kept = EpsHead(keep_eps=True).predict(4 * eps, x, alpha, sigma, narrow)
    assert kept.eps is not None and torch.equal(kept.eps, 4 * eps)
    assert torch.equal(kept.x0, clipped.x0)


def test_the_second_half_of_the_channels_is_the_variance_fraction() -> None:
    x0, eps, x, alpha, sigma = noisy()
    v = 5 * torch.randn(eps.shape, generator=torch.Generator().manual_seed(4)).double()
    seen = EpsHead(learned_variance=True).predict(torch.cat((eps, v), 1), x, alpha, sigma, CODEC)
    torch.testing.assert_close(seen.x0, x0, rtol=0, atol=1e-12)
    assert seen.variance_fraction is not None
    torch.testing.assert_close(seen.variance_fraction, (v + 1) / 2)


def test_the_published_weights_of_both_do_not_sum_to_one() -> None:
    x0, eps, x, alpha, sigma = noisy()
    head = BothHead(clip=False, published_weights=True)
    found = head.x0(torch.cat((eps, x0), dim=1), x, alpha, sigma, CODEC)
    torch.testing.assert_close(found, (alpha + sigma) * x0)


def test_heads_are_built_from_a_card_and_unknown_settings_are_refused() -> None:
    head: Head = build_head("eps", {"learned_variance": True})
    assert head == EpsHead(learned_variance=True)
    with pytest.raises(CheckpointError, match="learned_varience"):
        build_head("eps", {"learned_varience": True})


def test_logits_become_a_mask_whose_probabilities_sum_to_one() -> None:
    _, _, x, alpha, sigma = noisy()
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    x0 = HEADS["x0"]().x0(logits, x, alpha, sigma, CODEC)
    torch.testing.assert_close(((x0 + 1) / 2).sum(1), torch.ones(2, 4, 5))
    assert torch.equal(CODEC.labels(x0), logits.argmax(1))


def test_eps_is_recovered_from_the_clean_mask() -> None:
    x0, eps, x, alpha, sigma = noisy()
    torch.testing.assert_close(eps_from_x0(x, x0, alpha, sigma), eps, rtol=0, atol=1e-12)


def test_labels_survive_the_codec() -> None:
    labels = torch.randint(3, (2, 6, 7), generator=torch.Generator().manual_seed(2))
    x0 = CODEC.encode(labels)
    assert set(x0.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(CODEC.labels(x0), labels)
    assert torch.equal(CODEC.foreground(x0) > 0, labels > 0)


def test_probabilities_of_a_voxel_without_any_class_are_background() -> None:
    p = CODEC.probabilities(torch.full((1, 3, 2), -2.0))
    assert torch.equal(p[0, :, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_the_bound_network_sees_image_time_and_noise_of_the_right_level() -> None:
    seen = {}

    class Spy(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
            seen.update(x=x, t=t, image=image)
            return x

    image = torch.arange(4.0).view(1, 1, 2, 2)
    denoiser = NetworkDenoiser(Spy(), image, HEADS["v"](), CODEC)
    x = torch.zeros(3, 3, 2, 2)
    denoiser(x, Level(t=0.5, told=0.25, alpha=0.8, sigma=0.6))
    assert seen["t"].tolist() == [0.25] * 3
    assert torch.equal(seen["image"], image.expand(3, 1, 2, 2))
