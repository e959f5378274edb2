"""Masks that people drew on the scan, added to it after it was opened. What was computed from the scan stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffseg.case import Case, Labels
from diffseg.errors import CaseError
from diffseg.io import read_labels
from diffseg.io.formats import stem_of
from napari_diffseg.fromlayers import labels_on
from napari_diffseg.jobs import Job
from napari_diffseg.layerdata import frame_of, own
from napari_diffseg.runs import command, start
from napari_diffseg.session import Session
from napari_diffseg.state import Message


@dataclass(frozen=True, eq=False)
class ReadMasks:
    """The one record of reading masks ``(*S)`` by readers' names for the scan ``case``."""

    case: Case
    labels: tuple[tuple[str, Labels], ...]
    files: tuple[Path, ...]
    done: int = 1
    total: int = 1


def read_masks(case: Case, paths: Sequence[Path]) -> ReadMasks:
    """Masks from files; CaseError for one that is no mask or does not lie on the scan."""
    found = tuple((stem_of(path), read_labels(path, case.grid)) for path in paths)
    return ReadMasks(case, found, tuple(paths))


@command("region")
def add_raters(session: Session, paths: Sequence[Path | str]) -> None:
    """Read masks that people drew on this scan."""
    case, files = session.case, tuple(map(Path, paths))
    found: list[ReadMasks] = []
    assert case is not None
    job = Job("Reading masks", lambda: iter([read_masks(case, files)]), inline=session.inline)
    start(session, job, found.append, lambda: join(session, found[-1]))


def join(session: Session, record: ReadMasks) -> str:
    """Count these masks among the readers', under names that are free; returns what to tell."""
    if record.case is not session.case:
        return "The scan changed meanwhile: add the masks again."
    before = len(session.raters)
    session.rater_files = (*session.rater_files, *record.files)
    added: dict[str, Labels] = {}
    for name, labels in record.labels:
        added[_free(name, {*session.raters, *added})] = labels
    session.added_raters = (*session.added_raters, *added.items())
    return f"Readers now: {before + len(added)}. Added {', '.join(added)}."


def take_layer(session: Session, layer: Any) -> bool:
    """Count a mask that was opened in the viewer as a reader's, if it lies on the scan; tells whether it does."""
    case, noted = session.case, own(layer)
    if case is None or noted.get("role") != "rater" or noted["case"] is case:
        return False
    try:
        labels = labels_on(case, session.frame or frame_of(case), layer)
    except CaseError:
        return False
    path, name = noted["case"].origin.path, _free(layer.name, set(session.raters))
    noted.update(case=case, rater=name)
    session.message = Message(join(session, ReadMasks(case, ((name, labels),), () if path is None else (path,))))
    return True


def _free(name: str, taken: set[str]) -> str:
    """The name, or one with (2), (3) ... behind it."""
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name} ({number})"
    return candidate
