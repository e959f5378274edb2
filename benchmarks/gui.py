"""Cost of the viewer to the person: blocked moments, steps shown, stopping, watching, memory. Needs a display.

Run: python benchmarks/gui.py [--quick] [--where] [--undrawn] [--only blocked steps watching memory]

``--undrawn`` leaves out the drawing of the canvas, which tells what of a figure is the renderer's.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import napari
import torch
from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QApplication

from napari_diffseg import commands
from napari_diffseg.launch import waiting
from napari_diffseg.menu import DOCK, PLUGIN
from napari_diffseg.runs import live
from napari_diffseg.saliency_commands import explain
from napari_diffseg.sampling import first_mask
from napari_diffseg.session import Session, session_for
from napari_diffseg.state import MAP_NAMES

BEAT_MS = 5
# The waiting itself must not keep the GUI thread busy.
LOOK_MS = 5
BLOCKED_MS = 100.0
# Generous: it only ends a benchmark that hangs.
RUN_S = 300.0
# Enough steps that start and end of a run do not count.
LONG_RUN = 200
# Steps gone through forth and back.
SHOWN = 21
PARTS = ("blocked", "watching", "steps", "memory")
# Runs after which every layer, cache and buffer has been there once.
WARM_UP = 10


class Heart:
    """Beats while Qt works; the longest pause between two beats is how long nothing could be clicked."""

    def __init__(self) -> None:
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self.last = self._cpu = 0.0
        self.longest_ms = self.busy_ms = 0.0
        self._timer.start(BEAT_MS)

    def begin(self) -> None:
        """Forget what was before."""
        self.longest_ms = self.busy_ms = 0.0
        self.last, self._cpu = time.perf_counter(), time.thread_time()

    def _beat(self) -> None:
        now, cpu = time.perf_counter(), time.thread_time()
        pause = 1000 * (now - self.last) - BEAT_MS
        if pause > self.longest_ms:
            self.longest_ms, self.busy_ms = pause, 1000 * (cpu - self._cpu)
        self.last, self._cpu = now, cpu


class Watchdog:
    """Prints where the GUI thread stands whenever a beat is late."""

    def __init__(self, heart: Heart) -> None:
        self._heart, self._gui = heart, threading.get_ident()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        told = 0.0
        while True:
            time.sleep(0.02)
            late = time.perf_counter() - self._heart.last
            if late > BLOCKED_MS / 1000 and self._heart.last != told:
                told = self._heart.last
                stack = traceback.extract_stack(sys._current_frames().get(self._gui))
                calls = (f"{Path(call.filename).stem}:{call.lineno} {call.name}" for call in reversed(stack))
                print("late:", " < ".join(calls), flush=True)


class Bench:
    """A viewer with the dock, and the means to let Qt work until something has happened."""

    def __init__(self, where: bool) -> None:
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1280, 800)
        QApplication.processEvents()
        begin = time.perf_counter()
        self.viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)
        QApplication.processEvents()
        self.dock_s = time.perf_counter() - begin
        self.session: Session = session_for(self.viewer)
        self.heart = Heart()
        if where:
            Watchdog(self.heart)

    def until(self, met: Callable[[], bool]) -> None:
        """Let Qt work until ``met()``; RuntimeError after five minutes."""
        loop, timer, deadline = QEventLoop(), QTimer(), time.monotonic() + RUN_S

        def look() -> None:
            if met() or time.monotonic() > deadline:
                loop.quit()

        timer.timeout.connect(look)
        timer.start(LOOK_MS)
        loop.exec()
        timer.stop()
        if not met():
            raise RuntimeError(f"{self.session.job.name or 'Saving'} did not end within {RUN_S:.0f} s.")

    def idle(self) -> None:
        """Until no job runs and what came of it is there."""
        session = self.session
        self.until(lambda: session.job.state == "idle" and live(session).job is None and not waiting(session))
        message = session.message
        if message is not None and message.kind == "error":
            raise RuntimeError(message.text)

    def rest(self, seconds: float = 0.3) -> None:
        """Until what was asked for is drawn."""
        end = time.perf_counter() + seconds
        self.until(lambda: time.perf_counter() > end)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Prints the longest time for which the GUI thread was blocked meanwhile."""
        self.rest()
        self.heart.begin()
        yield
        self.rest()
        longest, busy = self.heart.longest_ms, self.heart.busy_ms
        say(f"blocked, {name}", f"{longest:.0f} ms, {busy:.0f} ms of it computing", "<= 100 ms", longest <= BLOCKED_MS)


