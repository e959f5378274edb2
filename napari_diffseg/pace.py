"""How fast models run on this machine, learned from runs and kept between sessions.

Seconds per network pass and million voxels, by model and device. Told before a run as "about"; nothing depends
on it.
"""

from __future__ import annotations

import json
from pathlib import Path

from platformdirs import user_cache_path

from diffseg.io.atomic import write_text

# A new measurement counts this much against what was known, so that one slow moment is soon forgotten.
WEIGHT = 0.5
PER = 1e6


class Paces:
    """What is known; read from ``path`` when first asked. A file that cannot be read or written is no trouble."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, float] | None = None
        self._news = False

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self._path or user_cache_path("napari-diffseg") / "pace.json"

    def seconds(self, model: str, device: str, passes: float, voxels: int, method: str = "") -> float | None:
        """Expected seconds of ``passes`` over ``voxels`` each; None for a model that has not run here yet."""
        known = self._read()
        pace = known.get(_key(model, device, method))
        if pace is None:
            alike = [value for key, value in known.items() if key.startswith(_key(model, device, ""))]
            pace = alike[-1] if alike else None
        return None if pace is None else pace * passes * voxels / PER

    def learn(self, model: str, device: str, passes: float, voxels: int, seconds: float, method: str = "") -> None:
        """Remember that ``passes`` over ``voxels`` each took ``seconds``."""
        if passes <= 0 or voxels <= 0 or seconds <= 0:
            return
        known, key = self._read(), _key(model, device, method)
        pace = seconds / passes / voxels * PER
        self._news = True
        known[key] = pace if key not in known else (1 - WEIGHT) * known[key] + WEIGHT * pace

    def keep(self) -> None:
        """Write what is known, if there is anything new."""
        if not self._news:
            return
        self._news = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(self._read(), indent=1) + "\n")
        except Exception:  # noqa: BLE001 - an estimate less at the next start is all that is lost
            return

    def _read(self) -> dict[str, float]:
        if self._known is None:
            try:
                found = json.loads(self.path.read_text(encoding="utf-8"))
                self._known = {str(k): float(v) for k, v in found.items() if float(v) > 0}
            except (OSError, ValueError, AttributeError, TypeError):
                self._known = {}
        return self._known


def _key(model: str, device: str, method: str) -> str:
    return f"{model}|{device}|{method}"


def about(seconds: float) -> str:
    """A time in words that promise no more than they know: ``~4 min``, ``~20 s``, ``~2 h``, ``under 1 s``."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 90:
        return f"~{float(f'{seconds:.1g}') if seconds < 10 else round(seconds / 5) * 5:g} s"
    if seconds < 5400:
        return f"~{round(seconds / 60)} min"
    return f"~{float(f'{seconds / 3600:.2g}'):g} h"


paces = Paces()
