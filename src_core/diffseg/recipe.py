"""What a short training configuration leaves out, chosen by what the data are. No torch.

Three entries are enough: ``out``, ``data.folder`` and ``model.name``. Every other setting of ``diffseg.train_plan`` and
of a model's card may be given and then stands. The choices follow the shipped models. One rater: mask prediction with
recycling in 5 steps (Fu et al. 2023, 2024). Several raters: the clean mask is predicted under cross-entropy alone,
which keeps the raters' frequencies, with a cosine schedule with input scaling and 10 ancestral steps (Christensen et
al. 2025); of the predictions tried at one budget this one came nearest to the raters
(docs/models/lung-nodule-raters-2d.md).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from diffseg.errors import PlanError
from diffseg.io.atomic import write_text
from diffseg.layouts import find_layout
from diffseg.splits import draw_split, read_names
from diffseg.survey import Survey, survey
from diffseg.train_plan import TrainPlan, plan_of, read_toml

CONFIG, SPLIT = "config.toml", "split.json"
# Okabe and Ito's colours, told apart by colour-blind people too.
COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
WIDTHS = {2: (32, 64, 96, 128), 3: (16, 32, 64, 128)}
# Voxels of a patch, and of all patches of an update: what an update of about a second on two CPU cores allows.
PATCH_VOXELS = {2: 192 * 192, 3: 56 * 56 * 56}
BATCH_VOXELS = {2: 128 * 128 * 8, 3: 2 * 56 * 56 * 56}
SMALLEST_SIDE = 4  # of the coarsest level of the network
CELLS_FROM = 96  # smallest side of slices that are taken two by two pixels
FEWEST_SLICES = 16


def prepare_plan(path: Path, resume: bool = False) -> TrainPlan:
    """The plan in a TOML file. What is missing of it is chosen by the data and written to ``out``.

    ``out`` then receives ``config.toml``, the whole configuration, and ``split.json`` unless the file names a split.
    ``resume`` takes data and model from there, so that cases added since do not change a run; ``fit`` and ``augment``
    may be changed.

    Raises:
        PlanError, CaseError: an unusable configuration or unusable data, in one sentence; nothing is written then.
    """
    values = read_toml(path)
    data, model = table(values, "data", path), table(values, "model", path)
    if "split" in data and "network" in model:
        return plan_of(values, str(path), path.resolve().parent)
    given = {"out": values.get("out"), "data.folder": data.get("folder"), "model.name": model.get("name")}
    for name, value in given.items():
        if not isinstance(value, str):
            raise PlanError(f"{path} has no {name}, but out, data.folder and model.name are needed at least; add it.")
    values = values | {name: table(values, name, path) for name in ("fit", "augment")}
    base = path.resolve().parent
    out = Path(os.path.normpath(base / values["out"]))
    split = None
    if resume and (out / CONFIG).is_file():
        whole = read_toml(out / CONFIG)
        values = whole | {name: whole.get(name, {}) | values[name] for name in ("fit", "augment")}
    else:
        values, split = completed(values, base, out)
    plan = plan_of(values, str(path), out)
    write_plan(plan, values, split)
    return plan


def table(values: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    """A table of the file, empty if it has none; raises ``PlanError`` for anything else of that name."""
    found = values.get(name, {})
    if not isinstance(found, dict):
        raise PlanError(f"{path} has {name} = {found!r}, but [{name}] is a table of settings; correct it.")
    return found


Split = dict[str, list[str]]


def completed(values: dict[str, Any], base: Path, out: Path) -> tuple[dict[str, Any], Split | None]:
    """The whole configuration, with paths relative to ``out``, and the split if it had to be drawn."""
    folder = Path(os.path.normpath(base / values["data"]["folder"]))
    layout, split_file = find_layout(folder), out / SPLIT
    drawn = None if "split" in values["data"] else draw_split(layout.names(), folder)
    if drawn is None:
        split_file = base / values["data"]["split"]
    split = drawn or read_names(split_file)
    if "network" not in values["model"]:
        found = survey(layout, [*split["train"], *split["validation"]])
        values = filled(values, found, len(split["train"]))
    places = {"folder": os.path.relpath(folder, out), "split": os.path.relpath(split_file, out)}
    return values | {"out": ".", "data": values["data"] | places}, drawn


def write_plan(plan: TrainPlan, values: dict[str, Any], split: Split | None) -> None:
    """Write the whole configuration, and the split if there is one, into the plan's ``out``."""
    plan.out.mkdir(parents=True, exist_ok=True)
    if split is not None:
        write_text(plan.data.split, json.dumps(split, indent=1) + "\n")
    head = f"# Every setting of this run; train it again, or edited, with: diffseg train {CONFIG}\n"
    write_text(plan.out / CONFIG, head + tomli_w.dumps(written(plan, values)))


