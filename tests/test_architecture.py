"""Who may import whom, who may start threads and touch the viewer, and how large a file may grow."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from source_tree import REPOSITORY, imports, modules, own_imports, root, tree

VIEWER_LIBRARIES = {"magicgui", "napari", "npe2", "psygnal", "qtpy", "superqt"}
QT_BINDINGS = {"PyQt5", "PyQt6", "PySide2", "PySide6"}
CORE = sorted(name for name in modules() if root(name) == "diffseg")
PLUGIN = sorted(name for name in modules() if root(name) == "napari_diffseg")
PANELS = [name for name in PLUGIN if name.startswith("napari_diffseg.widgets.")]

# Opening and saving a file must not wait for torch to start; nor must listing what ships.
LIGHT = {"card", "case", "errors", "grid", "plan", "registry", "zoo"}
TORCH_FREE = [name for name in CORE if {*name.split(".")[1:2]} <= {*LIGHT, "io", "metrics"}]
FILE_CONTRIBUTIONS = [f"napari_diffseg.{name}" for name in ("layerdata", "reader", "samples", "writer")]

LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def run_python(code: str, cwd: Path) -> None:
    """Runs code in a fresh interpreter, in a folder that holds no code of ours."""
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def importing(names: list[str]) -> str:
    return f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\n"


def absent_after_import(names: set[str]) -> str:
    return f"found = sys.modules.keys() & set({sorted(names)!r})\nassert not found, found\n"


def test_core_source_names_neither_viewer_nor_qt_nor_the_plugin() -> None:
    forbidden = VIEWER_LIBRARIES | QT_BINDINGS | {"napari_diffseg", "pyqtgraph"}
    found = {name: {root(one) for one in imports(name)} & forbidden for name in CORE}
    assert {name: bad for name, bad in found.items() if bad} == {}


def test_every_core_module_imports_where_viewer_qt_and_extras_do_not_exist(tmp_path: Path) -> None:
    absent = sorted(VIEWER_LIBRARIES | QT_BINDINGS | {"monai", "napari_diffseg", "pyqtgraph"})
    block = f"import sys\nsys.modules.update(dict.fromkeys({absent!r}))\n"
    run_python(block + importing(CORE), tmp_path)


def test_reading_and_measuring_modules_do_not_import_torch(tmp_path: Path) -> None:
    run_python(importing(TORCH_FREE) + absent_after_import({"torch"}), tmp_path)


def test_reader_writer_and_samples_import_neither_torch_nor_qt(tmp_path: Path) -> None:
    check = absent_after_import({"torch", "qtpy", "superqt", *QT_BINDINGS})
    run_python(importing(FILE_CONTRIBUTIONS) + check, tmp_path)


def test_session_imports_without_torch_napari_and_qt(tmp_path: Path) -> None:
    check = absent_after_import({"torch", "napari", "qtpy", "superqt"})
    run_python(importing(["napari_diffseg.session"]) + check, tmp_path)


def test_a_dock_does_not_wait_for_torch(tmp_path: Path) -> None:
    run_python(importing(("napari_diffseg.widgets.dock",)) + absent_after_import({"torch"}), tmp_path)


def test_opening_the_sample_scan_does_not_start_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom diffseg.io import read_case\nfrom diffseg.zoo import sample_scans\n"
        "for scan in sample_scans().values():\n"
        "    case = read_case(scan.paths, channels=scan.channels)\n"
        "    assert case.image.size and (scan.roi is None or scan.roi.clipped(case.grid.shape) == scan.roi)\n"
        "assert 'torch' not in sys.modules"
    )
    run_python(code, tmp_path)


def test_no_module_takes_part_in_an_import_cycle() -> None:
    graph = {name: own_imports(name) for name in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def thread_names(module: str) -> set[str]:
    """Names in a module that start a thread or process, or make threads wait for each other."""
    python = {"Barrier", "Condition", "Event", "Lock", "Process", "RLock", "Semaphore", "Thread", "Timer"}
    pools = {"ProcessPoolExecutor", "ThreadPoolExecutor", "to_thread"}
    qt = {"QRunnable", "QThread", "QThreadPool", "create_worker", "thread_worker"}
    used = {node.attr for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)}
    used |= {one.rpartition(".")[2] for one in imports(module)}
    return used & (python | pools | qt)


def test_only_jobs_and_the_keeper_of_journals_start_threads_and_wait_for_them() -> None:
    threaded = ("napari_diffseg.jobs", "diffseg.keeper")
    found = {name: thread_names(name) for name in modules() if name not in threaded}
    assert {name: bad for name, bad in found.items() if bad} == {}


def test_panels_import_neither_each_other_nor_torch_nor_napari() -> None:
    panels = {name for name in PANELS if name.endswith("_panel")}
    found = {}
    for name in panels:
        wrong = {one for one in imports(name) if root(one) in {"torch", "napari"}}
        found[name] = wrong | (own_imports(name) & (panels - {name}))
    assert {name: bad for name, bad in found.items() if bad} == {}


VIEWER_PARTS = "layers|dims|camera|scene|canvas"


def viewer_uses(module: str) -> list[str]:
    """Expressions that reach into a viewer's layers, dims or camera, or add a layer to it."""
    pattern = re.compile(rf"(.*\.)?_?(napari_)?viewer\.({VIEWER_PARTS}|add_(?!plugin|dock)\w+)")
    attributes = {ast.unparse(node) for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)}
    return sorted(filter(pattern.fullmatch, attributes))


