"""What makes the plugin a good guest: palette, menus, keys, preferences, help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari.layers
from napari.components import ViewerModel
from napari.utils.key_bindings import coerce_keybinding
from napari.utils.shortcuts import default_shortcuts
from npe2 import PluginManifest
from pytestqt.qtbot import QtBot
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

import napari_diffseg
from napari_diffseg import actions, commands, keys, mask_menu, menu
from napari_diffseg.session import session_for
from napari_diffseg.sync import attach
from tiny_session import open_session

MANIFEST = PluginManifest.from_file(Path(napari_diffseg.__file__).with_name("napari.yaml"))


def test_every_entry_of_menu_is_a_command_and_lies_in_a_menu_or_opens_something() -> None:
    MANIFEST.validate_imports()
    pages = (menu, mask_menu)
    entries = {f"{m.__name__}:{name}" for m in pages for name, act in vars(m).items() if is_entry(name, act, m)}
    listed = {c.id: c.python_name for c in MANIFEST.contributions.commands or []}
    assert entries == {name for name in listed.values() if "menu:" in str(name)}
    titles = [c.title for c in MANIFEST.contributions.commands or []]
    assert len(set(titles)) == len(titles)
    for items in (MANIFEST.contributions.menus or {}).values():
        for item in items:
            assert getattr(item, "command", None) in {*listed, None}


def is_entry(name: str, act: Any, module: Any) -> bool:
    return inspect.isfunction(act) and act.__module__ == module.__name__ and not name.startswith("_")


def test_no_key_is_one_of_naparis_on_any_layer() -> None:
    taken = {str(one) for several in default_shortcuts.values() for one in several}
    kinds = [ViewerModel, *(getattr(napari.layers, name) for name in napari.layers.__all__)]
    for kind in kinds:
        taken |= {str(one) for one in getattr(kind, "class_keymap", {})}
    ours = [str(coerce_keybinding(one.key)) for one in keys.KEYS.values()]
    assert "Shift+A" in taken  # of points
    assert not taken & set(ours)
    assert len(set(ours)) == len(ours)


def test_keys_come_and_go_with_the_dock_and_leave_those_of_the_person() -> None:
    viewer = ViewerModel()
    pressed: list[int] = []
    own = coerce_keybinding("Shift+G")
    viewer.bind_key("Shift+G", lambda viewer: pressed.append(1))
    session = attach(viewer)
    assert len(viewer.keymap) == len(keys.KEYS)
    viewer.keymap[own](viewer)
    assert pressed == [1] and session.message is None
    commands.shutdown(session)
    assert list(viewer.keymap) == [own]


def test_a_key_asks_the_session_of_its_own_viewer() -> None:
    first, second = ViewerModel(), ViewerModel()
    sessions = attach(first), attach(second)
    assert sessions[0].follow and sessions[1].follow
    second.keymap[coerce_keybinding("Shift+F")](second)
    assert sessions[0].follow and not sessions[1].follow
    for session in sessions:
        commands.shutdown(session)


def test_keys_say_what_is_missing_and_never_raise() -> None:
    viewer = ViewerModel()
    session = attach(viewer)
    silent = []
    for name, one in keys.KEYS.items():
        session.message = None
        one.act(session)
        if session.message is None:
            silent.append(name)
    assert silent == ["follow"]
    commands.shutdown(session)


def test_cycling_through_the_modes_ends_with_none(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    commands.grow_ensemble(session, 4)
    seen = []
    for _ in range(len(session.modes) + 1):
        actions.show_next_mode(session)
        seen.append(session.mode)
    assert seen == [*(mode.index for mode in session.modes), None]


def test_preferences_reach_the_pages_of_a_new_session(plugin_settings: Any, npe2pm: Any) -> None:
    from napari.settings import get_plugin_settings

    npe2pm.register(MANIFEST)
    chosen = get_plugin_settings("napari-diffseg")
    viewer = ViewerModel()
    untouched = session_for(ViewerModel())
    assert chosen.trajectory.follow == untouched.follow and chosen.trajectory.seed_locked == untouched.seed_locked
    assert chosen.ensemble.stop_early == untouched.ensemble.stop_early
    assert chosen.ensemble.relative_area == untouched.ensemble.relative_area
    chosen.trajectory.follow = chosen.trajectory.seed_locked = chosen.ensemble.stop_early = False
    chosen.ensemble.relative_area, chosen.keyboard.keys = True, False
    session = attach(viewer)
    assert (session.follow, session.seed_locked) == (False, False)
    assert (session.ensemble.stop_early, session.ensemble.relative_area) == (False, True)
    assert viewer.keymap == {}
    assert keys.tip("Draw", "grow") == "Draw" and keys.words_for("Ensemble") == "", "no words of keys that do nothing"
    commands.shutdown(session)


def test_each_page_explains_itself_with_its_keys_and_keys_work_from_the_dock(
    make_napari_viewer_proxy: Callable[..., Any], qtbot: QtBot
) -> None:
    viewer = make_napari_viewer_proxy(show=True)
    menu.what_is_this(viewer)
    dock = menu._dock(viewer)
    qtbot.waitUntil(dock.about.isVisible)
    for title, panel in dock.panels.items():
        dock.turn_to(title)
        assert len(panel.help) > 100
        assert all(one.key in dock.about.text() for one in keys.KEYS.values() if one.page in (title, ""))
        for made in (widget for widget in dock.findChildren(object) if hasattr(widget, "toolTip")):
            assert "Alt+" not in made.toolTip()
    dock.bar.ask.setFocus()
    QTest.keyClick(dock.bar.ask, Qt.Key.Key_K, Qt.KeyboardModifier.ShiftModifier)
    assert dock.session.message.text.startswith("Open a scan first")
    qtbot.mouseClick(dock.bar.ask, Qt.MouseButton.LeftButton)
    assert not dock.about.isVisible()
    QTest.keyClick(dock, Qt.Key.Key_F, Qt.KeyboardModifier.ShiftModifier)
    assert dock.session.follow is False


def test_closing_the_dock_frees_the_keys_and_the_palette_opens_it_again(
    make_napari_viewer_proxy: Callable[..., Any], qtbot: QtBot
) -> None:
    from napari._app_model import get_app_model

    viewer = make_napari_viewer_proxy(show=True)
    outer, dock = viewer.window.add_plugin_dock_widget(menu.PLUGIN, menu.DOCK)
    outer.hide()
    assert len(viewer.keymap) == len(keys.KEYS)
    outer.show()
    viewer.window.remove_dock_widget(outer)
    assert len(viewer.keymap) == 0
    palette = get_app_model().commands
    assert all(c.id in palette for c in MANIFEST.contributions.commands or [] if "menu:" in str(c.python_name))
    palette.execute_command("napari-diffseg.grow").result()
    again = menu._dock(viewer)
    assert again is not dock and len(viewer.keymap) == len(keys.KEYS)
    assert again.session.message.text.startswith("Open a scan first")
