"""Entries of napari's menus and palette for the mask that a person corrects, as ``menu`` has them for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import napari

from napari_diffseg import actions, blind, checking, commands, mask_tools, recovery, redrawing, saving
from napari_diffseg.menu import _do, _may, _page

if TYPE_CHECKING:
    from napari_diffseg.widgets.mask_panel import MaskPanel


def edit_first_mode(viewer: napari.Viewer) -> None:
    """The mode on display, or else the most frequent mask, as the editable mask."""
    _do(viewer, actions.edit_mask)


def keep_and_start(viewer: napari.Viewer) -> None:
    """The start that was asked about, the edited mask kept."""
    _do(viewer, commands.keep_and_start)


def fill_between(viewer: napari.Viewer) -> None:
    """The slices between those painted."""
    _do(viewer, mask_tools.fill_between)


def keep_largest(viewer: napari.Viewer) -> None:
    """The largest part of the class alone."""
    _do(viewer, mask_tools.keep_largest)


def fill_holes(viewer: napari.Viewer) -> None:
    """What the class encloses."""
    _do(viewer, mask_tools.fill_holes)


def grow_class(viewer: napari.Viewer) -> None:
    """The outline outwards."""
    _do(viewer, mask_tools.grow)


def shrink_class(viewer: napari.Viewer) -> None:
    """The outline inwards."""
    _do(viewer, mask_tools.shrink)


def protect_classes(viewer: napari.Viewer) -> None:
    """Other classes protected from tools, or not."""
    _do(viewer, actions.toggle_protect)


def who_wrote(viewer: napari.Viewer) -> None:
    """Who wrote which voxel, or no such layer."""
    _do(viewer, actions.toggle_origin)


def next_place(viewer: napari.Viewer) -> None:
    """Where the masks differ most of what is left."""
    _do(viewer, checking.next_place)


def tick_place(viewer: napari.Viewer) -> None:
    """The place gone to is fine."""
    _do(viewer, checking.tick)


def check_by(viewer: napari.Viewer) -> None:
    """Regions instead of slices, or the other way round."""
    _do(viewer, actions.toggle_places)


def blind_reading(viewer: napari.Viewer) -> None:
    """An empty mask, and all results hidden."""
    _do(viewer, blind.begin)


def reveal(viewer: napari.Viewer) -> None:
    """The results again."""
    _do(viewer, blind.reveal)


def redraw(viewer: napari.Viewer) -> None:
    """Answers that agree with what was painted."""
    _do(viewer, redrawing.redraw)


def next_answer(viewer: napari.Viewer) -> None:
    """The next of them."""
    _do(viewer, redrawing.next_answer)


def previous_answer(viewer: napari.Viewer) -> None:
    """The one before."""
    _do(viewer, redrawing.previous_answer)


def accept_answer(viewer: napari.Viewer) -> None:
    """The one on display becomes the mask."""
    _do(viewer, redrawing.accept_answer)


def reject_answers(viewer: napari.Viewer) -> None:
    """The mask stays as it is."""
    _do(viewer, redrawing.reject_answers)


def save_mask(viewer: napari.Viewer) -> None:
    """The mask as a file, asked for."""
    panel = cast("MaskPanel", _page(viewer, "Mask"))
    if _may(panel.session, "save"):
        panel.choose_and_save()


def replace_other(viewer: napari.Viewer) -> None:
    """The file that saving asked about, replaced."""
    _do(viewer, saving.replace_other)


def recover(viewer: napari.Viewer) -> None:
    """The mask that an earlier session left, with its scan."""
    _do(viewer, recovery.recover)


def discard(viewer: napari.Viewer) -> None:
    """The mask on offer deleted from its journal."""
    _do(viewer, recovery.discard)
