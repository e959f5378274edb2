"""Libraries that read damaged files without a word of theirs: they repeat what stands in a header."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unlogged(name: str) -> Iterator[None]:
    """Keep the logger of that name from logging anything from this thread."""
    logger, thread = logging.getLogger(name), threading.get_ident()

    def others(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger.addFilter(others)
    try:
        yield
    finally:
        logger.removeFilter(others)


@contextmanager
def silent(name: str) -> Iterator[None]:
    """As `unlogged`, and without warnings."""
    with unlogged(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
