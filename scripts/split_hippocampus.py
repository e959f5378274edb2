"""Write configs/hippocampus-3d.split.json: 151 volumes for training, 38 for validation.

The volumes carry no person. Both sides of a person were numbered close together and scanned alike, so every
run of consecutive numbers whose files agree in stored type and, within 30 %, in the median intensity inside
the hippocampus is kept on one side of the split. Runs are drawn for validation in an order fixed by a hash of
their names until exactly 38 volumes are taken.

    python scripts/split_hippocampus.py <folder with images/ and labels/>
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

VALIDATION = 38
TOLERANCE = 1.3


def describe(path: Path) -> tuple[int, str, float]:
    """Number, stored type and median intensity inside the label of one volume."""
    image = nib.load(path)
    label = np.asarray(nib.load(path.parent.parent / "labels" / path.name).dataobj)
    inside = np.asarray(image.dataobj)[label > 0]
    return int(path.name.split("_")[1].split(".")[0]), str(image.get_data_dtype()), float(np.median(inside))


def runs(paths: list[Path]) -> list[list[str]]:
    """Names grouped into runs that may belong to one person."""
    groups: list[list[str]] = []
    last: tuple[int, str, float] | None = None
    for path in paths:
        now = describe(path)
        same = (
            last is not None
            and now[0] == last[0] + 1
            and now[1] == last[1]
            and 1 / TOLERANCE < now[2] / last[2] < TOLERANCE
        )
        if not same:
            groups.append([])
        groups[-1].append(path.name.removesuffix(".nii.gz"))
        last = now
    return groups


def split(groups: list[list[str]]) -> dict[str, list[str]]:
    """Whole groups to validation, in hash order, skipping those that would pass the target."""
    validation: list[str] = []
    for group in sorted(groups, key=lambda g: hashlib.sha256(g[0].encode()).hexdigest()):
        if len(validation) + len(group) <= VALIDATION:
            validation += group
    names = [name for group in groups for name in group]
    return {"train": [n for n in names if n not in validation], "validation": sorted(validation)}


def main() -> None:
    """See the module."""
    folder = Path(sys.argv[1])
    result = split(runs(sorted((folder / "images").glob("*.nii.gz"))))
    out = Path(__file__).parent.parent / "configs" / "hippocampus-3d.split.json"
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{out}: {len(result['train'])} training, {len(result['validation'])} validation volumes")


if __name__ == "__main__":
    main()
