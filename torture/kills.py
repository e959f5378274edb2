"""SIGKILL at random moments of saving and of journals; what is on disk afterwards must be whole.

    python torture/kills.py [--count 1000] [--seed 0] [--only save,record,keep]

Each kill hits a forked child. *save*: a mask and its record are replaced by others; afterwards the old or the new mask
reads back to the bit, and the record fits it. *record*: a journal is appended to without a pause; what is recovered has
every edit that was acknowledged. *keep*: somebody draws, and a thread keeps the journal; nothing older than the last
second may be missing. A failure prints the number by which ``--first NUMBER --count 1`` repeats its choices (the
moment itself depends on the machine).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

# Threads of an arithmetic library do not survive a fork.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import numpy as np  # noqa: E402

from diffseg.case import Case, origin_of  # noqa: E402
from diffseg.errors import DiffsegError  # noqa: E402
from diffseg.io import read_labels  # noqa: E402
from diffseg.journal import Journal, JournalHead, JournalState, read_journal  # noqa: E402
from diffseg.keeper import Keeper, left_behind  # noqa: E402
from diffseg.mask_file import MaskPlan, MaskStart, read_mask_plan, sidecar, write_mask, written_here  # noqa: E402

SHAPE = (24, 48, 40)
LOST_S = 1.0
# Of the kills: saving and appending are quick, drawing takes seconds.
SHARES = {"save": 0.46, "record": 0.5, "keep": 0.04}
_EDIT = struct.Struct("<Id")


class Wrong(Exception):
    """What the disk held after a kill."""


def killed(work: Callable[[int], None], after_s: float) -> tuple[bytes, float, bool]:
    """Run ``work(pipe)`` in a child and kill it so long after its start (never, for infinity).

    Returns what it wrote to the pipe, the time of the kill on the monotonic clock, and whether it had ended before.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read)
            os.write(write, b"!")
            work(write)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    os.read(read, 1)  # it runs
    if after_s != float("inf"):
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    at = time.monotonic()
    told = bytearray()
    while part := os.read(read, 1 << 16):
        told += part
    os.close(read)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise Wrong("the child failed before it was killed")
    return bytes(told), at, os.WIFEXITED(status)


def drawn(rng: np.random.Generator) -> tuple[tuple[slice, ...], int]:
    """The box and the label of one stroke."""
    start = [int(rng.integers(n)) for n in SHAPE]
    return tuple(slice(a, a + int(rng.integers(1, 12))) for a in start), int(rng.integers(0, 5))


# ---- saving ----


