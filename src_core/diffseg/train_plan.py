"""What a training run is: frozen plans, written by a person as TOML. Free of torch."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict

from diffseg.card import Card
from diffseg.errors import PlanError
from diffseg.records import from_dict


@dataclass(frozen=True)
class DataPlan:
    """Where the cases are: a ``folder`` in one of the layouts of ``diffseg.layouts``.

    ``split`` is a JSON file with the lists ``train`` and ``validation`` of case names. Relative paths are relative
    to the folder of the configuration file.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    folder: Path
    split: Path


@dataclass(frozen=True)
class AugmentPlan:
    """Random changes of a training case. Angles in degrees, shifts in voxels, ``scale`` as a fraction.

    ``place`` says where patches are cut: round the middle of a case, or "anywhere" in it, half of them round a voxel of
    a structure, which suits cases larger than the patch. ``intensity_scale`` is a fraction, ``intensity_shift`` in
    units of the normalised image. ``strip_probability`` is how often a patch looks as if the skull had been removed.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    place: Literal["centre", "anywhere"] = "centre"
    flip_left_right: bool = False
    rotate_degrees: float = 10.0
    scale: float = 0.12
    shift_voxels: float = 4.0
    affine_probability: float = 0.7
    gamma: tuple[float, float] = (0.7, 1.5)
    gamma_probability: float = 0.3
    noise_std: float = 0.1
    noise_probability: float = 0.2
    bias_field: float = 0.3
    bias_probability: float = 0.2
    intensity_scale: float = 0.0
    intensity_shift: float = 0.0
    intensity_probability: float = 0.0
    strip_probability: float = 0.0


@dataclass(frozen=True)
class FitPlan:
    """How to optimise.

    Batches of ``batch`` images; of each image ``draws`` masks are noised, every one of another rater as far as there
    are raters. Networks with an encoder of their own see the image once for all of them.

    Noise. ``diffusion_steps`` K are the noise levels of training; ``uniform_fraction`` of the draws take a time from
    all of [0, 1] instead, so that other numbers of steps work too. ``stratified`` spreads the times of a batch evenly.
    ``noisiest`` is the largest time drawn, below 1 for a classifier that is never asked about pure noise.

    Weights of the losses, 0 to leave one out. ``dice``, ``cross_entropy`` and ``focal`` compare masks; ``mse`` is the
    squared error, by ``mse_of`` of the head's own "target" (noise, velocity; class logits have none) or of the clean
    mask, "x0"; ``bound`` is the variational bound, in bits per dimension, that trains a learned variance, with
    ``rescale_bound`` times K / 1000. The hybrid loss of guided-diffusion is ``mse`` 1 and ``bound`` 1, the others 0.
    ``weighting`` (with ``weighting_settings``) says how much each level counts in the error of the clean mask;
    ``decoupled`` multiplies it by -d(log-SNR)/dt.

    Masks. ``recycling`` is ``none``, ``next`` (Fu et al. 2023: the prediction from one level up) or ``max`` (the
    follow-up: from pure noise). ``self_condition`` is the share of samples that are shown the network's own estimate,
    usually 0.5, for networks with input channels for it.

    ``autocast``: bfloat16 inside the network, also where the device is not CUDA, which always has it.

    Images are trained with ``mse`` and ``bound`` only, classifiers with cross-entropy, whatever the weights of masks.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    updates: int
    batch: int = 2
    draws: int = 1
    patch: tuple[int, ...] = (40, 56, 40)
    diffusion_steps: int = 5
    uniform_fraction: float = 0.2
    stratified: bool = False
    noisiest: float = 1.0
    recycling: Literal["none", "next", "max"] = "max"
    dice: float = 1.0
    cross_entropy: float = 1.0
    focal: float = 0.0
    mse: float = 0.1
    mse_of: Literal["target", "x0"] = "target"
    bound: float = 0.0
    rescale_bound: bool = False
    weighting: str = "uniform"
    weighting_settings: dict[str, Any] = field(default_factory=dict)
    decoupled: bool = False
    self_condition: float = 0.0
    rate: float = 1e-3
    rate_end: float = 1e-5
    warmup: int = 100
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema: float = 0.999
    seed: int = 0
    save_every: int = 100
    validate_every: int = 500
    validate_cases: int = 8
    autocast: bool = False

    def __post_init__(self) -> None:
        shares = ("uniform_fraction", "noisiest", "self_condition", "ema")
        weights = ("dice", "cross_entropy", "focal", "mse", "bound")
        counts = ("updates", "batch", "draws", "diffusion_steps", "save_every", "validate_every")
        for names, low, high in ((shares, 0, 1), (weights, 0, math.inf), (counts, 1, math.inf)):
            for name in names:
                if not low <= getattr(self, name) <= high:
                    span = f"at least {low}" if high == math.inf else f"between {low} and {high}"
                    raise PlanError(f"fit.{name} is {getattr(self, name)}, but must be {span}; correct it.")


@dataclass(frozen=True)
class TrainPlan:
    """One training run; ``out`` receives ``state.pt``, ``log.csv`` and ``<name>.safetensors``."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    out: Path
    data: DataPlan
    fit: FitPlan
    model: Card
    augment: AugmentPlan = field(default_factory=AugmentPlan)


def read_train_plan(path: Path) -> TrainPlan:
    """The plan in a TOML file, with relative paths made absolute from the file's folder.

    TOML has no null: without ``model.rule.spacing_mm`` every scan keeps its own spacing.

    Raises:
        PlanError: the file is missing, is no TOML, or has a missing, unknown or wrong entry.
    """
    return plan_of(read_toml(path), str(path), path.resolve().parent)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; raises ``PlanError`` for a missing file and for another format."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise PlanError(f"There is no training configuration at {path}; give a .toml file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as bad:
        raise PlanError(f"{path} is no valid TOML ({bad}); correct it and try again.") from None


def plan_of(values: dict[str, Any], what: str, base: Path) -> TrainPlan:
    """The plan with the ``values`` of a file called ``what``, paths taken from ``base``; see ``read_train_plan``."""
    model = values.get("model")
    if isinstance(model, dict) and isinstance(model.get("rule"), dict):
        values = values | {"model": model | {"rule": {"spacing_mm": None} | model["rule"]}}
    plan = from_dict(TrainPlan, values, what, PlanError)
    data = DataPlan(base / plan.data.folder, base / plan.data.split)
    return TrainPlan(base / plan.out, data, plan.fit, plan.model, plan.augment)
