"""The architecture of a guided-diffusion network, read from the names and shapes of its tensors.

What shapes cannot tell (heads, their order, the order of image and mask, the scale of time) is not guessed
here; it comes from a profile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from math import isqrt
from typing import Any

from diffseg.errors import CheckpointError, PlanError

Shapes = Mapping[str, tuple[int, ...]]


def infer_unet(shapes: Shapes) -> dict[str, Any]:
    """The fields of ``GuidedUNetConfig`` that the shapes determine.

    Raises:
        CheckpointError: not a two-dimensional network of this family.
    """
    refuse_strangers(shapes)
    decoder = _stages(shapes, "output_blocks")
    ups = [_resamples_up(shapes, k) for k in decoder]
    encoder = _stages(shapes, "input_blocks")
    if any(ups):
        counts = _runs(ups)
        blocks = tuple(n - 1 for n in reversed(counts))
    else:  # resampling without parameters: only the gaps in the encoder's numbers show it
        blocks = _encoder_blocks(shapes, encoder)
        counts = [n + 1 for n in reversed(blocks)]
    ends = list(accumulate(counts))
    if not ends or ends[-1] != len(decoder):
        raise CheckpointError(
            f"The network's {len(encoder)} encoder and {len(decoder)} decoder stages do not belong together; "
            "give a checkpoint of an unmodified guided-diffusion U-Net."
        )
    lasts = [decoder[end - 1] for end in reversed(ends)]
    spare = min(int(k.split(".")[1]) for k in shapes if k.startswith("out."))
    return _common(shapes) | {
        "outputs": shapes[f"out.{spare + 2}.weight"][0],
        "widths": tuple(shapes[f"output_blocks.{k}.0.out_layers.3.weight"][0] for k in lasts),
        "blocks": blocks,
        "attention": tuple(2**n for n, k in enumerate(lasts) if f"output_blocks.{k}.1.qkv.weight" in shapes),
        "resblock_updown": any(re.fullmatch(r"output_blocks\.\d+\.[12]\.in_layers\.2\.weight", k) for k in shapes),
        "resample_conv": any(ups) or len(blocks) == 1,
        "labels": shapes["label_emb.weight"][0] if "label_emb.weight" in shapes else 0,
        "spare": spare,
    }


def infer_classifier(
    shapes: Shapes, window: tuple[int, ...] | None = None, blocks: tuple[int, ...] | None = None
) -> dict[str, Any]:
    """The fields of ``GuidedClassifierConfig`` that the shapes determine.

    An encoder with residual blocks for downsampling may be cut into resolutions in more than one way;
    ``window``, the image size it was trained on, then decides through the side of the attention pool, or
    ``blocks`` per resolution are given.

    Raises:
        CheckpointError: as for ``infer_unet``, or the resolutions stay ambiguous.
        PlanError: ``blocks`` that do not make up the encoder.
    """
    refuse_strangers(shapes)
    pool, side = _pool(shapes)
    encoder = _stages(shapes, "input_blocks")
    updown = not any(k.endswith(".op.weight") for k in shapes) and encoder == list(range(len(encoder)))
    if not updown:
        counts = _encoder_blocks(shapes, encoder)
    else:
        counts = blocks or _cuts(shapes, encoder, side, window)
        if sum(counts) + len(counts) != len(encoder):
            raise PlanError(f"The classifier has {len(encoder)} stages, which blocks={blocks} do not make up.")
    starts = [1 + sum(counts[:n]) + n for n in range(len(counts))]
    last = {"adaptive": "out.3.weight", "spatial": "out.2.weight", "spatial_v2": "out.3.weight"}
    return _common(shapes) | {
        "outputs": shapes[last.get(pool, "out.2.c_proj.weight")][0],
        "widths": tuple(_width(shapes, k) for k in starts),
        "blocks": counts,
        "attention": tuple(2**n for n, k in enumerate(starts) if f"input_blocks.{k}.1.qkv.weight" in shapes),
        "resblock_updown": updown and len(counts) > 1,
        "resample_conv": not updown and any(k.endswith(".op.weight") for k in shapes),
        "pool": pool,
        "side": side,
    }


def refuse_strangers(shapes: Shapes) -> None:
    """Raise ``CheckpointError`` unless the tensors are those of a 2D network of this family."""
    needed = ("time_embed.0.weight", "input_blocks.0.0.weight", "input_blocks.1.0.in_layers.2.weight")
    missing = [k for k in needed if k not in shapes]
    if missing or not any(k.startswith("out.") for k in shapes):
        first = ", ".join(list(shapes)[:3]) or "none"
        raise CheckpointError(
            f"This is no network of the guided-diffusion family: {(missing or ['out'])[0]} is not among its "
            f"tensors ({first}, ...); choose another profile or file."
        )
    if len(shapes["input_blocks.0.0.weight"]) != 4:
        raise CheckpointError("This network is not two-dimensional, but 2D is all that this family is read in.")


def _common(shapes: Shapes) -> dict[str, Any]:
    first = "input_blocks.1.0"
    return {
        "inputs": shapes["input_blocks.0.0.weight"][1],
        "base": shapes["time_embed.0.weight"][1],
        "middle_blocks": sum(bool(re.fullmatch(r"middle_block\.\d+\.in_layers\.2\.weight", k)) for k in shapes),
        "scale_shift": shapes[f"{first}.emb_layers.1.weight"][0] == 2 * shapes[f"{first}.in_layers.2.weight"][0],
    }


def _stages(shapes: Shapes, part: str) -> list[int]:
    """Numbers of the stages of a part that have parameters, in order."""
    return sorted({int(k.split(".")[1]) for k in shapes if k.startswith(f"{part}.")})


def _width(shapes: Shapes, stage: int) -> int:
    return shapes[f"input_blocks.{stage}.0.out_layers.3.weight"][0]


def _resamples_up(shapes: Shapes, stage: int) -> bool:
    base = f"output_blocks.{stage}"
    return any(f"{base}.{n}.{name}.weight" in shapes for n in (1, 2) for name in ("conv", "in_layers.2"))


def _runs(ends: list[bool]) -> list[int]:
    """Lengths of the runs that each end at a True, the last one at the end of the list."""
    marks = [n + 1 for n, end in enumerate(ends) if end]
    marks = [*marks, len(ends)] if not ends or not ends[-1] else marks
    return [b - a for a, b in zip([0, *marks], marks, strict=False)]


def _encoder_blocks(shapes: Shapes, encoder: list[int]) -> tuple[int, ...]:
    """Residual blocks per resolution of an encoder whose downsampling is a convolution or has no
    parameters.
    """
    is_block = [f"input_blocks.{k}.0.in_layers.2.weight" in shapes for k in range(1, encoder[-1] + 1)]
    counts = [0]
    for block in is_block:
        if block:
            counts[-1] += 1
        else:
            counts.append(0)
    return tuple(counts)


def _pool(shapes: Shapes) -> tuple[str, int]:
    """How a classifier pools, and the side of its feature map where that is fixed (else 0)."""
    if "out.2.positional_embedding" in shapes:
        return "attention", isqrt(shapes["out.2.positional_embedding"][1] - 1)
    if len(shapes.get("out.0.weight", ())) == 2:
        return ("spatial", 0) if len(shapes.get("out.2.weight", ())) == 2 else ("spatial_v2", 0)
    return "adaptive", 0


def _cuts(shapes: Shapes, encoder: list[int], side: int, window: tuple[int, ...] | None) -> tuple[int, ...]:
    """Blocks per resolution of an encoder made of residual blocks only, equal at every resolution.

    With n blocks at each of L resolutions there are L (n + 1) - 1 stages after the stem. A cut fits if widths
    and attention are constant within each resolution and no downsampling block has attention.
    """
    total = len(encoder)
    fits = [
        (total // (n + 1), n)
        for n in range(1, total)
        if total % (n + 1) == 0 and _cut_fits(shapes, total // (n + 1), n)
    ]
    if side and window and len(fits) > 1:
        fits = [(levels, n) for levels, n in fits if side * 2 ** (levels - 1) == window[-1]]
    if len(fits) != 1:
        found = "; ".join(f"{levels} resolutions of {n} blocks" for levels, n in fits) or "none"
        raise CheckpointError(
            f"The tensors leave open how this classifier is divided into resolutions (possible: {found}); "
            "say it with --set blocks=N,N,... (one number per resolution)."
        )
    levels, n = fits[0]
    return (n,) * levels


def _cut_fits(shapes: Shapes, levels: int, n: int) -> bool:
    for level in range(levels):
        first = 1 + level * (n + 1)
        blocks, halving = range(first, first + n), first + n
        kinds = {(_width(shapes, k), f"input_blocks.{k}.1.qkv.weight" in shapes) for k in blocks}
        if len(kinds) != 1:
            return False
        if level + 1 < levels:
            same = _width(shapes, halving) == _width(shapes, first)
            if not same or f"input_blocks.{halving}.1.qkv.weight" in shapes:
                return False
    return True
