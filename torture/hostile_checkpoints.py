"""Checkpoints made to run code, opened in every way that the program has, under Python's audit hook.

    python torture/hostile_checkpoints.py [--seed 0] [--count N]

Nothing may be executed, written, started or connected to, and every file must be read or refused with one of our
errors. The same files are also opened carelessly (``pickle``, ``torch.load`` without its safe mode, ...) to show that
they are what they claim to be. Nothing here is random: the seed is printed for the sake of the other programs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from rig.hostile import Hostile, constructions, saved
from rig.judge import sentence_fault
from rig.workers import Worker

WAYS = ("card", "load", "models", "convert guided-diffusion", "convert ambdiffseg", "tensors cimd")
# A first opening of anything takes long: libraries are imported.
LIMIT_S = 60.0


def laid_out(folder: Path) -> list[tuple[Hostile, Path, Path]]:
    """Every construction with its file, in a folder of its own, and the mark it would leave."""
    marks = folder / "marks"
    marks.mkdir()

    def marker(name: str) -> Path:
        return marks / "".join(c if c.isalnum() else "_" for c in name)

    out = []
    for number, hostile in enumerate(constructions(marker, folder)):
        place = folder / f"{number}"
        place.mkdir()
        path = place / f"model{hostile.suffix}"
        path.write_bytes(hostile.data)
        out.append((hostile, path, marker(hostile.name)))
    return out


def asked(worker: Worker, way: str, path: Path, mark: Path) -> dict[str, Any]:
    """What came of opening a file, the mark counted among the events."""
    answer = worker.ask(way, path)
    answer.setdefault("events", [])
    if mark.exists():
        answer["events"].append("left its mark")
        mark.unlink()
    return answer


def warm_up(worker: Worker, folder: Path) -> None:
    """Open harmless and damaged files in every way, so that later imports do not look like executions."""
    import torch

    good = folder / "good.pt"
    good.write_bytes(saved({"state_dict": {"input_blocks.0.0.weight": torch.zeros(2)}}))
    (folder / "old.pt").write_bytes(saved({"w": torch.zeros(2)}, _use_new_zipfile_serialization=False))
    (folder / "bad.pt").write_bytes(good.read_bytes()[:300])
    (folder / "bad.safetensors").write_bytes(b"x" * 100)
    header = json.dumps({"__metadata__": {"diffseg": "{}"}}).encode()
    (folder / "card.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    for _ in range(2):
        for way in WAYS:
            for name in ("good.pt", "old.pt", "bad.pt", "bad.safetensors", "card.safetensors"):
                worker.ask(way, folder / name)


def main() -> int:
    """Exit 1 when anything ran, or a file was neither read nor refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="the first so many constructions; all without it")
    options = parser.parse_args()
    os.environ["BROWSER"] = "touch"  # what webbrowser.open would start
    failures: list[str] = []
    executions = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = laid_out(folder)[: options.count]
        outcomes = {"read": 0, "refused": 0}
        with Worker("models", LIMIT_S, "rig.audited") as worker:
            warm_up(worker, folder)
            for hostile, path, mark in files:
                for way in WAYS:
                    answer = asked(worker, way, path, mark)
                    fault = sentence_fault(answer["sentence"]) if answer["outcome"] == "refused" else ""
                    if answer["events"] or answer["outcome"] not in outcomes or fault:
                        what = f"{answer['outcome']} {answer['events']} {fault} {answer['sentence']}"
                        failures.append(f"{hostile.name}, {way}: {what}")
                        executions += bool(answer["events"])
                    else:
                        outcomes[answer["outcome"]] += 1
        effective = 0
        with Worker("models", LIMIT_S, "rig.audited") as worker:
            for hostile, path, mark in files:
                answer = asked(worker, hostile.careless, path, mark) if hostile.careless != "none" else {"events": []}
                effective += bool(answer["events"])
                if not answer["events"] and hostile.careless not in ("none", "jit"):
                    print(f"    carelessly opened, {hostile.name} did nothing: {answer['sentence']}")
        shutil.rmtree(folder / "marks")
    print(f"hostile checkpoints, seed {options.seed}: {len(files)} constructions, each opened in {len(WAYS)} ways")
    print(f"{effective} of them run something in a careless program; here {executions} did")
    print(f"openings: {outcomes['refused']} refused, {outcomes['read']} read, {len(failures)} failures")
    for failure in failures:
        print(f"    {failure}")
    return int(bool(failures) or effective < min(20, len(files) // 2))


if __name__ == "__main__":
    sys.exit(main())
