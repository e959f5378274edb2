"""The verbs of reading a case before its results are seen: draw first, reveal then, and keep both.

A first look at an answer anchors the reader. What was drawn without it counts as one more reader's mask: it has its
own layer, can be compared with the ensemble, and is saved beside the mask.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from diffseg.errors import CaseError
from diffseg.io.atomic import suffix_of
from diffseg.mask_file import MaskStart, written_here
from napari_diffseg import masks, starting
from napari_diffseg.editing_state import BlindReading
from napari_diffseg.runs import command
from napari_diffseg.session import Session
from napari_diffseg.state import Message

NAME = "blind reading"


@command("blind")
def begin(session: Session) -> None:
    """Hide all results and readers' masks, and draw into an empty mask. Runs may go on meanwhile, unseen."""
    mask, case = session.mask, session.case
    assert case is not None
    if mask is not None and mask.edited and mask.dirty:
        session.message = Message("The mask has edits that are not saved: save it before a blind reading.", "warning")
        return
    session.side_by_side = False
    session.blind = BlindReading(case, datetime.now())
    starting.begin(session, "empty")
    assert session.mask is not None
    session.mask = replace(session.mask, source=NAME)
    session.message = Message("Draw what you see; results stay hidden until you reveal them.")


@command("reveal")
def reveal(session: Session) -> None:
    """Show the results again. What was drawn so far is kept as a reader's mask; the mask goes on from it."""
    blind, mask = session.blind, session.mask
    assert blind is not None
    if mask is None:
        session.blind = None
        session.message = Message("There was no mask to keep: the blind reading is over without one.", "warning")
        return
    labels = mask.labels.copy()
    name = NAME
    while name in session.raters:
        name += " again"
    session.blind = replace(blind, revealed_at=datetime.now(), labels=labels, name=name)
    session.added_raters = (*session.added_raters, (name, labels))
    session.message = Message(f"Results are shown. What you drew without them is kept as reader {name!r}.")


def kept(session: Session) -> BlindReading | None:
    """The blind reading of the case, once it is over."""
    reading = session.blind
    return reading if reading is not None and reading.labels is not None else None


def write_reading(path: Path, reading: BlindReading) -> Path:
    """Save what was drawn blind, with its record, as ``<name>.blind.nii.gz`` beside the mask ``path``.

    Raises:
        CaseError: the file cannot be written, or is somebody else's.
    """
    assert reading.labels is not None
    beside = path.with_name(path.name.removesuffix(suffix_of(path)) + ".blind.nii.gz")
    if beside.exists() and not written_here(beside):
        raise CaseError(f"{beside.name} was not written by DiffSeg, so the blind reading is not saved: move that file.")
    masks.write_with_record(beside, reading.labels, reading.case, None, NAME, True, MaskStart("empty"))
    return beside
