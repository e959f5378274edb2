"""The ways into the plugin: the command `napari-diffseg`, napari's menus, and its Preferences."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import pytest

from diffseg.zoo import find_sample
from napari_diffseg.__main__ import main
from napari_diffseg.session import session_for
from napari_diffseg.state import SampleSettings


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-file.nii.gz"],
        ["--sample", "kidney"],
        ["--sample", "hippocampus", "also-a-file.nii"],
        ["--sample", "hippocampus", "--screenshot", "/no/such/folder/window.png"],
    ],
)
def test_what_cannot_be_opened_is_refused_in_one_sentence_before_a_window_appears(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("napari-diffseg: ") and told.err.count("\n") == 1


def test_asking_for_help_does_not_start_napari_or_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom napari_diffseg.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'napari', 'qtpy', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.usefixtures("qapp")
def test_the_command_opens_the_sample_and_takes_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "window.png"
    entry = [sys.executable, "-m", "napari_diffseg"]
    command = [*entry, "--sample", "hippocampus", "--screenshot", str(picture)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr[-4000:]
    shown = iio.imread(picture)
    # The middle of the window is the canvas, and the brain on it has many shades; an empty canvas has one.
    height, width = shown.shape[:2]
    middle = shown[height // 4 : height // 2, width // 3 : 2 * width // 3, 0]
    assert len(set(middle.ravel().tolist())) > 50


@pytest.mark.usefixtures("qapp")
def test_a_damaged_file_ends_the_command_with_its_sentence(tmp_path: Path) -> None:
    damaged, picture = tmp_path / "cut.nii.gz", tmp_path / "window.png"
    damaged.write_bytes(find_sample("hippocampus").paths[0].read_bytes()[:3000])
    command = [sys.executable, "-m", "napari_diffseg", str(damaged), "--screenshot", str(picture)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 2
    assert "cut.nii.gz" in done.stderr and "Traceback" not in done.stderr
    assert not picture.exists()


def test_menu_entries_open_the_dock_and_say_what_is_missing(
    make_napari_viewer_proxy: Callable[[], Any],
) -> None:
    from napari_diffseg import mask_menu, menu

    viewer = make_napari_viewer_proxy()
    session = session_for(viewer)
    for entry in (menu.play, menu.step, menu.grow, mask_menu.edit_first_mode):
        session.message = None
        entry(viewer)
        assert session.message is not None and session.message.text.startswith("Open a scan first")
    menu.pause_or_resume(viewer)
    assert session.message.text == "Nothing is running."
    assert "DiffSeg (napari-diffseg)" in viewer.window.dock_widgets


def test_preferences_become_the_settings_of_a_new_session(
    plugin_settings: Any, npe2pm: Any
) -> None:
    from napari.settings import get_plugin_settings
    from npe2 import PluginManifest

    from napari_diffseg.preferences import preferred

    npe2pm.register(PluginManifest.from_distribution("napari-diffseg"))
    chosen = get_plugin_settings("napari-diffseg").sampling
    assert (chosen.members, chosen.seed, chosen.device) == (
        SampleSettings().members,
        SampleSettings().seed,
        SampleSettings().device,
    )
    chosen.members, chosen.device = 3, "cpu"
    assert preferred(SampleSettings(steps=7)) == SampleSettings(steps=7, members=3, device="cpu")


def test_the_dock_starts_from_the_preferences(make_napari_viewer_proxy: Callable[[], Any]) -> None:
    from napari.settings import get_plugin_settings

    viewer = make_napari_viewer_proxy()
    chosen = get_plugin_settings("napari-diffseg").sampling
    before = chosen.members
    try:
        chosen.members = 5
        viewer.window.add_plugin_dock_widget("napari-diffseg", "DiffSeg")
    finally:
        chosen.members = before
    assert session_for(viewer).settings.members == 5


def test_tests_leave_the_settings_of_the_person_alone() -> None:
    assert "napari-diffseg-tests-" in os.environ["NAPARI_CONFIG"]
