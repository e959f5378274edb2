"""Dice to a reader as a function of strokes taken from that reader: redrawing around them against painting alone.

Run: python benchmarks/redraw.py                               the shipped lung sample, and the time on both samples
     python benchmarks/redraw.py --data FOLDER --model NAME [--split FILE] [--side validation] [--limit 20]

A simulated person begins with the first mode of an ensemble. Each stroke is a small disc at the largest error that is
left, in the slice where it is largest; within the disc the voxels that are wrong get the reader's label, one label a
stroke. After every stroke each arm goes its own way, so later strokes lie where that arm still errs. The classes'
Dice are averaged; a class that both lack counts 1. FOLDER is laid out as for training, or holds <case>/image.png with
<case>/rater<n>.png.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from diffseg.case import Case
from diffseg.checkpoint import Checkpoint, load_checkpoint
from diffseg.ensemble import Snapshot
from diffseg.grid import Box
from diffseg.io import read_case
from diffseg.layouts import find_layout
from diffseg.metrics.overlap import dice
from diffseg.modes import find_modes
from diffseg.plan import plan_for
from diffseg.redraw import RedrawPlan, redraw
from diffseg.run import Run
from diffseg.splits import read_names
from diffseg.strokes import Alternative, Strokes
from diffseg.zoo import find_model, find_sample

Labels = NDArray[np.uint8]
# What an arm makes of the alternatives, knowing the reader only if it stands for the person who chooses.
Choice = Callable[[Sequence[Alternative], Labels, Box], Alternative | None]
COUNTS = (1, 2, 4, 8)
MEMBERS = 16
KNOBS = {"passes": int, "resamplings": int, "band": float, "margin": float, "taper": float}


def by(method: str) -> Choice:
    """The first alternative of a method; None where there is none."""
    return lambda found, reader, box: next((a for a in found if a.method == method), None)


def default(found: Sequence[Alternative], reader: Labels, box: Box) -> Alternative | None:
    """The one that is shown first."""
    return found[0]


def best(found: Sequence[Alternative], reader: Labels, box: Box) -> Alternative | None:
    """The one that the reader would choose."""
    return min(found, key=lambda a: np.count_nonzero(a.labels != reader[a.box.slices]))


# How an arm chooses, and among how many alternatives; one is what is shown first, and no drawing is made for it.
ARMS: dict[str, tuple[Choice | None, int]] = {
    "painting alone": (None, 0),
    "redraw, the first answer": (default, 1),
    "redraw, the best of four": (best, 4),
    "drawn by the network": (by("drawn"), 3),
    "nearest member": (by("nearest"), 2),
}


def quality(mask: Labels, reader: Labels, classes: int) -> float:
    """Mean Dice of the foreground classes."""
    values = [dice(mask == k, reader == k) for k in range(1, classes)]
    return float(np.mean([1.0 if np.isnan(v) else v for v in values]))


def stroke(mask: Labels, reader: Labels, radius: float) -> NDArray[np.bool_]:
    """The voxels of the next stroke; none if nothing is wrong."""
    wrong = mask != reader
    groups, count = ndimage.label(wrong, np.ones((3,) * wrong.ndim))
    if count == 0:
        return wrong
    largest = groups == 1 + np.bincount(groups.ravel())[1:].argmax()
    z = largest.reshape(len(largest), -1).sum(axis=1).argmax() if wrong.ndim == 3 else None
    plane = largest if z is None else largest[z]
    depth = ndimage.distance_transform_edt(np.pad(plane, 1))[1:-1, 1:-1]
    deepest = np.argwhere(depth >= depth.max() - 1e-6)
    centre = deepest[np.square(deepest - deepest.mean(axis=0)).sum(axis=1).argmin()]
    disc = np.square(np.indices(plane.shape) - centre[:, None, None]).sum(axis=0) <= radius**2
    drawn = np.zeros_like(wrong)
    drawn[... if z is None else z] = disc
    label = reader[(*centre,) if z is None else (z, *centre)]
    return np.asarray(drawn & wrong & (reader == label))


def correct(
    run: Run, snapshot: Snapshot, start: Labels, reader: Labels, arm: Choice | None, plan: RedrawPlan, radius: float
) -> Iterator[float]:
    """Quality at the start and after each of the strokes."""
    classes = run.codec.classes
    mask, fixed = start.copy(), np.zeros(start.shape, bool)
    yield quality(mask, reader, classes)
    for _ in range(max(COUNTS)):
        new = stroke(mask, reader, radius)
        if new.any():
            before, mask, fixed = mask, np.where(new, reader, mask), fixed | new
            if arm is not None:
                *_, last = redraw(run, Strokes(mask, before, fixed), snapshot, run.prepared.roi, plan)
                chosen = arm(last.alternatives, reader, last.box)
                if chosen is not None:
                    mask = mask.copy()
                    mask[chosen.box.slices] = chosen.labels
        yield quality(mask, reader, classes)


def drawn(checkpoint: Checkpoint, case: Case, images: tuple[Path, ...], roi: Box | None = None) -> tuple[Run, Snapshot]:
    """A run and an ensemble of it."""
    plan = plan_for(
        checkpoint.card, checkpoint.sha256, images, members=MEMBERS, seed=42, roi=None if roi is None else str(roi)
    )
    run = Run(plan, case, checkpoint)
    ensemble = run.ensemble()
    for _ in run.grow(ensemble, MEMBERS):
        pass
    return run, ensemble.snapshot()


def first_mode(run: Run, snapshot: Snapshot) -> Labels:
    """The mask that a person would begin with, on the grid of the case."""
    mask = np.zeros(run.case.grid.shape, np.uint8)
    mask[run.prepared.roi.slices] = snapshot.member(find_modes(snapshot, run.case.grid.voxel_ml)[0].medoid)
    return mask


def cases(args: argparse.Namespace, channels: tuple[str, ...]) -> Iterator[tuple[str, Case, tuple[Path, ...]]]:
    """Name, case with readers and image files."""
    flat = sorted(args.data.glob("*/image.png"))
    if flat:
        for image in flat[: args.limit]:
            yield image.parent.name, read_case([image], sorted(image.parent.glob("rater*.png")), channels), (image,)
        return
    layout = find_layout(args.data)
    names = layout.names() if args.split is None else read_names(args.split)[args.side]
    for i in np.unique(np.linspace(0, len(names) - 1, min(args.limit or len(names), len(names))).astype(int)):
        images = layout.images(names[i], channels)
        yield names[i], read_case(images, layout.raters(names[i]), channels), tuple(images)


def measure(
    checkpoint: Checkpoint, found: Iterator[tuple[str, Case, tuple[Path, ...]]], arms: Sequence[str],
    plan: RedrawPlan, radius: float,
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """Quality ``(readers of all cases, strokes + 1)`` by arm, and under ``case`` the number of each reader's case."""
    binary = len(checkpoint.card.classes) == 2
    rows: dict[str, list[Any]] = {name: [] for name in ("case", *arms)}
    for number, (_, case, images) in enumerate(found):
        run, snapshot = drawn(checkpoint, case, images)
        start = first_mode(run, snapshot)
        for labels in case.raters.values():
            reader = (labels > 0 if binary else labels).astype(np.uint8)
            rows["case"].append(number)
            for name in arms:
                choice, count = ARMS[name]
                own = replace(plan, alternatives=max(1, count))
                rows[name].append(list(correct(run, snapshot, start, reader, choice, own, radius)))
    return {name: np.array(values) for name, values in rows.items()}


