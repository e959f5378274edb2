"""The networks behind the reference numbers, made ready by the same conversion that a person runs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from diffseg.convert.conversion import Conversion, convert

PROFILES = {
    "guided_diffusion": "guided-diffusion",
    "cimd": "cimd",
    "wolleb_seg": "wolleb-brats",
    "cond_ddpm_wsss": "cdm-wsss",
    "diffusion_anomaly": "diffusion-anomaly",
    "ambdiffseg": "ambdiffseg",
}


def weights_file(folder: Path, flags: dict[str, Any], tag: str) -> Path:
    """The checkpoint that goes with ``flags_<tag>.json``."""
    named = [flags.get("_safetensors"), flags.get("_pt_file"), f"unet_{tag}.safetensors", "default_ckpt.pt"]
    for name in named:
        if name and (folder / name).is_file():
            return folder / name
    return next(p for p in sorted(folder.glob("*.pt")) if not p.name.startswith("opt"))


def changes(flags: dict[str, Any]) -> dict[str, Any]:
    """What ``--set`` must say for the creation flags of the guided-diffusion family."""
    positive = {"head_channels": flags["num_head_channels"], "heads_up": flags["num_heads_upsample"]}
    return {k: v for k, v in positive.items() if v > 0} | {
        "heads": flags["num_heads"],
        "head_order": "new" if flags["use_new_attention_order"] else "legacy",
        "prediction": "x0-value" if flags["predict_xstart"] else "eps",
        "prediction.learned_variance": flags["learn_sigma"],
        "schedule.betas": flags["noise_schedule"],
        "schedule.count": flags["diffusion_steps"],
        "schedule.rescale": flags["rescale_timesteps"],
    }


@cache
def network_of(folder: Path, tag: str) -> Conversion:
    """The U-Net of ``flags_<tag>.json`` (AmbDiffSeg: ``flags.json``, whose settings lie in the checkpoint too)."""
    named = folder / f"flags_{tag}.json"
    flags = json.loads((named if named.is_file() else folder / "flags.json").read_text())
    profile = PROFILES[folder.name]
    asked = {} if profile == "ambdiffseg" else changes(flags)
    return convert(weights_file(folder, flags, tag), profile, asked)


@cache
def classifier_of(folder: Path, tag: str) -> Conversion:
    """The classifier of ``flags_classifier<tag>.json``."""
    flags = json.loads((folder / f"flags_classifier{tag}.json").read_text())
    asked = {"head_channels": flags["num_head_channels"], "window": (flags["image_size"],) * 2}
    return convert(folder / f"classifier{tag}.safetensors", PROFILES[folder.name], asked)
