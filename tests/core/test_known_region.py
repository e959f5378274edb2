"""Known voxels stay, and the rest follows the conditional distribution, on data whose answer is known exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffseg.errors import PlanError
from diffseg.known_region import KnownRegion, Resampling
from diffseg.noise import LinearSchedule
from diffseg.sample import DDIM, DDPM, SAMPLERS, Noise, Sampler
from oracle import GaussianOracle, MixtureOracle

SIDE, KNOWN = 8, 6
WEIGHTS = torch.tensor([0.3, 0.15, 0.4, 0.15])
# Templates 0, 1 and 3 agree on the known columns; 2, the likeliest of all, does not.
CONDITIONAL = torch.tensor([0.5, 0.25, 0.0, 0.25])
LEVELS = LinearSchedule().levels(10)


def templates(left: tuple[int, ...], right: tuple[slice, ...]) -> Tensor:
    """Masks with ``left`` rows filled in the known columns and the rows ``right`` in the unknown ones."""
    made = torch.full((len(left), 2, SIDE, SIDE), -1.0)
    for m, (rows, band) in enumerate(zip(left, right, strict=True)):
        made[m, 1, :rows, :KNOWN] = 1
        made[m, 1, band, KNOWN:] = 1
        made[m, 0] = -made[m, 1]
    return made


# All unknown parts equally unlike each other.
APART = templates((3, 3, 6, 3), (slice(0, 2), slice(2, 4), slice(6, 8), slice(4, 6)))
# The unknown part of the template ruled out is nearest to that of template 1, and known parts differ little.
ENTANGLED = templates((2, 2, 3, 2), (slice(0, 1), slice(0, 4), slice(0, 6), slice(0, 0)))
REGION = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)
REGION[..., :KNOWN] = True


def shares(sampler: Sampler, masks: Tensor, resamplings: int, members: int) -> tuple[Tensor, Tensor]:
    """Relative frequency of each template, and every member's distance from the nearest one."""
    noise = Noise(0, tuple(range(members)))
    wrapped = KnownRegion(sampler, REGION, masks[:1], Resampling(resamplings))
    oracle = MixtureOracle(masks, WEIGHTS)
    *_, last = wrapped.steps(oracle, noise.draw(0, masks.shape[1:]), noise, LEVELS)
    known = REGION.expand(members, 2, SIDE, SIDE)
    assert torch.equal(last.x[known], masks[:1].expand_as(last.x)[known])
    distance = (last.x[:, None] - masks[None]).flatten(2).abs().amax(2)
    return torch.bincount(distance.argmin(1), minlength=4) / members, distance.amin(1)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_the_unknown_part_follows_the_conditional_in_ten_steps(name: str) -> None:
    share, distance = shares(SAMPLERS[name](), APART, 3, 1000)
    assert float(distance.max()) < 1e-3
    assert float(share[2]) == 0
    # Standard error sqrt(0.25 / 1000) = 0.016, three of them; ten ancestral steps are biased by 0.04 by themselves.
    assert float((share - CONDITIONAL).abs().max()) < (0.09 if name == "ddpm" else 0.05)


def test_repetitions_mend_what_plain_replacement_gets_wrong() -> None:
    errors = [float((shares(DDIM(), ENTANGLED, r, 500)[0] - CONDITIONAL).abs().max()) for r in (1, 10)]
    # Standard error 0.022: plain replacement hands the excluded template's 0.4 to its neighbour.
    assert errors[0] > 0.12
    assert errors[1] < 0.6 * errors[0]


@pytest.mark.parametrize("jump", [1, 3])
@pytest.mark.parametrize("name", SAMPLERS.names())
def test_a_run_is_the_same_alone_in_a_batch_and_after_resuming_anywhere(name: str, jump: int) -> None:
    oracle, shape = GaussianOracle(0.1, 0.5), (2, SIDE, SIDE)
    wrapped = KnownRegion(SAMPLERS[name](), REGION, APART[:1], Resampling(3, jump))
    levels = LinearSchedule().levels(7)
    batch, alone = Noise(5, (0, 1, 2)), Noise(5, (2,))
    together = list(wrapped.steps(oracle, batch.draw(0, shape), batch, levels))
    single = list(wrapped.steps(oracle, alone.draw(0, shape), alone, levels))
    assert [s.done for s in single] == [1, 2, 3, 4, 5, 6, 7]
    for many, one in zip(together, single, strict=True):
        assert torch.equal(many.x[2], one.x[0])
    for k in range(1, 7):
        *_, last = wrapped.steps(oracle, single[k - 1].x, alone, levels, k, single[k - 1].x0)
        assert torch.equal(last.x, single[-1].x)


def test_nothing_known_changes_nothing_and_everything_known_draws_nothing() -> None:
    noise = Noise(1, (0,))
    x, oracle = noise.draw(0, (2, SIDE, SIDE)), MixtureOracle(APART, WEIGHTS)
    free = KnownRegion(DDPM(), torch.zeros_like(REGION), APART[:1], Resampling(1))
    ours, plain = (list(s.steps(oracle, x, noise, LEVELS)) for s in (free, DDPM()))
    assert all(torch.equal(a.x, b.x) for a, b in zip(ours, plain, strict=True))
    full = KnownRegion(DDPM(), torch.ones_like(REGION), APART[1:2])
    *_, last = full.steps(oracle, x, noise, LEVELS)
    assert torch.equal(last.x, APART[1:2])


def test_known_voxels_of_another_size_are_refused() -> None:
    noise = Noise(1, (0,))
    wrapped = KnownRegion(DDIM(), REGION, APART[:1])
    with pytest.raises(PlanError, match="do not fit a state of shape"):
        next(wrapped.steps(GaussianOracle(0, 1), noise.draw(0, (2, 4, 4)), noise, LEVELS))
