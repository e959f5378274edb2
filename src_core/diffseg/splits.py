"""Which cases train a model and which are kept apart to validate it. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffseg.errors import PlanError

VALIDATION_SHARE = 0.2
SPLIT_SEED = 0


def read_names(split_file: Path) -> dict[str, list[str]]:
    """The names in ``train`` and ``validation``.

    Raises:
        PlanError: no such file, no JSON, a list missing, or a name in both.
    """
    try:
        split = json.loads(split_file.read_text(encoding="utf-8"))
        sides = {side: [str(name) for name in split[side]] for side in ("train", "validation")}
    except (OSError, ValueError, KeyError, TypeError) as bad:
        raise PlanError(
            f"{split_file} must be a JSON file with the lists 'train' and 'validation' ({bad!r}); write one."
        ) from None
    both = set(sides["train"]) & set(sides["validation"])
    if both:
        raise PlanError(f"{split_file} has {sorted(both)[0]} in training and in validation; keep it in one of them.")
    return sides


def draw_split(names: Sequence[str], source: Path) -> dict[str, list[str]]:
    """A fifth of the cases for validation, always the same for the same names.

    Cases that share the first part of their name that tells cases apart (the patient of ``<patient>/<slice>``) stay on
    one side. Raises ``PlanError`` naming ``source`` for fewer than two cases.
    """
    groups = grouped(names)
    if len(groups) < 2:
        raise PlanError(
            f"{source} holds {len(names)} case(s), but training and validation need one each at least; add cases."
        )
    wanted = max(VALIDATION_SHARE * len(names), 1)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(groups))
    validation: list[str] = []
    for group in (groups[i] for i in order):
        if len(validation) + len(group) <= wanted:
            validation += group
    validation = validation or min(groups, key=len)
    kept_apart = set(validation)
    return {"train": [n for n in sorted(names) if n not in kept_apart], "validation": sorted(validation)}


def grouped(names: Sequence[str]) -> list[list[str]]:
    """Names by the first part, between slashes, in which any of them differ."""
    parts = {name: name.split("/") for name in sorted(names)}
    depth = 0
    while len({tuple(p[: depth + 1]) for p in parts.values()}) == 1 and depth < max(map(len, parts.values())):
        depth += 1
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, p in parts.items():
        groups.setdefault(tuple(p[: depth + 1]), []).append(name)
    return list(groups.values())
