"""The house format: round trip, refusal of everything else, nothing executed."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffseg.card import METADATA_KEY, read_card
from diffseg.checkpoint import build_network, load_checkpoint, save_checkpoint
from diffseg.errors import CaseError, CheckpointError
from diffseg.records import to_json
from oracle import save_tiny, tiny_card


def test_card_and_weights_come_back_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    card = replace(save_tiny(path), quality={"Dice": 0.5})
    network = load_checkpoint(path).network
    save_checkpoint(path, card, network)
    again = load_checkpoint(path)
    assert again.card == card
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.network.parameters(), strict=True))
    assert read_card(path) == (card, again.sha256)


def test_a_model_file_may_be_read_like_any_other_file(tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        save_tiny(tmp_path / "tiny.safetensors")
    finally:
        os.umask(previous)
    assert (tmp_path / "tiny.safetensors").stat().st_mode & 0o777 == 0o644


def test_half_precision_weights_are_widened_on_loading(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    card = tiny_card()
    network = build_network(card)
    save_checkpoint(path, card, network, torch.float16)
    loaded = load_checkpoint(path).network
    for a, b in zip(network.parameters(), loaded.parameters(), strict=True):
        assert b.dtype == torch.float32
        assert torch.equal(a.half().float(), b)


class Bomb:
    """Unpickling this would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("name", ["evil.pt", "evil.pth", "evil.safetensors"])
def test_a_checkpoint_that_would_run_code_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "harm")))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert not (tmp_path / "harm").exists()
    assert "\n" not in str(caught.value)


def test_damage_is_told_in_a_sentence(tmp_path: Path) -> None:
    good = tmp_path / "tiny.safetensors"
    card = save_tiny(good)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load_checkpoint(cut)
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    with pytest.raises(CheckpointError, match="not a whole"):
        load_checkpoint(empty)
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(good), bare)
    with pytest.raises(CheckpointError, match="without a diffseg card"):
        load_checkpoint(bare)
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other, metadata={METADATA_KEY: to_json(card)})
    with pytest.raises(CheckpointError, match="do not fit its card"):
        load_checkpoint(other)
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        load_checkpoint(tmp_path / "missing.safetensors")


@pytest.mark.parametrize(
    ("change", "word"),
    [({"classes": "many"}, "classes"), ({"unknown": 1}, "unknown"), ({"steps": None}, "steps")],
)
def test_a_wrong_card_names_its_field(tmp_path: Path, change: dict[str, object], word: str) -> None:
    path = tmp_path / "wrong.safetensors"
    values = json.loads(to_json(tiny_card())) | change
    save_file({"a": torch.zeros(1)}, path, metadata={METADATA_KEY: json.dumps(values)})
    with pytest.raises(CheckpointError, match=word):
        read_card(path)


def test_a_failed_save_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.safetensors"
    card = save_tiny(path)
    before = path.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("diffseg.checkpoint.save_file", full_disk)
    with pytest.raises(CaseError, match="No space"):
        save_checkpoint(path, card, build_network(card))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.safetensors"]


def rewritten(path: Path, values: dict[str, object]) -> Path:
    """The same weights with another card."""
    other = path.with_name("other.safetensors")
    save_file(load_file(path), other, metadata={METADATA_KEY: json.dumps(values)})
    return other


def test_a_card_of_the_first_format_still_loads_and_means_the_same(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    card = save_tiny(path)
    values = json.loads(to_json(card))
    for later in ("task", "prediction_settings", "codec", "codec_settings", "image", "labels", "source"):
        del values[later]
    old = load_checkpoint(rewritten(path, values | {"format": 1}))
    assert old.card == replace(card, format=1)
    new = load_checkpoint(path)
    x, t, image = torch.randn(1, 3, 8, 8, 8), torch.tensor([0.5]), torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(old.network(x, t, image), new.network(x, t, image))
    assert old.codec == new.codec and old.head == new.head
    assert torch.equal(old.denoiser(image).image, image)


def test_a_newer_format_asks_for_an_update(tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    values = json.loads(to_json(save_tiny(path))) | {"format": 99, "unheard_of": 1}
    with pytest.raises(CheckpointError, match="has format 99, but this version of diffseg reads up to 2; update"):
        read_card(rewritten(path, values))
