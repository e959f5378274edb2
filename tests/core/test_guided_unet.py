"""The guided-diffusion family of networks: published sizes, what the options change, reading the shapes
back.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from diffseg.convert.infer import infer_classifier, infer_unet
from diffseg.errors import CaseError, CheckpointError
from diffseg.nets.blocks import sinusoid
from diffseg.nets.classifier import GuidedClassifier, GuidedClassifierConfig
from diffseg.nets.guided_blocks import attend
from diffseg.nets.guided_unet import GuidedUNet, GuidedUNetConfig

FIVE, SIX = (128, 128, 256, 384, 512), (128, 128, 256, 256, 512, 512)
# Published systems: configuration, parameters, tensors (None where the number was not recorded).
PUBLISHED: dict[str, tuple[dict[str, Any], int, int | None]] = {
    "cimd": (
        {"inputs": 5, "outputs": 2, "widths": FIVE, "blocks": (2,) * 5, "attention": (8,)},
        85_603_842,
        368,
    ),
    "wolleb": (
        {"inputs": 5, "outputs": 2, "widths": SIX, "blocks": (2,) * 6, "attention": (16,)},
        113_674_370,
        426,
    ),
    "wsss brats": (
        {
            "inputs": 3,
            "outputs": 6,
            "widths": SIX,
            "blocks": (3,) * 6,
            "scale_shift": True,
            "labels": 1000,
            "heads": 4,
        },
        150_098_310,
        None,
    ),
    "wsss chaos": (
        {
            "inputs": 1,
            "outputs": 2,
            "widths": FIVE,
            "blocks": (3,) * 5,
            "attention": (8, 16),
            "scale_shift": True,
            "labels": 1000,
            "heads": 4,
        },
        125_575_682,
        None,
    ),
    "diffusion-anomaly": (
        {"inputs": 4, "outputs": 8, "widths": SIX, "blocks": (2,) * 6, "attention": (16,), "labels": 2},
        113_681_160,
        None,
    ),
    "ambdiffseg": (
        {
            "inputs": 4,
            "outputs": 1,
            "base": 32,
            "widths": (32, 32, 64, 128),
            "blocks": (1, 2, 3, 4),
            "attention": (8,),
            "middle_blocks": 4,
            "spare": 1,
            "heads": 4,
            "mask_first": True,
            "max_period": 10.0,
        },
        6_891_905,
        406,
    ),
}
CLASSIFIER = {
    "inputs": 4,
    "outputs": 2,
    "base": 32,
    "widths": (32, 32, 64, 64, 128, 128),
    "blocks": (4,) * 6,
    "attention": (8, 16, 32),
    "scale_shift": True,
    "resblock_updown": True,
    "head_channels": 64,
    "side": 8,
}


def on_meta(kind: type, config: Any) -> torch.nn.Module:
    with torch.device("meta"):
        network: torch.nn.Module = kind(config)
    return network


def shapes(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def randomised(kind: type, config: Any) -> Any:
    """A network on the CPU whose layers that start at zero are random too, so that everything counts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind(config).eval()
        for name, p in network.named_parameters():
            if p.ndim > 1:
                torch.nn.init.normal_(p, std=p[0].numel() ** -0.5)
            else:
                torch.nn.init.normal_(p, mean=float(name.endswith("weight")), std=0.1)
    return network


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_their_published_number_of_parameters(name: str) -> None:
    settings, parameters, tensors = PUBLISHED[name]
    network = on_meta(GuidedUNet, GuidedUNetConfig(**{"base": 128} | settings))
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert tensors is None or len(network.state_dict()) == tensors


def test_the_published_classifier_has_its_number_of_parameters() -> None:
    network = on_meta(GuidedClassifier, GuidedClassifierConfig(**CLASSIFIER))
    assert sum(p.numel() for p in network.parameters()) == 5_452_962


