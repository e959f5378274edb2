"""Keeping a journal while others draw: a thread of its own, within a second of every touch.

Each journal is claimed by the process that writes or offers it, through a lock that the system lets go of when that
process ends in whatever way; so two programs at once never take each other's journals. No torch, no Qt.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_data_path

from diffseg.errors import JournalError
from diffseg.journal import Journal, JournalHead, JournalState, Plane

FOLDER_VARIABLE = "DIFFSEG_JOURNAL"
SUFFIX = ".journal"
# The pause after each record, in which touches gather for the next one.
GATHER_S = 0.2
# After trouble with the disk.
RETRY_S = 5.0
# How often a mask is looked at that nobody tells of any more.
WATCH_S = 1.0


def journal_folder() -> Path:
    """Where journals lie: outside the user's own folders, or where ``DIFFSEG_JOURNAL`` says."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else user_data_path("napari-diffseg") / "journal"


@dataclass(frozen=True, eq=False)
class Claim:
    """A journal that belongs to this process until ``release`` or ``discard``, or the end of the process."""

    path: Path
    lock: FileLock

    def release(self) -> None:
        """Leave the journal to whoever wants it."""
        self.lock.release()

    def discard(self) -> None:
        """Delete the journal."""
        self.path.unlink(missing_ok=True)
        # While it is still ours: nobody can have claimed it meanwhile.
        Path(self.lock.lock_file).unlink(missing_ok=True)
        self.lock.release()


def claim(path: Path) -> Claim | None:
    """This journal for this process; None while another one, or another part of this one, has it.

    Raises:
        JournalError: the folder cannot be written.
    """
    lock = FileLock(path.with_suffix(".lock"), thread_local=False)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except (OSError, NotImplementedError) as error:
        raise JournalError(f"No journal can be kept in {path.parent} ({error}); save the mask often.") from error
    return Claim(path, lock)


def new_claim(folder: Path | None = None) -> Claim:
    """A journal of a new name, not yet written."""
    name = f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:12]}{SUFFIX}"
    found = claim((folder or journal_folder()) / name)
    assert found is not None  # the name is new
    return found


def left_behind(folder: Path | None = None) -> Iterator[Claim]:
    """Journals that nobody holds, newest first, each claimed before the next one is looked for."""
    try:
        paths = sorted((folder or journal_folder()).glob(f"[!.]*{SUFFIX}"), reverse=True)
    except OSError:
        return
    for path in paths:
        try:
            found = claim(path)
        except JournalError:
            return
        if found is not None and path.exists():
            yield found
        elif found is not None:
            found.discard()  # taken up and ended by another program since the folder was read


