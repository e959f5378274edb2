"""Training cases: read once, kept in memory, cut and varied at random by MONAI's transforms.

Where the files of a case lie is the matter of ``diffseg.layouts``. A slice model (card.window of two sides) takes every
slice of a volume along z as an example of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseg.card import Card
from diffseg.errors import CaseError, PlanError
from diffseg.io import read_case
from diffseg.layouts import Layout, find_layout
from diffseg.preprocess import prepare
from diffseg.stripping import stripped
from diffseg.train_plan import AugmentPlan


@dataclass(frozen=True, eq=False)
class Example:
    """A case, or a slice of one, on the model's grid: ``image (C, *W)`` float32, ``labels (R, *W)`` uint8 of R raters.

    ``kind`` is the image-level class where a table gives it; without, it follows from the labels.
    """

    name: str
    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    kind: int | None = None

    def kind_of(self, labels: NDArray[Any]) -> int:
        """The class of a part whose labels are ``labels``: that of the table, else 1 if any is above 0, else 0."""
        return int(np.any(labels)) if self.kind is None else self.kind


def read_kinds(path: Path, labels: Sequence[str]) -> dict[str, int]:
    """Image-level classes of the cases in ``labels.csv``, as positions in ``labels``.

    Raises:
        PlanError: other columns than case,label, or a label that the model does not know.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"case", "label"} <= set(rows[0]):
        raise PlanError(f"{path} must have a header line with the columns case,label and a line per case; correct it.")
    for row in rows:
        if row["label"] not in labels:
            raise PlanError(
                f"{path} gives {row['case']} the label {row['label']!r}, but the model's are {', '.join(labels)}."
            )
    return {row["case"]: labels.index(row["label"]) for row in rows}


def load_examples(folder: Path, names: Sequence[str], card: Card) -> list[Example]:
    """All examples of these cases, see ``load_case``; the table of image-level classes is read if there is one.

    Raises:
        CaseError, PlanError: missing or unusable files, or no classes where the model's task needs them.
    """
    table, kinds = folder / "labels.csv", None
    if card.task != "mask" and card.labels:
        if table.is_file():
            kinds = read_kinds(table, card.labels)
        elif len(card.labels) != 2:
            raise PlanError(f"{card.name} has {len(card.labels)} labels, which masks cannot tell; write {table}.")
    layout = find_layout(folder)
    return [example for name in names for example in load_case(layout, name, card, kinds)]


def load_case(layout: Layout, name: str, card: Card, kinds: dict[str, int] | None = None) -> list[Example]:
    """Read one case and bring it to the model's grid and intensity rule, exactly as sampling does.

    Where ``kinds`` gives the image-level class of the case, no label files are read and labels are 0.

    Raises:
        CaseError: missing files, labels beyond the card's classes, or a case that the table does not list.
    """
    if kinds is not None and name not in kinds:
        raise CaseError(f"The split names {name}, but {layout.folder / 'labels.csv'} has no line for it; add one.")
    needs_masks = kinds is None and (card.task != "image" or bool(card.labels))
    raters = layout.raters(name) if needs_masks else ()
    case = read_case(layout.images(name, card.channels), raters)
    if case.ndim < card.spatial or len(case.image) != len(card.channels):
        raise CaseError(
            f"{name} is {case.ndim}D with {len(case.image)} channel(s), but the model takes {card.spatial}D images "
            f"with {len(card.channels)}; correct the data or the configuration."
        )
    prepared = prepare(case, card.rule, None, card.spatial)
    masks = [
        encoded(prepared.encode_labels(m), path, card) for m, path in zip(case.raters.values(), raters, strict=True)
    ]
    labels = np.stack(masks or [np.zeros(prepared.image.shape[1:], np.uint8)])
    kind = None if kinds is None else kinds[name]
    if case.ndim == card.spatial:
        return [Example(name, prepared.image, labels, kind)]
    slices = range(labels.shape[1])
    return [Example(name, prepared.image[:, z].copy(), labels[:, z].copy(), kind) for z in slices]


def encoded(labels: NDArray[Any], path: Path, card: Card) -> NDArray[np.uint8]:
    """Labels as uint8; raises ``CaseError`` for one beyond the classes of a mask model."""
    if card.task == "mask" and labels.max(initial=0) >= len(card.classes):
        raise CaseError(
            f"{path} holds the label {int(labels.max())}, but the model has {len(card.classes)} classes "
            f"(0 to {len(card.classes) - 1}); correct the file or the configuration."
        )
    return (labels if card.task == "mask" else labels > 0).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Pick:
    """What one update uses of an example: the image and the labels ``(D, *W)`` of D drawn raters."""

    example: Example
    labels: NDArray[np.uint8]


