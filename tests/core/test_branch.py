"""Branches: the same state, other noise; their distribution is the posterior given that state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffseg.branch import KeptSteps, refuse_branch, stochastic
from diffseg.case import Case, origin_of
from diffseg.checkpoint import load_checkpoint
from diffseg.errors import PlanError
from diffseg.noise import CosineSchedule
from diffseg.plan import plan_for
from diffseg.run import Run
from diffseg.sample import DDIM, DDPM, SAMPLERS, DPMSolver, Noise, Step
from oracle import GaussianOracle, MixtureOracle, save_tiny, tiny_card


def test_samplers_that_draw_noise_branch_by_themselves_and_the_others_by_ddim_with_eta_1() -> None:
    for sampler in (DDPM("large"), DDIM(eta=0.3)):
        assert stochastic(sampler) is sampler
    assert stochastic(DDIM(eta=0.0)) == stochastic(DPMSolver()) == DDIM(eta=1.0)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_branches_of_gaussian_data_have_the_mean_and_spread_of_the_posterior_given_their_state(name: str) -> None:
    oracle, levels, k = GaussianOracle(0.3, 0.2), CosineSchedule(input_scale=1.0).levels(400), 200
    x = torch.full((1, 1, 20_000), 0.5)
    noise = Noise(3, (0,))
    *_, last = stochastic(SAMPLERS[name]()).steps(oracle, x, noise, levels, k)
    a, s = levels[k].alpha, levels[k].sigma
    spread = a**2 * 0.2**2 + s**2
    mean = 0.3 + a * 0.2**2 / spread * (0.5 - a * 0.3)
    # N(mean, std^2 sigma^2 / spread). Four standard errors are 0.005 and 0.004; 0.004 more for the discretisation.
    assert float(last.x.mean()) == pytest.approx(mean, abs=0.009)
    assert float(last.x.std()) == pytest.approx(0.2 * s / spread**0.5, abs=0.008)


@pytest.mark.parametrize("name", SAMPLERS.names())
def test_branches_end_in_each_mask_as_often_as_their_state_makes_it_likely(name: str) -> None:
    templates = torch.full((2, 1, 4, 4), -1.0)
    templates[1, :, :2] = 1
    oracle = MixtureOracle(templates, torch.tensor([0.5, 0.5]))
    levels, k = CosineSchedule(input_scale=0.5).levels(200), 80
    # A state that speaks for the second mask, but not clearly.
    x = 0.2 * levels[k].alpha * templates[1:]
    expected = float(oracle.posterior(x, levels[k])[0, 1])
    assert 0.6 < expected < 0.95
    noise = Noise(5, tuple(range(1000)))
    *_, last = stochastic(SAMPLERS[name]()).steps(oracle, x.expand(1000, 1, 4, 4), noise, levels, k)
    share = float((last.x[:, 0, 0, 0] > 0).float().mean())
    # Standard error below 0.016; three of them and the bias of 200 steps.
    assert share == pytest.approx(expected, abs=0.06)


def test_after_the_last_noise_there_is_nothing_to_branch() -> None:
    refuse_branch(3, 5)
    for step in (-1, 4, 5):
        with pytest.raises(PlanError, match="branch at step 3 or before"):
            refuse_branch(step, 5)
    with pytest.raises(PlanError, match="take more steps"):
        refuse_branch(0, 1)


def run_of(folder: Path, sampler: str, steps: int = 6) -> Run:
    card = replace(tiny_card(), window=(12, 12, 12), sampler=sampler)
    save_tiny(folder / "tiny.safetensors", card)
    model = load_checkpoint(folder / "tiny.safetensors")
    origin = origin_of((12, 12, 12), np.diag([-1.0, -1.0, -1.0, 1.0]))
    image = np.random.default_rng(0).normal(size=(1, 12, 12, 12)).astype(np.float32)
    case = Case(image, origin.display_grid(), ("C0",), {}, origin, "scan")
    return Run(plan_for(card, model.sha256, (), device="cpu", steps=steps), case, model)


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_a_branch_keeps_the_state_at_its_step_and_differs_after_it(tmp_path: Path, sampler: str) -> None:
    run = run_of(tmp_path, sampler)
    first = list(run.trajectory())
    branch = list(run.branch(3, seed=99))
    assert [s.done for s in branch] == [1, 2, 3, 4, 5, 6]
    for k in (0, 1, 2):
        assert torch.equal(branch[k].x, first[k].x)
    assert not torch.equal(branch[3].x, first[3].x) and not torch.equal(branch[-1].x0, first[-1].x0)
    # From step 3 the network sees the same state, so the clean mask of step 4 is the same.
    assert torch.equal(branch[3].x0, first[3].x0)


def test_a_branch_at_the_starting_noise_is_another_path_from_the_same_noise(tmp_path: Path) -> None:
    run = run_of(tmp_path, "ddim")
    one, other = list(run.branch(0, seed=7)), list(run.branch(0, seed=8))
    assert torch.equal(one[0].x0, other[0].x0) and not torch.equal(one[0].x, other[0].x)
    with pytest.raises(PlanError, match="branch at step 4"):
        next(run.branch(5, seed=7))


@pytest.mark.parametrize("room", [0, 2, 100])
def test_a_branch_is_the_same_however_little_of_the_trajectory_was_kept(tmp_path: Path, room: int) -> None:
    run = run_of(tmp_path, "dpm++2m")
    steps = list(run.trajectory())
    kept = KeptSteps(room * (steps[0].x.nbytes + steps[0].x0.nbytes))
    for step in steps:
        kept.add(step)
    *_, whole = run.branch(3, seed=5)
    passes = list(run.branch(3, seed=5, kept=kept.before(3)))
    assert torch.equal(passes[-1].x0, whole.x0)
    assert len(passes) == {0: 6, 2: 6, 100: 3}[room]


def test_kept_states_stay_within_their_budget_and_are_spread_over_the_run() -> None:
    x = torch.zeros(1, 1, 256)
    kept = KeptSteps(budget_bytes=10 * 2 * x.nbytes)
    for k in range(1, 101):
        kept.add(Step(k, 100, 1.0, 0.5, x, x))
        assert kept.nbytes <= kept.budget_bytes
    assert kept.numbers == (16, 32, 48, 64, 80, 96)
    found = kept.before(50)
    assert found is not None and found.done == 48 and kept.before(15) is None
    kept.clear()
    assert kept.nbytes == 0