def filled(values: dict[str, Any], data: Survey, cases: int) -> dict[str, Any]:
    """The configuration with a model, its training and its augmentation for these data; what is given stands.

    Raises:
        PlanError: another task than masks, or a window that is none.
    """
    given = values["model"]
    if given.get("task", "mask") != "mask":
        raise PlanError(f"A model for the task {given['task']!r} needs a whole configuration; give model.network too.")
    window = given.get("window", window_for(data.large_shape[-model_axes(data) :]))
    if not isinstance(window, list | tuple) or len(window) not in WIDTHS or not all(isinstance(w, int) for w in window):
        raise PlanError(f"model.window is {window}, but a window has 2 or 3 sides in voxels; correct it.")
    named = {"classes": named_classes(given["classes"])} if isinstance(given.get("classes"), list) else {}
    card = card_values(data, given | named | {"window": window}, cases)
    model = card | given | named | {"rule": card["rule"] | given.get("rule", {})}
    n = len(window)
    batch = min(max(BATCH_VOXELS[n] // max(math.prod(window), 1), 2), 16)
    fit: dict[str, Any] = {"updates": 4000 if n == 2 else 1500, "batch": batch, "patch": window}
    fit |= several_raters_fit() if data.raters > 1 else {"diffusion_steps": 5, "recycling": "max"}
    augment: dict[str, Any] = {"flip_left_right": len(model["classes"]) == 2}  # left and right may differ in class
    if any(side > size for side, size in zip(data.large_shape[-n:], window, strict=True)):
        augment["place"] = "anywhere"
    return values | {"fit": fit | values["fit"], "augment": augment | values["augment"], "model": model}


def model_axes(data: Survey) -> int:
    """3 for volumes, 2 for slices and for volumes of so few slices that there is nothing to learn across them."""
    return 3 if data.spatial == 3 and data.large_shape[0] >= FEWEST_SLICES else 2


def several_raters_fit() -> dict[str, Any]:
    """Cross-entropy is least where every rater has his share; Dice would draw all masks to one."""
    losses = {"dice": 0.0, "cross_entropy": 1.0, "mse": 0.0}
    return losses | {"diffusion_steps": 1000, "uniform_fraction": 1.0, "stratified": True, "recycling": "none"}


def card_values(data: Survey, given: dict[str, Any], cases: int) -> dict[str, Any]:
    """The card of a model with the window ``given`` for these data, in the plain values of a configuration."""
    many, window = data.raters > 1, given["window"]
    n, cell = len(window), cell_for(window)
    widths = WIDTHS[n][: levels_for(window)]
    channels = given.get("channels", data.channels)
    classes = given.get("classes") or named_classes(["background", *class_names(data.classes)])
    binary = many and len(classes) == 2
    network = {
        "spatial": n,
        "image_channels": len(channels),
        "classes": 1 if binary else len(classes),
        "widths": list(widths),
        "patch": cell,
    }
    diffusion = {
        "prediction": "x0",
        "codec": "binary" if binary else "onehot",
        "schedule": "cosine" if many else "linear",
        "schedule_settings": {"input_scale": 0.1} if many else {},
        "sampler": "ddpm" if many else "ddim",
        "sampler_settings": {} if many else {"eta": 0.0},
        "steps": 10 if many else 5,
    }
    rule = {
        "spacing_mm": None if data.spacing_mm is None else data.spacing_mm[-n:],
        "clip_percentiles": [0.5, 99.5],
        "normalise": "zscore",
        "multiple_of": stride_for(window),
    }
    words = {
        "title": given["name"],
        "description": f"Structures in {n}D images, trained on own data",
        "licence": "that of the training data; not for clinical use",
        "training": f"{cases} cases with the masks of {f'up to {data.raters} raters' if many else 'one rater'}",
    }
    model = {"architecture": "unet", "network": network, "rule": rule, "window": window}
    return words | model | diffusion | {"channels": channels, "classes": classes}


def window_for(shape: Sequence[int]) -> tuple[int, ...]:
    """Sides of a window that holds an image of this shape as far as ``PATCH_VOXELS`` allows; the longest give way."""
    sides = list(shape)
    while any(side % stride_for(sides) for side in sides):
        sides = [-(-side // stride_for(sides)) * stride_for(sides) for side in sides]
    while math.prod(sides) > PATCH_VOXELS[len(sides)]:
        sides[sides.index(max(sides))] -= stride_for(sides)
    return tuple(sides)


def cell_for(shape: Sequence[int]) -> int:
    """Pixels of a side that the network takes as one: large slices are then four times quicker."""
    return 2 if len(shape) == 2 and min(shape) >= CELLS_FROM else 1


def levels_for(shape: Sequence[int]) -> int:
    """Resolutions of a network for images of this shape: four, fewer where the coarsest would have no width left."""
    coarsest = min(shape) / cell_for(shape) / SMALLEST_SIDE
    return max(1, min(4, 1 + int(math.log2(max(1, coarsest)))))


def stride_for(shape: Sequence[int]) -> int:
    """What the sides of a window must be multiples of."""
    return int(cell_for(shape) * 2 ** (levels_for(shape) - 1))


def class_names(classes: int) -> list[str]:
    """Names of the foreground classes of ``classes`` in all."""
    return ["structure"] if classes == 2 else [f"structure {k}" for k in range(1, classes)]


def named_classes(given: Sequence[Any]) -> list[Any]:
    """Classes given by name alone as the tables of a card; tables stay as they are."""
    colors = ["#000000", *(COLORS[k % len(COLORS)] for k in range(len(given)))]
    return [{"name": c, "color": color} if isinstance(c, str) else c for c, color in zip(given, colors, strict=False)]


def written(plan: TrainPlan, values: dict[str, Any]) -> dict[str, Any]:
    """The whole plan in the values of a TOML file, with the paths of ``values``; TOML has no null."""
    whole = asdict(plan) | {"out": values["out"], "data": values["data"]}
    del whole["model"]["format"], whole["model"]["quality"]  # belong to files of models
    plain: dict[str, Any] = json.loads(json.dumps(whole))
    return without_none(plain)


def without_none(table: dict[str, Any]) -> dict[str, Any]:
    """The table without its empty entries, at every depth."""
    return {k: without_none(v) if isinstance(v, dict) else v for k, v in table.items() if v is not None}
