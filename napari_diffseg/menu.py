"""Entries of napari's menus and palette. Each opens the dock, where the answer shows, and asks a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import napari

from napari_diffseg import (
    actions,
    commands,
    ensemble_commands,
    saliency_commands,
    whole_scan,
)
from napari_diffseg.session import Session, session_for

if TYPE_CHECKING:
    from napari_diffseg.widgets.case_panel import CasePanel
    from napari_diffseg.widgets.denoise_panel import DenoisePanel
    from napari_diffseg.widgets.dock import Dock
    from napari_diffseg.widgets.ensemble_panel import EnsemblePanel

PLUGIN = "napari-diffseg"
DOCK = "DiffSeg"


# ---- case and region ----


def open_files(viewer: napari.Viewer) -> None:
    """A scan's files, asked for."""
    cast("CasePanel", _page(viewer, "Case")).choose_files()


def open_folder(viewer: napari.Viewer) -> None:
    """A folder of DICOM slices, asked for."""
    cast("CasePanel", _page(viewer, "Case")).choose_folder()


def add_readers(viewer: napari.Viewer) -> None:
    """Masks that people drew on the scan, asked for."""
    panel = cast("CasePanel", _page(viewer, "Case"))
    if _may(panel.session, "region"):
        panel.choose_masks()


def centre_region(viewer: napari.Viewer) -> None:
    """The model's window around the centre of the view."""
    _do(viewer, commands.centre_region)


def region_box(viewer: napari.Viewer) -> None:
    """The region as a box that can be dragged, or not."""
    _do(viewer, actions.toggle_region_box)


def whole(viewer: napari.Viewer) -> None:
    """The whole scan instead of a region."""
    _do(viewer, whole_scan.choose_whole)


def look_at_region(viewer: napari.Viewer) -> None:
    """The slices through the region."""
    _do(viewer, commands.look_at)


def axial(viewer: napari.Viewer) -> None:
    """Seen from the feet."""
    _do(viewer, actions.look_axial)


def coronal(viewer: napari.Viewer) -> None:
    """Seen from the front."""
    _do(viewer, actions.look_coronal)


def sagittal(viewer: napari.Viewer) -> None:
    """Seen from the left."""
    _do(viewer, actions.look_sagittal)


def volume(viewer: napari.Viewer) -> None:
    """The whole volume in 3D."""
    _do(viewer, actions.look_3d)


# ---- trajectory ----


def play(viewer: napari.Viewer) -> None:
    """From noise to the first mask."""
    _do(viewer, commands.play)


def step(viewer: napari.Viewer) -> None:
    """One more denoising step."""
    _do(viewer, commands.step_once)


def step_forward(viewer: napari.Viewer) -> None:
    """The next step, computed if need be."""
    _do(viewer, actions.step_forward)


def step_back(viewer: napari.Viewer) -> None:
    """The step before."""
    _do(viewer, actions.step_back)


def show_first(viewer: napari.Viewer) -> None:
    """The starting noise."""
    _do(viewer, actions.show_first)


def show_newest(viewer: napari.Viewer) -> None:
    """The newest step."""
    _do(viewer, actions.show_newest)


def reset(viewer: napari.Viewer) -> None:
    """No trajectory, no branches."""
    _do(viewer, commands.reset)


def branch_here(viewer: napari.Viewer) -> None:
    """Other noise from the state on display."""
    _do(viewer, commands.branch_here)


def follow(viewer: napari.Viewer) -> None:
    """Each new step shown, or not."""
    _do(viewer, actions.toggle_follow)


def side_by_side(viewer: napari.Viewer) -> None:
    """A view each, or one for all."""
    _do(viewer, actions.toggle_side_by_side)


def seed_lock(viewer: napari.Viewer) -> None:
    """The same noise each time, or not."""
    _do(viewer, actions.toggle_seed_lock)


def export_gif(viewer: napari.Viewer) -> None:
    """An animation, its file asked for."""
    _export(viewer, ".gif")


