"""A child process that is asked about files, killed when it takes too long and started again when it dies."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rig import REPOSITORY

START_S = 300.0
# How much longer than its processor time a child may take by the clock.
PATIENCE = 15


def _processor_s(pid: int) -> float:
    """Processor time of a child so far, in seconds; 0 where it cannot be told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Worker:
    """One child, of ``rig.judge`` unless another module is named; use as a context."""

    def __init__(self, kind: str, limit_s: float = 2.0, module: str = "rig.judge") -> None:
        self.kind, self.limit_s, self.module = kind, limit_s, module
        self.restarts = 0
        self._child: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - open as long as this

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._errors.close()

    def ask(self, how: str, path: Path) -> dict[str, Any]:
        """The verdict on a file: the child's own, or ``crash`` or ``hang``.

        Too long is more than ``limit_s`` of processor time, or ``PATIENCE`` times that by the clock: machines may
        be busy. A file that takes too long is tried once more by a fresh child.
        """
        verdict = self._ask(how, path)
        if verdict["outcome"] == "hang":
            again = self._ask(how, path)
            return again | {"slow": True}
        return verdict

    def _ask(self, how: str, path: Path) -> dict[str, Any]:
        child = self._running()
        assert child.stdin is not None
        try:
            child.stdin.write(json.dumps({"how": how, "path": str(path)}) + "\n")
            child.stdin.flush()
            line = self._in_time(child)
        except BrokenPipeError:
            line = ""
        if line is None:
            self._stop()
            return {"outcome": "hang", "seconds": self.limit_s, "sentence": f"no answer within {self.limit_s:g} s"}
        if not line:
            code = child.wait()
            said = self._said()
            self._stop()
            return {"outcome": "crash", "seconds": 0.0, "sentence": f"exit {code}: {said}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _running(self) -> subprocess.Popen[str]:
        if self._child is None:
            self.restarts += 1
            paths = [REPOSITORY / "torture", REPOSITORY / "src_core", REPOSITORY]
            path = os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")])
            environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
            self._child = subprocess.Popen(
                [sys.executable, "-m", self.module, self.kind],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                bufsize=1,
                env=environment,
            )
            if not self._line(self._child, START_S):
                raise RuntimeError(f"the child did not start: {self._said()}")
        return self._child

    def _in_time(self, child: subprocess.Popen[str]) -> str | None:
        """As ``_line`` within the limit; see ``ask``."""
        spent, end = _processor_s(child.pid), time.monotonic() + PATIENCE * self.limit_s
        line = self._line(child, self.limit_s)
        while line is None and time.monotonic() < end and _processor_s(child.pid) - spent <= self.limit_s:
            line = self._line(child, 0.1)
        return line

    def _line(self, child: subprocess.Popen[str], seconds: float) -> str | None:
        """The next line of the child, ``""`` at its end, None when it takes longer."""
        assert child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            return child.stdout.readline() if selector.select(seconds) else None

    def _said(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1][:200] if lines else "nothing said"

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    stream.close()
