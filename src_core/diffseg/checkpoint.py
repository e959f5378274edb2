"""Checkpoints: a card and a network in one file, and back. Nothing in a file is ever executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from diffseg.card import METADATA_KEY, Card, read_card
from diffseg.codec import Codec, build_codec
from diffseg.denoise import Denoiser, Head, bound, build_head
from diffseg.devices import is_out_of_memory
from diffseg.errors import CheckpointError, DeviceError
from diffseg.io.atomic import atomic_file
from diffseg.nets import ARCHITECTURES
from diffseg.nets.blocks import channels_last
from diffseg.nets.hollow import hollow_network
from diffseg.noise import SCHEDULES, NoiseSchedule
from diffseg.records import from_dict, to_json
from diffseg.self_condition import SelfConditioned, is_self_conditioned


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model ready to run: its card, its network in evaluation mode, the file's hash and place."""

    card: Card
    network: nn.Module
    sha256: str
    path: Path

    @property
    def codec(self) -> Codec:
        """The codec of its classes."""
        return build_codec(self.card.codec, len(self.card.classes), self.card.codec_settings)

    @property
    def head(self) -> Head:
        """What the network's output means."""
        return build_head(self.card.prediction, self.card.prediction_settings)

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule it was trained with."""
        return build_schedule(self.card)

    def denoiser(self, image: torch.Tensor, autocast: torch.dtype | None = None) -> Denoiser:
        """The network bound to a prepared ``image (1, C, *S)``, on the device where network and image lie.

        Raises:
            CheckpointError: a model of another kind than one that draws masks of an image.
        """
        refuse_other_task(self.card)
        kind = SelfConditioned if is_self_conditioned(self.card) else bound
        return kind(self.network, image_input(self.card, image), self.head, self.codec, autocast)


def image_input(card: Card, image: torch.Tensor) -> torch.Tensor:
    """A prepared ``image (B, C, *S)`` as the network takes it: normalised, its channels repeated."""
    rule = card.image
    repeated = image.repeat(1, rule.repeat, *[1] * (image.ndim - 2))
    mean, std = (image.new_tensor(v).view(1, -1, *[1] * (image.ndim - 2)) for v in (rule.mean, rule.std))
    return (repeated - mean) / std


def refuse_other_task(card: Card) -> None:
    """Raise ``CheckpointError`` unless the model draws masks."""
    uses = {
        "image": "draws images, not masks; use it for saliency maps ('diffseg saliency')",
        "classifier": "names the class of noised images and draws no masks; use it to guide saliency maps",
    }
    if card.task in uses:
        raise CheckpointError(f"{card.name} {uses[card.task]}, or choose a mask model.")


def build_schedule(card: Card) -> NoiseSchedule:
    """The schedule that the card names, with its settings."""
    return from_dict(SCHEDULES[card.schedule], card.schedule_settings, f"Schedule of {card.name}", CheckpointError)


def build_network(card: Card) -> nn.Module:
    """A new network of the card's architecture, with fresh weights, in the memory format that suits it."""
    kind = ARCHITECTURES[card.architecture]
    config = from_dict(kind.Config, card.network, f"Network of {card.name}", CheckpointError)  # type: ignore[attr-defined]
    network: nn.Module = kind(config)
    suited = getattr(network, "memory_format", channels_last(card.spatial))
    return network.to(memory_format=suited)  # type: ignore[call-overload,no-any-return]


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """The model in a house checkpoint, on ``device``; half-precision weights are widened to float32.

    Raises:
        CheckpointError: unusable file, weights that do not fit the architecture on its card, or that are no numbers.
        DeviceError: not enough memory for the model.
    """
    card, digest = read_card(path)
    try:
        _refuse_other_shapes(path, card)
        network = build_network(card)
        weights = {k: v.float() for k, v in load_file(path).items()}
        network.load_state_dict(weights)
        network = network.to(device).eval()
    except (OSError, SafetensorError):
        raise CheckpointError(f"{path} is damaged or cut short; copy or download it again.") from None
    except (MemoryError, RuntimeError) as bad:
        if is_out_of_memory(bad):
            raise DeviceError(f"There is too little memory for the model {path.name}; close other programs.") from None
        raise CheckpointError(f"The weights in {path} do not fit its card: {_last_line(bad)}") from None
    broken = [name for name, value in weights.items() if not bool(value.isfinite().all())]
    if broken:
        raise CheckpointError(
            f"{path} is damaged: {len(broken)} of its tensors ({broken[0]}, ...) hold values that are no finite "
            "numbers; copy or download it again."
        )
    return Checkpoint(card, network, digest, path)


def _refuse_other_shapes(path: Path, card: Card) -> None:
    """Compare the network on the card with the file's tensors, by shape alone."""
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        stored = {k: torch.empty(file.get_slice(k).get_shape(), device="meta") for k in names}
    network = hollow_network(lambda: build_network(card), card.network, 2 * len(names) + 100, f"The card in {path}")
    network.load_state_dict(stored)


def _last_line(error: BaseException) -> str:
    """The last line of a message of PyTorch, as the end of a sentence."""
    lines = str(error).strip().splitlines() or ["they have other names or shapes"]
    return lines[-1].strip().rstrip(".") + "."


def save_checkpoint(path: Path, card: Card, network: nn.Module, dtype: torch.dtype = torch.float32) -> None:
    """Write a house checkpoint in one step: an old file stays whole until the new one is complete.

    Raises:
        CheckpointError, CaseError: the folder or the file cannot be written.
    """
    weights = {k: v.detach().to("cpu", dtype).contiguous() for k, v in network.state_dict().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as bad:
        raise CheckpointError(
            f"The folder {path.parent} cannot be made ({bad.strerror}); choose one that you may write to."
        ) from None
    with atomic_file(path) as temporary:
        try:
            save_file(weights, temporary, metadata={METADATA_KEY: to_json(card)})
        except SafetensorError as bad:  # also for a full disk
            raise OSError(str(bad)) from None
