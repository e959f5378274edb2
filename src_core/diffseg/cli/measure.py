"""``diffseg measure``: sampled masks against people's masks."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = "compare sampled masks with raters' masks: GED, Dice, HD95, matched IoU, Collective Insight"


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options."""
    sub.add_argument("--sample", type=Path, action="append", required=True, nargs="+", metavar="MASK")
    sub.add_argument("--rater", type=Path, action="append", required=True, nargs="+", metavar="MASK")
    sub.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(options: argparse.Namespace) -> None:
    """Print the table or the JSON."""
    from diffseg.agreement import agreement, table
    from diffseg.io import open_file, read_members
    from diffseg.outputs import plain

    sample_paths = [p for group in options.sample for p in group]
    rater_paths = [p for group in options.rater for p in group]
    grid = open_file(rater_paths[0], members=True).grid
    samples = [m for p in sample_paths for m in read_members(p, grid)]
    raters = [m for p in rater_paths for m in read_members(p, grid)]
    record = agreement(samples, raters, grid.spacing_mm)
    print(json.dumps(plain(record), indent=2) if options.json else table(record))
