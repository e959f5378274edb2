"""The rule that stops an ensemble, on streams whose right answer is known, and the exact coverage at the stop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from diffseg.errors import PlanError
from diffseg.settling import StopRule, Z, settling, wilson_half_width


def stopped_at(modes: Callable[[int], int], volumes: Callable[[int], float], most: int = 300) -> int | None:
    """Members at which a stream settles; ``modes`` names the mode of member n, from 0."""
    for n in range(1, most):
        sizes = np.unique([modes(i) for i in range(n)], return_counts=True)[1]
        if settling([int(s) for s in sizes], [volumes(i) for i in range(n)]).settled:
            return n
    return None


def test_members_that_all_agree_settle_as_soon_as_the_next_one_is_known_well_enough() -> None:
    # 2 / (n + 1) <= 0.15 for the first time at 13.
    assert stopped_at(lambda i: 0, lambda i: 1.0) == 13
    assert stopped_at(lambda i: 0, lambda i: 0.0) == 13, "all empty"


def test_two_equal_modes_settle_when_their_shares_are_known() -> None:
    # z / (2 sqrt(n + z^2)) <= 0.15 for the first time at 39.
    assert stopped_at(lambda i: i % 2, lambda i: 1.0 + i % 2) == 39


def test_members_that_are_all_different_never_settle() -> None:
    assert stopped_at(lambda i: i, lambda i: 1.0) is None


def test_volumes_that_keep_growing_do_not_settle_and_those_at_rest_do() -> None:
    assert stopped_at(lambda i: 0, lambda i: 1.1**i) is None
    assert stopped_at(lambda i: 0, lambda i: 1 + 0.02 * (-1) ** i) == 13
    late = settling([20], [1.0] * 19 + [1.5])
    assert late.shares_settled and not late.interval_settled and "50 %" in late.words


def test_the_words_name_what_is_open() -> None:
    assert "alone in their mode" in settling([1] * 20, [1.0] * 20).words
    assert "shares of the modes known to" in settling([10, 10], [1.0] * 20).words
    assert "new volumes" in settling([10], [1.0] * 10).words
    assert settling([13], [1.0] * 13).words.startswith("Settled")


def test_half_widths_are_those_of_the_score_interval() -> None:
    # The ends of Wilson's interval are the shares q with |p - q| = z sqrt(q (1 - q) / n).
    for k, n in ((0, 9), (3, 17), (20, 20), (11, 32)):
        half = wilson_half_width(k, n)
        centre = (k / n + Z**2 / (2 * n)) / (1 + Z**2 / n)
        for q in (centre - half, centre + half):
            assert (k / n - q) ** 2 == pytest.approx(Z**2 * q * (1 - q) / n, abs=1e-15)


def coverage_at_the_stop(share: float) -> float:
    """Probability that the stopped interval of a mode with this true share contains it, by walking all paths."""
    rule, alive, covered, n = StopRule(), {0: 1.0}, 0.0, 0
    while alive:
        n += 1
        grown: dict[int, float] = {}
        for k, weight in alive.items():
            grown[k + 1] = grown.get(k + 1, 0.0) + weight * share
            grown[k] = grown.get(k, 0.0) + weight * (1 - share)
        alive = {}
        for k, weight in grown.items():
            if settling([s for s in (k, n - k) if s], [1.0] * n, rule).settled:
                centre = (k / n + Z**2 / (2 * n)) / (1 + Z**2 / n)
                covered += weight * (abs(centre - share) <= wilson_half_width(k, n))
            else:
                alive[k] = weight
    return covered


def test_optional_stopping_keeps_the_coverage_that_the_text_promises() -> None:
    # 0.0135 lies just below Wilson's lower end for 1 of 13, the worst place there is.
    assert coverage_at_the_stop(0.0135) >= 0.83
    assert min(coverage_at_the_stop(share) for share in (0.02, 0.05, 0.12, 0.25, 0.35, 0.42, 0.5)) >= 0.93


def test_sizes_and_volumes_of_different_ensembles_are_refused() -> None:
    with pytest.raises(PlanError, match="do not belong together"):
        settling([3], [1.0, 1.0])
