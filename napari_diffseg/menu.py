"""Entries of napari's menus and palette. Each opens the dock, where the answer shows, and asks a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import napari

from napari_diffseg import (
    actions,
    blind,
    checking,
    commands,
    ensemble_commands,
    mask_tools,
    recovery,
    redrawing,
    saliency_commands,
    saving,
    whole_scan,
)
from napari_diffseg import menu_dock as to
from napari_diffseg.session import session_for

if TYPE_CHECKING:
    from napari_diffseg.widgets.case_panel import CasePanel
    from napari_diffseg.widgets.mask_panel import MaskPanel


# ---- case and region ----


def open_files(viewer: napari.Viewer) -> None:
    """A scan's files, asked for."""
    cast("CasePanel", to.page(viewer, "Case")).choose_files()


def open_folder(viewer: napari.Viewer) -> None:
    """A folder of DICOM slices, asked for."""
    cast("CasePanel", to.page(viewer, "Case")).choose_folder()


def add_readers(viewer: napari.Viewer) -> None:
    """Masks that people drew on the scan, asked for."""
    panel = cast("CasePanel", to.page(viewer, "Case"))
    if to.may(panel.session, "region"):
        panel.choose_masks()


def centre_region(viewer: napari.Viewer) -> None:
    """The model's window around the centre of the view."""
    to.do(viewer, commands.centre_region)


def region_box(viewer: napari.Viewer) -> None:
    """The region as a box that can be dragged, or not."""
    to.do(viewer, actions.toggle_region_box)


def whole(viewer: napari.Viewer) -> None:
    """The whole scan instead of a region."""
    to.do(viewer, whole_scan.choose_whole)


def look_at_region(viewer: napari.Viewer) -> None:
    """The slices through the region."""
    to.do(viewer, commands.look_at)


def axial(viewer: napari.Viewer) -> None:
    """Seen from the feet."""
    to.do(viewer, actions.look_axial)


def coronal(viewer: napari.Viewer) -> None:
    """Seen from the front."""
    to.do(viewer, actions.look_coronal)


def sagittal(viewer: napari.Viewer) -> None:
    """Seen from the left."""
    to.do(viewer, actions.look_sagittal)


def volume(viewer: napari.Viewer) -> None:
    """The whole volume in 3D."""
    to.do(viewer, actions.look_3d)


# ---- trajectory ----


def play(viewer: napari.Viewer) -> None:
    """From noise to the first mask."""
    to.do(viewer, commands.play)


def step(viewer: napari.Viewer) -> None:
    """One more denoising step."""
    to.do(viewer, commands.step_once)


def step_forward(viewer: napari.Viewer) -> None:
    """The next step, computed if need be."""
    to.do(viewer, actions.step_forward)


def step_back(viewer: napari.Viewer) -> None:
    """The step before."""
    to.do(viewer, actions.step_back)


def show_first(viewer: napari.Viewer) -> None:
    """The starting noise."""
    to.do(viewer, actions.show_first)


def show_newest(viewer: napari.Viewer) -> None:
    """The newest step."""
    to.do(viewer, actions.show_newest)


def reset(viewer: napari.Viewer) -> None:
    """No trajectory, no branches."""
    to.do(viewer, commands.reset)


def branch_here(viewer: napari.Viewer) -> None:
    """Other noise from the state on display."""
    to.do(viewer, commands.branch_here)


def follow(viewer: napari.Viewer) -> None:
    """Each new step shown, or not."""
    to.do(viewer, actions.toggle_follow)


def side_by_side(viewer: napari.Viewer) -> None:
    """A view each, or one for all."""
    to.do(viewer, actions.toggle_side_by_side)


def seed_lock(viewer: napari.Viewer) -> None:
    """The same noise each time, or not."""
    to.do(viewer, actions.toggle_seed_lock)


def export_gif(viewer: napari.Viewer) -> None:
    """An animation, its file asked for."""
    to.export(viewer, ".gif")


def export_mp4(viewer: napari.Viewer) -> None:
    """A video, its file asked for."""
    to.export(viewer, ".mp4")


def export_png(viewer: napari.Viewer) -> None:
    """A strip of pictures, its file asked for."""
    to.export(viewer, ".png")


# ---- ensemble ----


def grow(viewer: napari.Viewer) -> None:
    """The ensemble to its full number of masks."""
    to.do(viewer, commands.grow_ensemble)


def stop_early(viewer: napari.Viewer) -> None:
    """Stop when settled, or not."""
    to.do(viewer, actions.toggle_stop_early)


def relative_area(viewer: napari.Viewer) -> None:
    """Small masks count as empty, or not."""
    to.do(viewer, actions.toggle_relative_area)


def next_mode(viewer: napari.Viewer) -> None:
    """The next distinct answer."""
    to.do(viewer, actions.show_next_mode)


def variance(viewer: napari.Viewer) -> None:
    """Where the masks differ."""
    to.do(viewer, actions.toggle_variance)


def compare(viewer: napari.Viewer) -> None:
    """The ensemble against the readers."""
    to.do(viewer, ensemble_commands.compare_readers)


def table(viewer: napari.Viewer) -> None:
    """napari's own table, a row per mask."""
    to.do(viewer, ensemble_commands.open_features_table)


