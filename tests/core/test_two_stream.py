"""The house networks: patches, small volumes in oneDNN, the plain baseline, and the encoder that runs once a case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from diffseg.checkpoint import load_checkpoint
from diffseg.errors import CheckpointError
from diffseg.nets.blocks import Conv3d, from_patches, to_patches
from diffseg.nets.two_stream import TwoStream, TwoStreamConfig
from diffseg.nets.unet import DirectUNet, UNet, UNetConfig
from diffseg.noise import LinearSchedule
from diffseg.sample import DDIM, Noise
from oracle import save_tiny, tiny_card

TWO_STREAM = {
    "spatial": 3, "image_channels": 1, "classes": 3, "widths": [8, 8, 8], "light_widths": [8, 8], "fine": 4, "groups": 4
}  # fmt: skip


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network with weights that leave no branch at zero."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for p in network.parameters():
            p.copy_(0.3 * torch.randn(p.shape))
    return network.eval()


def test_patches_are_the_pixel_unshuffle_of_torch_and_come_back_whole() -> None:
    x = torch.randn(2, 3, 8, 12)
    assert torch.equal(to_patches(x, 4), nn.functional.pixel_unshuffle(x, 4))
    volume = torch.randn(2, 3, 4, 8, 6)
    assert torch.equal(from_patches(to_patches(volume, 2), 2), volume)
    cell = to_patches(volume, 2)[1, 8:16, 1, 2, 0]  # channel 1 of the volume, cell (1, 2, 0)
    assert torch.equal(cell, volume[1, 1, 2:4, 4:6, 0:2].flatten())


@pytest.mark.parametrize(("stride", "kernel"), [(1, 3), (2, 3), (1, 1)])
def test_small_volumes_are_convolved_as_torch_defines_it(stride: int, kernel: int) -> None:
    layer = Conv3d(8, 16, kernel, stride=stride, padding=kernel // 2).to(memory_format=torch.channels_last_3d)
    x = torch.randn(1, 8, 6, 7, 5)
    want = nn.functional.conv3d(x.double(), layer.weight.double(), layer.bias.double(), stride, kernel // 2)
    # float32 sums of 216 products of about 1
    assert torch.allclose(layer(x).double(), want, atol=1e-4)


def test_a_small_volume_has_the_gradient_of_the_definition() -> None:
    layer, x = Conv3d(2, 3, 3, padding=1), torch.randn(1, 2, 4, 4, 4, requires_grad=True)
    layer(x).square().sum().backward()
    mine, x.grad = x.grad, None
    nn.functional.conv3d(x, layer.weight, layer.bias, 1, 1).square().sum().backward()
    assert torch.allclose(mine, x.grad, atol=1e-4)


def test_the_baseline_has_the_parameters_of_the_unet_and_never_looks_at_the_noisy_mask() -> None:
    config = UNetConfig(2, 1, 2, widths=(8, 8), groups=4, patch=2)
    net, image = randomised(DirectUNet(config)), torch.randn(1, 1, 16, 16)
    first = net(torch.randn(1, 2, 16, 16), torch.tensor([0.1]), image)
    assert torch.equal(first, net(torch.randn(1, 2, 16, 16), torch.tensor([0.9]), image))
    shapes = [{k: v.shape for k, v in n.state_dict().items()} for n in (net, UNet(config))]
    assert shapes[0] == shapes[1]
    assert not torch.equal(first, net(torch.zeros(1, 2, 16, 16), torch.tensor([0.1]), image + 1))


def test_the_decoder_says_the_same_from_the_image_and_from_its_features() -> None:
    net = randomised(TwoStream(TwoStreamConfig(3, 1, 3, widths=(8, 8, 8), light_widths=(8, 8), fine=4, groups=4)))
    x, t, image = torch.randn(3, 3, 8, 8, 8), torch.tensor([0.2, 0.5, 0.9]), torch.randn(1, 1, 8, 8, 8)
    at_once = net(x, t, net.encode(image).expand(3))
    one_by_one = torch.cat([net(x[i : i + 1], t[i : i + 1], image) for i in range(3)])
    # float32 sums in another order
    assert torch.allclose(at_once, one_by_one, atol=1e-4)
    assert not torch.allclose(at_once, net(x, t, (image + 1).expand(3, -1, -1, -1, -1)), atol=1e-2)


def test_a_case_is_encoded_once_however_many_members_and_steps(tmp_path: Path) -> None:
    card = replace(tiny_card(), architecture="two-stream", network=TWO_STREAM)
    save_tiny(tmp_path / "two.safetensors", card)
    checkpoint = load_checkpoint(tmp_path / "two.safetensors")
    passes = {"encoder": 0, "decoder": 0}
    checkpoint.network.image_stream.register_forward_hook(lambda *_: passes.update(encoder=passes["encoder"] + 1))
    checkpoint.network.mask_stream.register_forward_hook(lambda *_: passes.update(decoder=passes["decoder"] + 1))
    denoiser = checkpoint.denoiser(torch.randn(1, 1, 8, 8, 8))
    for member in range(3):
        noise = Noise(0, (member,))
        for _ in DDIM().steps(denoiser, noise.draw(0, (3, 8, 8, 8)), noise, LinearSchedule().levels(5)):
            pass
    assert passes == {"encoder": 1, "decoder": 15}


def test_cells_that_do_not_nest_are_refused_in_a_sentence() -> None:
    with pytest.raises(CheckpointError, match=r"cells of 3 voxels .* correct the network"):
        TwoStreamConfig(2, 1, 1, widths=(8, 8), light_widths=(8,), light_patch=3)