def say(figure: str, value: str, target: str, met: bool) -> None:
    """One line per figure."""
    print(f"{figure}: {value} (target {target}) {'ok' if met else 'MISSED'}", flush=True)


# ---- opening the dock, and drawing ----


FIRST_DOCK = """
import napari, time
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer()
QApplication.processEvents()
begin = time.perf_counter()
viewer.window.add_plugin_dock_widget({plugin!r}, {dock!r})
QApplication.processEvents()
print("seconds", time.perf_counter() - begin, flush=True)
viewer.close()
"""


def first_dock_s() -> float:
    """Seconds for the dock of a napari that has just started, with all imports."""
    program = FIRST_DOCK.format(plugin=PLUGIN, dock=DOCK)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    told = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("seconds")]
    return float(told[-1]) if told else float("nan")


def undrawn() -> None:
    """Canvases paint nothing from now on; everything up to the request to paint stays."""
    for widget in QApplication.allWidgets():
        if isinstance(widget, QOpenGLWidget):
            type(widget).paintGL = lambda self: None


# ---- blocked moments ----


def blocked(bench: Bench) -> None:
    """Every kind of work once, with the shipped models."""
    session = bench.session
    with bench.phase("load"):
        commands.open_sample(session, "hippocampus")
        bench.idle()
    with bench.phase("first mask"):
        commands.play(session)
        bench.idle()
    with bench.phase("grow"):
        commands.grow_ensemble(session, 6)
        bench.idle()
    with bench.phase("maps"):
        for name in MAP_NAMES:
            commands.show_map(session, name, True)
            bench.rest(0.05)
    with bench.phase("save"):
        commands.promote(session, session.sources()[0][0])
        bench.rest()
        with tempfile.TemporaryDirectory() as folder:
            commands.save_mask(session, Path(folder) / "mask.nii.gz")
            bench.until(lambda: live(session).saving is None)
    clear(bench)
    commands.open_sample(session, "brain-lesion")
    bench.idle()
    with bench.phase("saliency"):
        explain(session)
        bench.idle()
    clear(bench)


def clear(bench: Bench) -> None:
    """No layers and no trajectory."""
    commands.reset(bench.session)
    bench.viewer.layers.clear()
    bench.rest()


# ---- steps ----


def open_long_run(bench: Bench) -> None:
    """The 3D sample, with a run of many steps."""
    commands.open_sample(bench.session, "hippocampus")
    bench.idle()
    commands.set_settings(bench.session, steps=LONG_RUN, seed=1)


def steps_shown(bench: Bench) -> None:
    """Time of the GUI thread for a step of a finished trajectory to be on the screen."""
    session, asked, drawn = bench.session, [], []
    commands.set_follow(session, False)
    for step in itertools.chain(range(SHOWN), range(SHOWN - 2, -1, -1)):
        bench.rest(0.03)
        begin = time.perf_counter()
        commands.show_step(session, step)
        asked.append(1000 * (time.perf_counter() - begin))
        QApplication.processEvents()
        drawn.append(1000 * (time.perf_counter() - begin))
    commands.set_follow(session, True)
    middle, whole = statistics.median(asked), statistics.median(drawn)
    say("step shown", f"{middle:.1f} ms, {whole:.1f} ms with drawing", "<= 15 ms", middle <= 15)