def viewer_changes(module: str) -> list[str]:
    """Calls and assignments through a viewer that are more than listening to its events."""
    pattern = re.compile(rf"(.*\.)?_?(napari_)?viewer\.({VIEWER_PARTS}|add_(?!plugin|dock))")
    found = []
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call) and ".events." not in ast.unparse(node.func):
            found += [ast.unparse(node.func)]
        elif isinstance(node, ast.Assign):
            found += [ast.unparse(target) for target in node.targets]
    return [one for one in found if pattern.match(one)]


# The layer sync and its two hands: layers put in and taken out, views of one or many.
SYNC = {"sync", "shelf", "views"}


def test_only_the_layer_sync_changes_a_viewer() -> None:
    found = {name: viewer_changes(name) for name in PLUGIN if name.partition(".")[2] not in SYNC}
    assert {name: bad for name, bad in found.items() if bad} == {}


def test_panels_session_and_commands_do_not_even_look_at_a_viewer() -> None:
    # Mirrors listen on behalf of the sync; reader and writer look for the scan that a mask belongs to; memory is freed
    # when a layer is removed.
    may_look = {"ensemble_mirror", "garbage", "mask_mirror", "mirrors", "region_mirror", "trajectory_mirror"}
    may_look |= {"blind_mirror", "journal_mirror", "labels_mirror", "reader", "writer"} | SYNC
    found = {name: viewer_uses(name) for name in PLUGIN if name.partition(".")[2] not in may_look}
    assert {name: bad for name, bad in found.items() if bad} == {}


def test_no_file_grows_past_what_one_noun_needs() -> None:
    sizes = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert {name: size for name, size in sizes.items() if size >= LONGEST_FILE} == {}


def test_no_function_grows_past_a_screen() -> None:
    found = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name in modules()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
    }
    assert {name: size for name, size in found.items() if size > LONGEST_FUNCTION} == {}


def test_the_manifest_at_the_top_is_a_link_to_the_packaged_one() -> None:
    top, packaged = REPOSITORY / "napari.yaml", REPOSITORY / "napari_diffseg" / "napari.yaml"
    assert top.read_bytes() == packaged.read_bytes()
    assert not packaged.is_symlink()
    if top.is_symlink():
        assert top.readlink() == Path("napari_diffseg/napari.yaml")
