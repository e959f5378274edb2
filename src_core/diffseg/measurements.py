"""Size of every member of an ensemble, and how sizes are distributed. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffseg.ensemble import Snapshot
from diffseg.errors import PlanError
from diffseg.grid import Grid
from diffseg.metrics.diameter import largest_diameter_mm

LEVEL = 0.95


@dataclass(frozen=True)
class MemberMeasure:
    """Size of one mask, all foreground classes together: an empty one has 0 ml and 0 mm.

    ``member`` is its number in the run. ``class_volume_ml`` has an entry per foreground class, ``diameter_mm`` is
    ``largest_diameter_mm``, and ``centre`` the centre of mass in voxels of the region (its middle for an empty mask).
    """

    member: int
    volume_ml: float
    class_volume_ml: tuple[float, ...]
    diameter_mm: float
    centre: tuple[float, ...]

    @property
    def empty(self) -> bool:
        """Whether the mask found nothing."""
        return self.volume_ml == 0


def measure(snapshot: Snapshot, grid: Grid, known: Sequence[MemberMeasure] = ()) -> tuple[MemberMeasure, ...]:
    """One record per member, in the snapshot's order, on voxels of ``grid``; those in ``known`` are taken over."""
    there = {m.member: m for m in known}
    return tuple(there.get(m) or _measured(snapshot, i, grid) for i, m in enumerate(snapshot.ids))


def _measured(snapshot: Snapshot, index: int, grid: Grid) -> MemberMeasure:
    labels = snapshot.member(index)
    counts = np.bincount(labels.ravel(), minlength=snapshot.classes)[1:]
    volumes = tuple(float(n * grid.voxel_ml) for n in counts)
    where = np.nonzero(labels)
    middles = [a.mean() if a.size else (n - 1) / 2 for a, n in zip(where, snapshot.shape, strict=True)]
    diameter = largest_diameter_mm(labels, grid.spacing_mm)
    return MemberMeasure(snapshot.ids[index], sum(volumes), volumes, diameter, tuple(float(c) for c in middles))


@dataclass(frozen=True)
class Distribution:
    """One size over all members, in the unit of ``values``, which are in order of arrival.

    ``low`` to ``high`` is the interval in which the next mask of the same model, scan and settings falls with
    probability ``coverage``, whatever the distribution: exactly so on average over ensembles, since members are
    exchangeable. ``coverage`` is ``level``, or less where there are too few members for that (``enough``); the
    interval is then their whole range. It says nothing of the truth: whether the model's masks vary as people's do is
    a matter of calibration, which nobody has checked, and so the word "uncalibrated" belongs to it.
    """

    values: tuple[float, ...]
    median: float
    low: float
    high: float
    coverage: float
    level: float = LEVEL

    def __len__(self) -> int:
        return len(self.values)

    @property
    def enough(self) -> bool:
        """Whether there are members enough for the level asked for."""
        return self.coverage >= self.level

    @property
    def needed(self) -> int:
        """Members from which on the interval has its full level: 39 for 95 %."""
        return members_for(self.level)


def members_for(level: float) -> int:
    """Members whose range the next one leaves with probability ``1 - level`` at most."""
    # The next of n + 1 exchangeable values is the smallest or largest of all with probability 2 / (n + 1).
    return int(np.ceil(2 / (1 - level) - 1 - 1e-9))


def distribution(values: Sequence[float], level: float = LEVEL) -> Distribution:
    """Median and interval of at least one value.

    The ends are the order statistics at ``(n + 1) p``, between neighbours by linear interpolation (Hyndman and Fan's
    type 6), cut to the range: the quantiles for which the next value falls below with probability p.

    Raises:
        PlanError: no values, or a level outside (0, 1).
    """
    if not values or not 0 < level < 1:
        raise PlanError(
            f"An interval of level {level} of {len(values)} values cannot be told; give values, and 0 to 1."
        )
    tail = (1 - level) / 2
    low, high = np.quantile(values, (tail, 1 - tail), method="weibull")
    n = len(values)
    coverage = min(level, (n - 1) / (n + 1))
    return Distribution(tuple(map(float, values)), float(np.median(values)), float(low), float(high), coverage, level)
