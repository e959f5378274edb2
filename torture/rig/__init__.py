"""What the programs of this folder share: seeds, mutations, workers that may die, and an audit of what a file runs."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# The code beside this folder is what is tried, whatever else is installed.
sys.path.insert(0, str(REPOSITORY / "src_core"))
# Small models and scans are made by the same code as in the tests.
for folder in (REPOSITORY / "tests", REPOSITORY / "torture"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
