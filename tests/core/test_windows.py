"""Windows and slices against the whole volume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffseg.codec import MaskCodec
from diffseg.cost import starts
from diffseg.denoise import HEADS, NetworkDenoiser
from diffseg.errors import PlanError
from diffseg.noise import CosineSchedule
from diffseg.sample import DDIM, DDPM, Noise
from diffseg.windows import Bind, SliceNoise, Slicewise, Windowed
from oracle import MixtureOracle

LEVELS = CosineSchedule().levels(5)


class Convolutions(nn.Module):
    """Two 3-wide convolutions: receptive field of 2 voxels to each side, no normalisation."""

    def __init__(self, spatial: int) -> None:
        super().__init__()
        layer = nn.Conv2d if spatial == 2 else nn.Conv3d
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.net = nn.Sequential(layer(4, 8, 3, padding=1), nn.SiLU(), layer(8, 3, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, image: Tensor) -> Tensor:
        out: Tensor = self.net(torch.cat([image, x], 1)) * (1 + t.view(-1, *[1] * (x.ndim - 1)))
        return out


def bind(network: nn.Module) -> Bind:
    return lambda image: NetworkDenoiser(network, image, HEADS["x0"](), MaskCodec(3))


def sampled(denoiser: object, shape: tuple[int, ...], members: int = 2) -> Tensor:
    noise = Noise(0, tuple(range(members)))
    *_, last = DDPM().steps(denoiser, noise.draw(0, (3, *shape)), noise, LEVELS)  # type: ignore[arg-type]
    return last.x


@pytest.mark.parametrize("shape", [(30, 26, 40), (12, 40, 19)])
def test_windowed_and_whole_sampling_agree_everywhere(shape: tuple[int, ...]) -> None:
    image = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(1))
    network = Convolutions(3)
    windowed = Windowed(bind(network), image, window=(16, 16, 16), halo=2)
    assert len(windowed) > 4
    # Float32 blending; the volume's own borders agree too, since windows there end where the volume ends.
    torch.testing.assert_close(sampled(windowed, shape), sampled(bind(network)(image), shape), rtol=0, atol=1e-5)


def test_without_a_halo_seams_are_visible() -> None:
    """The test above must be able to fail."""
    shape = (16, 16, 40)
    image = torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(1))
    network = Convolutions(3)
    windowed = Windowed(bind(network), image, window=(16, 16, 16), halo=0, overlap=1)
    assert float((sampled(windowed, shape) - sampled(bind(network)(image), shape)).abs().max()) > 1e-2


def test_a_small_volume_is_one_window() -> None:
    image = torch.zeros(1, 1, 8, 8, 8)
    assert len(Windowed(bind(Convolutions(3)), image, window=(16, 16, 16), halo=4)) == 1


@pytest.mark.parametrize(("size", "window", "overlap"), [(100, 32, 16), (33, 32, 16), (64, 32, 8), (31, 32, 16)])
def test_windows_cover_everything_and_overlap_enough(size: int, window: int, overlap: int) -> None:
    first = starts(size, window, overlap)
    covered = np.zeros(size, bool)
    for s in first:
        covered[s : s + window] = True
    assert covered.all()
    assert all(b - a <= window - overlap for a, b in zip(first, first[1:], strict=False))


def test_an_overlap_that_cannot_blend_is_refused() -> None:
    with pytest.raises(PlanError, match="overlap of 4"):
        Windowed(bind(Convolutions(3)), torch.zeros(1, 1, 40, 40, 40), window=(16, 16, 16), halo=2, overlap=4)


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_a_slice_model_on_a_volume_equals_the_slices_one_by_one(batch: int) -> None:
    image = torch.randn(1, 1, 7, 12, 10, generator=torch.Generator().manual_seed(2))
    network = Convolutions(2)
    x = Noise(0, (0, 1)).draw(0, (3, 7, 12, 10))
    got = Slicewise(bind(network), image, batch)(x, LEVELS[0]).x0
    for b in range(2):
        for z in range(7):
            one = bind(network)(image[:, :, z])(x[b : b + 1, :, z], LEVELS[0]).x0
            # Batches of another size may round differently.
            torch.testing.assert_close(got[b, :, z], one[0], rtol=0, atol=1e-6)


def test_slice_noise_is_standard_normal_and_correlated_as_said() -> None:
    noise = SliceNoise(0, (0, 1), correlation=0.8).draw(0, (1, 40, 64, 64))
    # 327,680 values; slices are correlated, so the standard errors are about three times those of white noise.
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    for lag in (1, 3):
        measured = float((noise[:, :, lag:] * noise[:, :, :-lag]).mean())
        assert measured == pytest.approx(0.8**lag, abs=0.02)
    assert torch.equal(SliceNoise(0, (1,), correlation=0.8).draw(0, (1, 40, 64, 64))[0], noise[1])


def test_correlated_noise_keeps_neighbouring_slices_in_one_mode() -> None:
    templates = torch.full((2, 1, 6, 6), -1.0)
    templates[1] = 1
    oracle = MixtureOracle(templates, torch.tensor([0.5, 0.5]))
    image = torch.zeros(1, 1, 30, 6, 6)
    changes = {}
    for rho in (0.0, 0.98):
        noise = SliceNoise(0, tuple(range(20)), correlation=rho)
        x = noise.draw(0, (1, 30, 6, 6))
        *_, last = DDIM().steps(Slicewise(lambda _: oracle, image), x, noise, CosineSchedule().levels(20))
        mode = last.x[:, 0, :, 0, 0] > 0
        changes[rho] = float((mode[:, 1:] != mode[:, :-1]).float().mean())
    # Independent slices change mode every second time; 580 borders give a standard error of 0.02.
    assert changes[0.0] == pytest.approx(0.5, abs=0.08)
    assert changes[0.98] < 0.2
