"""What a Session holds for the safety of a mask: questions before something is replaced, and what can be recovered."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffseg.journal import JournalHead, JournalState
    from diffseg.keeper import Claim


@dataclass(frozen=True)
class Replacing:
    """A file that is there already and was not written by this program; saving waits for a word. ``origin``: whether
    the layer of who wrote what is to be saved too.
    """

    path: Path
    origin: bool = False


@dataclass(frozen=True, eq=False)
class Offer:
    """A mask that an earlier session left in its journal: ``voxels`` in the foreground, last written to at ``written``
    (seconds since 1970); ``more`` others wait behind it.
    """

    claim: Claim
    head: JournalHead
    state: JournalState
    voxels: int
    written: float
    more: int = 0
