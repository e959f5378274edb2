"""Render CT-like slices around real four-rater nodule outlines, in the LIDC folder layout, split by patient.

    python scripts/render_lung_nodules.py CONTOURS_FOLDER --out FOLDER [--seed 0] [--train-variants 2]
    python scripts/render_lung_nodules.py --real SLICES_FOLDER --out FOLDER
    python scripts/render_lung_nodules.py --compare SLICES_FOLDER --out FOLDER

The first form reads lidc_4rater_slices_train.npz and lidc_nodules_train.csv and writes
FOLDER/<patient>/<slice>_<variant>/image_<slice>.png with label0_.png ... label3_.png, and FOLDER/split.json:
"train" (patients apart from the others), "validation" (200 slices, few of any patient) and "held_back" (the other
slices of the validation patients). The second form only copies real slices into the same layout: split.json names
all as validation, split_unseen.json those that nobody looked at while the renderer was written. The third form prints
grey-level statistics of the validation renderings in FOLDER beside those of the real slices that were looked at.
Every slice has its own random stream, so a slice does not depend on which others are rendered.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from lung_render.contours import Contours, read_contours, read_real
from lung_render.scene import render
from lung_render.statistics import table
from numpy.typing import NDArray
from PIL import Image

VALIDATION_SHARE = 0.2
REPORTED = 200
LOOKED_AT = ("testing_24", "training_0", "training_1", "training_3", "training_15")


def write_case(folder: Path, name: str, image: NDArray, masks: NDArray) -> None:
    """One case in the LIDC folder layout; masks become 0 / 255."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / f"image_{name}.png")
    for i, mask in enumerate(masks):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"label{i}_.png")


def case_name(contours: Contours, index: int, variant: int) -> str:
    """Name of a rendering: patient, slice and variant."""
    return f"{contours.patient(index)}/{index:04d}_{variant}"


def split_slices(contours: Contours, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Slices for training, for reporting and held back; no patient is on both sides."""
    rng = np.random.default_rng([seed, 1])
    patients = sorted({row.patient for row in contours.rows})
    chosen = set(rng.permutation(patients)[: round(VALIDATION_SHARE * len(patients))].tolist())
    count = len(contours.nodule)
    train = [i for i in range(count) if contours.patient(i) not in chosen]
    rest = [i for i in range(count) if contours.patient(i) in chosen]
    waiting = {p: rng.permutation([i for i in rest if contours.patient(i) == p]).tolist() for p in sorted(chosen)}
    reported: list[int] = []
    while len(reported) < min(REPORTED, len(rest)):
        for patient in sorted(waiting):
            if waiting[patient] and len(reported) < REPORTED:
                reported.append(waiting[patient].pop())
    return train, sorted(reported), sorted(set(rest) - set(reported))


def render_all(contours: Contours, out: Path, seed: int, variants: int, part: slice) -> None:
    """Render the slices of ``part``; all lists of the split are written whatever the part."""
    train, reported, held_back = split_slices(contours, seed)
    jobs = [(i, v) for i in train for v in range(variants)] + [(i, 0) for i in reported + held_back]
    split = {
        "train": [case_name(contours, i, v) for i in train for v in range(variants)],
        "validation": [case_name(contours, i, 0) for i in reported],
        "held_back": [case_name(contours, i, 0) for i in held_back],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "split.json").write_text(json.dumps(split, indent=1) + "\n", encoding="utf-8")
    jobs, began = jobs[part], time.monotonic()
    for done, (index, variant) in enumerate(jobs, 1):
        result = render(np.random.default_rng([seed, 2, index, variant]), contours.slice(index))
        write_case(out / case_name(contours, index, variant), f"{index:04d}", result.image, result.masks)
        if done % 500 == 0 or done == len(jobs):
            spent = time.monotonic() - began
            print(f"{done} of {len(jobs)} slices, {spent:.0f} s, {spent / done * (len(jobs) - done):.0f} s left")


def copy_real(source: Path, out: Path) -> None:
    """Real slices in the same layout, for validation only."""
    names = sorted(folder.name for folder in source.iterdir() if (folder / "image.png").is_file())
    for name in names:
        write_case(out / name, name, *read_real(source / name))
    unseen = [name for name in names if name not in LOOKED_AT]
    for file, chosen in (("split.json", names), ("split_unseen.json", unseen)):
        split = {"train": [], "validation": chosen}
        (out / file).write_text(json.dumps(split, indent=1) + "\n", encoding="utf-8")
    print(f"{len(names)} real slices, {len(unseen)} of them unseen")


def compare(source: Path, out: Path) -> None:
    """Print the statistics of real slices, only those that were looked at, and of rendered validation slices."""
    names = json.loads((out / "split.json").read_text(encoding="utf-8"))["validation"]
    real = [read_real(source / name) for name in LOOKED_AT]
    print(table(real, [read_case(out / name) for name in names]))


def read_case(folder: Path) -> tuple[NDArray, NDArray]:
    """Grey values and masks of a case in the LIDC folder layout."""
    masks = [np.asarray(Image.open(path)) > 127 for path in sorted(folder.glob("label*_.png"))]
    return np.asarray(Image.open(next(folder.glob("image_*.png")))), np.stack(masks)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("contours", type=Path, nargs="?")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train-variants", type=int, default=2)
    parser.add_argument("--part", default="0/1", help="k/n: render only every n-th slice, from the k-th")
    given = parser.parse_args()
    if given.real is not None:
        copy_real(given.real, given.out)
    elif given.compare is not None:
        compare(given.compare, given.out)
    elif given.contours is not None:
        first, step = (int(word) for word in given.part.split("/"))
        render_all(read_contours(given.contours), given.out, given.seed, given.train_variants, slice(first, None, step))
    else:
        parser.error("give a folder of contours, or --real or --compare with a folder of slices")


if __name__ == "__main__":
    main()