def readable(config: Any, found: dict[str, Any]) -> bool:
    """Whether everything found in the shapes is what the network was built with."""
    return all(getattr(config, name) == value for name, value in found.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_architectures_are_read_from_their_shapes(name: str) -> None:
    config = GuidedUNetConfig(**{"base": 128} | PUBLISHED[name][0])
    assert readable(config, infer_unet(shapes(on_meta(GuidedUNet, config))))


@pytest.mark.parametrize("resampling", ["conv", "none", "blocks"])
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_any_architecture_is_read_from_its_shapes(resampling: str, levels: int) -> None:
    options = [
        (1, (), False, 0),
        (3, (1,), True, 7),
        (2, (2, 4), True, 0),
    ]
    for blocks, attention, scale_shift, labels in options:
        config = GuidedUNetConfig(
            inputs=3,
            outputs=2,
            base=64,
            widths=tuple(32 * (n + 1) for n in range(levels)),
            blocks=tuple(range(blocks, blocks + levels)),
            attention=tuple(a for a in attention if a < 2**levels),
            middle_blocks=blocks + 1,
            scale_shift=scale_shift,
            resblock_updown=resampling == "blocks" and levels > 1,
            resample_conv=resampling != "none" or levels == 1,
            labels=labels,
            spare=blocks // 2,
        )
        assert readable(config, infer_unet(shapes(on_meta(GuidedUNet, config)))), config


@pytest.mark.parametrize("pool", ["attention", "adaptive", "spatial", "spatial_v2"])
@pytest.mark.parametrize("updown", [False, True])
def test_classifiers_are_read_from_their_shapes(pool: str, updown: bool) -> None:
    settings = CLASSIFIER | {"pool": pool, "resblock_updown": updown, "resample_conv": not updown}
    config = GuidedClassifierConfig(**settings | {"side": 8 if pool == "attention" else 0})
    assert readable(config, infer_classifier(shapes(on_meta(GuidedClassifier, config))))


def test_an_encoder_that_can_be_cut_in_two_ways_is_decided_by_its_window_or_left_open() -> None:
    config = GuidedClassifierConfig(
        inputs=1,
        outputs=2,
        base=32,
        widths=(32, 32),
        blocks=(2, 2),
        resblock_updown=True,
        resample_conv=False,
        side=4,
    )
    found = shapes(on_meta(GuidedClassifier, config))
    assert infer_classifier(found, window=(8, 8))["blocks"] == (2, 2)
    assert infer_classifier(found, window=(16, 16))["blocks"] == (1, 1, 1)
    with pytest.raises(CheckpointError, match="2 resolutions of 2 blocks"):
        infer_classifier(found)


def test_other_networks_are_refused_by_the_tensor_that_is_missing() -> None:
    with pytest.raises(CheckpointError, match="time_embed.0.weight is not among its tensors"):
        infer_unet({"conv1.weight": (64, 3, 7, 7), "fc.bias": (10,)})


def tiny(**changes: Any) -> Any:
    settings: dict[str, Any] = {"inputs": 3, "outputs": 2, "base": 32, "widths": (32, 64), "blocks": (1, 1)}
    return randomised(GuidedUNet, GuidedUNetConfig(**settings | {"attention": (2,)} | changes))


def answer(network: Any, **inputs: Any) -> torch.Tensor:
    given = torch.Generator().manual_seed(1)
    x, image = torch.randn(2, 1, 16, 8, generator=given), torch.randn(2, 2, 16, 8, generator=given)
    with torch.no_grad():
        out: torch.Tensor = network(x, torch.tensor([3.0, 700.0]), image, **inputs)
    return out


@pytest.mark.parametrize(
    "change", [{"heads": 4}, {"head_channels": 16}, {"heads_up": 8}, {"head_order": "new", "heads": 4}]
)
def test_heads_change_the_answer_but_not_the_weights(change: dict[str, Any]) -> None:
    plain, other = tiny(), tiny(**change)
    other.load_state_dict(plain.state_dict())
    assert (answer(plain) - answer(other)).abs().max() > 1e-3


def test_head_channels_win_over_heads() -> None:
    a, b = tiny(heads=4, head_channels=32), tiny(heads=2)
    b.load_state_dict(a.state_dict())
    # Rounding: the same sums in the same order.
    assert torch.allclose(answer(a), answer(b), atol=1e-6)
    with pytest.raises(CheckpointError, match="cannot be split into attention heads"):
        tiny(heads=5)
    with pytest.raises(CheckpointError, match="cannot be split into attention heads"):
        tiny(head_channels=48)


def test_attention_of_one_head_is_softmax_of_scaled_products() -> None:
    qkv = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, k, v = qkv.chunk(3, dim=1)
    weight = (torch.einsum("bct,bcs->bts", q, k) / 2).softmax(dim=-1)  # 2: root of four channels
    expected = torch.einsum("bts,bcs->bct", weight, v)
    for order in ("legacy", "new"):
        assert torch.allclose(attend(qkv, 1, order), expected, atol=1e-12)  # type: ignore[arg-type]


def test_the_orders_of_heads_are_the_same_function_of_reordered_channels() -> None:
    qkv = torch.randn(1, 24, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reordered = qkv.view(1, 2, 3, 4, 5).transpose(1, 2).reshape(1, 24, 5)
    assert torch.allclose(attend(qkv, 2, "legacy"), attend(reordered, 2, "new"), atol=1e-12)


def test_mask_first_swaps_the_input_channels_of_the_stem() -> None:
    last, first = tiny(), tiny(mask_first=True)
    state = last.state_dict()
    stem = "input_blocks.0.0.weight"
    first.load_state_dict(state | {stem: state[stem][:, [2, 0, 1]]})
    assert torch.allclose(answer(last), answer(first), atol=1e-5)


def test_labels_add_their_row_and_weights_mix_the_rows() -> None:
    network = tiny(labels=3)
    one = answer(network, label=torch.tensor([1, 2]))
    assert torch.allclose(one, answer(network, label=torch.tensor([[0.0, 1, 0], [0, 0, 1]])), atol=1e-5)
    t = torch.tensor([5.0])
    mixed = network.embed(t, torch.tensor([[0.25, 0.75, 0]]))
    rows = [network.embed(t, torch.tensor([k])) for k in (0, 1)]
    assert torch.allclose(mixed, 0.25 * rows[0] + 0.75 * rows[1], atol=1e-5)
    with pytest.raises(CheckpointError, match="give it one"):
        answer(network)


def test_the_sinusoid_has_cosines_first_and_obeys_its_longest_period() -> None:
    t = torch.tensor([0.0, 0.5])
    out = sinusoid(t, 4, max_period=10.0)
    rates = torch.tensor([1.0, 10**-0.5])
    assert torch.allclose(out, torch.cat([(t[:, None] * rates).cos(), (t[:, None] * rates).sin()], 1), atol=1e-7)


def test_classifier_with_an_attention_pool_refuses_other_sizes_and_the_rest_takes_any() -> None:
    settings = CLASSIFIER | {
        "widths": (32, 32),
        "blocks": (1, 1),
        "attention": (2,),
        "head_channels": 32,
        "side": 4,
    }
    network = randomised(GuidedClassifier, GuidedClassifierConfig(**settings))
    t = torch.tensor([1.0])
    assert network(torch.zeros(1, 4, 8, 8), t).shape == (1, 2)
    with pytest.raises(CaseError, match="8×8 pixels, not 16×8"):
        network(torch.zeros(1, 4, 16, 8), t)
    for pool in ("adaptive", "spatial", "spatial_v2"):
        anything = randomised(GuidedClassifier, GuidedClassifierConfig(**settings | {"pool": pool}))
        assert anything(torch.zeros(1, 4, 16, 8), t).isfinite().all()


def test_a_configuration_that_cannot_be_built_says_why() -> None:
    good = GuidedUNetConfig(inputs=1, outputs=1, base=32, widths=(32,), blocks=(1,))
    with pytest.raises(CheckpointError, match="one block count per width"):
        dataclasses.replace(good, blocks=(1, 2))
    with pytest.raises(CheckpointError, match="multiples of 32"):
        dataclasses.replace(good, widths=(48,))
    with pytest.raises(CheckpointError, match="side of its feature map"):
        GuidedClassifierConfig(inputs=1, outputs=2, base=32, widths=(32,), blocks=(1,))