def picked(examples: Sequence[Example], batch: int, seed: int, raters: int = 1) -> list[Pick]:
    """``batch`` examples, no one twice if there are enough, and of each ``raters`` drawn raters, all alike likely.

    No rater comes twice before all have come.
    """
    chooser = np.random.default_rng(seed)
    chosen = [examples[i] for i in chooser.choice(len(examples), batch, replace=len(examples) < batch)]
    orders = (np.resize(chooser.permutation(len(e.labels)), raters) for e in chosen)
    return [Pick(e, e.labels[order]) for e, order in zip(chosen, orders, strict=True)]


def cut_anywhere(pick: Pick, patch: Sequence[int], chooser: np.random.Generator) -> Pick:
    """The pick cut to a patch and a quarter of it on every side, for turning and scaling.

    The patch itself lies inside the image where that is large enough; every second one is placed round a voxel of a
    structure, if there is any, the others anywhere. Beyond the image its outermost values go on; labels are 0.
    """
    shape = pick.labels.shape[1:]
    centre = [int(chooser.integers(side)) for side in shape]
    if chooser.random() < 0.5 and pick.labels.any():
        found = np.flatnonzero(pick.labels.any(axis=0))
        centre = [int(i) for i in np.unravel_index(found[chooser.integers(len(found))], shape)]
    indices, inside = [], []
    for middle, side, size in zip(centre, shape, patch, strict=True):
        start = min(max(middle - size // 2, 0), side - size) if side > size else (side - size) // 2
        reach = np.arange(start - size // 4, start + size + size // 4)
        indices.append(np.clip(reach, 0, side - 1))
        inside.append(((reach >= 0) & (reach < side)).astype(np.uint8))
    image = np.stack([channel[np.ix_(*indices)] for channel in pick.example.image])
    labels = np.stack([rater[np.ix_(*indices)] for rater in pick.labels])
    for known in np.ix_(*inside):
        labels = labels * known
    return Pick(replace(pick.example, image=image), labels)


class Augmenter:
    """Draws patches: ``draw(picks, seed) -> (image (B, C, *P), labels (B, D, *P))``, the same for the same seed."""

    def __init__(self, plan: AugmentPlan, patch: Sequence[int]) -> None:
        try:
            from monai import transforms as mt  # heavy, and only training needs it
        except ImportError:
            raise PlanError("Training needs MONAI; install it with: pip install 'napari-diffseg[train]'.") from None
        self._anywhere, self._patch = plan.place == "anywhere", tuple(patch)
        self._strip = plan.strip_probability
        n = len(patch)
        angle = np.deg2rad(plan.rotate_degrees)
        steps: list[Any] = []
        if plan.flip_left_right:
            steps.append(mt.RandFlipd(("image", "labels"), prob=0.5, spatial_axis=n - 1))
        affine = mt.RandAffined(
            ("image", "labels"),
            prob=plan.affine_probability,
            rotate_range=[angle] * (n if n == 3 else 1),
            scale_range=[plan.scale] * n,
            translate_range=[plan.shift_voxels] * n,
            spatial_size=tuple(patch),
            mode=("bilinear", "nearest"),
            padding_mode=("border", "zeros"),
        )
        intensity = [
            mt.RandBiasFieldd("image", prob=plan.bias_probability, coeff_range=(0.0, plan.bias_field)),
            mt.RandAdjustContrastd("image", prob=plan.gamma_probability, gamma=plan.gamma),
            # What lies in a region besides the structure moves its mean and spread, and with them every grey value.
            mt.RandScaleIntensityd("image", prob=plan.intensity_probability, factors=plan.intensity_scale),
            mt.RandShiftIntensityd("image", prob=plan.intensity_probability, offsets=plan.intensity_shift),
            mt.RandGaussianNoised("image", prob=plan.noise_probability, std=plan.noise_std),
        ]
        self._transform = mt.Compose([*steps, affine, *intensity])

    def draw(self, picks: Sequence[Pick], seed: int) -> tuple[Tensor, Tensor]:
        """See the class."""
        self._transform.set_random_state(seed=seed % 2**32)
        if self._anywhere:
            chooser = np.random.default_rng(seed)
            picks = [cut_anywhere(p, self._patch, chooser) for p in picks]
        rows = [self._transform({"image": p.example.image, "labels": p.labels.astype(np.float32)}) for p in picks]
        images = torch.stack([torch.as_tensor(np.asarray(r["image"]), dtype=torch.float32) for r in rows])
        labels = torch.stack([torch.as_tensor(np.asarray(r["labels"])) for r in rows])
        labels = labels.round().long()
        if self._strip > 0:
            images = self._stripped(images, labels[:, 0], np.random.default_rng([seed, 1]))
        return images, labels

    def _stripped(self, images: Tensor, labels: Tensor, rng: np.random.Generator) -> Tensor:
        chosen = rng.random(len(images)) < self._strip
        pairs = zip(images.numpy(), labels.numpy(), chosen, strict=True)
        return torch.from_numpy(np.stack([stripped(i, y, rng) if on else i for i, y, on in pairs]))
