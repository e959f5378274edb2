"""The verbs of beginning a mask: one editable mask per case, and unsaved edits of the last one are never lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from napari_diffseg import mask_sources, masks
from napari_diffseg.editing_state import Asked
from napari_diffseg.runs import command, live
from napari_diffseg.session import Session, unwrapped
from napari_diffseg.state import Message


@command("promote")
def promote(session: Session, source: Any) -> None:
    """Make an editable mask of ``source``: a key of ``session.sources()``, or a Labels layer.

    Where the mask has edits that are not saved, the first call only asks; the same call once more, or
    ``keep_and_start``, goes on. An edited mask stays in the viewer as a layer that cannot be drawn on any more; one
    that nobody edited gives way.
    """
    wanted, mask = unwrapped(source), session.mask
    asked = session.asked is not None and session.asked.source == wanted
    if mask is not None and mask.edited and mask.dirty and not asked:
        session.asked = Asked(wanted, mask_sources.words_of(session, wanted))
        session.message = Message(
            "The mask has edits that are not saved: save it, or ask again to keep it as a layer and start anew.",
            "warning",
        )
        return
    begin(session, wanted)


@command("promote")
def keep_and_start(session: Session) -> None:
    """Go on with the start that was asked about; the edited mask stays as a layer."""
    if session.asked is not None:
        begin(session, session.asked.source)


@command()
def dismiss_start(session: Session) -> None:
    """Go on with the mask that there is."""
    session.asked = None


def begin(session: Session, source: Any) -> None:
    """The mask of the session starts anew; CaseError where it cannot."""
    session.mask = mask_sources.begin(session, source, live(session).opened, session.frame)
    session.asked = None
    session.message = Message(f"Editable mask made from {session.mask.source}: {masks.words(session.mask)}.")


@command("save")
def select_class(session: Session, label: int) -> None:
    """Paint with this class."""
    assert session.mask is not None
    session.mask = replace(session.mask, selected=label)
