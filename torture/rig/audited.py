"""The child: opens checkpoints while Python's audit hook writes down everything that touches the world outside.

Run as ``python -m rig.audited``; one JSON object a line in (``path``, ``way``) and out (``outcome``, ``events``).
Ways: ``card``, ``load``, ``convert PROFILE``, ``tensors PROFILE``, ``models`` are the program's own; ``torch``,
``pickle``, ``jit``, ``numpy`` and ``unzip`` are those of a careless program, to show that a file is hostile at all.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import json
import os
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

from rig import REPOSITORY, sentinel

CODE_EVENTS = ("exec", "compile")
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
# Events that name the world outside, by prefix.
FORBIDDEN = (
    "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "os.startfile", "os.kill", "os.remove",
    "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.putenv",
    "os.unsetenv", "os.utime", "subprocess.", "socket.", "webbrowser.", "shutil.", "tempfile.", "pickle.find_class",
    "ctypes.", "code.__new__", "marshal.load", "function.__new__", "urllib.", "ftplib.", "smtplib.", "http.",
    "cpython.run_", "builtins.input", "pty.",
)  # fmt: skip
LIBRARIES = tuple({*sysconfig.get_paths().values(), str(REPOSITORY / "src_core"), str(REPOSITORY / "torture")})

events: list[str] = []
listening = False


def listen(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook."""
    if not listening:
        return
    if event.startswith(FORBIDDEN):
        if event.startswith("marshal") and _importing():
            return  # Python reads the modules of installed libraries this way
        events.append(f"{event} {arguments}"[:200])
    elif event == "open" and _writes(arguments):
        events.append(f"open for writing {arguments[0]}")
    elif event in CODE_EVENTS and not _of_library(event, arguments):
        events.append(f"{event} {arguments}"[:200])


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    named = isinstance(mode, str) and any(c in mode for c in "wax+")
    return named or (isinstance(flags, int) and flags & WRITE_FLAGS != 0)


def _of_library(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether it is a module of an installed library that is imported for the first time, or made by one."""
    name = arguments[0].co_filename if isinstance(arguments[0], types.CodeType) else str(arguments[-1])
    return str(name).startswith(LIBRARIES) or _importing()


def _importing() -> bool:
    """Whether an import statement of library code is under way, in which modules may make named tuples."""
    frame, importing = sys._getframe(), False
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            importing = True
        elif importing and "rig/audited" not in frame.f_code.co_filename:
            return frame.f_code.co_filename.startswith(LIBRARIES)
        frame = frame.f_back  # type: ignore[assignment]
    return False


def opened(path: Path, way: str) -> None:
    """Open a file in one of the ways."""
    name, _, profile = way.partition(" ")
    if name in ("card", "load", "convert", "tensors", "models"):
        _ours(path, name, profile)
    else:
        _carelessly(path, name)


def _ours(path: Path, name: str, profile: str) -> None:
    from diffseg.__main__ import main
    from diffseg.card import read_card
    from diffseg.checkpoint import load_checkpoint
    from diffseg.convert.conversion import convert

    if name == "card":
        read_card(path)
    elif name == "load":
        load_checkpoint(path)
    elif name == "models":
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            main(["models", str(path)])
    else:
        convert(path, profile, tensors_only=name == "tensors")


def _carelessly(path: Path, name: str) -> None:
    import pickle
    import zipfile

    import numpy as np
    import torch

    if name == "torch":
        torch.load(path, weights_only=False)
    elif name == "pickle":
        with path.open("rb") as file:
            pickle.Unpickler(file).load()
    elif name == "numpy":
        np.load(path, allow_pickle=True)
    elif name == "jit":
        torch.jit.load(path)
    elif name == "unzip":
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():  # what unzip without checks does
                target = Path(os.path.normpath(path.parent / entry))
                if entry.startswith(("/", "..")):
                    target.write_bytes(archive.read(entry))


def answer(path: Path, way: str) -> dict[str, Any]:
    """What came of opening one file."""
    global listening
    from diffseg.errors import DiffsegError

    events.clear()
    sentinel.fired()
    before = set(os.listdir(path.parent))
    listening = True
    try:
        opened(path, way)
        outcome, words = "read", ""
    except DiffsegError as refusal:
        outcome, words = "refused", str(refusal)
    except BaseException as error:  # noqa: BLE001 - that is the question
        outcome, words = "untyped", f"{type(error).__name__}: {error}"[:300]
    finally:
        listening = False
    left = sorted(set(os.listdir(path.parent)) - before)
    found = [*events, *sentinel.fired(), *(f"left {name}" for name in left)]
    return {"outcome": outcome, "sentence": words, "events": found}


def main() -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    copyreg.add_extension("rig.sentinel", "hit", 240)
    sys.addaudithook(listen)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(answer(Path(question["path"]), question["how"])), file=answers, flush=True)


if __name__ == "__main__":
    main()
