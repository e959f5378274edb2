"""How a run really computed: on which device, how many members and slices at a time, whole or in windows. No torch.

A plan says what was asked for. Where memory ran out something else was done, from some step of some member on, and
only who knows it can do the same again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from diffseg.errors import PlanError

# More than anybody draws; a plan that tells of more is damaged.
MOST_MEMBERS = 10**6


@dataclass(frozen=True)
class Stage:
    """Members ``first`` to ``last`` were drawn this way from ``step`` on, 0 being the noise.

    ``batch`` is the number of members at a time at most, ``slices`` that of a volume's slices for a slice model;
    ``windowed`` says that windows were used where one piece would have been usual. ``seed`` is that of a branch, None
    for the members themselves.
    """

    first: int
    last: int
    device: str
    batch: int = 1
    slices: int = 1
    windowed: bool = False
    step: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last < MOST_MEMBERS or self.step < 0 or min(self.batch, self.slices) < 1:
            raise PlanError(
                f"The plan tells of members {self.first} to {self.last} drawn {self.batch} at a time from step "
                f"{self.step} on, which no run does; give the plan as it was written."
            )


class StageLog:
    """Stages by member, noted down as they are done and asked for when they are to be done again."""

    def __init__(self, stages: Iterable[Stage] = ()) -> None:
        """Begin with ``stages``; a member that several name for one step has the last of them."""
        self._ways: dict[tuple[int | None, int], dict[int, Stage]] = {}
        for stage in stages:
            for member in range(stage.first, stage.last + 1):
                self._of(member, stage.seed)[stage.step] = _plain(stage)

    def __bool__(self) -> bool:
        return bool(self._ways)

    def note(self, member: int, way: Stage) -> None:
        """From ``way.step`` on ``member`` is drawn this way; what was noted of later steps is forgotten."""
        ways, way = self._of(member, way.seed), _plain(way)
        for step in [s for s in ways if s >= way.step]:
            del ways[step]
        before = self.at(member, way.step, way.seed)
        if before is None or replace(before, step=way.step) != way:
            ways[way.step] = way

    def at(self, member: int, step: int = 0, seed: int | None = None) -> Stage | None:
        """The way that ``member`` goes on after ``step``, None where nothing is known of it; its ``first`` and
        ``last`` mean nothing.
        """
        ways = self._ways.get((seed, member), {})
        return ways.get(max((s for s in ways if s <= step), default=-1))

    def change(self, member: int, step: int = 0, seed: int | None = None) -> int | None:
        """The first step after ``step`` at which the way of ``member`` changes, None if none does."""
        return min((s for s in self._ways.get((seed, member), {}) if s > step), default=None)

    def stages(self, members: int) -> tuple[Stage, ...]:
        """All that is known of the first ``members``, neighbours that were drawn alike in one; branches last."""
        found: list[Stage] = []
        previous: dict[int, Stage] = {}
        for seed, member in sorted(self._ways, key=lambda key: (key[0] is not None, key[0] or 0, key[1])):
            if member >= members:
                continue
            ways = self._ways[seed, member]
            begun = found[-len(previous) :] if previous else []
            if previous == ways and all(s.last == member - 1 and s.seed == seed for s in begun):
                found[-len(previous) :] = [replace(s, last=member) for s in begun]
            else:
                found += [replace(ways[step], first=member, last=member) for step in sorted(ways)]
            previous = ways
        return tuple(found)

    def _of(self, member: int, seed: int | None) -> dict[int, Stage]:
        return self._ways.setdefault((seed, member), {})


def _plain(stage: Stage) -> Stage:
    return replace(stage, first=0, last=0)
