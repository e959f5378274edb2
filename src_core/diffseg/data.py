"""Training cases: read once, kept in memory, cut and varied at random by MONAI's transforms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffseg.card import Card
from diffseg.errors import CaseError, PlanError
from diffseg.io import read_case
from diffseg.preprocess import prepare
from diffseg.train_plan import AugmentPlan


@dataclass(frozen=True, eq=False)
class Example:
    """A case on the model's grid: ``image (C, *W)`` float32 and ``labels (*W)`` uint8."""

    name: str
    image: NDArray[np.float32]
    labels: NDArray[np.uint8]


def read_names(split_file: Path) -> dict[str, list[str]]:
    """The names in ``train`` and ``validation``.

    Raises:
        PlanError: no such file, no JSON, a list missing, or a name in both.
    """
    try:
        split = json.loads(split_file.read_text(encoding="utf-8"))
        sides = {side: [str(name) for name in split[side]] for side in ("train", "validation")}
    except (OSError, ValueError, KeyError, TypeError) as bad:
        raise PlanError(
            f"{split_file} must be a JSON file with the lists 'train' and 'validation' ({bad!r}); write one."
        ) from None
    both = set(sides["train"]) & set(sides["validation"])
    if both:
        raise PlanError(f"{split_file} has {sorted(both)[0]} in training and in validation; keep it in one of them.")
    return sides


def case_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Image and label file of a case; raises ``CaseError`` naming the one that is missing."""
    paths = folder / "images" / f"{name}.nii.gz", folder / "labels" / f"{name}.nii.gz"
    for path in paths:
        if not path.is_file():
            raise CaseError(f"The split names {name}, but {path} is missing; put the file there or edit the split.")
    return paths


def load_example(folder: Path, name: str, card: Card) -> Example:
    """Read one case and bring it to the model's grid and intensity rule, exactly as sampling does."""
    image, label = case_paths(folder, name)
    case = read_case([image], raters=[label])
    prepared = prepare(case, card.rule, None)
    labels = prepared.encode_labels(next(iter(case.raters.values())))
    if labels.max(initial=0) >= len(card.classes):
        raise CaseError(
            f"{label} holds the label {int(labels.max())}, but the model has {len(card.classes)} classes "
            f"(0 to {len(card.classes) - 1}); correct the file or the configuration."
        )
    return Example(name, prepared.image, labels.astype(np.uint8))


class Augmenter:
    """Draws patches: ``draw(examples, seed) -> (image (B, C, *P), labels (B, *P))``, the same for the same seed."""

    def __init__(self, plan: AugmentPlan, patch: Sequence[int]) -> None:
        try:
            from monai import transforms as mt  # heavy, and only training needs it
        except ImportError:
            raise PlanError("Training needs MONAI; install it with: pip install 'napari-diffseg[train]'.") from None
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
            mt.RandGaussianNoised("image", prob=plan.noise_probability, std=plan.noise_std),
        ]
        self._transform = mt.Compose([*steps, affine, *intensity])

    def draw(self, examples: Sequence[Example], seed: int) -> tuple[Tensor, Tensor]:
        """See the class."""
        self._transform.set_random_state(seed=seed % 2**32)
        rows = [self._transform({"image": e.image, "labels": e.labels[None].astype(np.float32)}) for e in examples]
        images = torch.stack([torch.as_tensor(np.asarray(r["image"]), dtype=torch.float32) for r in rows])
        labels = torch.stack([torch.as_tensor(np.asarray(r["labels"])[0]) for r in rows])
        return images, labels.round().long()
