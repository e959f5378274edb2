"""Memory that runs out at every operation of a run, on a processor of every size, and in earnest.

    python torture/out_of_memory.py [--count N] [--seed 0]

*At one operation*: a run of three members is repeated with a failure at the k-th operation of torch, for every k (or
``--count`` of them), with each of the errors that torch, NumPy and oneDNN have for it. The failure passes, so the run
must end with the same masks and a message, or with a typed error that says so. *From one operation on*: memory never
comes back; the run must end in a typed error. *Smaller processors*: a pretended GPU on which tensors beyond some size
fail; batches must be halved, then windows be used, then the CPU, each with its sentence. *In earnest*: the command line
under a limit on its address space; a result or one sentence, never a traceback, and no half a result on disk.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rig import REPOSITORY, scarce

from diffseg.case import Case, origin_of
from diffseg.checkpoint import Checkpoint, load_checkpoint
from diffseg.errors import DeviceError
from diffseg.plan import plan_for
from diffseg.run import Run
from diffseg.saliency.run import SaliencyRun
from diffseg.saliency_plan import ExplainPlan
from image_models import image_card
from oracle import save_tiny, tiny_card

MEMBERS = 2
Outcome = tuple[str, Any, tuple[str, ...]]


def scan(shape: tuple[int, ...], seed: int) -> Case:
    """A scan of noise."""
    image = np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)
    origin = origin_of(shape[::-1], np.diag([-1.0, -1.0, -1.0 if len(shape) == 3 else 1.0, 1.0]))
    return Case(image, origin.display_grid(), ("C0",), {}, origin, "scan")


def tiny(folder: Path, name: str, **changes: Any) -> Checkpoint:
    """A tiny model."""
    spatial = changes.pop("spatial", 3)
    path = folder / f"{name}.safetensors"
    save_tiny(path, replace(tiny_card(spatial=spatial), steps=2, **changes))
    return load_checkpoint(path)


def sampled(model: Checkpoint, case: Case, device: str = "cpu", members: int = MEMBERS) -> Callable[[], Outcome]:
    """A run that ends in masks and notes, or in a typed error."""

    def go() -> Outcome:
        notes: list[str] = []
        try:
            run = Run(plan_for(model.card, model.sha256, (), device=device), case, model)
            ensemble = run.ensemble()
            last = None
            for last in run.grow(ensemble, members):
                notes += [last.note] if last.note else []
            if last is None or last.snapshot is None or last.done != last.total:
                return "unfinished", None, tuple(notes)
            found = ensemble.snapshot()
            masks = np.stack([found.member(found.ids.index(m)) for m in range(members)])
            return "masks", (masks, run.device.type), tuple(notes)
        except DeviceError as error:
            return "refused", str(error), tuple(notes)

    return go


def stepped(model: Checkpoint, case: Case) -> Callable[[], Outcome]:
    """The trajectory of one member."""

    def go() -> Outcome:
        run = Run(plan_for(model.card, model.sha256, (), device="cpu"), case, model)
        try:
            steps = list(run.trajectory())
            if [s.done for s in steps] != list(range(1, run.steps + 1)):
                return "unfinished", None, ()
            note = run.take_note()
            return "masks", (run.mask(steps[-1].x0)[None], "cpu"), (note,) if note else ()
        except DeviceError as error:
            return "refused", str(error), ()

    return go


def explained(model: Checkpoint, case: Case) -> Callable[[], Outcome]:
    """A saliency map."""

    def go() -> Outcome:
        settings = {"q": 20, "r": 2}
        plan = ExplainPlan(
            model=model.card.name, model_sha256=model.sha256, inputs=(), method="cdm", settings=settings, device="cpu"
        )
        run = SaliencyRun(plan, case, model)
        notes: list[str] = []
        try:
            for step in run.explain():
                notes += [step.note] if step.note else []
            return "masks", (run.explanation(step).mask[None], "cpu"), tuple(notes)
        except DeviceError as error:
            return "refused", str(error), tuple(notes)

    return go


def injected(go: Callable[[], Outcome], when: Callable[[int], bool], kind: int) -> tuple[Outcome, scarce.Failing]:
    """The outcome of a run in which some operations fail; what is raised otherwise is an outcome too."""
    failing = scarce.Failing(when, scarce.ERRORS[kind % len(scarce.ERRORS)])
    try:
        with failing:
            return go(), failing
    except Exception as error:  # noqa: BLE001 - that is the question
        return ("untyped", f"{type(error).__name__}: {error}"[:200], ()), failing


def verdict(found: Outcome, clean: Outcome, told: bool) -> str:
    """``same`` masks and told, ``close`` (windows or rounding) and told, ``refused``, or what is wrong."""
    kind, value, notes = found
    if kind == "refused":
        return "refused" if value.endswith(".") and "\n" not in value else "unclear"
    if kind != "masks":
        return f"{kind} {value}"
    if told and not notes:
        return "silent"
    ours, theirs = value[0], clean[1][0]
    if ours.shape != theirs.shape:
        return "another shape"
    if (ours == theirs).all():
        return "same"
    return "close" if any("windows" in n or "slices" in n for n in notes) else "different"


def every_operation(name: str, go: Callable[[], Outcome], count: int | None) -> int:
    """One failure at each operation, and memory that stays away from it on; the number of faults."""
    clean, seen = injected(go, lambda _: False, 0)
    total = seen.count
    chosen = range(1, total + 1) if count is None else sorted({round(k) for k in np.linspace(1, total, count)})
    results: Counter[str] = Counter()
    lasting: Counter[str] = Counter()
    for n, k in enumerate(chosen):
        found, _ = injected(go, lambda number, k=k: number == k, n)
        results[verdict(found, clean, told=True)] += 1
        if n % 5 == 0:
            found, _ = injected(go, lambda number, k=k: number >= k, n)
            lasting[verdict(found, clean, told=True)] += 1
    bad = [r for r in (*results, *lasting) if r not in ("same", "close", "refused")]
    print(f"{name}: {total} operations, one failure at {len(chosen)}: {dict(results)}; lasting: {dict(lasting)}")
    return len(bad)


# The largest tensor that each pretended GPU holds, in elements.
SIZES = (10**7, 600_000, 300_000, 150_000, 80_000, 40_000, 20_000, 0)


def smaller_processors(model: Checkpoint, case: Case, members: int = 8, sizes: tuple[int, ...] = SIZES) -> int:
    """Pretended GPUs that hold ever less; the number of faults."""
    faults = 0
    with scarce.pretended_cuda():
        clean = sampled(model, case, "cuda", members)()
        for most in sizes:
            runs: list[Run] = []
            original = Run.__init__

            def remember(self: Run, *args: Any, original: Any = original, runs: Any = runs) -> None:
                original(self, *args)
                runs.append(self)

            Run.__init__ = remember  # type: ignore[method-assign]
            try:
                there: Callable[[], bool] = lambda runs=runs: bool(runs) and runs[-1].device.type == "cuda"  # noqa: E731
                with scarce.Small(most, there):
                    found = sampled(model, case, "cuda", members)()
            finally:
                Run.__init__ = original  # type: ignore[method-assign]
            what = verdict(found, clean, told=False)
            where = found[1][1] if found[0] == "masks" else "-"
            order = in_order(found[2])
            faults += what not in ("same", "close") or not order
            shown = "; ".join(re.sub(r"^Memory ran out with ", "", n).split(";")[0] for n in found[2]) or "no change"
            print(f"    {most:9,} elements: {what:5} on {where}{'' if order else ', out of order'} ({shown})")
    return faults


def in_order(notes: tuple[str, ...]) -> bool:
    """Whether batches came before windows and windows before the CPU."""
    ranks = [2 if "CPU" in n else 1 if "windows" in n else 0 for n in notes]
    return ranks == sorted(ranks)


LIMITED = """
import resource, sys
from pathlib import Path
import numpy, torch, scipy.ndimage, nibabel, safetensors.torch
import diffseg.run, diffseg.outputs, diffseg.cli.sample
from diffseg.__main__ import main
torch.set_num_threads(1)
numpy.linalg.svd(numpy.random.rand(64, 64) @ numpy.random.rand(64, 64))  # OpenBLAS takes its own memory once
torch.nn.functional.conv3d(torch.zeros(1, 8, 8, 8, 8), torch.zeros(8, 8, 3, 3, 3), padding=1)
pages = int(Path("/proc/self/statm").read_text().split()[0])
size = pages * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (size, size))
sys.exit(main(sys.argv[2:]))
"""


def in_earnest(folder: Path, count: int) -> int:
    """``diffseg sample`` under a limit that grows from nothing; the number of faults."""
    import nibabel as nib

    tiny(folder, "earnest")
    scan_path = folder / "scan.nii.gz"
    values = np.random.default_rng(0).normal(size=(64, 64, 64)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), scan_path)
    results: Counter[str] = Counter()
    for megabytes in (int(m) for m in np.unique(np.round(np.geomspace(8, 400, count)))):
        out = folder / f"out{megabytes}"
        arguments = ["sample", str(scan_path), "-m", str(folder / "earnest.safetensors"), "-o", str(out), "-n", "2"]
        child = subprocess.run(
            [sys.executable, "-c", LIMITED, str(megabytes * 2**20), *arguments],
            capture_output=True, text=True, timeout=300, check=False,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src_core"), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        left = [p.name for p in folder.iterdir() if p.name.startswith(f".{out.name}")]
        if child.returncode == 0 and (out / "plan.json").is_file() and not left:
            results["done"] += 1
        elif child.returncode == 2 and _sentences(child.stderr) and not out.exists() and not left:
            results["refused"] += 1
        else:
            results["fault"] += 1
            said = " / ".join(child.stderr.strip().splitlines()[-2:])
            print(f"    {megabytes} MB: exit {child.returncode}, left {left or out.exists()}: {said[:300]}")
    print(f"command line with 8 to 400 MB to spare: {dict(results)}")
    return results["fault"]


def _sentences(text: str) -> bool:
    lines = text.strip().splitlines()
    return bool(lines) and all(line.startswith("diffseg: ") and line.endswith(".") for line in lines)


def scenarios(folder: Path, seed: int) -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """What is run with a failure at every operation."""
    whole = tiny(folder, "whole", window=(12, 12, 12))
    yield "one piece", sampled(whole, scan((8, 12, 12), seed))
    yield "a piece that windows can divide", sampled(whole, scan((20, 12, 12), seed))
    windowed = tiny(folder, "windowed", window=(8, 8, 8))
    yield "windows", sampled(windowed, scan((24, 8, 8), seed), members=2)
    yield "slices of a volume", sampled(tiny(folder, "flat", spatial=2), scan((5, 16, 16), seed), members=2)
    yield "a trajectory", stepped(whole, scan((20, 12, 12), seed))
    save_tiny(folder / "image.safetensors", image_card())
    yield "saliency", explained(load_checkpoint(folder / "image.safetensors"), scan((3, 16, 16), seed))


def main() -> int:
    """Exit 1 when anything was neither right nor refused in a sentence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="failures per run; every operation without it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.monotonic()
    print(f"memory runs out, seed {options.seed}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        faults = sum(every_operation(what, go, options.count) for what, go in scenarios(folder, options.seed))
        print("a pretended GPU of ever less memory, 8 members:")
        faults += smaller_processors(tiny(folder, "gpu", window=(12, 12, 12)), scan((20, 12, 12), options.seed))
        faults += in_earnest(folder, 24 if options.count is None else min(options.count, 24))
    print(f"{faults} faults; {time.monotonic() - begin:.0f} s")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
