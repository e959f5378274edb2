"""Disks that are full, folders that may not be written, and names in every script.

    python torture/disks.py [--count 400] [--seed 0]

Everything that the core writes (masks in each format, maps, plans, models, result folders) is written

- with the disk *full after N bytes*, for ``--count`` values of N from nothing to more than enough (a limit on file
  sizes, and a small file system of its own where one may be mounted): the old file or the new one whole, never a part;
- into folders *without permission to write* (as another user where this one may do everything), into files in the place
  of folders, and folders in the place of files;
- under *names* in other scripts, with emoji, quotes, line breaks, bytes that are no text, and of 255 bytes and more.

Each attempt must succeed and read back, or raise one of our errors in one sentence, and leave no other file behind.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rig import REPOSITORY  # noqa: F401 - puts the code and the tests on the path
from rig.judge import sentence_fault

from diffseg.case import Case, origin_of  # isort: skip
from diffseg.checkpoint import load_checkpoint, save_checkpoint  # isort: skip
from diffseg.errors import DiffsegError  # isort: skip
from diffseg.io import read_labels, write_labels, write_map  # isort: skip
from diffseg.io.atomic import write_text  # isort: skip
from diffseg.outputs import new_folder  # isort: skip
from oracle import save_tiny  # isort: skip

NAMES = (
    "Größe.nii.gz", "маска.nii.gz", "マスク 分割.nii.gz", "قناع.nii.gz", "🧠 mask.nii.gz", "e\u0301 decomposed.nii.gz",
    "a'b\"c.nii.gz", "line\nbreak.nii.gz", "percent %s {0}.nii.gz", "..nii.gz", "-o.nii.gz", " space .nii.gz",
    "ASCII.NII.GZ", "x" * 247 + ".nii.gz", "x" * 248 + ".nii.gz", "ß" * 300 + ".nii.gz", "no\udcfftext.nii.gz",
    "null\0byte.nii.gz", "café/inner/mask.nii.gz", "tab\t.nii",
)  # fmt: skip
NOBODY = 65534


@dataclass(frozen=True)
class Writer:
    """Something that is written: ``write(path, version)`` and whether a file holds that version whole."""

    name: str
    suffix: str
    write: Callable[[Path, int], None]
    holds: Callable[[Path, int], bool]


def case_of(rng: np.random.Generator) -> Case:
    """A small scan."""
    image = rng.normal(size=(1, 6, 7, 8)).astype(np.float32)
    origin = origin_of((8, 7, 6), np.diag([-1.0, -1.0, -1.0, 1.0]))
    return Case(image, origin.display_grid(), ("C0",), {}, origin, "scan")


def writers(seed: int, folder: Path) -> Iterator[Writer]:
    """All of them; version 0 is the old content, version 1 the new."""
    rng = np.random.default_rng(seed)
    case = case_of(rng)
    masks = [rng.integers(0, 4, case.grid.shape).astype(np.uint8) for _ in range(2)]
    fields = [rng.normal(size=case.grid.shape).astype(np.float32) for _ in range(2)]
    for suffix in (".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha"):
        yield Writer(
            f"mask {suffix}", suffix,
            lambda path, n: write_labels(path, masks[n], case),
            lambda path, n: np.array_equal(read_labels(path, case.grid), masks[n]),
        )  # fmt: skip

    def holds_map(path: Path, n: int) -> bool:
        import nibabel as nib

        return np.array_equal(np.asanyarray(nib.load(path).dataobj), case.origin.to_file(fields[n]))

    yield Writer("map", ".nii.gz", lambda path, n: write_map(path, fields[n], case), holds_map)
    texts = [f"{n} " + "é" * 3000 for n in range(2)]
    yield Writer(
        "text", ".json", lambda path, n: write_text(path, texts[n]), lambda path, n: path.read_text("utf-8") == texts[n]
    )
    made = []
    for n in range(2):
        save_tiny(folder / f"model{n}.safetensors", seed=n)
        made.append(load_checkpoint(folder / f"model{n}.safetensors"))

    def holds_model(path: Path, n: int) -> bool:
        return load_checkpoint(path).sha256 == made[n].sha256

    yield Writer(
        "model", ".safetensors", lambda path, n: save_checkpoint(path, made[n].card, made[n].network), holds_model
    )


@contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file grows beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def attempt(write: Callable[[], None]) -> str:
    """``written``, ``refused``, or what is wrong with how it failed."""
    try:
        write()
    except DiffsegError as error:
        return f"unclear: {error}" if sentence_fault(str(error)) else "refused"
    except Exception as error:  # noqa: BLE001 - that is the question
        return f"untyped {type(error).__name__}: {error}"[:200]
    return "written"


def full_disk(writer: Writer, folder: Path, count: int) -> list[str]:
    """Replace an old file while the disk fills up; what came of each attempt."""
    path = folder / f"result{writer.suffix}"
    writer.write(path, 0)
    size = path.stat().st_size
    found = []
    for most in np.unique(np.linspace(0, size * 1.1 + 600, count).astype(int)).tolist():
        writer.write(path, 0)
        with full_after(most):
            outcome = attempt(lambda: writer.write(path, 1))
        found.append(outcome + left_behind(writer, path, outcome, {path.name}))
    path.unlink()
    return found


def left_behind(writer: Writer, path: Path, outcome: str, allowed: set[str]) -> str:
    """What is wrong with what lies in the folder afterwards."""
    others = set(os.listdir(path.parent)) - allowed
    if others:
        return f", left {sorted(others)}"
    return "" if writer.holds(path, int(outcome == "written")) else ", not whole"


def small_disk(folder: Path, count: int, seed: int) -> list[str]:
    """Masks of growing size on a file system of 256 kB, where one may be mounted; nothing otherwise."""
    place = folder / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True).returncode:
        return []
    found = []
    try:
        rng = np.random.default_rng(seed)
        for side in np.linspace(8, 90, count).astype(int).tolist():
            image = np.zeros((1, side, side, side), np.float32)
            origin = origin_of((side,) * 3, np.diag([-1.0, -1.0, -1.0, 1.0]))
            case = Case(image, origin.display_grid(), ("C0",), {}, origin, "scan")
            labels = rng.integers(0, 4, case.grid.shape).astype(np.uint8)
            path = place / "mask.nii.gz"
            old = path.read_bytes() if path.exists() else None
            outcome = attempt(lambda path=path, labels=labels, case=case: write_labels(path, labels, case))
            whole = outcome == "written" or (path.read_bytes() if path.exists() else None) == old
            others = set(os.listdir(place)) - {"mask.nii.gz"}
            found.append(outcome + ("" if whole and not others else f", not whole {others}"))
    finally:
        subprocess.run(["umount", str(place)], check=False)
    return found


def forbidden(writer: Writer, folder: Path) -> list[str]:
    """Places where nothing can be put."""
    closed = folder / "closed"
    closed.mkdir()
    (folder / "file").write_text("x")
    (folder / f"taken{writer.suffix}").mkdir()
    closed.chmod(0o555)
    places = {
        "a folder without permission": closed / f"mask{writer.suffix}",
        "a file in the place of a folder": folder / "file" / f"mask{writer.suffix}",
        "a folder in the place of the file": folder / f"taken{writer.suffix}",
        "a device": Path("/proc") / f"mask{writer.suffix}",
    }
    found = []
    with as_nobody(folder):
        for what, path in places.items():
            outcome = attempt(lambda path=path: writer.write(path, 1))
            found.append(outcome if outcome == "refused" else f"{what}: {outcome}")
    left = set(os.listdir(closed))
    closed.chmod(0o755)
    return [*found, *([f"left {left}"] if left else [])]


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Without the rights of an administrator, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    folder.chmod(0o755)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def named(seed: int, folder: Path) -> list[str]:
    """A mask, and a folder of results, under every name."""
    rng = np.random.default_rng(seed)
    case = case_of(rng)
    labels = rng.integers(0, 4, case.grid.shape).astype(np.uint8)
    found = []
    for name in NAMES:
        path = folder / name
        outcome = attempt(lambda path=path: write_labels(path, labels, case))
        if outcome == "written" and not np.array_equal(read_labels(path, case.grid), labels):
            outcome = "read back otherwise"
        found.append(outcome if outcome in ("written", "refused") else f"{name[:30]!r}: {outcome}")

        def results(path: Path = path) -> None:
            with new_folder(path.with_name(path.name + " results")) as part:
                (part / "plan.json").write_text("{}")

        outcome = attempt(results)
        found.append(outcome if outcome in ("written", "refused") else f"{name[:30]!r} as a folder: {outcome}")
        outcome = attempt(lambda path=path: read_labels(path.with_name("missing " + path.name)))
        found.append(outcome if outcome == "refused" else f"{name[:30]!r} missing: {outcome}")
    return found


def report(what: str, found: list[str]) -> int:
    """Print the figures; the number of faults."""
    counts = Counter(f if f in ("written", "refused") else "fault" for f in found)
    print(f"{what:28}{len(found):6} attempts: {dict(counts)}")
    for words in list(dict.fromkeys(f for f in found if f not in ("written", "refused")))[:6]:
        print(f"    {words}")
    return counts["fault"]


def main() -> int:
    """Exit 1 when anything was lost, left half-written or untold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=400, help="sizes of the full disk")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"disks, seed {options.seed}")
    faults, begin = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as models:
        everything = list(writers(options.seed, Path(models)))
        each = max(options.count // len(everything), 3)
        for writer in everything:
            with tempfile.TemporaryDirectory() as name:
                faults += report(f"full disk, {writer.name}", full_disk(writer, Path(name), each))
            with tempfile.TemporaryDirectory() as name:
                faults += report(f"no permission, {writer.name}", forbidden(writer, Path(name)))
    with tempfile.TemporaryDirectory() as name:
        found = small_disk(Path(name), min(each, 40), options.seed)
        faults += report("small disk", found) if found else 0
        print("" if found else "small disk: no file system can be mounted here\n", end="")
    with tempfile.TemporaryDirectory() as name:
        faults += report("names", named(options.seed, Path(name)))
    print(f"{faults} faults; {time.monotonic() - begin:.0f} s")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
