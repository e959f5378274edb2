"""Frozen dataclasses <-> JSON and plain dictionaries, checked against their annotations."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from diffseg.errors import DiffsegError

T = TypeVar("T")


def to_json(record: Any) -> str:
    """Indented JSON of a dataclass instance."""
    return _adapter(type(record)).dump_json(record, indent=2).decode()


def from_json(kind: type[T], text: str | bytes, what: str, error: type[DiffsegError]) -> T:
    """The record of class ``kind`` written in ``text``.

    Raises:
        error: one sentence that names ``what``, the first field that is wrong and why.
    """
    try:
        return _adapter(kind).validate_json(text)
    except ValidationError as bad:
        raise error(_sentence(bad, what)) from None


def from_dict(kind: type[T], values: dict[str, Any], what: str, error: type[DiffsegError]) -> T:
    """The record of class ``kind`` with these ``values``; raises like ``from_json``, and for names it does not have."""
    try:
        record = _adapter(kind).validate_python(values)
    except ValidationError as bad:
        raise error(_sentence(bad, what)) from None
    known = [f.name for f in fields(kind)] if is_dataclass(kind) else list(values)
    unknown = [name for name in values if name not in known]
    if unknown:
        # A plain dataclass would pass over a misspelt setting in silence and run with the default.
        choice = ", ".join(known) or "none"
        raise error(f"{what} cannot be used: there is no setting {unknown[0]!r}; the settings are: {choice}.")
    return record


# Making one takes longer than using it a hundred times.
_adapters: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type[T]) -> TypeAdapter[T]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _sentence(bad: ValidationError, what: str) -> str:
    first = bad.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    reason = first["msg"][0].lower() + first["msg"][1:]
    more = f" ({bad.error_count() - 1} more problems)" if bad.error_count() > 1 else ""
    return f"{what} cannot be used: {field or 'its content'}: {reason}{more}."