def export_mp4(viewer: napari.Viewer) -> None:
    """A video, its file asked for."""
    _export(viewer, ".mp4")


def export_png(viewer: napari.Viewer) -> None:
    """A strip of pictures, its file asked for."""
    _export(viewer, ".png")


# ---- ensemble ----


def grow(viewer: napari.Viewer) -> None:
    """The ensemble to its full number of masks."""
    _do(viewer, commands.grow_ensemble)


def stop_early(viewer: napari.Viewer) -> None:
    """Stop when settled, or not."""
    _do(viewer, actions.toggle_stop_early)


def relative_area(viewer: napari.Viewer) -> None:
    """Small masks count as empty, or not."""
    _do(viewer, actions.toggle_relative_area)


def next_mode(viewer: napari.Viewer) -> None:
    """The next distinct answer."""
    _do(viewer, actions.show_next_mode)


def variance(viewer: napari.Viewer) -> None:
    """Where the masks differ."""
    _do(viewer, actions.toggle_variance)


def compare(viewer: napari.Viewer) -> None:
    """The ensemble against the readers."""
    _do(viewer, ensemble_commands.compare_readers)


def table(viewer: napari.Viewer) -> None:
    """napari's own table, a row per mask."""
    _do(viewer, ensemble_commands.open_features_table)


def copy_members(viewer: napari.Viewer) -> None:
    """The table of masks to the clipboard."""
    _ensemble(viewer).buttons.copy_table()


def export_members(viewer: napari.Viewer) -> None:
    """The table of masks to a file, asked for."""
    _ensemble(viewer).buttons.choose_and_export()


def copy_readers(viewer: napari.Viewer) -> None:
    """The comparison with the readers to the clipboard."""
    _ensemble(viewer).readers.buttons.copy_table()


def export_readers(viewer: napari.Viewer) -> None:
    """The comparison with the readers to a file, asked for."""
    _ensemble(viewer).readers.buttons.choose_and_export()


# ---- saliency ----


def explain(viewer: napari.Viewer) -> None:
    """The saliency map of the region."""
    _do(viewer, saliency_commands.explain)


def reset_threshold(viewer: napari.Viewer) -> None:
    """The rule's own threshold."""
    _do(viewer, actions.reset_threshold)


def edit_saliency(viewer: napari.Viewer) -> None:
    """What the map outlines as the editable mask."""
    _do(viewer, actions.edit_saliency)


# ---- what runs ----


def pause_or_resume(viewer: napari.Viewer) -> None:
    """Wait after the step in progress, or go on."""
    session = _session(viewer)
    (commands.resume if session.job.state == "paused" else commands.pause)(session)


def cancel(viewer: napari.Viewer) -> None:
    """Stop what runs."""
    _do(viewer, commands.cancel)


# ---- help ----


def what_is_this(viewer: napari.Viewer) -> None:
    """The words on the page on display."""
    _dock(viewer).bar.ask.setChecked(True)


def _ensemble(viewer: napari.Viewer) -> EnsemblePanel:
    return cast("EnsemblePanel", _page(viewer, "Ensemble"))


def _export(viewer: napari.Viewer, suffix: str) -> None:
    panel = cast("DenoisePanel", _page(viewer, "Denoise"))
    if _may(panel.session, "export"):
        panel.choose_and_export(suffix)


def _may(session: Session, verb: str) -> bool:
    """Whether a dialog is worth opening; says why not."""
    return actions.possible(session, verb)


def _do(viewer: napari.Viewer, act: Callable[[Session], object]) -> None:
    act(_session(viewer))


def _page(viewer: napari.Viewer, title: str) -> object:
    dock = _dock(viewer)
    dock.turn_to(title)
    return dock.panels[title]


def _dock(viewer: napari.Viewer) -> Dock:
    return cast("Dock", viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)[1])


def _session(viewer: napari.Viewer) -> Session:
    _dock(viewer)
    return session_for(viewer)
