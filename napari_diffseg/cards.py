"""Cards of models, read once: pages ask for those of all shipped models again and again."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from diffseg import card
from diffseg.card import Card


def card_of(path: Path) -> Card:
    """As ``diffseg.card.card_of``, but a file that has not changed is not read again.

    Raises:
        CheckpointError: as there.
    """
    try:
        seen = path.stat()
    except OSError:
        return card.card_of(path)  # which says what is wrong
    return _card(path, seen.st_mtime_ns, seen.st_size)


@lru_cache(maxsize=64)
def _card(path: Path, changed: int, size: int) -> Card:
    return card.card_of(path)