class Keeper:
    """Writes the journal of one mask in a thread. Methods return at once but for ``close``.

    ``planes`` is asked in the thread for the planes that may have changed, the first time for all of the head; all but
    the labels are arrays that nobody writes to.

    ``told`` is called from the thread with a sentence when the journal cannot be written, and with an empty one when
    it can again; ``replaces`` is a journal that goes once this one is on disk.
    """

    def __init__(
        self,
        head: JournalHead,
        planes: Callable[[], Mapping[str, Plane]],
        state: JournalState,
        told: Callable[[str], None] = lambda sentence: None,
        replaces: Claim | None = None,
        folder: Path | None = None,
    ) -> None:
        self._head, self._planes, self._state = head, planes, state
        self._told, self._replaces, self._folder = told, replaces, folder
        self._gate = threading.Condition()
        self._touched, self._over, self._keep, self._hold = True, False, True, False
        self._claim: Claim | None = None
        self._journal: Journal | None = None
        self._trouble = ""
        # What to look at when nobody tells of changes any more, and for as long as what; the labels when they were told
        # of last, where nothing of them was unsaved.
        self._watched: Plane | None = None
        self._fresh = planes
        self._unsaved = True
        self._tie: weakref.ref[object] | None = None
        self._seen: Plane | None = None
        self._settled, self._strayed = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="diffseg: journal", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path | None:
        """The file, once there is one."""
        return None if self._claim is None else self._claim.path

    def touch(self, state: JournalState | None = None) -> None:
        """Something may have changed: the content of the planes, or where the person is."""
        with self._gate:
            self._touched = True
            self._state = state or self._state
            self._gate.notify_all()

    def close(self, keep: bool, timeout_s: float = 2.0, hold: bool = False) -> bool:
        """Write what is left and stop, or with ``keep`` False delete the journal. False if that takes longer than
        ``timeout_s``; it is finished all the same. With ``hold`` it stays claimed until ``release``.
        """
        with self._gate:
            self._over, self._keep, self._hold = True, keep, hold
            self._gate.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def watch(
        self,
        labels: Plane,
        planes: Callable[[], Mapping[str, Plane]],
        unsaved: bool,
        owner: object,
        timeout_s: float = 2.0,
    ) -> None:
        """Nobody will tell of changes any more: look for those of ``labels`` every ``WATCH_S``, until ``close`` or
        until ``owner`` is no more, of which only a weak reference is held. Returns once what there is now is on disk,
        after ``timeout_s`` at most.

        Without ``unsaved`` the journal goes now and comes back with the first change. ``planes`` is asked instead of
        the function given before, the first time for all planes.
        """
        with self._gate:
            self._watched, self._fresh, self._unsaved, self._told = labels, planes, unsaved, lambda sentence: None
            self._tie = weakref.ref(owner, lambda gone: self._stop())
            self._gate.notify_all()
        self._settled.wait(timeout_s)

    @property
    def strayed(self) -> bool:
        """Whether the labels changed while they were watched and nothing had been unsaved; final once closed."""
        return self._strayed

    def _stop(self) -> None:
        with self._gate:
            self._over = True
            self._gate.notify_all()

    def release(self) -> None:
        """Leave a journal that was closed and held to whoever wants it."""
        self._thread.join()
        if self._claim is not None:
            self._claim.release()

    # ---- in the thread ----

    def _run(self) -> None:
        while not self._wait(lambda: self._touched or self._watched is not None):
            if self._watched is not None:
                break
            self._write()
            self._wait(lambda: self._watched is not None, RETRY_S if self._trouble else GATHER_S)
        if self._watched is not None:
            self._watch()
        elif self._keep:
            self._write()
        self._end()

    def _watch(self) -> None:
        assert self._watched is not None
        if self._unsaved:
            self._write()
        else:
            self._seen = self._watched.copy()
            self._drop()
        self._planes = self._fresh
        self._settled.set()
        while not self._wait(lambda: False, RETRY_S if self._trouble else WATCH_S):
            self._look()
        self._look()

    def _look(self) -> None:
        """Write down what changed while nobody told of it."""
        if self._seen is not None:
            assert self._watched is not None
            if np.array_equal(self._watched, self._seen):
                return
            self._seen, self._strayed = None, True
            self._state = replace(self._state, edited=True, dirty=True)
        self._write()

    def _drop(self) -> None:
        if self._journal is not None:
            self._journal.close(keep=False)
        if self._claim is not None:
            self._claim.discard()
        self._journal = self._claim = None

    def _wait(self, wanted: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait for something or the end; tells whether it is the end."""
        with self._gate:
            self._gate.wait_for(lambda: self._over or wanted(), timeout_s)
            return self._over

    def _write(self) -> None:
        with self._gate:
            self._touched, state = False, self._state
        try:
            if self._journal is None:
                self._begin(state)
            else:
                self._journal.record(self._planes(), state)
        except JournalError as error:
            with self._gate:
                self._touched = True
            self._tell(str(error))
        else:
            self._tell("")

    def _begin(self, state: JournalState) -> None:
        if self._claim is None:
            self._claim = new_claim(self._folder)
        self._journal = Journal(self._claim.path, self._head, self._planes(), state)
        if self._replaces is not None:
            self._replaces.discard()
            self._replaces = None

    def _tell(self, sentence: str) -> None:
        if sentence != self._trouble:
            self._trouble = sentence
            self._told(sentence)

    def _end(self) -> None:
        if self._journal is not None:
            self._journal.close(self._keep)
        if self._replaces is not None:
            self._replaces.release()
        if self._claim is not None and not self._keep:
            self._claim.discard()
        elif self._claim is not None and not self._hold:
            self._claim.release()