class Saving:
    """One mask on disk that is replaced again and again."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.path = folder / "größe 1 mask.nii.gz"
        origin = origin_of(SHAPE[::-1], np.diag([-1.0, -0.9, -2.0, 1.0]))
        self.case = Case(np.empty((0, *SHAPE), np.float32), origin.display_grid(), (), {}, origin, "scan")
        self.labels = self._mask(rng)
        self._write(self.labels)
        self.usual_s = statistics.median(self._timed(rng) for _ in range(5))

    def kill(self, rng: np.random.Generator) -> str:
        """One kill; tells what it left."""
        new = self._mask(rng)
        _, _, ended = killed(lambda pipe: self._write(new), float(rng.uniform(0, 1.1 * self.usual_s)))
        found = read_labels(self.path)
        outcome = "new" if np.array_equal(found, new) else "old"
        if outcome == "old" and not np.array_equal(found, self.labels):
            raise Wrong("the mask on disk is neither the old nor the new one")
        record = read_mask_plan(sidecar(self.path))
        if record.file != self.path.name or not written_here(self.path):
            raise Wrong("the record does not fit the mask")
        self.labels = found
        for left in self.path.parent.glob(".*"):
            left.unlink()
        return f"{outcome} mask, ended before" if ended else f"{outcome} mask"

    def _mask(self, rng: np.random.Generator) -> np.ndarray:
        labels = np.zeros(SHAPE, np.uint8)
        for _ in range(60):
            box, label = drawn(rng)
            labels[box] = label
        return labels

    def _write(self, labels: np.ndarray) -> None:
        write_mask(self.path, labels, self.case, MaskPlan("an empty mask", MaskStart("empty")))

    def _timed(self, rng: np.random.Generator) -> float:
        begin = time.monotonic()
        killed(lambda pipe: self._write(self.labels), float("inf"))
        return time.monotonic() - begin


# ---- a journal that is appended to ----


def kill_record(folder: Path, rng: np.random.Generator) -> str:
    """One kill of a child that appends edit after edit."""
    seed, path = int(rng.integers(2**31)), folder / "mask.journal"

    def work(pipe: int) -> None:
        strokes, labels = np.random.default_rng(seed), np.zeros(SHAPE, np.uint8)
        journal = Journal(path, JournalHead(SHAPE), {"labels": labels})
        for count in range(100_000):
            os.write(pipe, struct.pack("<I", count))
            box, label = drawn(strokes)
            labels[box] = label
            journal.record({"labels": labels}, JournalState(voxel=(float(count + 1),)))

    told, _, _ = killed(work, float(rng.uniform(0, 0.05)))
    if not path.exists():
        if told:
            raise Wrong("the journal is gone")
        return "killed before it began"
    found = read_journal(path)
    if not told:
        return "begun, not yet acknowledged"
    acknowledged = struct.unpack("<I", told[-4:])[0]
    strokes, labels = np.random.default_rng(seed), np.zeros(SHAPE, np.uint8)
    for _ in range(acknowledged):
        box, label = drawn(strokes)
        labels[box] = label
    ahead = labels.copy()
    box, label = drawn(strokes)
    ahead[box] = label
    if not any(np.array_equal(found.labels, state) for state in (labels, ahead)):
        raise Wrong(f"an edit of {acknowledged} acknowledged ones is missing")
    return "every acknowledged edit, last record cut short" if not found.whole else "every acknowledged edit"


# ---- a thread that keeps a journal ----


def kill_keeper(folder: Path, rng: np.random.Generator) -> str:
    """One kill while somebody draws."""
    seed = int(rng.integers(2**31))

    def work(pipe: int) -> None:
        strokes, labels = np.random.default_rng(seed), np.zeros(SHAPE, np.uint8)
        keeper = Keeper(JournalHead(SHAPE), lambda: {"labels": labels}, JournalState(), folder=folder)
        for count in range(100_000):
            box, label = drawn(strokes)
            labels[box] = label
            keeper.touch()
            os.write(pipe, _EDIT.pack(count, time.monotonic()))
            time.sleep(float(strokes.exponential(0.01)))

    told, at, _ = killed(work, float(rng.uniform(0.2, 2.5)))
    made = [_EDIT.unpack_from(told, i) for i in range(0, len(told) - _EDIT.size + 1, _EDIT.size)]
    # The edit after the last one told of may have been drawn too.
    must = sum(when < at - LOST_S for _, when in made)
    found = list(left_behind(folder))
    if not found:
        if must:
            raise Wrong(f"no journal, though {must} edits are older than a second")
        return "killed before it began"
    recovered = read_journal(found[0].path)
    found[0].discard()
    refuse_lost(recovered.labels, np.random.default_rng(seed), must, len(made) + 1)
    return "nothing older than a second is missing"


def refuse_lost(found: np.ndarray, strokes: np.random.Generator, must: int, may: int) -> None:
    """Each voxel must hold what the first ``must`` edits left there, or what a later one of the ``may`` wrote."""
    labels, allowed = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    for count in range(may):
        box, label = drawn(strokes)
        strokes.exponential(0.01)
        if count < must:
            labels[box] = label
        else:
            allowed[box] |= found[box] == label
    missing = int(np.count_nonzero(~allowed & (found != labels)))
    if missing:
        raise Wrong(f"{missing} voxels of edits older than a second are missing")


def shares(count: int, kinds: list[str]) -> dict[str, int]:
    """How many kills of each kind make up ``count``."""
    whole = sum(SHARES[k] for k in kinds)
    counts = {k: max(1, int(count * SHARES[k] / whole)) for k in kinds}
    counts[kinds[0]] += max(0, count - sum(counts.values()))
    return counts


def torment(kind: str, count: int, seed: int, first: int = 0) -> tuple[Counter[str], list[str]]:
    """Outcomes of so many kills, and what went wrong, each with its number."""
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    try:
        saving = Saving(folder, np.random.default_rng(seed)) if kind == "save" else None
        for number in range(first, first + count):
            rng = np.random.default_rng([seed, list(SHARES).index(kind), number])
            try:
                if saving is not None:
                    outcomes[saving.kill(rng)] += 1
                else:
                    shutil.rmtree(folder)
                    folder.mkdir()
                    outcomes[(kill_record if kind == "record" else kill_keeper)(folder, rng)] += 1
            except (Wrong, DiffsegError) as error:
                wrong.append(f"{kind} {number}: {error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return outcomes, wrong


def main() -> int:
    """Print the figures; 1 if anything was lost."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--first", type=int, default=0, help="number of the first kill")
    options.add_argument("--only", default=",".join(SHARES), help="save, record, keep")
    chosen = options.parse_args()
    failures: list[str] = []
    begin = time.monotonic()
    for kind, count in shares(chosen.count, chosen.only.split(",")).items():
        outcomes, wrong = torment(kind, count, chosen.seed, chosen.first)
        failures += wrong
        print(f"{kind:8}{count:6} kills, {len(wrong)} failures")
        for words, n in outcomes.most_common():
            print(f"{'':8}{n:6} {words}")
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"seed {chosen.seed}, {time.monotonic() - begin:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
