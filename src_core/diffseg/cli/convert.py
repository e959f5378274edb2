"""``diffseg convert``: a checkpoint of another code base made into a house checkpoint; nothing in it is executed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from diffseg.convert.profiles import PROFILES
from diffseg.convert.settings import parse_changes

HELP = "convert a checkpoint of another code base"


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options."""
    sub.formatter_class = argparse.RawDescriptionHelpFormatter
    rows = {name: PROFILES.help(name) for name in PROFILES} | {"imgx": "ImgX-DiffSeg: cannot be read, and says why"}
    sub.epilog = "profiles:\n" + "\n".join(f"  {name:18} {text}" for name, text in rows.items())
    sub.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="a .pt, .pth, .ckpt or .safetensors file")
    sub.add_argument("--profile", required=True, metavar="NAME", help="the code base it comes from, see below")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="change what the profile says, for example heads=4; an unknown key lists the known ones",
    )
    sub.add_argument("-o", "--out", required=True, type=Path, metavar="MODEL.safetensors")
    sub.add_argument(
        "--tensors-only", action="store_true", help="read a file that would run code, ignoring all but its tensors"
    )


def run(options: argparse.Namespace) -> None:
    """Convert, write, and say what was found."""
    from diffseg.cli.models import describe  # torch, only now
    from diffseg.convert.conversion import convert, refuse_output

    refuse_output(options.out)
    made = convert(options.checkpoint, options.profile, parse_changes(options.changes), options.tensors_only)
    digest = made.save(options.out)
    print(describe(made.card, options.out, digest))
    for sentence in (*made.notes, *(f"Warning: {w}" for w in made.warnings)):
        sys.stderr.write(f"diffseg: {sentence}\n")
