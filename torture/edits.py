"""Random edits, undo, redo and redrawing of a mask in napari, against a model of it that is nothing but NumPy.

    python torture/edits.py [--count 1000] [--seed 0] [--length 25]

Each sequence begins with a mask from some start and mixes brush strokes, erasing, fills, polygons, single voxels, every
tool of the page Mask, redrawing by the model, model edits of random content, undo, redo, scrolling, hiding the layer
and starting anew. After every step the mask in the viewer must equal the model to the voxel, be the very array of its
layer, and every voxel's origin (as started, redrawn, painted, interpolated, cleaned up) must be right; redrawing must
leave what was painted as it is, and everything outside its box. The model keeps whole copies of every state, where the
program keeps differences. A failure prints the seed by which ``--first NUMBER --count 1`` repeats it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["DIFFSEG_JOURNAL"] = tempfile.mkdtemp(prefix="diffseg-journal-")

import numpy as np  # noqa: E402
from napari.components import ViewerModel  # noqa: E402
from rig import REPOSITORY  # noqa: E402

sys.path[:0] = [str(REPOSITORY / "src_core"), str(REPOSITORY)]
from diffseg import editing  # noqa: E402
from diffseg.grid import Box  # noqa: E402
from napari_diffseg import commands, mask_edit, mask_tools, redrawing  # noqa: E402
from napari_diffseg.layerdata import own  # noqa: E402
from napari_diffseg.mask_edit import ORIGINS, PAINTED  # noqa: E402
from napari_diffseg.session import Session  # noqa: E402
from napari_diffseg.sync import attach  # noqa: E402
from oracle import save_tiny  # noqa: E402
from tiny_session import write_scan  # noqa: E402

# What napari keeps. Every so many-th sequence is so many times as long, to go beyond it.
LONGEST_HISTORY = 100
LONG_EVERY, LONG_TIMES = 20, 10
# Steps by how often they are taken. Redrawing runs a network, and is rare.
STEPS = {
    "brush": 5, "erase": 3, "voxels": 4, "fill": 1, "polygon": 1, "undo": 6, "redo": 4, "model": 3, "between": 1,
    "largest": 1, "holes": 1, "grow": 1, "shrink": 1, "redraw": 0.5, "scroll": 2, "hide": 1, "class": 2, "start": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class State:
    """One moment of the mask: its labels, what it would be without the person, and who else wrote; all ``(*S)``."""

    labels: np.ndarray
    machine: np.ndarray
    kind: np.ndarray

    @property
    def origin(self) -> np.ndarray:
        return np.where(self.labels != self.machine, PAINTED, self.kind)

    def painted(self, labels: np.ndarray) -> State:
        return replace(self, labels=labels.copy())

    def written(self, labels: np.ndarray, kind: int) -> State:
        changed = labels != self.labels
        return State(labels.copy(), np.where(changed, labels, self.machine), np.where(changed, kind, self.kind))


class Model:
    """A mask with a history of whole copies."""

    def __init__(self, start: np.ndarray) -> None:
        self.states = [State(start.copy(), start.copy(), np.zeros(start.shape, np.uint8))]
        self.at = 0

    @property
    def now(self) -> State:
        return self.states[self.at]

    def push(self, state: State) -> None:
        """A new state after this one; what was undone is forgotten, and so is the oldest beyond the limit."""
        if (state.labels != self.now.labels).any():
            self.states = [*self.states[: self.at + 1], state][-LONGEST_HISTORY - 1 :]
            self.at = len(self.states) - 1

    def move(self, by: int) -> None:
        self.at = min(max(self.at + by, 0), len(self.states) - 1)


class Bench:
    """A viewer with the small scan, a tiny model and an ensemble; every step is done to it and to the model."""

    def __init__(self, folder: Path) -> None:
        self.viewer = ViewerModel()
        self.session: Session = attach(self.viewer)
        self.session.inline = True
        save_tiny(folder / "tiny.safetensors")
        commands.choose_model(self.session, folder / "tiny.safetensors")
        commands.open_files(self.session, [write_scan(folder / "scan.nii.gz")])
        commands.grow_ensemble(self.session, 3)
        self.rng = np.random.default_rng(0)
        self.model = Model(np.zeros(1))
        self.counts: Counter[str] = Counter()

    @property
    def layer(self) -> Any:
        return next(layer for layer in self.viewer.layers if own(layer).get("role") == "mask")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layer.data.shape

    # ---- sequences ----

    def sequence(self, seed: int, length: int) -> str:
        """What went wrong, empty if nothing did."""
        self.rng = np.random.default_rng(seed)
        for layer in [la for la in self.viewer.layers if own(la).get("role") in ("mask", "earlier mask")]:
            self.viewer.layers.remove(layer)
        self.do_start()
        names, weights = list(STEPS), np.array(list(STEPS.values()))
        done: list[str] = []
        for name in ("start", *self.rng.choice(names, length, p=weights / weights.sum())):
            if name != "start" or done:
                getattr(self, f"do_{name}")()
            done.append(str(name))
            self.counts[str(name)] += 1
            fault = self.fault()
            if fault:
                return f"{fault} after {', '.join(done)}"
        return ""

    def fault(self) -> str:
        mask, now = self.session.mask, self.model.now
        if mask is None or mask.labels is not self.layer.data:
            return "the mask is not the array of its layer"
        if not np.array_equal(mask.labels, now.labels):
            return f"{np.count_nonzero(mask.labels != now.labels)} voxels differ"
        origin = mask_edit.origin_of(self.session)
        if not np.array_equal(origin, now.origin):
            wrong = np.argwhere(origin != now.origin)[0]
            found, expected = origin[tuple(wrong)], now.origin[tuple(wrong)]
            return f"{np.count_nonzero(origin != now.origin)} origins differ, {found} for {expected} at {wrong}"
        if len(self.model.states) > 1 and not (mask.dirty and mask.edited):
            return "an edited mask counts as unedited"
        return ""

    # ---- steps of the person ----

    def voxel(self) -> tuple[int, ...]:
        return tuple(int(self.rng.integers(n)) for n in self.shape)

    def label(self) -> int:
        return int(self.rng.integers(0, 4))

    def do_brush(self, label: int | None = None) -> None:
        """A drag of a few dabs, in the slice or in all directions, as napari paints it."""
        layer, start = self.layer, np.array(self.voxel(), float)
        layer.brush_size, layer.n_edit_dimensions = int(self.rng.integers(1, 6)), int(self.rng.integers(2, 4))
        before, label = layer.data.copy(), 1 + self.label() % 3 if label is None else label
        with layer.block_history():
            for _ in range(int(self.rng.integers(1, 5))):
                layer.paint(tuple(start), label)
                start += [0, *self.rng.integers(-2, 3, len(start) - 1)]
                start = np.clip(start, 0, np.array(self.shape) - 1)
        changed = layer.data != before
        assert (layer.data[changed] == label).all()
        self.model.push(self.model.now.painted(layer.data))

    def do_erase(self) -> None:
        self.do_brush(0)

    def do_voxels(self) -> None:
        """Voxels here and there; the model knows by itself what becomes of them."""
        where = tuple(self.rng.integers(0, n, 40) for n in self.shape)
        label, labels = self.label(), self.model.now.labels.copy()
        labels[where] = label
        places = np.unravel_index(np.unique(np.ravel_multi_index(where, self.shape)), self.shape)
        self.layer.data_setitem(places, label)
        self.model.push(self.model.now.painted(labels))

    def do_fill(self) -> None:
        self.layer.n_edit_dimensions = 2
        self.layer.fill(self.voxel(), self.label())
        self.model.push(self.model.now.painted(self.layer.data))

    def do_polygon(self) -> None:
        depth, corners = self.voxel()[0], self.rng.integers(0, self.shape[1:], (4, 2))
        self.layer.n_edit_dimensions = 2
        self.layer.paint_polygon([[depth, *corner] for corner in corners], self.label())
        self.model.push(self.model.now.painted(self.layer.data))

    def do_undo(self) -> None:
        for _ in range(int(self.rng.integers(1, 4))):
            self.layer.undo()
            self.model.move(-1)

    def do_redo(self) -> None:
        for _ in range(int(self.rng.integers(1, 4))):
            self.layer.redo()
            self.model.move(1)

    def do_scroll(self) -> None:
        self.viewer.dims.set_current_step(int(self.rng.integers(0, self.viewer.dims.ndim)), int(self.rng.integers(12)))

    def do_hide(self) -> None:
        """Something is undone while nobody looks."""
        self.layer.visible = False
        self.do_undo() if self.rng.random() < 0.5 else self.do_redo()
        if self.rng.random() < 0.5:
            self.do_model()
        self.layer.visible = True

    def do_class(self) -> None:
        commands.select_class(self.session, 1 + int(self.rng.integers(2)))
        mask_tools.set_tools(self.session, protect=bool(self.rng.random() < 0.5))

    def do_start(self) -> None:
        """Another start: asked for twice where there are edits."""
        sources = [key for key, _ in self.session.sources() if not key.startswith("layer")]
        source = str(self.rng.choice(sources))
        before = self.session.mask
        commands.promote(self.session, source)
        if self.session.asked is not None:
            assert self.session.mask is before
            commands.keep_and_start(self.session)
        mask = self.session.mask
        assert mask is not None and mask is not before
        self.model = Model(mask.labels)

    # ---- steps of models and tools ----

    def do_model(self) -> None:
        """Random labels in a random box, as one step."""
        low, high = np.sort(np.stack([self.voxel(), self.voxel()]), axis=0)
        box = Box(tuple(low), tuple(high + 1))
        kind: Any = self.rng.choice(list(ORIGINS))
        labels = self.model.now.labels.copy()
        labels[box.slices] = self.rng.integers(0, 3, box.shape)
        changed = mask_edit.apply(self.session, box, labels[box.slices], kind, "at random")
        assert changed == np.count_nonzero(labels != self.model.now.labels)
        self.model.push(self.model.now.written(labels, ORIGINS[kind]))

    def tool(self, verb: Any, kind: str, expected: np.ndarray) -> None:
        verb(self.session)
        self.model.push(self.model.now.written(expected, ORIGINS[kind]))

    def do_largest(self) -> None:
        label = self.session.mask.selected  # type: ignore[union-attr]
        self.tool(mask_tools.keep_largest, "cleaned", editing.keep_largest(self.model.now.labels, label))

    def do_holes(self) -> None:
        label, protect = self.session.mask.selected, self.session.tools.protect  # type: ignore[union-attr]
        axis = mask_tools.viewed_axis(self.session)
        self.tool(mask_tools.fill_holes, "cleaned", editing.fill_holes(self.model.now.labels, label, axis, protect))

    def do_grow(self, sign: int = 1) -> None:
        mm = float(self.rng.uniform(0.5, 3))
        mask, tools = self.session.mask, self.session.tools
        assert mask is not None
        expected = editing.grow(self.model.now.labels, mask.selected, sign * mm, mask.case.spacing_mm, tools.protect)
        self.tool(lambda session: mask_tools.grow(session, sign * mm), "cleaned", expected)

    def do_shrink(self) -> None:
        self.do_grow(-1)

    def do_between(self) -> None:
        mask, now, axis = self.session.mask, self.model.now, mask_tools.viewed_axis(self.session)
        assert mask is not None and axis is not None
        ours = (now.labels != now.machine) & ((now.labels == mask.selected) | (now.machine == mask.selected))
        keys = [k for k in range(self.shape[axis]) if np.take(ours, k, axis).any()]
        # A tool looks no further than the box around the class.
        around = editing.around(now.labels, mask.selected)
        keys = [] if around is None else [k for k in keys if around.start[axis] <= k < around.stop[axis]]
        inside = np.zeros(self.shape, bool)
        if around is not None:
            inside[around.slices] = True
            ours &= inside
            keys = [k for k in keys if np.take(ours, k, axis).any()]
        chosen, protect = keys if len(keys) > 1 else None, self.session.tools.protect
        expected = editing.fill_between(now.labels, mask.selected, axis, mask.case.spacing_mm, chosen, protect)
        self.tool(mask_tools.fill_between, "interpolated", expected)

    def do_redraw(self) -> None:
        """Asked for, looked through, and taken or left; strokes made meanwhile stay."""
        now = self.model.now
        if not redrawing.redraw(self.session) or (found := redrawing.proposal_of(self.session)) is None:
            return
        for _ in range(int(self.rng.integers(0, 4))):
            redrawing.next_answer(self.session)
        assert (self.layer.data == now.labels).all(), "a proposal changed the mask"
        if self.rng.random() < 0.5:
            self.do_voxels()
        if self.rng.random() < 0.3:
            redrawing.reject_answers(self.session)
            return
        found = redrawing.proposal_of(self.session)
        assert found is not None
        inside = np.zeros(self.shape, bool)
        inside[found.box.slices] = True
        labels, before = self.model.now.labels.copy(), self.model.now
        answer = np.zeros_like(labels)
        answer[found.box.slices] = found.shown.labels
        free = inside & (labels == now.labels)
        labels[free] = answer[free]
        redrawing.accept_answer(self.session)
        fixed = (before.labels != before.machine) & ~self.answered
        assert (self.layer.data[~inside] == before.labels[~inside]).all(), "voxels outside the box changed"
        assert (self.layer.data[fixed] == before.labels[fixed]).all(), "painted voxels changed"
        self.model.push(before.written(labels, ORIGINS["redrawn"]))

    @property
    def answered(self) -> np.ndarray:
        """Strokes that an earlier answer has followed, and which later ones need not keep."""
        state, mask = redrawing.state_of(self.session), self.session.mask
        found = np.zeros(int(np.prod(self.shape)), bool)
        if state is not None and mask is not None:
            found[state.strokes_answered(mask)] = True
        return found.reshape(self.shape)


def run(count: int, seed: int, length: int, first: int = 0) -> tuple[list[str], Counter[str]]:
    """What went wrong in ``count`` sequences, and how often each step was taken."""
    with tempfile.TemporaryDirectory() as folder:
        bench, faults = Bench(Path(folder)), []
        for number in range(first, first + count):
            try:
                times = LONG_TIMES if number % LONG_EVERY == LONG_EVERY - 1 else 1
                fault = bench.sequence(1_000_000 * seed + number, length * times)
            except AssertionError as wrong:
                fault = str(wrong) or "a step did not do what it must"
            if fault:
                faults.append(f"sequence {number} of seed {seed}: {fault}")
        commands.shutdown(bench.session)
        return faults, bench.counts


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, default=25)
    parser.add_argument("--first", type=int, default=0)
    args = parser.parse_args()
    began = time.perf_counter()
    faults, counts = run(args.count, args.seed, args.length, args.first)
    print(f"{args.count} sequences, {sum(counts.values())} steps, seed {args.seed}: {len(faults)} faults")
    print(", ".join(f"{name} {number}" for name, number in counts.most_common()))
    print(f"{time.perf_counter() - began:.0f} s")
    print(*faults[:20], sep="\n")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
