"""What a hostile file calls where no other trace would be left."""

from __future__ import annotations

from typing import Any

hits: list[str] = []


def hit(*args: Any, **_: Any) -> str:
    """Remember that code of a file has run."""
    hits.append(f"hit{args}")
    return ""


class Trap:
    """Whatever is done to this class or to one of its objects is remembered."""

    touched = False

    def __init__(self, *_: Any) -> None:
        hits.append("made")

    def __setstate__(self, state: Any) -> None:
        hits.append("state set")

    def __setitem__(self, key: Any, value: Any) -> None:
        hits.append("item set")

    def extend(self, values: Any) -> None:
        """Remember being filled."""
        hits.append("extended")

    append = extend

    @classmethod
    def fire(cls, *_: Any) -> None:
        """Remember a call by a dotted name."""
        hits.append("fired")


class NewTrap:
    """Remembers being made by ``__new__``."""

    def __new__(cls, *_: Any, **__: Any) -> NewTrap:
        hits.append("new")
        return super().__new__(cls)


def fired() -> list[str]:
    """What happened since the last question."""
    found = [*hits, *(["class changed"] if Trap.touched else [])]
    hits.clear()
    Trap.touched = False
    return found