def copy_members(viewer: napari.Viewer) -> None:
    """The table of masks to the clipboard."""
    to.ensemble(viewer).buttons.copy_table()


def export_members(viewer: napari.Viewer) -> None:
    """The table of masks to a file, asked for."""
    to.ensemble(viewer).buttons.choose_and_export()


def copy_readers(viewer: napari.Viewer) -> None:
    """The comparison with the readers to the clipboard."""
    to.ensemble(viewer).readers.buttons.copy_table()


def export_readers(viewer: napari.Viewer) -> None:
    """The comparison with the readers to a file, asked for."""
    to.ensemble(viewer).readers.buttons.choose_and_export()


# ---- saliency ----


def explain(viewer: napari.Viewer) -> None:
    """The saliency map of the region."""
    to.do(viewer, saliency_commands.explain)


def reset_threshold(viewer: napari.Viewer) -> None:
    """The rule's own threshold."""
    to.do(viewer, actions.reset_threshold)


def edit_saliency(viewer: napari.Viewer) -> None:
    """What the map outlines as the editable mask."""
    to.do(viewer, actions.edit_saliency)


# ---- what runs ----


def pause_or_resume(viewer: napari.Viewer) -> None:
    """Wait after the step in progress, or go on."""
    to.dock(viewer)
    session = session_for(viewer)
    (commands.resume if session.job.state == "paused" else commands.pause)(session)


def cancel(viewer: napari.Viewer) -> None:
    """Stop what runs."""
    to.do(viewer, commands.cancel)


# ---- the mask, and help ----


def edit_first_mode(viewer: napari.Viewer) -> None:
    """The mode on display, or else the most frequent mask, as the editable mask."""
    to.do(viewer, actions.edit_mask)


def keep_and_start(viewer: napari.Viewer) -> None:
    """The start that was asked about, the edited mask kept."""
    to.do(viewer, commands.keep_and_start)


def fill_between(viewer: napari.Viewer) -> None:
    """The slices between those painted."""
    to.do(viewer, mask_tools.fill_between)


def keep_largest(viewer: napari.Viewer) -> None:
    """The largest part of the class alone."""
    to.do(viewer, mask_tools.keep_largest)


def fill_holes(viewer: napari.Viewer) -> None:
    """What the class encloses."""
    to.do(viewer, mask_tools.fill_holes)


def grow_class(viewer: napari.Viewer) -> None:
    """The outline outwards."""
    to.do(viewer, mask_tools.grow)


def shrink_class(viewer: napari.Viewer) -> None:
    """The outline inwards."""
    to.do(viewer, mask_tools.shrink)


def protect_classes(viewer: napari.Viewer) -> None:
    """Other classes protected from tools, or not."""
    to.do(viewer, actions.toggle_protect)


def who_wrote(viewer: napari.Viewer) -> None:
    """Who wrote which voxel, or no such layer."""
    to.do(viewer, actions.toggle_origin)


def next_place(viewer: napari.Viewer) -> None:
    """Where the masks differ most of what is left."""
    to.do(viewer, checking.next_place)


def tick_place(viewer: napari.Viewer) -> None:
    """The place gone to is fine."""
    to.do(viewer, checking.tick)


def check_by(viewer: napari.Viewer) -> None:
    """Regions instead of slices, or the other way round."""
    to.do(viewer, actions.toggle_places)


def blind_reading(viewer: napari.Viewer) -> None:
    """An empty mask, and all results hidden."""
    to.do(viewer, blind.begin)


def reveal(viewer: napari.Viewer) -> None:
    """The results again."""
    to.do(viewer, blind.reveal)


def redraw(viewer: napari.Viewer) -> None:
    """Answers that agree with what was painted."""
    to.do(viewer, redrawing.redraw)


def next_answer(viewer: napari.Viewer) -> None:
    """The next of them."""
    to.do(viewer, redrawing.next_answer)


def previous_answer(viewer: napari.Viewer) -> None:
    """The one before."""
    to.do(viewer, redrawing.previous_answer)


def accept_answer(viewer: napari.Viewer) -> None:
    """The one on display becomes the mask."""
    to.do(viewer, redrawing.accept_answer)


def reject_answers(viewer: napari.Viewer) -> None:
    """The mask stays as it is."""
    to.do(viewer, redrawing.reject_answers)


def save_mask(viewer: napari.Viewer) -> None:
    """The mask as a file, asked for."""
    panel = cast("MaskPanel", to.page(viewer, "Mask"))
    if to.may(panel.session, "save"):
        panel.choose_and_save()


def replace_other(viewer: napari.Viewer) -> None:
    """The file that saving asked about, replaced."""
    to.do(viewer, saving.replace_other)


def recover(viewer: napari.Viewer) -> None:
    """The mask that an earlier session left, with its scan."""
    to.do(viewer, recovery.recover)


def discard(viewer: napari.Viewer) -> None:
    """The mask on offer deleted from its journal."""
    to.do(viewer, recovery.discard)


def what_is_this(viewer: napari.Viewer) -> None:
    """The words on the page on display."""
    to.dock(viewer).bar.ask.setChecked(True)