def show(rows: dict[str, NDArray[Any]]) -> None:
    """A line for each arm, and how it differs from painting alone, with the standard error over cases."""
    number = rows.pop("case")
    painted = rows["painting alone"]
    print(f"{len(set(number))} scans, {len(number)} readers; Dice at the start {painted[:, 0].mean():.3f}")
    print(f"{'Dice after strokes':26}" + "".join(f"{n:>24}" for n in COUNTS))
    for name, values in rows.items():
        cells = []
        for n in COUNTS:
            gain = values[:, n] - painted[:, n]
            each = np.array([gain[number == c].mean() for c in sorted(set(number))])
            error = each.std(ddof=1) / len(each) ** 0.5 if len(each) > 1 else float("nan")
            cells.append(f"{values[:, n].mean():.3f} ({gain.mean():+.3f} ± {error:.3f})")
        print(f"{name:26}" + "".join(f"{c:>24}" for c in cells), flush=True)


def time_of(name: str, radius: float) -> None:
    """Seconds until the first and the last alternative on a shipped sample, from a model that is in memory."""
    sample = find_sample(name)
    case = read_case(sample.paths, sample.raters, sample.channels)
    run, snapshot = drawn(load_checkpoint(find_model(sample.model)), case, sample.paths, sample.roi)
    before = first_mode(run, snapshot)
    wanted = np.where(ndimage.binary_dilation(before > 0, iterations=2), np.maximum(before, 1), 0).astype(np.uint8)
    new = stroke(before, wanted, radius)
    strokes = Strokes(np.where(new, wanted, before), before, new)
    begin, first = time.perf_counter(), 0.0
    for record in redraw(run, strokes, snapshot, run.prepared.roi):
        first = first or (time.perf_counter() - begin if record.alternatives else 0.0)
    whole = time.perf_counter() - begin
    ways = ", ".join(a.method for a in record.alternatives)
    print(f"{name}: box {record.box.shape}, first answer {first:.2f} s, all {whole:.2f} s: {ways}")


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="lung-nodule-raters-2d")
    parser.add_argument("--split", type=Path)
    parser.add_argument("--side", default="validation", choices=("train", "validation"))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--radius", type=float, default=2.0, help="of a stroke, in voxels")
    parser.add_argument("--arms", help="semicolons between them; all without")
    for knob, kind in KNOBS.items():
        parser.add_argument(f"--{knob}", type=kind, default=getattr(RedrawPlan(), knob))
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    plan = replace(RedrawPlan(), **{k: getattr(args, k) for k in KNOBS})
    arms = args.arms.split(";") if args.arms else list(ARMS)
    checkpoint = load_checkpoint(find_model(args.model))
    if args.data is not None:
        show(measure(checkpoint, cases(args, checkpoint.card.channels), arms, plan, args.radius))
        return
    sample = find_sample("lung-nodule")
    one = ("lung-nodule", read_case(sample.paths, sample.raters, sample.channels), sample.paths)
    show(measure(checkpoint, iter([one]), arms, plan, args.radius))
    for name in ("lung-nodule", "hippocampus"):
        time_of(name, args.radius)


if __name__ == "__main__":
    main()
