"""Profiles: what the public code bases do that their checkpoints do not say. No torch.

The facts come from the repositories at the commits named here: openai/guided-diffusion 22e0df8, CIMD a9677af, Wolleb
et al. (segmentation) 676f214, cond_ddpm_wsss 57d6a55, diffusion-anomaly 509643c, AmbDiffSeg 1e93309, MONAI 1.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from diffseg.convert.settings import Settings
from diffseg.errors import PlanError
from diffseg.registry import Registry

Family = Literal["guided", "monai"]


def nothing_stored(_: Mapping[str, Any]) -> dict[str, Any]:
    """For code bases that keep no settings in their checkpoints."""
    return {}


def ambdiffseg_stored(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from the configuration in an AmbDiffSeg checkpoint, as far as it is there and known."""
    unet, diffusion, sampling = (config.get(k) or {} for k in ("unet", "diffusion", "sampling"))
    squashed = str(unet.get("final_act", "")).startswith("tanh")
    heads = {"eps": "eps", "v": "v", "both": "both", "p": "x0-probability", "p_logits": "x0"}
    heads["x"] = "x0-tanh" if squashed else "x0-value"
    schedules = {"cosine": "cosine", "linear_simple": "linear-simple"}
    upward = unet.get("num_heads_upsample")
    found = {
        "heads": unet.get("num_heads"),
        "heads_up": upward if isinstance(upward, int) and upward > 0 else None,
        "prediction": heads.get(unet.get("predict", "")),
        "schedule": schedules.get(diffusion.get("noise_schedule", "")),
        "steps": sampling.get("num_timesteps"),
        "sampler": sampling.get("sampler_type"),
    }
    found["schedule.input_scale"] = diffusion.get("input_scale")
    found["prediction.keep_eps"] = True if found["prediction"] else None
    if found["prediction"] == "both":
        found["prediction.published_weights"] = True
    if found["sampler"] == "ddpm":
        found["sampler.variance"] = diffusion.get("var_type")
    return {k: v for k, v in found.items() if v is not None}


@dataclass(frozen=True)
class Profile:
    """Settings of one code base, the family of its networks, and how to read settings stored in its files."""

    settings: Settings
    family: Family = "guided"
    stored: Callable[[Mapping[str, Any]], dict[str, Any]] = nothing_stored


PROFILES: Registry[Profile] = Registry("profile")

IMGX = (
    "Checkpoints of ImgX-DiffSeg (Flax) cannot be converted: no released one exists that a reader could be checked "
    "against; train a model with 'diffseg train', which has the same schedule, codec, losses and recycling."
)


def profile(name: str) -> Profile:
    """The profile called ``name``.

    Raises:
        PlanError: unknown, or ``imgx``, which is known but cannot be read.
    """
    if name == "imgx":
        raise PlanError(IMGX)
    return PROFILES[name]


GUIDED = Settings(
    task="image",
    heads=4,
    window=(64, 64),
    sampler_settings={"variance": "learned"},
    title="Guided diffusion",
    description="Draws images in the manner of those it was trained on",
    citation="Dhariwal and Nichol 2021, Diffusion models beat GANs on image synthesis",
)
CIMD = Settings(
    codec="binary",
    codec_settings={"low": 0.0, "high": 1.0},
    prediction_settings={"learned_variance": True},
    sampler_settings={"variance": "learned"},
    channels=("image",),
    normalise="unit",
    title="CIMD: ambiguous masks",
    description="Draws masks of one structure in a grey image, as various as those of its raters",
    citation="Rahman et al. 2023, Ambiguous medical image segmentation using diffusion models",
)
WOLLEB = Settings(
    codec="binary",
    codec_settings={"low": 0.0, "high": 1.0},
    prediction_settings={"learned_variance": True},
    sampler_settings={"variance": "learned"},
    channels=("t1", "t1ce", "t2", "flair"),
    classes=("background", "tumour"),
    normalise="unit",
    window=(224, 224),
    title="Implicit segmentation ensembles (BraTS)",
    description="Draws masks of brain tumours in four MR images",
    citation="Wolleb et al. 2022, Diffusion models for implicit image segmentation ensembles",
)
WSSS = Settings(
    task="image",
    heads=4,
    channels=("image",),
    labels=("normal", "lesion"),
    normalise="unit",
    window=(224, 224),
    sampler="ddim",
    steps=50,
    title="Conditional diffusion model for weak supervision",
    description="Draws images with or without a lesion; the difference is a saliency map",
    citation="Hu et al. 2023, Conditional diffusion models for weakly supervised medical image segmentation",
)
ANOMALY = Settings(
    task="image",
    labels=("healthy", "diseased"),
    normalise="unit",
    window=(256, 256),
    sampler="ddim",
    title="Diffusion model for anomaly detection",
    description="Draws healthy images; the difference to a scan is a saliency map",
    citation="Wolleb et al. 2022, Diffusion models for medical anomaly detection",
)
AMBDIFFSEG = Settings(
    codec="binary",
    heads=4,
    mask="first",
    max_period=10.0,
    schedule="cosine",
    schedule_settings={"input_scale": 0.1},
    prediction="x0-tanh",
    prediction_settings={"keep_eps": True},
    sampler_settings={"variance": "large"},
    steps=10,
    channels=("image",),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    normalise="unit",
    title="Ambiguous masks in ten steps",
    description="Draws masks of one structure in a grey image, as various as those of its raters",
    citation="Christensen et al. 2025, diffusion models for ambiguous segmentation",
)
MONAI = Settings(
    schedule_settings={"count": 1000},
    codec_settings={"low": 0.0, "high": 1.0},
    normalise="unit",
    title="DiffusionModelUNet of MONAI",
    description="Draws masks of an image",
)

PROFILES.add("guided-diffusion", "openai/guided-diffusion and improved-diffusion: images in [-1, 1]")(Profile(GUIDED))
PROFILES.add("cimd", "CIMD: masks of one grey image, which the network sees four times")(Profile(CIMD))
PROFILES.add("wolleb-brats", "Wolleb et al.: masks of four MR images")(Profile(WOLLEB))
PROFILES.add("cdm-wsss", "cond_ddpm_wsss: images with an image-level label (CDM, CG-CDM)")(Profile(WSSS))
PROFILES.add("diffusion-anomaly", "diffusion-anomaly: images with a health label (CG-Diff)")(Profile(ANOMALY))
PROFILES.add("ambdiffseg", "AmbDiffSeg (Christensen et al.): masks in ten steps")(
    Profile(AMBDIFFSEG, stored=ambdiffseg_stored)
)
PROFILES.add("monai", "DiffusionModelUNet of MONAI with its arguments: masks of an image")(Profile(MONAI, "monai"))
