"""Keys of the plugin, and how they come and go with it.

napari reads no keys from a manifest, so they are bound to the viewer while it has a dock of ours. They are Shift with
a letter that napari leaves free: Alt with a letter opens menus, and writes signs on a Mac; a button with the focus
keeps arrows to itself. The letters are used up, so what chooses among answers are function keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from napari_diffseg import actions, checking, commands, ensemble_commands, mask_tools, redrawing, saliency_commands
from napari_diffseg.preferences import wants_keys
from napari_diffseg.session import Session, session_for


@dataclass(frozen=True)
class Key:
    """A key as napari spells it, the page that it belongs to, what it does in a word or two, and the verb."""

    key: str
    page: str
    words: str
    act: Callable[[Session], object]


KEYS: dict[str, Key] = {
    "region": Key("Shift+O", "Case", "box", actions.toggle_region_box),
    "axial": Key("Shift+Z", "Case", "axial", actions.look_axial),
    "coronal": Key("Shift+Y", "Case", "coronal", actions.look_coronal),
    "sagittal": Key("Shift+X", "Case", "sagittal", actions.look_sagittal),
    "play": Key("Shift+R", "Denoise", "play, pause", actions.play_or_pause),
    "back": Key("Shift+J", "Denoise", "step back", actions.step_back),
    "step": Key("Shift+K", "Denoise", "step", actions.step_forward),
    "branch": Key("Shift+B", "Denoise", "branch here", commands.branch_here),
    "follow": Key("Shift+F", "Denoise", "follow", actions.toggle_follow),
    "beside": Key("Shift+S", "Denoise", "side by side", actions.toggle_side_by_side),
    "cancel": Key("Shift+Q", "", "stop", commands.cancel),
    "grow": Key("Shift+G", "Ensemble", "grow", commands.grow_ensemble),
    "mode": Key("Shift+N", "Ensemble", "next mode", actions.show_next_mode),
    "variance": Key("Shift+U", "Ensemble", "variance", actions.toggle_variance),
    "compare": Key("Shift+C", "Ensemble", "compare with readers", ensemble_commands.compare_readers),
    "hint": Key("Shift+H", "Saliency", "show saliency", saliency_commands.explain),
    "edit": Key("Shift+M", "Mask", "make editable", actions.edit_mask),
    "fill": Key("Shift+I", "Mask", "fill between slices", mask_tools.fill_between),
    "place": Key("Shift+D", "Mask", "next place", checking.next_place),
    "tick": Key("Shift+T", "Mask", "place is fine", checking.tick),
    "redraw": Key("Shift+E", "Mask", "redraw, next answer", redrawing.redraw_or_next),
    "previous answer": Key("F6", "Mask", "answer before", redrawing.previous_answer),
    "next answer": Key("F7", "Mask", "next answer", redrawing.next_answer),
    "accept": Key("F8", "Mask", "take the answer", redrawing.accept_answer),
    "reject": Key("F9", "Mask", "leave the mask", redrawing.reject_answers),
    "save": Key("Shift+W", "Mask", "save again", actions.save_again),
}


def tip(words: str, name: str) -> str:
    """A tooltip that ends in the key of this name, where keys are wanted."""
    return f"{words} ({KEYS[name].key})" if wants_keys() else words


def words_for(page: str) -> str:
    """The keys of a page and the one that stops a run, in a line; empty where none are wanted."""
    found = " · ".join(f"{one.key} {one.words}" for one in KEYS.values() if one.page in (page, ""))
    return found if wants_keys() else ""


def bind(viewer: Any) -> list[str]:
    """Bind the keys that are free on this viewer; returns those bound, for ``unbind``."""
    bound = []
    for one in KEYS.values():
        try:
            viewer.bind_key(one.key, _pressed(one))
        except ValueError:
            continue  # the person gave it another meaning
        bound.append(one.key)
    return bound


def unbind(viewer: Any, bound: list[str]) -> None:
    """Free these keys again."""
    while bound:
        viewer.bind_key(bound.pop(), None)


def _pressed(one: Key) -> Callable[[Any], None]:
    """Knows the viewer only when pressed, so that the key keeps nothing alive."""

    def pressed(viewer: Any) -> None:
        one.act(session_for(viewer))

    return pressed
