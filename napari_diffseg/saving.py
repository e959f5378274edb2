"""The verbs of saving: the mask as a file, verified and atomic, off the GUI thread, never over what is not ours."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from diffseg.errors import CaseError
from diffseg.mask_file import written_here
from diffseg.sparse import copied
from napari_diffseg import blind, masks
from napari_diffseg.jobs import Job, Outcome
from napari_diffseg.runs import command, live
from napari_diffseg.safety_state import Replacing
from napari_diffseg.session import Session
from napari_diffseg.state import MaskState, Message


@dataclass(frozen=True)
class _Written:
    """The one record of saving: what came of it in words, or that the file there is somebody else's."""

    words: str = ""
    foreign: bool = False
    done: int = 1
    total: int = 1


@command("save")
def save_mask(session: Session, path: Path | str, replace_other: bool = False, origin: bool = False) -> None:
    """Write the mask on the scan's own grid and ``<name>.plan.json`` beside it, even while a run goes on.

    A file that this program did not write is only replaced with ``replace_other``; else ``session.replacing`` asks.
    ``origin`` also writes who drew each voxel, as ``<name>.origin.nii.gz``. A blind reading of the scan is written as
    ``<name>.blind.nii.gz``.
    """
    held, mask = live(session), session.mask
    assert mask is not None
    target = masks.target(Path(path), session)
    if held.saving is not None:
        raise CaseError("The mask is being saved already: wait a moment.")
    labels, scan, found = copied(mask.labels), session.files, list[_Written]()
    reading = blind.kept(session)
    written = [target, masks.target(masks.origin_path(target), session)] if origin else [target]

    def write() -> Iterator[_Written]:
        if not replace_other and any(path.exists() for path in written) and not written_here(target):
            yield _Written(foreign=True)
            return
        masks.write(target, labels, mask, scan)
        if origin:
            masks.write_origin(target, labels, mask)
        if reading is not None:
            blind.write_reading(target, reading)
        yield _Written(f"Saved {target} ({masks.words(replace(mask, labels=labels))}).")

    session.replacing = None
    job = held.saving = Job("Saving the mask", write, inline=session.inline)
    job.progressed.connect(found.append)
    job.finished.connect(functools.partial(_saved, session, mask, labels, Replacing(target, origin), found))
    job.start()


@command("save")
def replace_other(session: Session) -> None:
    """Save over the file that was asked about."""
    asked = session.replacing
    if asked is None:
        raise CaseError("No file waits to be replaced: save the mask first.")
    save_mask(session, asked.path, True, asked.origin)


@command()
def keep_other(session: Session) -> None:
    """Leave the file that was asked about as it is."""
    session.replacing = None


def _saved(
    session: Session, before: MaskState, labels: Any, asked: Replacing, found: list[_Written], outcome: Outcome
) -> None:
    live(session).saving = None
    if outcome.kind != "done":
        session.message = Message(outcome.sentence, "error", outcome.details)
        return
    if found[-1].foreign:
        session.replacing = asked
        words = f"{asked.path.name} was not written by DiffSeg, or changed since: replace it, or choose another name."
        session.message = Message(words, "warning")
        return
    mask: Any = session.mask
    if mask is not None and mask.start is before.start:
        # With a viewer every change raises the revision; comparing a large mask here would be felt.
        dirty = mask.revision != before.revision or (session.view is None and not np.array_equal(labels, mask.labels))
        session.mask = replace(mask, path=asked.path, saved_at=datetime.now(), dirty=dirty)
    session.message = Message(found[-1].words)
