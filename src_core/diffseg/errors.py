"""The errors of the core.

Every message is one sentence for the person at the screen: what was given, what was expected and what to do.
None derives from `RuntimeError`, which GUI workers are known to swallow.
"""

from __future__ import annotations


class DiffsegError(Exception):
    """Base of every error the core raises on purpose."""


class CaseError(DiffsegError):
    """A scan, a mask or a region that cannot be used as it was given."""


class CheckpointError(DiffsegError):
    """A model file that cannot be read, or does not fit the case."""


class PlanError(DiffsegError):
    """Settings that do not fit together, or an unknown name in them."""


class DeviceError(DiffsegError):
    """A compute device that is missing, or has too little memory for the smallest piece of the work."""


class Cancelled(DiffsegError):
    """The person stopped the work; nothing is wrong."""


class JournalError(DiffsegError):
    """A journal that cannot be written, or holds nothing that could be recovered."""
