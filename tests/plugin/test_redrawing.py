"""Redrawing around strokes: asked for, looked through, taken or left, in a viewer without windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.utils.key_bindings import coerce_keybinding
from pytestqt.qtbot import QtBot

from napari_diffseg import commands, redrawing
from napari_diffseg.layerdata import own
from napari_diffseg.mask_edit import PAINTED, REDRAWN, origin_of
from napari_diffseg.session import Session
from napari_diffseg.sync import attach
from napari_diffseg.widgets.redraw_section import RedrawSection
from oracle import save_tiny
from tiny_session import write_scan

STROKE = np.s_[8, 4:7, 6:10]


@pytest.fixture
def viewer() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def session(viewer: ViewerModel, tmp_path: Path) -> Session:
    """A viewer's session with the small odd scan, an ensemble of the tiny model, and one mask of it to correct."""
    session = attach(viewer)
    session.inline = True
    save_tiny(tmp_path / "tiny.safetensors")
    commands.choose_model(session, tmp_path / "tiny.safetensors")
    commands.open_files(session, [write_scan(tmp_path / "scan.nii.gz")])
    commands.grow_ensemble(session, 3)
    commands.promote(session, "member:0")
    return session


def layers(viewer: ViewerModel, role: str) -> list[Any]:
    return [layer for layer in viewer.layers if own(layer).get("role") == role]


def outline(viewer: ViewerModel) -> bool:
    """Whether an answer is on display."""
    return any(layer.visible for layer in layers(viewer, "redraw"))


def paint(viewer: ViewerModel, session: Session, where: Any = STROKE) -> None:
    """Every voxel of a box becomes the class after its own."""
    assert session.mask is not None
    marked = np.zeros(session.mask.labels.shape, bool)
    marked[where] = True
    layer = layers(viewer, "mask")[0]
    for label in range(3):
        of = marked & (session.mask.labels == label)
        if of.any():
            layer.data_setitem(np.nonzero(of), (label + 1) % 3)
            marked &= ~of


def text(session: Session) -> str:
    return "" if session.message is None else session.message.text


def test_an_answer_is_one_undo_step_that_keeps_strokes_and_what_lies_outside_its_box(
    viewer: ViewerModel, session: Session
) -> None:
    assert session.mask is not None
    started = session.mask.labels.copy()
    paint(viewer, session)
    painted, array = session.mask.labels.copy(), session.mask.labels
    assert redrawing.redraw(session), text(session)
    found = redrawing.proposal_of(session)
    assert found is not None and len(found.alternatives) > 1
    np.testing.assert_array_equal(array, painted)
    preview = layers(viewer, "redraw")
    assert len(preview) == 1 and outline(viewer) and not preview[0].editable
    np.testing.assert_array_equal(preview[0].data, found.shown.labels)

    redrawing.next_answer(session)
    chosen = redrawing.proposal_of(session)
    assert chosen is not None and chosen.at == 1
    assert redrawing.accept_answer(session)
    assert session.mask.labels is array and not outline(viewer)
    np.testing.assert_array_equal(array[STROKE], painted[STROKE])
    outside = np.ones(array.shape, bool)
    outside[chosen.box.slices] = False
    np.testing.assert_array_equal(array[outside], painted[outside])
    np.testing.assert_array_equal(array[chosen.box.slices], chosen.shown.labels)
    origin = origin_of(session)
    assert (origin[STROKE] == PAINTED).all() and (origin == REDRAWN).any()

    layer = layers(viewer, "mask")[0]
    layer.undo()
    np.testing.assert_array_equal(array, painted)
    layer.undo()
    layer.undo()
    layer.undo()
    np.testing.assert_array_equal(array, started)


def test_what_was_painted_after_asking_stays_as_the_person_left_it(viewer: ViewerModel, session: Session) -> None:
    assert session.mask is not None
    paint(viewer, session)
    redrawing.redraw(session)
    found = redrawing.proposal_of(session)
    assert found is not None
    later = np.s_[9, 4:8, 5:9]
    paint(viewer, session, later)
    kept = session.mask.labels[later].copy()
    np.testing.assert_array_equal(layers(viewer, "redraw")[0].data, found.labels(session.mask.labels))
    redrawing.accept_answer(session)
    np.testing.assert_array_equal(session.mask.labels[later], kept)


def test_strokes_are_answered_once_until_the_answer_is_undone(viewer: ViewerModel, session: Session) -> None:
    assert session.mask is not None
    paint(viewer, session)
    redrawing.redraw(session)
    redrawing.accept_answer(session)
    state = redrawing.state_of(session)
    assert state is not None
    assert state.strokes_answered(session.mask).size == 12
    layers(viewer, "mask")[0].undo()
    assert state.strokes_answered(session.mask).size == 0


def test_leaving_removing_the_outline_and_another_mask_all_drop_the_answers(
    viewer: ViewerModel, session: Session
) -> None:
    assert session.mask is not None
    paint(viewer, session)
    before = session.mask.labels.copy()
    redrawing.redraw(session)
    redrawing.reject_answers(session)
    assert redrawing.proposal_of(session) is None and not outline(viewer)
    redrawing.redraw(session)
    viewer.layers.remove(layers(viewer, "redraw")[0])
    assert redrawing.proposal_of(session) is None
    np.testing.assert_array_equal(session.mask.labels, before)
    redrawing.redraw(session)
    commands.promote(session, "empty")
    commands.keep_and_start(session)
    assert redrawing.proposal_of(session) is None and not outline(viewer)
    assert not redrawing.accept_answer(session) and "redraw around your strokes first" in text(session)


def test_without_strokes_it_says_so(session: Session) -> None:
    assert not redrawing.redraw(session)
    assert "Nothing was painted or erased" in text(session)


def test_the_section_and_the_keys_lead_through_the_answers(viewer: ViewerModel, session: Session, qtbot: QtBot) -> None:
    assert session.mask is not None
    section = RedrawSection(session)
    qtbot.addWidget(section)
    assert not section.ask.isEnabled() and section.choice.isHidden()
    paint(viewer, session)
    section.ask.click()
    assert not section.choice.isHidden()
    count = section.count.text().partition("/")[2]
    assert section.count.text() == f"1/{count}" and "follows the strokes" in section.how.text()
    press = {name: viewer.keymap[coerce_keybinding(name)] for name in ("Shift+E", "F6", "F7", "F8")}
    press["Shift+E"](viewer)
    press["F6"](viewer)
    press["F6"](viewer)
    assert section.count.text() == f"{count}/{count}"
    section.on.click()
    press["F8"](viewer)
    assert section.choice.isHidden() and section.how.text().startswith("Last: the outline follows")
