"""What an installation holds: the manifest, both packages, samples and models, and no Qt binding."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from napari._app_model.constants._menus import is_menu_contributable
from npe2 import PluginManifest

from diffseg import __version__
from diffseg.zoo import sample_scans
from source_tree import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))

# Run where the installation under test is the first that Python finds; prints what napari would find.
INSPECTION = """
import json, sys
from pathlib import Path
import diffseg, napari_diffseg
from diffseg.io import read_case
from diffseg.zoo import sample_scans, shipped_models
from npe2 import PluginManager, PluginManifest
manifest = PluginManifest.from_distribution("napari-diffseg")
manifest.validate_imports()
manager = PluginManager()
manager.discover()
for scan in sample_scans().values():
    read_case(scan.paths, channels=scan.channels)
print(json.dumps({
    "packages": [diffseg.__file__, napari_diffseg.__file__],
    "version": manifest.package_version,
    "discovered": "napari-diffseg" in manager,
    "samples": [str(path) for scan in sample_scans().values() for path in scan.paths],
    "models": [str(path) for path in shipped_models().values()],
}))
"""


def inspect_installation(neutral: Path, first: Path | None = None) -> dict[str, Any]:
    """What the inspection finds, from a neutral folder; `first` leads the search path for packages."""
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    if first is not None:
        environment["PYTHONPATH"] = str(first)
    command = [sys.executable, "-c", INSPECTION]
    done = subprocess.run(command, cwd=neutral, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as a release is: from the source archive."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "-o", str(out), str(REPOSITORY)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages into which the wheel is installed, alone."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True)
    return target


def test_the_editable_install_is_found_by_napari_with_samples_and_models(tmp_path: Path) -> None:
    found = inspect_installation(tmp_path)
    assert found["discovered"]
    assert found["version"] == __version__
    assert all(Path(one).is_relative_to(REPOSITORY) for one in [*found["packages"], *found["samples"]])


def test_the_wheel_is_found_by_napari_with_the_same_samples_and_models(site: Path, tmp_path: Path) -> None:
    found, checkout = inspect_installation(tmp_path, first=site), inspect_installation(tmp_path)
    assert found["discovered"]
    assert found["version"] == __version__
    for kind in ("packages", "samples", "models"):
        assert all(Path(one).is_relative_to(site) for one in found[kind])
        assert [Path(one).name for one in found[kind]] == [Path(one).name for one in checkout[kind]]


def test_the_wheel_holds_the_notices_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert folders == {"diffseg", "napari_diffseg"}
    assert "diffseg/sample_data/README.md" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name or name.endswith(".pyc")]


def test_the_manifest_offers_every_sample_and_only_existing_menus() -> None:
    manifest = PluginManifest.from_distribution("napari-diffseg")
    offered = manifest.contributions
    assert {sample.key for sample in offered.sample_data or ()} == set(sample_scans())
    assert all(is_menu_contributable(menu) for menu in offered.menus)
    commands = {command.id for command in offered.commands or ()}
    submenus = {submenu.id for submenu in offered.submenus or ()}
    for menu, items in offered.menus.items():
        assert menu.startswith("napari/") or menu in submenus
        assert {item.command for item in items if hasattr(item, "command")} <= commands


def test_base_dependencies_bring_no_qt_binding() -> None:
    names = [re.split(r"[^A-Za-z0-9-]", one)[0].lower() for one in PROJECT["project"]["dependencies"]]
    assert not {"pyqt5", "pyqt6", "pyside2", "pyside6"} & set(names)
    assert not [one for one in PROJECT["project"]["dependencies"] if "napari[" in one]


def test_constraints_pin_plain_versions_for_every_dependency() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").split()
    assert "torch==2.13.0" in lines
    # One exact version each, without a local suffix such as +cpu, an address or a path.
    assert [one for one in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", one)] == []
    pinned = {normalised(one.split("==")[0]) for one in lines}
    groups = PROJECT["dependency-groups"]
    wanted = [one for group in groups.values() for one in group if isinstance(one, str)]
    wanted += PROJECT["project"]["dependencies"]
    wanted += [one for extra in PROJECT["project"]["optional-dependencies"].values() for one in extra]
    assert {normalised(re.split(r"[\[<>=!~ ]", one)[0]) for one in wanted} - pinned == set()


def normalised(name: str) -> str:
    """Project name as package indexes compare them (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_changelog_tells_of_this_version() -> None:
    assert f"## {__version__}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_continuous_build_runs_make_test_and_nothing_else() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert [line for line in script.splitlines() if "make" in line] == ["exec make test"]
