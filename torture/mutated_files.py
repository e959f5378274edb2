"""Damaged files of every kind, read by a child with little memory and two seconds of its processor for each.

    python torture/mutated_files.py [--count 12000] [--seed 0] [--kinds NIfTI,PNG] [--only NUMBER] [--keep FOLDER]

Every file must be read, to finite values and valid labels, or refused by one of our errors in one sentence. A crash of
the child, two seconds of processor time without an answer (twice in a row), any other error, a message that is no
sentence and values that are not finite are failures; each is printed with the number by which ``--only`` makes that
file again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rig.corpus import Kind, all_kinds, bombs, generator
from rig.workers import Worker

BAD = ("crash", "hang", "untyped", "wrong", "unclear")
COLUMNS = ("files", "read", "refused", *BAD, "warned")


def put(folder: Path, kind: Kind, data: bytes) -> Path:
    """Write a damaged file, and what belongs beside it; the path to open."""
    shutil.rmtree(folder, ignore_errors=True)
    path = Path(f"{folder / 'damaged'}{kind.suffix}")
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    for suffix, content in kind.beside.items():
        Path(f"{folder / 'damaged'}{suffix}").write_bytes(content)
    return path.parent if kind.suffix.startswith("/") else path


def judge(worker: Worker, kind: Kind, seed: int, numbers: Iterator[int], keep: Path | None) -> Iterator[dict[str, Any]]:
    """The verdicts on damaged files of one kind."""
    with tempfile.TemporaryDirectory() as name:
        for number in numbers:
            data, done = kind.damaged(generator(seed, kind, number))
            path = put(Path(name) / "case", kind, data)
            verdict = worker.ask(kind.how, path) | {"number": number, "done": done}
            if keep is not None and verdict["outcome"] in BAD:
                shutil.copytree(path.parent, keep / f"{kind.name}-{number}", dirs_exist_ok=True)
            yield verdict


def judge_bombs(worker: Worker) -> Iterator[dict[str, Any]]:
    """The verdicts on files that unpack to gigabytes."""
    with tempfile.TemporaryDirectory() as name:
        for number, data in enumerate(bombs()):
            path = Path(name) / "bomb.nii.gz"
            path.write_bytes(data)
            yield worker.ask("image", path) | {"number": number, "done": "bomb"}


def shares(kinds: list[Kind], count: int) -> dict[str, int]:
    """How many files of each kind make up ``count``, at least one of each."""
    whole = sum(k.share for k in kinds)
    return {k.name: max(1, -int(-count * k.share // whole)) for k in kinds}


def line(name: str, verdicts: list[dict[str, Any]]) -> str:
    """One row of the table."""
    found = Counter(v["outcome"] for v in verdicts)
    found["files"], found["warned"] = len(verdicts), sum("warned" in v for v in verdicts)
    slowest = max((v["seconds"] for v in verdicts), default=0.0)
    return f"{name:24}" + "".join(f"{found[c]:9}" for c in COLUMNS) + f"{slowest * 1000:9.0f}"


def complain(name: str, verdicts: list[dict[str, Any]], most: int = 5) -> None:
    """The first failures of each sort, so that they can be made again."""
    seen: Counter[tuple[str, ...]] = Counter()
    for v in verdicts:
        if v["outcome"] in BAD:
            sort = (v["outcome"], str(v.get("error")), str(v.get("where")), str(v.get("fault")))
            seen[sort] += 1
            if seen[sort] <= most:
                words = f"{v.get('error', '')} {v.get('where', '')} {v.get('fault', '')}"
                print(f"    {name} {v['number']} ({v['done']}): {v['outcome']} {words} {v.get('sentence', '')}")


def main() -> int:
    """Exit 1 when anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="names, separated by commas")
    parser.add_argument("--only", type=int, help="the one file of that number")
    parser.add_argument("--keep", type=Path, help="where files that fail are put")
    options = parser.parse_args()
    wanted = [k for k in options.kinds.split(",") if k]
    kinds = [k for k in all_kinds() if not wanted or k.name in wanted]
    counts = shares(kinds, options.count)
    print(f"damaged files, seed {options.seed}; slowest in ms of processor time")
    print(f"{'':24}" + "".join(f"{c:>9}" for c in (*COLUMNS, "slowest")))
    everything: list[dict[str, Any]] = []
    begin = time.monotonic()
    for kind in kinds:
        numbers = iter((options.only,) if options.only is not None else range(counts[kind.name]))
        with Worker(kind.worker) as worker:
            verdicts = list(judge(worker, kind, options.seed, numbers, options.keep))
        print(line(kind.name, verdicts), flush=True)
        complain(kind.name, verdicts)
        everything += verdicts
    if not wanted:
        with Worker("data", limit_s=10.0) as worker:
            verdicts = list(judge_bombs(worker))
        print(line("gzip bombs (10 s)", verdicts))
        complain("gzip bombs", verdicts)
        everything += verdicts
    print(line("all", everything))
    print(f"{sum(bool(v.get('slow')) for v in everything)} tried twice; {time.monotonic() - begin:.0f} s")
    return int(any(v["outcome"] in BAD for v in everything))


if __name__ == "__main__":
    sys.exit(main())
