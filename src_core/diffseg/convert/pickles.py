"""A reader of pickled data that builds plain values and executes nothing.

Unpickling in Python means running the file: every object is made by calling whatever function the file names.
This reader interprets the instructions itself. It knows numbers, text, lists and dictionaries; where the file
asks for a call it records the name and the arguments as an ``Opaque`` and calls nothing. No module is ever
imported and no attribute looked up by a name from the file, so there is nothing that a file could misuse.

The few functions by which PyTorch stores tensors are recognised by name and carried out by the caller's code.
"""

from __future__ import annotations

import pickletools
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffseg.errors import CheckpointError

# The description of a network's tensors takes kilobytes; more than this is damage or an attack.
LARGEST_PICKLE_BYTES = 64_000_000
# Dictionary keys that are kept; hashing anything deeper could exhaust the stack.
PLAIN_KEYS = (str, int, float, bool, bytes, type(None))

# What reading a damaged or hostile file can raise, here, in zipfile and in PyTorch.
DAMAGE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError, OSError),
    *(RuntimeError, SystemError, TypeError, ValueError, struct.error, tarfile.TarError, zlib.error),
)

Construct = Callable[[tuple[Any, ...]], Any]


@dataclass(frozen=True)
class Global:
    """A name in the file that stands for a class or function; never looked up."""

    name: str


@dataclass(eq=False)
class Opaque:
    """An object of the file that was not made: the name of its class or function and what it was to be
    given.
    """

    name: str
    arguments: Any = ()
    state: Any = None
    items: list[Any] = field(default_factory=list)


class PickleReader:
    """Reads one pickle. ``globals`` afterwards holds every class and function name that the file mentions."""

    def __init__(self, known: Mapping[str, Construct], persistent: Callable[[Any], Any]) -> None:
        """``known`` makes values for calls of these names from their arguments; ``persistent`` resolves
        references.
        """
        self.known, self.persistent = known, persistent
        self.globals: set[str] = set()
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._actions = self._table()

    def read(self, data: bytes) -> Any:
        """The value in ``data``.

        Raises:
            CheckpointError: too large, damaged, or with instructions that no checkpoint needs.
        """
        if len(data) > LARGEST_PICKLE_BYTES:
            raise CheckpointError(f"Its description is {len(data) / 1e6:.0f} MB long, which no network's is.")
        try:
            for opcode, argument, _ in pickletools.genops(data):
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._step(opcode.name, argument)
        except DAMAGE as bad:
            raise CheckpointError(f"Its description is damaged ({type(bad).__name__}).") from None
        raise CheckpointError("Its description is cut short.")

    def _step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self._stack.append(argument)
        elif name in self._actions:
            self._actions[name](argument)
        elif name not in ("PROTO", "FRAME"):
            raise CheckpointError(f"Its description uses the instruction {name}, which no checkpoint needs.")

    def _table(self) -> dict[str, Callable[[Any], None]]:
        push, pop = self._push, self._pop
        table: dict[str, Callable[[Any], None]] = {
            "MARK": self._mark,
            "POP": self._drop,
            "POP_MARK": self._drop_marked,
            "DUP": lambda _: push(self._stack[-1]),
            "EMPTY_DICT": lambda _: push({}),
            "EMPTY_LIST": lambda _: push([]),
            "EMPTY_SET": lambda _: push(Opaque("builtins.set")),
            "EMPTY_TUPLE": lambda _: push(()),
            "TUPLE": lambda _: push(tuple(self._since_mark())),
            "TUPLE1": lambda _: push((pop(),)),
            "LIST": lambda _: push(self._since_mark()),
            "FROZENSET": lambda _: push(Opaque("builtins.frozenset", tuple(self._since_mark()))),
            "DICT": self._dict,
            "APPEND": lambda _: self._extend([pop()]),
            "APPENDS": lambda _: self._extend(self._since_mark()),
            "ADDITEMS": lambda _: self._extend(self._since_mark()),
            "SETITEM": lambda _: self._set_items([pop() for _ in range(2)][::-1]),
            "SETITEMS": lambda _: self._set_items(self._since_mark()),
            "MEMOIZE": lambda _: self._memo.__setitem__(len(self._memo), self._stack[-1]),
            "GLOBAL": lambda text: self._global(*text.split(" ", 1)),
            "STACK_GLOBAL": lambda _: self._global(*[pop() for _ in range(2)][::-1]),
            "BINPERSID": lambda _: push(self.persistent(pop())),
            "REDUCE": lambda _: self._call(*[pop() for _ in range(2)][::-1]),
            "NEWOBJ": lambda _: self._call(*[pop() for _ in range(2)][::-1]),
            "NEWOBJ_EX": lambda _: self._call(*[pop() for _ in range(3)][::-1][:2]),
            "INST": self._instance,
            "OBJ": lambda _: self._object(self._since_mark()),
            "BUILD": lambda _: self._build(pop()),
            "TUPLE2": lambda _: push(tuple([pop() for _ in range(2)][::-1])),
            "TUPLE3": lambda _: push(tuple([pop() for _ in range(3)][::-1])),
        }
        table |= dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda n: self._memo.__setitem__(n, self._stack[-1]))
        table |= dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda n: push(self._memo[n]))
        return table

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        return self._stack.pop()

    def _drop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _drop_marked(self, _: Any) -> None:
        self._since_mark()

    def _mark(self, _: Any) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        values, self._stack = self._stack, self._outer.pop()
        return values

    def _global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name must be text")
        self.globals.add(f"{module}.{name}")
        self._push(Global(f"{module}.{name}"))

    def _call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Global):
            self._push(Opaque("a computed function", arguments))
        elif function.name in self.known and isinstance(arguments, tuple):
            self._push(self.known[function.name](arguments))
        else:
            self._push(Opaque(function.name, arguments))

    def _instance(self, text: str) -> None:
        arguments = tuple(self._since_mark())
        self._global(*text.split(" ", 1))
        self._call(self._pop(), arguments)

    def _object(self, values: list[Any]) -> None:
        self._call(values[0], tuple(values[1:]))

    def _build(self, state: Any) -> None:
        if isinstance(self._stack[-1], Opaque):
            self._stack[-1].state = state

    def _dict(self, _: Any) -> None:
        pairs = self._since_mark()
        self._push({})
        self._set_items(pairs)

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list | Opaque):
            raise TypeError("only lists are appended to")
        (target.items if isinstance(target, Opaque) else target).extend(values)

    def _set_items(self, flat: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict | Opaque):
            raise TypeError("only dictionaries have entries")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if isinstance(target, Opaque):
                target.items.append((key, value))
            elif isinstance(key, PLAIN_KEYS):
                target[key] = value


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
