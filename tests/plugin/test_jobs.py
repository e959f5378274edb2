"""Whatever a source does, a job ends in exactly one outcome on the GUI thread."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from pytestqt.qtbot import QtBot

from diffseg.errors import CaseError
from napari_diffseg.jobs import LONGEST_INTERVAL_S, SHARE, SHORTEST_INTERVAL_S, Job, Outcome, interval_s
from napari_diffseg.state import JobState


@dataclass(frozen=True)
class Tick:
    done: int
    total: int


class Watch:
    """Everything a job tells, with the thread it was told in."""

    def __init__(self, job: Job) -> None:
        self.records: list[Tick] = []
        self.states: list[JobState] = []
        self.outcomes: list[Outcome] = []
        self.threads: set[threading.Thread] = set()
        job.progressed.connect(self.on_record)
        job.changed.connect(self.on_state)
        job.finished.connect(self.on_outcome)

    def on_record(self, record: Tick) -> None:
        self.records.append(record)
        self.threads.add(threading.current_thread())

    def on_state(self, state: JobState) -> None:
        self.states.append(state)
        self.threads.add(threading.current_thread())

    def on_outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.threads.add(threading.current_thread())


class Source:
    """Ticks that wait for the test to let them pass, so that no timing decides."""

    def __init__(self, total: int, fail_at: int = 0, error: BaseException | None = None, free: bool = False) -> None:
        self.total, self.fail_at, self.error = total, fail_at, error
        self.tickets = threading.Semaphore(10_000 if free else 0)
        self.begun = 0
        self.closed_in: threading.Thread | None = None
        self.made_in: threading.Thread | None = None

    def __call__(self) -> Iterator[Tick]:
        self.made_in = threading.current_thread()
        try:
            for k in range(1, self.total + 1):
                self.begun = k
                assert self.tickets.acquire(timeout=20)
                if k == self.fail_at and self.error is not None:
                    raise self.error
                yield Tick(k, self.total)
        finally:
            self.closed_in = threading.current_thread()


def until(qtbot: QtBot, condition: Callable[[], bool]) -> None:
    """Patient, since other tests may keep the machine busy."""
    qtbot.waitUntil(condition, timeout=60_000)


def started(source: Callable[[], Iterator[Tick]], steps: int | None = None) -> tuple[Job, Watch]:
    job = Job("First mask", source)
    watch = Watch(job)
    job.start(steps)
    return job, watch


def test_a_job_runs_beside_the_gui_and_tells_everything_in_the_gui_thread(qtbot: QtBot) -> None:
    source = Source(3, free=True)
    _, watch = started(source)
    until(qtbot, lambda: bool(watch.outcomes))
    assert watch.outcomes == [Outcome("done")]
    assert watch.records[-1] == Tick(3, 3), "the last record always arrives"
    assert watch.threads == {threading.main_thread()}
    assert source.made_in is source.closed_in
    assert source.made_in is not threading.main_thread()
    assert watch.states[0].state == "running" and watch.states[-1].state == "idle"


def test_a_flood_of_records_reaches_the_screen_thinned_but_with_its_end(qtbot: QtBot) -> None:
    _, watch = started(Source(5000, free=True))
    until(qtbot, lambda: bool(watch.outcomes))
    # Unthinned there would be one delivery per record; ten a second leave room for any machine.
    assert len(watch.records) < 1000
    assert watch.records[-1] == Tick(5000, 5000)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), "memory ran out"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory ran out"),
        (MemoryError(), "memory ran out"),
        (
            RuntimeError("mat1 and mat2 shapes cannot be multiplied\nmore"),
            "RuntimeError: mat1 and mat2 shapes",
        ),
        (CaseError("The scan is empty; choose another."), "The scan is empty; choose another."),
        (StopIteration(), "unexpected error"),
        (SystemExit(3), "unexpected error"),
    ],
    ids=["cuda", "cpu allocator", "python", "shapes", "ours", "stray stop", "exit"],
)
def test_no_error_in_the_middle_vanishes(qtbot: QtBot, error: BaseException, words: str) -> None:
    source = Source(5, fail_at=3, error=error, free=True)
    _, watch = started(source)
    until(qtbot, lambda: bool(watch.outcomes))
    qtbot.wait(50)
    (outcome,) = watch.outcomes
    assert outcome.kind == "failed" and words in outcome.sentence
    assert "\n" not in outcome.sentence and outcome.sentence.endswith(".")
    assert "Traceback" in outcome.details
    assert watch.records[-1].done == 2 and watch.states[-1].state == "idle"


def test_an_error_while_the_source_is_made_ends_the_job(qtbot: QtBot) -> None:
    def broken() -> Iterator[Tick]:
        raise RuntimeError("no model")

    _, watch = started(broken)
    until(qtbot, lambda: bool(watch.outcomes))
    assert watch.outcomes[0].kind == "failed" and "no model" in watch.outcomes[0].sentence


def test_an_error_in_the_clean_up_of_the_source_is_told(qtbot: QtBot) -> None:
    def untidy() -> Iterator[Tick]:
        try:
            yield Tick(1, 2)
            yield Tick(2, 2)
        finally:
            raise RuntimeError("could not let go")

    job, watch = started(untidy, steps=1)
    until(qtbot, lambda: job.state.state == "paused")
    job.cancel()
    until(qtbot, lambda: bool(watch.outcomes))
    assert [o.kind for o in watch.outcomes] == ["failed"] and "let go" in watch.outcomes[0].sentence


def test_cancelling_shows_at_once_and_stops_after_the_step_in_progress(qtbot: QtBot) -> None:
    source = Source(100)
    job, watch = started(source)
    source.tickets.release(2)
    until(qtbot, lambda: source.begun == 3)
    job.cancel()
    assert job.state.state == "cancelling", "told before any step could end"
    source.tickets.release(50)
    until(qtbot, lambda: bool(watch.outcomes))
    qtbot.wait(50)
    assert [o.kind for o in watch.outcomes] == ["cancelled"]
    assert source.begun == 3 and source.closed_in is source.made_in


def test_an_error_in_the_last_step_of_a_stopped_job_is_no_failure(qtbot: QtBot) -> None:
    source = Source(9, fail_at=2, error=torch.OutOfMemoryError("CUDA out of memory"))
    job, watch = started(source)
    source.tickets.release(1)
    until(qtbot, lambda: source.begun == 2)
    job.cancel()
    source.tickets.release(1)
    until(qtbot, lambda: bool(watch.outcomes))
    assert [o.kind for o in watch.outcomes] == ["cancelled"] and "out of memory" in watch.outcomes[0].details


def test_cancelling_twice_or_afterwards_changes_nothing(qtbot: QtBot) -> None:
    source = Source(4)
    job, watch = started(source)
    job.cancel()
    job.cancel()
    source.tickets.release(4)
    until(qtbot, lambda: bool(watch.outcomes))
    job.cancel()
    job.resume()
    qtbot.wait(50)
    assert [o.kind for o in watch.outcomes] == ["cancelled"] and job.state.state == "idle"


def test_step_runs_exactly_one_record_and_resume_all_the_rest(qtbot: QtBot) -> None:
    source = Source(6, free=True)
    job, watch = started(source, steps=1)
    for expected in (1, 2, 3):
        until(qtbot, lambda: job.state.state == "paused")
        qtbot.wait(30)
        assert source.begun == expected and job.state.done == expected
        job.step() if expected < 3 else job.resume()
    until(qtbot, lambda: bool(watch.outcomes))
    assert source.begun == 6 and watch.outcomes == [Outcome("done")]
    # Not thinned: between two pauses each record is the newest.
    assert [r.done for r in watch.records][:3] == [1, 2, 3]


def test_pausing_finishes_the_step_in_progress_and_begins_no_other(qtbot: QtBot) -> None:
    source = Source(5)
    job, watch = started(source)
    source.tickets.release(1)
    until(qtbot, lambda: source.begun == 2)
    job.pause()
    assert job.state.state == "paused"
    source.tickets.release(10)
    until(qtbot, lambda: job.state.done == 2)
    qtbot.wait(50)
    assert source.begun == 2 and job.state.state == "paused"
    job.resume()
    until(qtbot, lambda: bool(watch.outcomes))
    assert source.begun == 5 and watch.records[-1] == Tick(5, 5)


def test_a_step_that_is_the_last_one_ends_the_job(qtbot: QtBot) -> None:
    job, watch = started(Source(2, free=True), steps=1)
    until(qtbot, lambda: job.state.state == "paused")
    job.step()
    until(qtbot, lambda: bool(watch.outcomes))
    assert watch.outcomes == [Outcome("done")]


def test_cancelling_a_paused_job_ends_it(qtbot: QtBot) -> None:
    source = Source(5, free=True)
    job, watch = started(source, steps=2)
    until(qtbot, lambda: job.state.state == "paused")
    job.cancel()
    until(qtbot, lambda: bool(watch.outcomes))
    assert [o.kind for o in watch.outcomes] == ["cancelled"] and source.begun == 2


def test_waiting_tells_the_outcome_without_an_event_loop(qtbot: QtBot) -> None:
    job, watch = started(Source(3, free=True), steps=1)
    until(qtbot, lambda: job.state.state == "paused")
    job.cancel()
    assert job.wait(10) and job.over
    assert [o.kind for o in watch.outcomes] == ["cancelled"]
    qtbot.wait(50)
    assert len(watch.outcomes) == 1


def test_waiting_gives_up_on_a_step_that_does_not_end(qtbot: QtBot) -> None:
    source = Source(3)
    job, watch = started(source)
    until(qtbot, lambda: source.begun == 1)
    job.cancel()
    assert not job.wait(0.05) and not watch.outcomes
    source.tickets.release(3)
    assert job.wait(10)
    assert [o.kind for o in watch.outcomes] == ["cancelled"]


def test_a_failed_job_keeps_no_frame_of_its_source_alive(qtbot: QtBot) -> None:
    class Big:
        pass

    refs: list[weakref.ref[Big]] = []

    def source() -> Iterator[Tick]:
        tensor = Big()
        refs.append(weakref.ref(tensor))
        yield Tick(1, 2)
        raise torch.OutOfMemoryError("CUDA out of memory")

    job, watch = started(source)
    until(qtbot, lambda: bool(watch.outcomes))
    job.wait(5)
    gc.collect()
    assert refs[0]() is None and watch.outcomes[0].kind == "failed"


def test_an_observer_that_fails_does_not_swallow_the_outcome() -> None:
    job = Job("First mask", lambda: iter([Tick(1, 1)]), inline=True)
    outcomes: list[Outcome] = []

    def faulty(_: JobState) -> None:
        raise ValueError("a panel is broken")

    job.finished.connect(outcomes.append)
    job.start(steps=None)
    assert outcomes == [Outcome("done")]
    job = Job("First mask", lambda: iter([Tick(1, 1)]), inline=True)
    job.finished.connect(outcomes.append)
    job.progressed.connect(faulty)
    job.start()
    assert len(outcomes) == 2 and outcomes[1].kind == "failed"


def test_inline_jobs_pause_resume_and_cancel_without_threads() -> None:
    source = Source(5, free=True)
    job = Job("First mask", source, inline=True)
    watch = Watch(job)
    job.start(steps=2)
    assert source.begun == 2 and job.state.state == "paused"
    job.step()
    assert source.begun == 3 and job.state.state == "paused"
    job.cancel()
    assert [o.kind for o in watch.outcomes] == ["cancelled"] and source.closed_in is threading.main_thread()
    again = Job("First mask", Source(5, free=True), inline=True)
    watch = Watch(again)
    again.start(steps=1)
    again.resume()
    assert [r.done for r in watch.records] == [1, 2, 3, 4, 5] and watch.outcomes == [Outcome("done")]


def test_time_left_counts_from_the_first_record_and_not_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("napari_diffseg.jobs.time.perf_counter", lambda: now[0])

    def source() -> Iterator[Tick]:
        now[0] += 30.0  # loading the model happens once
        yield Tick(0, 4)
        for k in range(1, 5):
            now[0] += 2.0
            yield Tick(k, 4)

    job = Job("First mask", source, inline=True)
    watch = Watch(job)
    job.start(steps=2)
    now[0] += 500.0  # the person thinks
    job.resume()
    left = [s.seconds_left for s in watch.states if s.state == "running" and s.done > 0]
    # Exact: the clock is ours. 2 s a step, so 6, 4, then (resuming repeats no estimate) 2 and 0.
    assert [x for x in left if x is not None] == [6.0, 4.0, 2.0, 0.0]


def test_what_takes_long_to_show_is_shown_less_often() -> None:
    assert interval_s(0.001) == SHORTEST_INTERVAL_S
    assert interval_s(0.02) == pytest.approx(0.02 / SHARE), "so that showing takes its share and no more"
    assert interval_s(5.0) == LONGEST_INTERVAL_S, "making layers, say, which happens once"
