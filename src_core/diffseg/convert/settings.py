"""What a checkpoint's tensors cannot tell, and how a person changes it with ``--set key=value``. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from diffseg.card import Task
from diffseg.errors import PlanError
from diffseg.preprocess import Normalisation
from diffseg.records import from_dict

# Settings that are dictionaries: ``--set schedule.count=4000`` changes one entry.
PARTS = ("schedule", "prediction", "codec", "sampler")


@dataclass(frozen=True)
class Settings:
    """Everything about a foreign model besides its tensors.

    Network: ``heads``, or ``head_channels`` which wins, ``heads_up`` (of the decoder), ``head_order``, where
    the mask stands (``mask``), ``max_period`` of the time embedding, ``blocks`` per
    resolution (only where the tensors leave them open),
    ``args`` of a MONAI network as a dictionary or the path of a JSON file.

    Diffusion: ``schedule``, ``prediction``, ``codec`` (None: as the number of channels suggests), ``sampler``, each
    with ``*_settings``, and ``steps``.

    Image: names of the ``channels`` and ``repeat`` copies of them (None: what fits the network), then
    ``(image - mean) / std`` of what ``normalise`` and ``clip_percentiles`` made of the scan.

    Description: ``classes`` (None: background, lesion, ...) with ``colors``, image-level ``labels``, ``window`` in
    pixels, ``spacing_mm``, ``name`` (None: from the file's name), texts.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    task: Task = "mask"
    heads: int = 1
    head_channels: int | None = None
    heads_up: int | None = None
    head_order: Literal["legacy", "new"] = "legacy"
    mask: Literal["first", "last"] = "last"
    max_period: float = 10_000.0
    blocks: tuple[int, ...] | None = None
    args: Any = None
    schedule: str = "guided"
    schedule_settings: dict[str, Any] = field(default_factory=dict)
    prediction: str = "eps"
    prediction_settings: dict[str, Any] = field(default_factory=dict)
    codec: str | None = None
    codec_settings: dict[str, Any] = field(default_factory=dict)
    sampler: str = "ddpm"
    sampler_settings: dict[str, Any] = field(default_factory=dict)
    steps: int = 50
    channels: tuple[str, ...] | None = None
    repeat: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    normalise: Normalisation = "minus1_1"
    clip_percentiles: tuple[float, float] = (0.0, 100.0)
    classes: tuple[str, ...] | None = None
    colors: tuple[str, ...] = (
        "#000000",
        "#e69f00",
        "#56b4e9",
        "#009e73",
        "#f0e442",
        "#0072b2",
        "#d55e00",
        "#cc79a7",
    )
    labels: tuple[str, ...] = ()
    window: tuple[int, ...] = (128, 128)
    spacing_mm: tuple[float, ...] | None = None
    name: str | None = None
    title: str = ""
    description: str = ""
    licence: str = ""
    citation: str = ""
    training: str = ""


def changed(settings: Settings, changes: Mapping[str, Any], what: str) -> Settings:
    """``settings`` with some replaced; text is read as JSON where it is, and ``a,b,c`` as a list.

    ``part.key`` changes one entry of ``part_settings`` (parts: schedule, prediction, codec, sampler); naming
    another part, such as another sampler, drops the entries of the old one. ``what`` names the origin in
    messages.

    Raises:
        PlanError: an unknown key, listing the known ones, or a value of the wrong kind.
    """
    known = {f.name: f.type for f in fields(Settings)}
    values: dict[str, Any] = {name: getattr(settings, name) for name in known}
    for part in PARTS:
        if part in changes and changes[part] != values[part]:
            values[f"{part}_settings"] = {}
    for key, given in changes.items():
        part, dot, entry = key.partition(".")
        if dot and part in PARTS and entry:
            values[f"{part}_settings"] = values[f"{part}_settings"] | {entry: _value(given)}
        elif key in known:
            values[key] = _as(known[key], given)
        else:
            names = ", ".join([*known, *(f"{p}.<setting>" for p in PARTS)])
            raise PlanError(f"There is no setting {key!r} ({what}); choose one of: {names}.")
    return from_dict(Settings, values, what, PlanError)


def parse_changes(texts: list[str]) -> dict[str, str]:
    """``["heads=4", ...]`` as a dictionary; raises ``PlanError`` for text without ``=``."""
    changes = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise PlanError(f"--set {text!r} is not of the form key=value; write for example --set heads=4.")
        changes[key.strip()] = value.strip()
    return changes


def _as(kind: Any, given: Any) -> Any:
    """Text as a value for a field of this annotation."""
    if not isinstance(given, str):
        return given
    if kind.startswith("tuple"):
        value = _value(given)
        if value is None:
            return None
        return value if isinstance(value, list) else [_value(item) for item in given.split(",") if item.strip()]
    return given if kind in ("str", "str | None") else _value(given)


def _value(given: Any) -> Any:
    """Text as JSON if it is JSON, otherwise unchanged."""
    if not isinstance(given, str):
        return given
    words = {"None": None, "none": None, "True": True, "False": False}
    try:
        return words[given] if given in words else json.loads(given)
    except ValueError:
        return given.strip()


def network_arguments(settings: Settings, source: Path) -> dict[str, Any]:
    """Constructor arguments of a MONAI network: from ``args``, else from a JSON file beside the checkpoint.

    Raises:
        PlanError: there are none, or they are no JSON object.
    """
    if isinstance(settings.args, dict):
        return settings.args
    path = Path(settings.args) if settings.args else source.with_suffix(".json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise PlanError(
            f"There is no readable file {path} with the constructor arguments of DiffusionModelUNet; "
            "write them there as a JSON object, or name the file with --set args=FILE.json."
        ) from None
    except ValueError:
        raise PlanError(f"{path} is no valid JSON; correct it and try again.") from None
    if not isinstance(values, dict):
        raise PlanError(f"{path} must hold a JSON object of constructor arguments, not a {type(values).__name__}.")
    return values


def described(settings: Settings, stem: str) -> Settings:
    """``settings`` with a name made from the file's where none was given."""
    return settings if settings.name else replace(settings, name=stem)
