"""From a foreign checkpoint to a house checkpoint: read, describe, build, load, check, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from diffseg.card import Card, read_card, sha256
from diffseg.checkpoint import build_network, build_schedule, save_checkpoint
from diffseg.convert.cards import guided_card, monai_card, refuse_unknown
from diffseg.convert.profiles import profile
from diffseg.convert.selfcheck import Finding, self_check
from diffseg.convert.settings import changed
from diffseg.convert.weights import read_weights
from diffseg.devices import is_out_of_memory
from diffseg.errors import CheckpointError, DeviceError, PlanError
from diffseg.nets.hollow import hollow_network


@dataclass(frozen=True, eq=False)
class Conversion:
    """A converted model: ``card``, ``network`` in evaluation mode, and what there is to say about it in sentences.

    ``findings`` are the results of the self-check; ``warnings`` those among them that look wrong.
    """

    card: Card
    network: nn.Module
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what looks wrong; empty where nothing does."""
        return tuple(f.sentence for f in self.findings if f.suspicious)

    def save(self, path: Path) -> str:
        """Write the house checkpoint and return its SHA-256."""
        save_checkpoint(path, self.card, self.network)
        return sha256(path)


def refuse_output(path: Path) -> None:
    """Raise ``PlanError`` for a place where no house checkpoint can be put.

    An existing house checkpoint may be replaced, another file not.
    """
    if path.suffix.lower() != ".safetensors":
        raise PlanError(f"The model must be written to a .safetensors file, not {path.name}; change -o.")
    if path.exists():
        try:
            read_card(path)
        except CheckpointError:
            raise PlanError(f"{path} exists and is no house checkpoint; choose another name for -o.") from None


def convert(
    source: Path, name: str, changes: Mapping[str, Any] | None = None, tensors_only: bool = False
) -> Conversion:
    """The model in ``source``, described by the profile ``name`` with some settings changed.

    Nothing in the file is executed. The architecture is read from the tensors; everything else comes from the
    ``changes``, else from settings stored in the file, else from the profile.

    Raises:
        CheckpointError: a file that cannot be used, or tensors that do not fit the architecture read from them.
        PlanError: an unknown profile or setting, or settings that contradict the tensors.
    """
    chosen = profile(name)
    weights = read_weights(source, tensors_only)
    settings = changed(chosen.settings, chosen.stored(weights.settings), f"The settings in {source.name}")
    settings = changed(settings, changes or {}, "--set")
    settings = settings if settings.name else replace(settings, name=source.stem)
    refuse_unknown(settings)
    make = monai_card if chosen.family == "monai" else guided_card
    card = replace(make(weights, settings, source), source=f"{name}: {source.name}, SHA-256 {sha256(source)}")
    build_schedule(card)  # refuses unusable settings before any weight is loaded
    prefix = "net." if chosen.family == "monai" else ""
    network = filled(card, {prefix + k: v for k, v in weights.tensors.items()}, source.name)
    return Conversion(card, network, weights.notes, self_check(card, network))


def filled(card: Card, tensors: Mapping[str, Tensor], name: str) -> nn.Module:
    """The network on ``card`` with these ``tensors``, in evaluation mode.

    Shapes are compared before memory is taken: those of a damaged file may ask for all there is. Raises as
    ``load_strict``, and ``DeviceError`` where the memory is too small for the network.
    """
    what = f"The architecture read from {name}"
    refuse_other_tensors(
        hollow_network(lambda: build_network(card), card.network, 2 * len(tensors) + 100, what), tensors, name
    )
    try:
        network = build_network(card)
        load_strict(network, tensors, name)
    except (MemoryError, RuntimeError) as bad:
        if is_out_of_memory(bad):
            raise DeviceError(f"There is too little memory for the network in {name}; close other programs.") from None
        raise
    return network.eval()


def load_strict(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Put ``tensors`` into ``network``.

    Raises:
        CheckpointError: tensors missing, left over or of other shapes, with counts and the first names of each.
    """
    refuse_other_tensors(network, tensors, name)
    network.load_state_dict(dict(tensors))


def refuse_other_tensors(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Raise ``CheckpointError`` unless names and shapes of ``tensors`` are those of ``network``."""
    own = {k: tuple(v.shape) for k, v in network.state_dict().items()}
    shapes = {k: tuple(v.shape) for k, v in tensors.items()}
    wrong = {
        "missing": [k for k in own if k not in shapes],
        "left over": [k for k in shapes if k not in own],
        "of another shape": [f"{k} {shapes[k]} for {s}" for k, s in own.items() if shapes.get(k, s) != s],
    }
    found = "; ".join(listing(names, what) for what, names in wrong.items() if names)
    if found:
        raise CheckpointError(
            f"The tensors of {name} do not fit the architecture that was read from them: {found}; it may come from a "
            "modified network, or need another profile."
        )


def listing(names: Sequence[str], what: str) -> str:
    """``5 missing (a, b, c, ...)``."""
    return f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
