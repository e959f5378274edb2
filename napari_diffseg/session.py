"""The state of one viewer: what is open, chosen, computed and running.

Panels and the layer list observe a ``Session``; only commands and ``LayerSync`` assign to it, and only on the
GUI thread. Fields hold frozen records that are compared by identity, never bare arrays. A Session holds
nothing that cannot be lost: it can be rebuilt from the layers and a plan.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import eq, is_
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from psygnal import SignalGroupDescriptor

from napari_diffseg.editing_state import Asked, BlindReading, Queue, ToolSettings
from napari_diffseg.ensemble_state import EnsembleSettings, Findings, Readers
from napari_diffseg.redraw_state import RedrawState
from napari_diffseg.safety_state import Offer, Replacing
from napari_diffseg.saliency_state import HintModel, HintSettings, SaliencyCut, SaliencyView
from napari_diffseg.state import (
    Branch,
    JobState,
    Maps,
    MaskState,
    Message,
    Plane,
    Request,
    SampleSettings,
    TrajectoryView,
)
from napari_diffseg.verbs import VERBS, missing

if TYPE_CHECKING:
    from diffseg.card import Card
    from diffseg.case import Case, Labels
    from diffseg.checkpoint import Checkpoint
    from diffseg.ensemble import Snapshot
    from diffseg.grid import Box
    from diffseg.modes import Mode
    from diffseg.plan import SamplePlan
    from napari_diffseg.layerdata import Frame

# Raise when another thread assigns; napari's own switch, so that one variable guards both.
THREAD_CHECK = "NAPARI_ENSURE_PLUGIN_MAIN_THREAD"


class View(Protocol):
    """What commands may ask of the viewer; given by ``LayerSync``."""

    def centre_voxel(self) -> tuple[float, ...] | None:
        """Voxel coordinates of the case at the centre of the view, None without a case."""
        ...

    def show_scan(self, rest: Case | None = None, rest_files: Sequence[Path] = ()) -> None:
        """Add the layers of the case, and hidden those of images that were opened with it but not used."""
        ...

    def scan_shown_by(self, layers: Sequence[Any]) -> None:
        """These layers show the case already."""
        ...

    def look_at(self, voxel: Sequence[float]) -> None:
        """Move to the slices through a voxel of the case."""
        ...

    def look_into(self, box: Box) -> None:
        """Move to slices through ``box`` where those on display miss it."""
        ...

    def show_table(self) -> None:
        """Open napari's own table on the layer that holds a row per mask."""
        ...

    def edit_mask(self, where: NDArray[np.intp], values: NDArray[np.uint8]) -> Any:
        """Write into the mask at flat indices, as one undo step; returns what napari's history calls it."""
        ...

    def labels_named(self, name: str) -> Any:
        """The Labels layer of this name, None without one."""
        ...

    def sliced(self) -> list[tuple[int, int]]:
        """``(axis of the case, current voxel)`` of each spatial axis that is not displayed."""
        ...

    @property
    def waiting(self) -> bool:
        """Whether something that was asked for is still to be shown: layers come one by one."""
        ...

    def draw_by(self, draw: Callable[[bool], None]) -> None:
        """How drawing is suspended for a moment (False), and resumed (True)."""
        ...

    def release(self) -> bool:
        """One of its users is gone; the last one makes it let go of the viewer and returns True."""
        ...


# Field: the fields whose change makes it meaningless. It then falls back to its default.
DEPENDS: dict[str, tuple[str, ...]] = {
    "checkpoint": ("model_path",),
    "roi": ("case", "model"),
    "region_box": ("case",),
    "files": ("case",),
    "rater_files": ("case",),
    "frame": ("case",),
    "plan": ("case", "model"),
    "trajectory": ("case", "model"),
    "branches": ("case", "model"),
    "step": ("case", "model"),
    "side_by_side": ("case",),
    "snapshot": ("case", "model"),
    "modes": ("case", "model"),
    "maps": ("case", "model"),
    "mode": ("case", "model"),
    "findings": ("case", "model"),
    "member": ("case", "model"),
    "readers": ("case", "model", "added_raters"),
    "mask": ("case",),
    "asked": ("case",),
    "replacing": ("case",),
    "queue": ("case", "model"),
    "checked": ("case", "model"),
    "place": ("case", "model"),
    "blind": ("case",),
    "redraw": ("case", "model"),
    "shown": ("case",),
    "added_raters": ("case",),
    "saliency": ("case", "hint_model"),
    "cut": ("case", "hint_model"),
}


