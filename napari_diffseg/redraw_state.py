"""What a Session holds of redrawing around strokes. No torch, no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffseg.strokes import WAYS, Alternative

if TYPE_CHECKING:
    from diffseg.grid import Box
    from napari_diffseg.state import MaskState


@dataclass(frozen=True, eq=False)
class Proposal:
    """Answers to choose from while the mask is still as it was, but for strokes painted meanwhile.

    ``asked (*box)`` uint8 is the mask when it was asked for, ``strokes`` the flat indices in the mask of all that the
    person had painted or erased by then; ``at`` is the one on display, from 0.
    """

    box: Box
    asked: np.ndarray
    strokes: np.ndarray
    alternatives: tuple[Alternative, ...]
    at: int = 0
    note: str = ""

    @property
    def shown(self) -> Alternative:
        """The alternative on display."""
        return self.alternatives[self.at]

    def words(self, members: int) -> str:
        """How the one on display was found, for example ``2/4 · drawn by the network``."""
        return f"{self.at + 1}/{len(self.alternatives)} · {way(self.shown, members)}"

    def labels(self, mask: np.ndarray) -> np.ndarray:
        """The box as it would be: the answer on display, and what was painted since then as the person left it."""
        now = mask[self.box.slices]
        return np.where(now == self.asked, self.shown.labels, now)


@dataclass(frozen=True, eq=False)
class Answered:
    """Strokes at flat indices of the mask that an accepted answer followed; it is the edit that wrote ``where``."""

    strokes: np.ndarray
    where: np.ndarray


@dataclass(frozen=True, eq=False)
class RedrawState:
    """Of the mask whose array is ``labels``: the proposal that waits, the strokes that are answered, and how many
    times it was asked, so that asking again gives other drawings. ``used`` says how the last accepted one was found.
    """

    labels: np.ndarray
    proposal: Proposal | None = None
    answered: tuple[Answered, ...] = ()
    asked: int = 0
    used: str = ""

    def strokes_answered(self, mask: MaskState) -> np.ndarray:
        """Flat indices of the strokes whose answer is still in effect, that is, was not undone."""
        alive = {id(edit.where) for edit in mask.edits if edit.in_effect}
        found = [one.strokes for one in self.answered if id(one.where) in alive]
        return np.concatenate(found) if found else np.zeros(0, np.intp)


def way(alternative: Alternative, members: int) -> str:
    """How an answer was found, in words."""
    words = WAYS[alternative.method]
    if alternative.method == "drawn":
        return words
    if alternative.method == "nearest":
        return f"{words}, which agrees with {round(100 * alternative.agreement)} % of the strokes"
    return f"{words} in {members} masks" if members > 1 else "the outline follows the strokes nearby"
