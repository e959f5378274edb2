"""The obvious next thing: open a sample, first mask, grow, make editable, save."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from diffseg.zoo import sample_scans
from napari_diffseg import actions, commands, keys, saliency_commands
from napari_diffseg.session import Session
from napari_diffseg.verbs import hints_only


@dataclass(frozen=True)
class NextStep:
    """What the primary button says and does; ``page`` is where the person then wants to look.

    ``act`` is None for what needs the person first (a file name). ``blockers`` say why it cannot act now.
    """

    words: str
    tip: str
    page: str
    act: Callable[[Session], object] | None
    blockers: tuple[str, ...] = ()


def next_step(session: Session) -> NextStep:
    """The obvious next thing in this state of the session."""
    if session.job.state == "running":
        return NextStep("❚❚ Pause", keys.tip("Wait after the step in progress", "play"), "", commands.pause)
    if session.job.state == "paused":
        return NextStep("▶ Resume", keys.tip("Go on", "play"), "", commands.resume)
    if session.case is None:
        return _open(session)
    if session.mask is not None:
        return NextStep("Save mask…", "Write it on the scan's own grid", "Mask", None, _why(session, "save"))
    if session.snapshot is None and hints_only(session):
        return _hint(session)
    if session.snapshot is None:
        return NextStep(
            "▶ First mask", keys.tip("Denoise to one mask", "play"), "Denoise", commands.play, _why(session, "play")
        )
    if len(session.snapshot) == 1 and session.settings.members > 1:
        tip = keys.tip(f"Draw {session.settings.members} masks, to see what else it could be", "grow")
        return NextStep("▶ Grow", tip, "Ensemble", commands.grow_ensemble, _why(session, "grow"))
    tip = keys.tip("Take the mode on display, or else the most frequent one, as a mask to correct", "edit")
    return NextStep("Make editable", tip, "Mask", actions.edit_mask, _why(session, "promote"))


def _open(session: Session) -> NextStep:
    names = list(sample_scans())
    if not names:
        return NextStep("Open a scan", "Drop a NIfTI file on the page Case", "Case", None, _why(session, "play"))
    tip = "Open the first sample scan"
    return NextStep("Open a sample", tip, "Case", lambda s: commands.open_sample(s, names[0]), _why(session, "open"))


def _hint(session: Session) -> NextStep:
    if session.cut is None:
        tip = keys.tip("Map where the scan speaks for the class that is looked for", "hint")
        return NextStep("▶ Show saliency", tip, "Saliency", saliency_commands.explain, _why(session, "hint"))
    tip = "Take what is outlined as a mask to correct"
    return NextStep("Use hint as start", tip, "Mask", _promote_hint, _why(session, "promote"))


def _promote_hint(session: Session) -> None:
    commands.promote(session, "saliency")


def _why(session: Session, verb: str) -> tuple[str, ...]:
    return tuple(session.blockers(verb))
