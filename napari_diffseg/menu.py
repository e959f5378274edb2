"""Entries of napari's menus and palette. Each opens the dock, where the answer shows, and asks a command."""

from __future__ import annotations

import napari

from napari_diffseg import commands, saliency_commands
from napari_diffseg.session import Session, session_for

PLUGIN = "napari-diffseg"
DOCK = "DiffSeg"


def play(viewer: napari.Viewer) -> None:
    """From noise to the first mask."""
    commands.play(_session(viewer))


def step(viewer: napari.Viewer) -> None:
    """One more denoising step."""
    commands.step_once(_session(viewer))


def grow(viewer: napari.Viewer) -> None:
    """The ensemble to its full number of masks."""
    commands.grow_ensemble(_session(viewer))


def explain(viewer: napari.Viewer) -> None:
    """The saliency map of the region."""
    saliency_commands.explain(_session(viewer))


def pause_or_resume(viewer: napari.Viewer) -> None:
    """Wait after the step in progress, or go on."""
    session = _session(viewer)
    (commands.resume if session.job.state == "paused" else commands.pause)(session)


def cancel(viewer: napari.Viewer) -> None:
    """Stop what runs."""
    commands.cancel(_session(viewer))


def edit_first_mode(viewer: napari.Viewer) -> None:
    """The most frequent mask, or the only one there is, as the editable mask."""
    session = _session(viewer)
    sources = session.sources()
    commands.promote(session, sources[0][0] if sources else "empty")


def _session(viewer: napari.Viewer) -> Session:
    viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
    return session_for(viewer)
