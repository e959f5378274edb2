"""What a Session holds: frozen records, compared by identity where they carry arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from diffseg.registry import knob

if TYPE_CHECKING:
    from diffseg.card import ClassInfo
    from diffseg.case import Case
    from diffseg.checkpoint import Checkpoint
    from diffseg.grid import Box
    from diffseg.mask_file import MaskStart
    from diffseg.plan import SamplePlan
    from diffseg.saliency_plan import ExplainPlan
    from napari_diffseg.mask_edit import ModelEdit

Plane = Literal["axial", "coronal", "sagittal", "3d"]
State = Literal["idle", "running", "paused", "cancelling"]

# Maps that a person can switch on and off, in the order of the panel.
MAP_NAMES = ("inner", "outer", "variance", "entropy", "mean")


@dataclass(frozen=True)
class SampleSettings:
    """What a person sets before a run; ``sampler_settings`` are the knobs of the sampler named."""

    sampler: str = "ddim"
    sampler_settings: Mapping[str, Any] = field(default_factory=dict)
    steps: int = knob(5, low=1, high=1000, help="Denoising steps for one mask")
    members: int = knob(16, low=1, high=1000, help="Masks in the ensemble")
    seed: int = knob(42, low=0, high=2**31 - 1, help="The same seed gives the same masks")
    device: str = "auto"


@dataclass(frozen=True, eq=False, repr=False)
class Request:
    """Everything that decides a run, frozen when the person asked for it. Compare with ``same_run``."""

    case: Case
    model_path: Path
    settings: SampleSettings
    roi: Box | None
    files: tuple[Path, ...] = ()
    rater_files: tuple[Path, ...] = ()
    checkpoint: Checkpoint | None = None

    def same_run(self, other: Request) -> bool:
        """Whether members drawn for the one belong to the ensemble of the other."""
        mine, theirs = (dataclasses.replace(r.settings, members=1) for r in (self, other))
        return self.case is other.case and (self.model_path, self.roi, mine) == (
            other.model_path,
            other.roi,
            theirs,
        )


@dataclass(frozen=True, eq=False)
class TrajectoryView:
    """One run towards one mask, as far as it has come.

    ``x`` and ``x0 (T + 1, *W)`` float16 in [-1, 1] are buffers that the worker fills: slot 0 is the starting
    noise, slot ``k`` the state after step ``numbers[k]`` (every step, unless that takes too much memory); slots
    beyond ``done`` are not yet computed. ``x0`` holds classes as ``diffseg.trajectory.class_field`` does. Voxel
    ``i`` of the window lies at voxel ``offset + step * i`` of the case. ``times`` and ``log_snr`` have an entry
    per slot (``log_snr`` is infinite for the clean mask), ``changes`` one per finished slot but the first: the
    volume in ml that is expected to change its class since the slot before (NaN for the first mask).
    ``mask`` uint8 on the box ``roi`` of the case is the finished mask, ``volume_ml`` its volume, ``request`` the
    run that it came from.
    """

    run_id: int
    x: np.ndarray
    x0: np.ndarray
    done: int
    total: int
    offset: tuple[float, ...]
    step: tuple[float, ...]
    times: tuple[float, ...]
    log_snr: tuple[float, ...]
    changes: tuple[float, ...]
    member: int
    seed: int
    numbers: tuple[int, ...] = ()
    request: Request | None = None
    volume_ml: float | None = None
    mask: np.ndarray | None = None
    roi: Box | None = None

    def number(self, slot: int) -> int:
        """The number of the step whose state lies in ``slot``."""
        return self.numbers[slot] if self.numbers else slot

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.number(self.total)


@dataclass(frozen=True, eq=False)
class Branch:
    """Another ending of the trajectory: the same states up to ``slot``, other noise after it.

    ``letter`` is B, C, ...; A is the trajectory that it left.
    """

    letter: str
    slot: int
    view: TrajectoryView

    @property
    def words(self) -> str:
        """For example ``B · seed 43 from step 2``."""
        return f"{self.letter} · seed {self.view.seed} from step {self.view.number(self.slot)}"


@dataclass(frozen=True, eq=False)
class Maps:
    """Layers of the ensemble that ``plan`` describes, on the box ``roi`` of the case grid, all ``(*roi)``.

    ``inner`` and ``outer`` are label maps (uint8): classes agreed on by at least 95 % and at least 5 % of
    the members; ``mean`` is the share of members with foreground in [0, 1], ``variance`` in [0, 0.25],
    ``entropy`` in [0, ln classes], all float32.
    """

    roi: Box
    plan: SamplePlan
    members: int
    inner: np.ndarray
    outer: np.ndarray
    variance: np.ndarray
    entropy: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class MaskState:
    """The mask being corrected. ``labels (*S)`` uint8 is the very array of its layer, on the scan's grid.

    ``start`` is a copy of what it started as, never written to, None where that is not known; ``edits`` are those of
    models and tools since. ``revision`` grows with every stroke, edit, undo and redo. ``begun`` tells how to make
    ``start`` again.
    """

    labels: np.ndarray
    source: str
    name: str
    case: Case
    classes: tuple[ClassInfo, ...] = ()
    plan: SamplePlan | ExplainPlan | None = None
    edited: bool = False
    selected: int = 1
    dirty: bool = True
    path: Path | None = None
    saved_at: datetime | None = None
    start: np.ndarray | None = None
    edits: tuple[ModelEdit, ...] = ()
    revision: int = 0
    begun: MaskStart | None = None


@dataclass(frozen=True)
class JobState:
    """What the job bar shows. ``seconds_left`` is None until it can be told."""

    name: str = ""
    state: State = "idle"
    done: int = 0
    total: int = 0
    seconds_left: float | None = None
    device: str = ""


@dataclass(frozen=True, eq=False)
class Message:
    """One sentence for the person; ``details`` is for a report, not for the screen."""

    text: str
    kind: Literal["info", "warning", "error"] = "info"
    details: str = ""