def stopping(bench: Bench) -> None:
    """How soon Cancel is seen, and how many steps are still computed."""
    session, shown, beyond = bench.session, [], []
    for seed in (101, 102, 103):
        commands.reset(session)
        commands.set_settings(session, seed=seed)
        commands.play(session)
        bench.until(lambda: session.trajectory is not None and session.trajectory.done >= 3)
        opened = live(session).opened
        assert opened is not None and opened.last is not None
        before = opened.last.done
        begin = time.perf_counter()
        commands.cancel(session)
        bench.until(lambda: session.job.state in ("cancelling", "idle"))
        shown.append(1000 * (time.perf_counter() - begin))
        bench.idle()
        ended = live(session).opened
        assert ended is not None and ended.last is not None
        beyond.append(ended.last.done - before)
    say("cancel acknowledged", f"{max(shown):.0f} ms", "<= 100 ms", max(shown) <= 100)
    say("steps finished after cancel", f"{max(beyond)}", "<= 1", max(beyond) <= 1)


# ---- watching ----


def watching(bench: Bench, rounds: int) -> None:
    """Sampling watched in the viewer over the same sampling in a thread that nobody watches, alternating."""
    session, ratios = bench.session, []
    commands.set_settings(session, seed=1)
    commands.play(session)
    bench.idle()
    for number in range(rounds):
        alone = unwatched(bench, -1 - number)
        begin = time.perf_counter()
        commands.play(session)
        bench.idle()
        ratios.append((time.perf_counter() - begin) / alone)
    ratio = statistics.median(ratios)
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    say("sampling watched over unwatched", f"{ratio:.3f} (from {spread})", "<= 1.05", ratio <= 1.05)


def unwatched(bench: Bench, run_id: int) -> float:
    """Seconds for the same trajectory while the viewer shows nothing of it."""
    request, opened = bench.session.request(), live(bench.session).opened
    spent: list[float] = []

    def work() -> None:
        begin = time.perf_counter()
        for _ in first_mask(request, opened, run_id):
            pass
        spent.append(time.perf_counter() - begin)

    thread = threading.Thread(target=work)
    thread.start()
    bench.until(lambda: not thread.is_alive())
    return spent[0]


# ---- memory ----


def resident_mb() -> float:
    """Memory that the process holds, after all that can be freed is."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def memory(bench: Bench, runs: int) -> None:
    """Growth over many runs, each of a seed of its own, after some that fill every cache."""
    session = bench.session
    commands.open_sample(session, "lung-nodule")
    bench.idle()
    layers: set[int] = set()
    before = 0.0
    for number in range(WARM_UP + runs):
        commands.set_settings(session, seed=number, steps=3)
        commands.play(session)
        bench.idle()
        if number >= WARM_UP:
            layers.add(len(bench.viewer.layers))
        if number == WARM_UP:
            before = resident_mb()
    after = resident_mb()
    grown = f"{after / before:.3f} ({before:.0f} to {after:.0f} MB)"
    say(f"memory after {runs} runs over before", grown, "<= 1.05", after <= 1.05 * before)
    say("layers during these runs", " or ".join(map(str, sorted(layers))), "constant", len(layers) == 1)


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs")
    parser.add_argument("--where", action="store_true", help="print where the GUI thread stood when it was blocked")
    parser.add_argument("--undrawn", action="store_true", help="without drawing the canvas")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    options = parser.parse_args()
    torch.set_num_threads(2)
    fresh = first_dock_s()
    bench = Bench(options.where)
    if options.undrawn:
        undrawn()
    say("dock open", f"{fresh:.2f} s, {bench.dock_s:.2f} s once torch is imported", "<= 2 s", fresh <= 2)
    if "blocked" in options.only:
        blocked(bench)
    open_long_run(bench)
    if "watching" in options.only:
        watching(bench, 2 if options.quick else 5)
    if "steps" in options.only:
        commands.play(bench.session)
        bench.idle()
        steps_shown(bench)
        stopping(bench)
    clear(bench)
    if "memory" in options.only:
        memory(bench, 20 if options.quick else 200)
    bench.viewer.close()


if __name__ == "__main__":
    main()
