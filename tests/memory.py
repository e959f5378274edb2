"""Memory that runs out while members are drawn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from diffseg.run import Run
from diffseg.sample import Step


def run_out_once(patched: pytest.MonkeyPatch, member: int) -> list[MemoryError]:
    """From now on memory runs out after the first step of ``member``, once; the list is empty when it has."""
    drawn, short = Run._drawn, [MemoryError()]

    def failing(run: Run, members: tuple[int, ...]) -> Iterator[Step]:
        for step in drawn(run, members):
            if members == (member,) and short:
                raise short.pop()
            yield step

    patched.setattr(Run, "_drawn", failing)
    return short
