"""What mirrors may do to a viewer; ``LayerSync`` does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from diffseg.grid import Box
from napari_diffseg.layerdata import Frame, LayerData
from napari_diffseg.session import Session


class Stage(Protocol):
    """A viewer on which layers are put without disturbing the person."""

    session: Session

    @property
    def viewer(self) -> Any:
        """The viewer, for its events only."""
        ...

    @property
    def frame(self) -> Frame | None:
        """Where the case lies in the viewer."""
        ...

    @property
    def layers(self) -> list[Any]:
        """Layers of the viewer, bottom first, and then those that wait to be put in."""
        ...

    def on(self, emitter: Any, callback: Callable[..., Any]) -> None:
        """Connect until the stage is released."""
        ...

    def off(self, emitter: Any, callback: Callable[..., Any]) -> None:
        """Disconnect again."""
        ...

    def add(self, data: LayerData, below: Any = None) -> Any:
        """Make a layer on top, or below another. It comes in a turn of the event loop of its own, so that several
        do not hold up the screen, but counts as there from now on.
        """
        ...

    def soon(self, work: Callable[[], None], first: bool = False) -> None:
        """Do something in such a turn, after all that waits or before it."""
        ...

    @property
    def held(self) -> bool:
        """Whether layers and dims are changing by our own doing, not by the person's."""
        ...

    def drop(self, layer: Any) -> None:
        """Take a layer away."""
        ...

    def find(self, role: str) -> list[Any]:
        """Our layers of this role and of the current case."""
        ...

    def top(self) -> Any:
        """The layer below which results belong: the mask, or None."""
        ...

    def activate(self, layer: Any, mode: str | None = None) -> None:
        """Make a layer the one that the mouse acts on."""
        ...

    def slider(self, layer: Any) -> int | None:
        """The viewer's axis of the first axis of ``layer``; None while it waits to be put in."""
        ...

    def position(self, axis: int) -> int:
        """The step at which a slider stands."""
        ...

    def move(self, axis: int, step: int) -> None:
        """Move a slider."""
        ...

    def sliced(self) -> list[tuple[int, int]]:
        """``(axis of the case, current voxel)`` of each spatial axis that is not displayed."""
        ...

    def side_by_side(self, on: bool, box: Box | None = None, hidden: Sequence[Any] = ()) -> bool:
        """Every visible layer in a view of its own filled by ``box``, those of ``hidden`` as well, which are shown
        then; or all in one. Tells whether that is a change.
        """
        ...
