"""When an ensemble has told enough: the rule that stops it, and the statistics behind that.

Members are exchangeable draws, so the members so far say how surely the next ones will change the picture. A
``StopRule`` looks at three things after every member, and all must hold:

* **Shares of the modes.** A mode seen in k of n members has the Wilson score interval of a binomial share, 95 %, each
  mode by itself; its half width must be at most ``error`` for every mode. At p = k / n and z = 1.96 that is
  ``z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / (4 n^2))``: at most 0.15 from 9 members on when all agree, and
  from 39 on at the latest, when one of two modes has half of them. The share of answers not seen yet, which Good and
  Turing estimate by the share of members that are alone in their mode, must be at most ``error`` as well, so an
  ensemble in which every member is an answer of its own never settles.
* **Reach of the interval.** The next member's volume falls outside the range of n volumes with probability
  ``2 / (n + 1)`` whatever their distribution; outside the interval shown, that or 5 %, whichever is more. It must be at
  most ``error``: 13 members for 0.15.
* **Rest of the interval.** The last quarter of the members has moved neither end of the volume's 95 % interval by more
  than ``change`` times the median volume.

Looking after every member and stopping at the first time that all holds could cost coverage, as with every sequential
procedure (Chow and Robbins 1965 show that it is won back as the width goes to 0). With the defaults it hardly does: the
share's interval at the time of stopping contains the true share of a two-mode model with probability 0.93 or more for
shares of 2 to 98 %; for rarer ones it falls to 0.83, as Wilson's interval of 13 draws does by itself. The test of
this module computes that exactly. Modes are found anew after every member, which is not part of the
figure. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffseg.errors import PlanError
from diffseg.measurements import LEVEL, distribution
from diffseg.registry import knob

Z = 1.959963984540054  # 97.5 % point of the normal distribution
# Share of the members, the newest, that must have left the interval where it was.
LATE = 0.25


@dataclass(frozen=True)
class StopRule:
    """See the module."""

    error: float = knob(0.15, low=0.02, high=0.5, help="How surely shares of modes and the next volume are known")
    change: float = knob(0.05, low=0.0, high=1.0, help="How far the interval may still move, of the median volume")


@dataclass(frozen=True)
class Settling:
    """How far an ensemble has settled, against ``rule``.

    ``share_error`` is the largest half width of a mode's share, ``unseen`` the estimated share of answers not seen yet,
    ``miss`` the probability that the next volume lies outside the interval, all in [0, 1]; ``moved`` how far the
    interval moved lately, in median volumes.
    """

    members: int
    share_error: float
    unseen: float
    miss: float
    moved: float
    rule: StopRule

    @property
    def shares_settled(self) -> bool:
        """Whether the modes' shares are known well enough."""
        return max(self.share_error, self.unseen) <= self.rule.error

    @property
    def interval_settled(self) -> bool:
        """Whether the volume's interval is wide enough and at rest."""
        return self.miss <= self.rule.error and self.moved <= self.rule.change

    @property
    def settled(self) -> bool:
        """Whether more members would hardly change the picture."""
        return self.shares_settled and self.interval_settled

    @property
    def words(self) -> str:
        """One sentence: what is known how well, or what is still open."""
        if self.settled:
            return f"Settled: shares known to ± {_percent(self.share_error)}, volume interval at rest."
        if self.unseen > self.rule.error:
            return f"Not settled: {_percent(self.unseen)} of the masks are alone in their mode."
        if not self.shares_settled:
            return f"Not settled: shares of the modes known to ± {_percent(self.share_error)}."
        if self.miss > self.rule.error:
            return f"Not settled: {_percent(self.miss)} of new volumes may lie outside the range."
        return f"Not settled: the volume interval moved by {_percent(self.moved)} of the median lately."


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def settling(sizes: Sequence[int], volumes_ml: Sequence[float], rule: StopRule | None = None) -> Settling:
    """State of an ensemble whose modes have these ``sizes`` and whose members, in order of arrival, these volumes.

    Raises:
        PlanError: no members, or sizes that do not add up to them.
    """
    rule, n = rule or StopRule(), len(volumes_ml)
    if n == 0 or sum(sizes) != n:
        raise PlanError(f"Modes of {sum(sizes)} members and {n} volumes do not belong together; give both for all.")
    return Settling(
        members=n,
        share_error=max(wilson_half_width(k, n) for k in sizes),
        unseen=sum(k == 1 for k in sizes) / n,
        miss=max(1 - LEVEL, 2 / (n + 1)),
        moved=_moved(volumes_ml),
        rule=rule,
    )


def wilson_half_width(k: int, n: int) -> float:
    """Half width of the 95 % Wilson score interval of a share seen ``k`` times in ``n``."""
    p = k / n
    return float(Z / (1 + Z**2 / n) * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2)))


def _moved(volumes: Sequence[float]) -> float:
    """How far the late members moved an end of the interval, in medians; infinite while there are no earlier ones."""
    early = len(volumes) - int(np.ceil(LATE * len(volumes)))
    if early < 1:
        return float("inf")
    before, now = distribution(volumes[:early]), distribution(volumes)
    shift = max(abs(before.low - now.low), abs(before.high - now.high))
    # Where most masks are empty the median is no scale; where all are, nothing moves.
    scale = now.median or max(volumes)
    return shift / scale if shift > 0 else 0.0
