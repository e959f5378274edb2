"""Ensembles and modes against direct computation on the stack of members."""

from __future__ import annotations

import numpy as np
import pytest

from diffseg.ensemble import Ensemble, class_iou, pack, unpack
from diffseg.errors import PlanError
from diffseg.modes import find_modes

SHAPE = (3, 5, 7)


def stack(n: int, classes: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, classes, (n, *SHAPE)).astype(np.uint8)


def grown(members: np.ndarray, classes: int = 3) -> Ensemble:
    ensemble = Ensemble(classes, members.shape[1:])
    for i, m in enumerate(members):
        ensemble.add(m, i)
    return ensemble


def test_maps_equal_the_statistics_of_the_stack() -> None:
    members = stack(9)
    s = grown(members).snapshot()
    p = np.stack([(members == k).mean(0) for k in range(3)])
    # float32 maps against float64 statistics.
    for k in range(3):
        np.testing.assert_allclose(s.mean(k), p[k], atol=1e-7)
    votes = np.stack([(members == k) for k in range(3)])
    np.testing.assert_allclose(s.variance(), votes.var(axis=1).max(0), atol=1e-7)
    safe = np.where(p > 0, p, 1)
    np.testing.assert_allclose(s.entropy(), -(p * np.log(safe)).sum(0), atol=1e-6)
    for i in range(9):
        assert (s.member(i) == members[i]).all()


def test_variance_and_entropy_reach_their_bounds_and_vanish_for_one_member() -> None:
    even = grown(np.stack([np.full(SHAPE, k, np.uint8) for k in (0, 1)]), classes=2).snapshot()
    assert even.variance() == pytest.approx(np.full(SHAPE, 0.25))
    assert even.entropy() == pytest.approx(np.full(SHAPE, np.log(2)), abs=1e-6)
    one = grown(stack(1)).snapshot()
    assert not one.variance().any() and not one.entropy().any()


def test_order_of_arrival_changes_nothing_and_an_old_snapshot_stays() -> None:
    members = stack(6)
    a = Ensemble(3, SHAPE)
    for i in (5, 2, 0, 1, 4):
        a.add(members[i], i)
    before = a.snapshot()
    kept = before.votes.copy()
    a.add(members[3], 3)
    assert (before.votes == kept).all() and len(before) == 5
    assert (a.snapshot().votes == grown(members).snapshot().votes).all()


def test_consensus_counts_members_at_its_share() -> None:
    members = np.zeros((20, 1, 3), np.uint8)
    members[:19, 0, 0] = 1  # exactly 95 %
    members[:18, 0, 1] = 1  # below
    members[:1, 0, 2] = 2  # exactly 5 %
    s = grown(members).snapshot()
    assert s.consensus(0.95)[0].tolist() == [1, 0, 0]
    assert s.consensus(0.05)[0].tolist() == [1, 1, 2]
    assert s.consensus(0.5)[0].tolist() == [1, 1, 0]


def test_packing_is_exact_for_odd_sizes() -> None:
    labels = stack(1)[0]
    assert (unpack(pack(labels, 3), SHAPE) == labels).all()


def test_iou_matrix_equals_brute_force() -> None:
    members = stack(5)
    iou = grown(members).snapshot().iou
    for i, a in enumerate(members):
        for j, b in enumerate(members):
            per_class = [((a == k) & (b == k)).sum() / ((a == k) | (b == k)).sum() for k in (1, 2)]
            assert iou[i, j] == pytest.approx(np.mean(per_class), abs=1e-12)
    empty = pack(np.zeros(SHAPE, np.uint8), 3)
    assert class_iou(empty, empty) == 1.0


def test_memory_beyond_the_members_does_not_grow() -> None:
    ensemble = grown(stack(4))
    bits = ensemble.snapshot().members[0]
    assert bits.nbytes == 2 * -(-np.prod(SHAPE) // 8)
    assert ensemble.snapshot().votes.shape == (2, *SHAPE)


def test_members_that_do_not_fit_are_refused() -> None:
    ensemble = grown(stack(2))
    with pytest.raises(PlanError, match="does not belong"):
        ensemble.add(np.zeros((1, 2), np.uint8), 5)
    with pytest.raises(PlanError, match="does not belong"):
        ensemble.add(np.full(SHAPE, 3), 5)
    with pytest.raises(PlanError, match="already"):
        ensemble.add(stack(1)[0], 1)


def test_modes_find_three_families_with_frequency_medoid_and_volume() -> None:
    members = np.zeros((10, 1, 20, 20), np.uint8)
    members[:5, 0, :10, :10] = 1
    members[2, 0, 10, :3] = 1  # close to its family, not its medoid
    members[5:8, 0, 10:, 10:] = 1
    # members 8 and 9 are empty
    modes = find_modes(grown(members, classes=2).snapshot(), voxel_ml=0.001)
    assert [m.members for m in modes] == [(0, 1, 2, 3, 4), (5, 6, 7), (8, 9)]
    assert [m.frequency for m in modes] == [0.5, 0.3, 0.2]
    assert modes[0].medoid == 0
    assert modes[0].volume_ml == pytest.approx(0.1)
    assert modes[2].empty and not modes[1].empty


def test_one_member_is_one_mode_and_none_is_none() -> None:
    assert find_modes(Ensemble(2, (2, 2)).snapshot(), 1.0) == ()
    (only,) = find_modes(grown(stack(1)).snapshot(), 1.0)
    assert only.frequency == 1.0 and only.members == (0,)
