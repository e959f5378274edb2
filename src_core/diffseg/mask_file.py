"""A mask on disk and, beside it, the record of how it came about; each is the old one or the new one at every moment.

``<name>.plan.json`` lies beside ``<name>.nii.gz`` (or any other suffix). It holds no text of a scan's header. The
order of writing is: the mask under a temporary name, read back; the record, which knows the hashes of the new mask and
of the one that it replaces; the mask under its own name. So a kill at any moment leaves a record that fits the mask.
No torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from diffseg.card import ClassInfo, sha256
from diffseg.case import Case
from diffseg.errors import CaseError, PlanError
from diffseg.io import write_labels
from diffseg.io.atomic import atomic_file, suffix_of, write_text
from diffseg.plan import InputFile, SamplePlan
from diffseg.records import from_json, to_json
from diffseg.saliency_plan import ExplainPlan

SIDECAR = ".plan.json"


@dataclass(frozen=True)
class MaskStart:
    """What a mask began as, so that it can be drawn again.

    ``key`` is ``mode:2``, ``member:0``, ``mean``, ``inner``, ``outer``, ``trajectory``, ``branch:B``, ``saliency``,
    ``rater``, ``layer`` or ``empty``, and ``sha256`` the hash of its labels, uint8 in display order (None: not known).
    ``members`` is the number of masks that a mode, a mean or a contour was made from, ``share`` how many of them
    are in the mode; ``relative_area`` whether small ones counted as empty. ``step`` (of the trajectory, or at which
    the branch left it, or how far a saliency map had come that was not finished) and ``seed`` (of the branch) belong to
    trajectories; ``rule`` of the threshold, or a ``threshold`` that a person set (in units of the map), and ``largest``
    part only to saliency maps.
    """

    key: str
    sha256: str | None = None
    members: int | None = None
    share: int | None = None
    relative_area: bool = False
    step: int | None = None
    seed: int | None = None
    rule: str | None = None
    threshold: float | None = None
    largest: bool = False


@dataclass(frozen=True)
class MaskPlan:
    """The record of a saved mask.

    ``sha256`` is that of ``file`` and ``replaces`` that of the file that it took the place of. ``inputs`` are the
    scan's files, also where no model was asked; ``plan`` is the run behind ``start``. ``voxels`` and ``volume_ml`` are
    by label, ``origins`` voxels by who wrote them. ``edited`` is None where nobody knows.
    """

    __pydantic_config__ = ConfigDict(extra="ignore")

    source: str
    start: MaskStart
    edited: bool | None = None
    plan: SamplePlan | ExplainPlan | None = None
    inputs: tuple[InputFile, ...] = ()
    origins: dict[str, int] = field(default_factory=dict)
    voxels: dict[str, int] = field(default_factory=dict)
    volume_ml: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    saved_at: str = ""
    file: str = ""
    sha256: str = ""
    replaces: str | None = None
    kind: Literal["mask"] = "mask"


def labels_hash(labels: NDArray[np.uint8]) -> str:
    """The hash by which ``MaskStart`` knows labels ``(*S)``; their shape counts too."""
    from hashlib import sha256 as begun

    found = begun(str(labels.shape).encode())
    found.update(np.ascontiguousarray(labels, dtype=np.uint8).data)
    return found.hexdigest()


def sidecar(path: Path) -> Path:
    """``<name>.plan.json`` of ``<name>.nii.gz``, or ``<name>.nii.gz.plan.json`` where the shorter one is taken by a
    mask of the same name in another format.
    """
    short = path.with_name(path.name.removesuffix(suffix_of(path)) + SIDECAR)
    long = path.with_name(path.name + SIDECAR)
    if long.exists():
        return long
    other = _described(short)
    taken = other is not None and other != path.name and path.with_name(other).exists()
    return long if taken else short


def written_here(path: Path) -> bool:
    """Whether the mask at ``path`` is, to the bit, one that this program wrote: the record beside it knows it."""
    try:
        record = read_mask_plan(sidecar(path))
        return record.file == path.name and sha256(path) in (record.sha256, record.replaces)
    except (PlanError, OSError):
        return False


def write_mask(
    path: Path, labels: NDArray[np.uint8], case: Case, record: MaskPlan, classes: Sequence[ClassInfo] = ()
) -> list[Path]:
    """Write labels ``(*S)`` on the scan's own grid, verified by reading back, and their record; returns both paths.

    ``file``, ``sha256`` and ``replaces`` of the record are filled in, and its input paths become relative.

    Raises:
        CaseError: the mask cannot be written in this format or at this place; what was there is then unchanged.
    """
    beside, before = sidecar(path), sha256(path) if path.is_file() else None
    with atomic_file(path) as temporary:
        _write_labels(temporary, path, labels, case, classes)
        written = replace(record, file=path.name, sha256=sha256(temporary), replaces=before)
        write_text(beside, mask_plan_to_json(written, path.parent))
    return [path, beside]


def _write_labels(
    temporary: Path, path: Path, labels: NDArray[np.uint8], case: Case, classes: Sequence[ClassInfo]
) -> None:
    """Verified; what goes wrong is told of the name that the person knows."""
    try:
        write_labels(temporary, labels, case, classes)
    except CaseError as error:
        sentence = str(error).replace(str(temporary), str(path)).replace(temporary.name, path.name)
        raise CaseError(sentence) from error


def mask_plan_to_json(record: MaskPlan, folder: Path) -> str:
    """The record as JSON for a file in ``folder``: input paths become relative to it."""
    home = folder.resolve()

    def relative(files: tuple[InputFile, ...]) -> tuple[InputFile, ...]:
        return tuple(replace(f, path=_relative(f.path, home)) for f in files)

    return to_json(_moved(record, relative)) + "\n"


def read_mask_plan(path: Path) -> MaskPlan:
    """The record in a JSON file, with input paths made absolute.

    Raises:
        PlanError: no such file, or no record of a mask.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise PlanError(f"There is no readable record of a mask at {path}; give a .plan.json beside one.") from None
    home = path.resolve().parent

    def absolute(files: tuple[InputFile, ...]) -> tuple[InputFile, ...]:
        return tuple(replace(f, path=os.path.normpath(home / f.path)) for f in files)

    return _moved(from_json(MaskPlan, text, str(path), PlanError), absolute)


def _moved(record: MaskPlan, move: Callable[[tuple[InputFile, ...]], tuple[InputFile, ...]]) -> MaskPlan:
    plan = record.plan
    if isinstance(plan, SamplePlan):
        plan = replace(plan, inputs=move(plan.inputs), raters=move(plan.raters))
    elif plan is not None:
        plan = replace(plan, inputs=move(plan.inputs))
    return replace(record, plan=plan, inputs=move(record.inputs))


def _relative(path: str, home: Path) -> str:
    try:
        return os.path.relpath(path, home)
    except ValueError:
        return path  # on another drive of Windows


def _described(beside: Path) -> str | None:
    """The file that a record is about, None where there is no record."""
    try:
        return read_mask_plan(beside).file
    except PlanError:
        return None
