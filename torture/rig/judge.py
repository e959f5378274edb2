"""The child: reads one file after another and says what came of it, under a limit on memory.

Run as ``python -m rig.judge KIND``; one JSON object a line on standard input (``{"path": ..., "how": ...}``) and one
a line back. What libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

# Memory that one file may take beyond what the program itself occupies.
HEADROOM = {"data": 512 * 2**20, "models": 1024 * 2**20}
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\([^()]*\)|\S*/\S*")


class Wrong(Exception):
    """The file was read, but what came out cannot be used."""


def sentence_fault(text: str) -> str:
    """What keeps a message from being one sentence; empty where nothing does."""
    bare = QUOTED.sub("", text)
    if not text.strip() or not text.endswith((".", "?", "!")):
        return "does not end as a sentence"
    if "\n" in text or re.search(r"[.!?] +[A-Z]", bare):
        return "is more than one sentence"
    if len(text) > 1500 or "Traceback" in text or "<class" in text:
        return "is no sentence for a person"
    return ""


def judge_image(path: Path) -> None:
    """Read a scan, and the same file as a mask."""
    from diffseg.errors import DiffsegError
    from diffseg.io import read_case, read_labels

    case = read_case([path])
    if case.image.dtype != np.float32 or not np.isfinite(case.image).all() or case.image.size == 0:
        raise Wrong("an image that is not finite float32")
    if not np.isfinite(case.grid.affine).all() or not all(0 < s < np.inf for s in case.spacing_mm):
        raise Wrong(f"a grid with spacing {case.spacing_mm}")
    try:
        labels = read_labels(path)
    except DiffsegError as refusal:
        if fault := sentence_fault(str(refusal)):
            raise Wrong(f"a refusal as a mask that {fault}: {refusal}") from None
        return  # many a scan is no mask
    if labels.dtype not in (np.uint8, np.uint16) or labels.shape != case.grid.shape:
        raise Wrong(f"labels {labels.dtype} {labels.shape} on {case.grid.shape}")


def judge_house(path: Path) -> None:
    """Load a house checkpoint as far as a run needs it."""
    import torch

    from diffseg.checkpoint import load_checkpoint

    made = load_checkpoint(path)
    if not all(bool(p.isfinite().all()) for p in made.network.state_dict().values()):
        raise Wrong("weights that are not finite")
    made.codec, made.head  # noqa: B018 - they are built when asked for
    levels = made.schedule.levels(made.card.steps)
    if not all(np.isfinite((v.alpha, v.sigma)).all() for v in levels):
        raise Wrong("noise levels that are not finite")
    del made
    torch.zeros(1)


def judge_foreign(path: Path) -> None:
    """Convert a foreign checkpoint as ``diffseg convert`` does, without writing it."""
    from diffseg.convert.conversion import convert

    made = convert(path, "guided-diffusion")
    if not all(f.suspicious or np.isfinite(f.error) for f in made.findings):
        raise Wrong("a self-check that found nothing where an error is not finite")


HOW = {"image": judge_image, "house": judge_house, "foreign": judge_foreign}


def judged(how: str, path: Path) -> dict[str, Any]:
    """The verdict on one file."""
    from diffseg.errors import DiffsegError

    begin = time.process_time()
    verdict: dict[str, Any]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            HOW[how](path)
            verdict = {"outcome": "read"}
        except DiffsegError as refusal:
            fault = sentence_fault(str(refusal))
            verdict = {"outcome": "unclear" if fault else "refused", "fault": fault}
            verdict |= {"error": type(refusal).__name__, "sentence": str(refusal)}
        except Wrong as wrong:
            verdict = {"outcome": "wrong", "sentence": str(wrong)}
        except BaseException as error:  # noqa: BLE001 - that is the question
            verdict = {"outcome": "untyped", "error": type(error).__name__, "sentence": str(error)[:300]}
            verdict["where"] = _where(error)
    if warned and verdict["outcome"] in ("read", "refused"):
        verdict["warned"] = f"{warned[0].category.__name__}: {warned[0].message}"
    return verdict | {"seconds": time.process_time() - begin}


def _where(error: BaseException) -> str:
    """The last line of our own code that the error passed."""
    import traceback

    ours = [f for f in traceback.extract_tb(error.__traceback__) if "diffseg" in f.filename]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""


def limit_memory(extra: int) -> None:
    """Allow this process only so many bytes more address space than it has, and no core files."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def warm_up(kind: str) -> None:
    """Import all that reading needs, so that it counts neither as memory nor as time of the first file."""
    import diffseg.io  # noqa: F401

    for name in ("SimpleITK", "pydicom", "backports.zstd", "nrrd"):
        try:
            __import__(name)
        except ImportError:
            continue
    if kind == "models":
        import torch

        import diffseg.checkpoint
        import diffseg.convert.conversion  # noqa: F401

        torch.set_num_threads(1)
        torch.nn.functional.conv2d(torch.zeros(1, 8, 16, 16), torch.zeros(8, 8, 3, 3), padding=1)


def main() -> None:
    """Answer until standard input ends."""
    kind = sys.argv[1]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warm_up(kind)
    limit_memory(HEADROOM[kind])
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(judged(question["how"], Path(question["path"]))), file=answers, flush=True)


if __name__ == "__main__":
    main()
