"""What a mask was made of, as its record tells it, so that ``diffseg replay`` can draw it again. No torch, no Qt."""

from __future__ import annotations

from typing import Any

from diffseg.mask_file import MaskStart
from napari_diffseg.session import Session

# A name of a layer or of a reader's file is somebody's own text and stays out of records.
NAMELESS = {"layer": "a Labels layer", "rater": "a reader's mask"}


def start_of(session: Session, source: Any) -> MaskStart:
    """The record of ``source``, a key of ``session.sources()`` or a Labels layer, without the hash of its labels."""
    kind, _, which = (source if isinstance(source, str) else "layer").partition(":")
    if kind in NAMELESS:
        return MaskStart(kind)
    if kind in ("mode", "member", "mean", "inner", "outer"):
        return _of_ensemble(session, kind, which)
    if kind == "trajectory" and session.trajectory is not None:
        return MaskStart(kind, step=session.trajectory.number(session.trajectory.done))
    if kind == "branch":
        branch = next(b for b in session.branches if b.letter == which)
        return MaskStart(source, step=branch.view.number(branch.slot), seed=branch.view.seed)
    if kind == "saliency" and session.cut is not None:
        cut = session.cut
        until = None if cut.view.whole else cut.view.done
        return MaskStart(kind, step=until, rule=cut.rule, threshold=cut.threshold, largest=cut.largest)
    return MaskStart(kind)


def source_words(start: MaskStart | None, words: str) -> str:
    """``words`` for the source of a mask, without names that may be somebody's."""
    return words if start is None else NAMELESS.get(start.key, words)


def _of_ensemble(session: Session, kind: str, which: str) -> MaskStart:
    key = f"{kind}:{which}" if which else kind
    members = None if session.snapshot is None else len(session.snapshot)
    mode = next((m for m in session.modes if kind == "mode" and m.index == int(which)), None)
    share = None if mode is None else len(mode.members)
    return MaskStart(key, None, members, share, session.ensemble.relative_area)