def dependents(changed: str) -> list[str]:
    """The fields that a change of ``changed`` makes meaningless, those of these fields included, each once."""
    found: list[str] = []
    todo = [changed]
    while todo:
        source = todo.pop(0)
        fresh = [name for name, sources in DEPENDS.items() if source in sources and name not in (*found, changed)]
        found, todo = found + fresh, todo + fresh
    return found


# Compared by value, so that assigning what is already there tells nobody.
VALUES = (
    "settings", "seed_locked", "roi", "region_box", "step", "follow", "side_by_side", "shown", "mode", "plane", "job",
    "hints", "ensemble", "member", "looked_at", "tools", "checked", "label_layers", "origin_shown",
    "place",
)  # fmt: skip

# Live objects, of no interest to observers.
SILENT = ("inline", "view", "live")

OBSERVED = (
    "case", "files", "rater_files", "frame", "model", "model_path", "checkpoint", "plan", "trajectory", "branches",
    "snapshot", "modes", "maps", "findings", "readers", "mask", "redraw", "message", "added_raters",
    "hint_model", "saliency", "cut", "asked", "queue", "blind", "replacing", "offer", *VALUES,
)  # fmt: skip


# No repr: psygnal asks for it when a partial is connected, and printing scans and networks takes half a second.
@dataclass(eq=False, repr=False, kw_only=True)
class Session:
    """See the module. Connect to ``session.events.<field>``; callbacks get ``(new, old)`` or fewer.

    ``job`` mirrors the one running Job. ``step`` is the slot of the trajectory on display, ``shown`` the
    ensemble maps that are switched on, ``mode`` the ``index`` (from 1) of the mode shown as a layer;
    ``branches`` are other endings of the trajectory.
    ``plan`` describes the run that the trajectory and the ensemble came from; ``files`` and ``rater_files``
    are what the case was read from, where that is known, ``frame`` where it lies in the viewer (None: as
    ``layerdata.frame_of``). ``added_raters`` are readers' masks that joined the case later; ask ``raters`` for all.
    ``hint_model``, ``hints``, ``saliency`` and ``cut`` belong to saliency maps. ``inline`` runs jobs in the
    caller, for scripts and tests.

    ``ensemble`` says how an ensemble is drawn, ``findings`` how large its masks are, ``member`` is the number of the
    single mask shown as a layer (from 0), ``readers`` the comparison with people's masks, and ``looked_at`` the axial
    slice on display.

    ``tools`` says how tools correct the mask, ``asked`` is a new start that waits for a second word, ``queue`` lists
    places to check, ``checked`` are the keys of those that are done and ``place`` that of the last one gone to.
    ``blind`` is a reading without the model, ``label_layers`` are the names of Labels layers that others made, and
    ``origin_shown`` switches the layer of who wrote what. ``replacing`` is a file that saving asks about, ``offer`` a
    mask that an earlier session left in its journal.
    """

    case: Case | None = None
    model: Card | None = None
    model_path: Path | None = None
    checkpoint: Checkpoint | None = None
    settings: SampleSettings = SampleSettings()
    seed_locked: bool = True
    roi: Box | None = None
    region_box: bool = False
    files: tuple[Path, ...] = ()
    rater_files: tuple[Path, ...] = ()
    frame: Frame | None = None
    plan: SamplePlan | None = None
    trajectory: TrajectoryView | None = None
    branches: tuple[Branch, ...] = ()
    step: int = 0
    follow: bool = True
    side_by_side: bool = True
    snapshot: Snapshot | None = None
    modes: tuple[Mode, ...] = ()
    maps: Maps | None = None
    shown: frozenset[str] = frozenset({"inner", "outer"})
    mode: int | None = None
    ensemble: EnsembleSettings = EnsembleSettings()
    findings: Findings | None = None
    member: int | None = None
    readers: Readers | None = None
    looked_at: int | None = None
    mask: MaskState | None = None
    redraw: RedrawState | None = None
    asked: Asked | None = None
    replacing: Replacing | None = None
    offer: Offer | None = None
    tools: ToolSettings = ToolSettings()
    queue: Queue | None = None
    checked: frozenset[tuple[Any, ...]] = frozenset()
    place: tuple[Any, ...] | None = None
    blind: BlindReading | None = None
    label_layers: tuple[str, ...] = ()
    origin_shown: bool = False
    plane: Plane | None = None
    job: JobState = JobState()
    message: Message | None = None
    added_raters: tuple[tuple[str, Labels], ...] = ()
    hint_model: HintModel | None = None
    hints: HintSettings = HintSettings()
    saliency: SaliencyView | None = None
    cut: SaliencyCut | None = None
    inline: bool = False
    view: View | None = None
    live: Any = None

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor(
        equality_operators={name: eq if name in VALUES else is_ for name in OBSERVED},
        signal_aliases=dict.fromkeys(SILENT),
    )

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _FIELDS:
            raise AttributeError(f"Session has no field {name!r}")
        _refuse_other_threads(name)
        before = self.__dict__.get(name, value)
        object.__setattr__(self, name, value)
        if before is not value:
            self._clear_dependents(name)

    def _clear_dependents(self, changed: str) -> None:
        """All of them are cleared before anybody is told, so that no observer finds some results without the rest."""
        stale = [(name, self.__dict__[name]) for name in dependents(changed) if name in self.__dict__]
        for name, _ in stale:
            object.__setattr__(self, name, _FIELDS[name].default)
        for name, old in stale:
            new = _FIELDS[name].default
            if not (old == new if name in VALUES else old is new):
                getattr(self.events, name).emit(new, old)

    def blockers(self, verb: str) -> list[str]:
        """Sentences that say why ``verb`` cannot run now; empty when it can.

        Raises:
            KeyError: for a verb that does not exist.
        """
        return [sentence for wanted in VERBS[verb] if (sentence := missing(self, wanted))]

    @property
    def raters(self) -> Mapping[str, Labels]:
        """Masks ``(*S)`` by readers' names: those that the case came with and those added since."""
        return {**(self.case.raters if self.case is not None else {}), **dict(self.added_raters)}

    def request(self) -> Request:
        """The run that would start now; only for a session with a scan and a model."""
        assert self.case is not None and self.model_path is not None
        files = self.files, self.rater_files
        return Request(self.case, self.model_path, self.settings, self.roi, *files, self.checkpoint)

    def window(self) -> tuple[int, ...] | None:
        """The model's window in voxels of the case, never larger than it; None without case or model.

        Where no model draws masks it is the window of the model of hints, in a volume one slice thick.
        """
        card = self.model if self.model is not None or self.hint_model is None else self.hint_model.card
        if self.case is None or card is None or self.case.ndim < card.spatial:
            return None
        thick = self.case.ndim - card.spatial
        if thick and card is self.model:
            return None
        mm = card.spacing_mm or self.case.spacing_mm[thick:]
        sides = zip(card.window, mm, self.case.spacing_mm[thick:], self.case.grid.shape[thick:], strict=True)
        return (1,) * thick + tuple(min(size, max(1, round(w * m / own))) for w, m, own, size in sides)

    def sources(self) -> tuple[tuple[str, str], ...]:
        """``(key, words)`` of everything that ``commands.promote`` can make editable now."""
        found = []
        if self.blind is not None and self.blind.hiding:
            return (("empty", "an empty mask"),)
        if self.snapshot is not None:
            n = len(self.snapshot)
            found += [(f"mode:{m.index}", mode_words(m, n)) for m in self.modes]
            found += [("mean", "mean of the masks"), ("inner", "95 % inner"), ("outer", "5 % outer")]
            found += [(f"member:{i}", f"mask {i + 1}") for i in range(n)]
        elif self.trajectory is not None and self.trajectory.done > 0:
            found.append(("trajectory", f"x̂0 at step {self.trajectory.number(self.trajectory.done)}"))
        found += [(f"branch:{b.letter}", f"branch {b.words}") for b in self.branches if b.view.mask is not None]
        found += [("empty", "an empty mask")] if self.case is not None else []
        found += [(f"rater:{name}", f"reader {name}") for name in self.raters]
        found += [(f"layer:{name}", f"layer {name!r}") for name in self.label_layers] if self.case is not None else []
        # Last, since a hint is never the mask that one begins with unless asked.
        found += [("saliency", "saliency above the threshold")] if self.cut is not None else []
        return tuple(found)


_FIELDS: dict[str, dataclasses.Field] = {f.name: f for f in dataclasses.fields(Session)}

def mode_words(mode: Mode, members: int) -> str:
    """``mode 1 (19/32)``."""
    return f"mode {mode.index} ({len(mode.members)}/{members})"


def _refuse_other_threads(name: str) -> None:
    if os.environ.get(THREAD_CHECK) == "1" and threading.current_thread() is not threading.main_thread():
        raise AssertionError(f"session.{name} was assigned outside the GUI thread")


_sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()


def session_for(viewer: Any) -> Session:
    """The Session of a viewer (or of napari's proxy of it): made at the first call, gone with the viewer."""
    real = unwrapped(viewer)
    if real not in _sessions:
        _sessions[real] = Session()
    return _sessions[real]


def unwrapped(thing: Any) -> Any:
    """The real viewer or layer behind napari's proxy, or ``thing`` itself."""
    return getattr(thing, "__wrapped__", thing)
