"""Tensors of foreign files: the same as PyTorch reads, whatever they are wrapped in, and nothing is ever
run.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffseg.convert.pickles import Global, Opaque, PickleReader
from diffseg.convert.torchfile import plain, read_torch_file
from diffseg.convert.weights import read_weights
from diffseg.errors import CheckpointError

STATE = OrderedDict(
    {
        "whole": torch.arange(12.0).reshape(3, 4),
        "transposed": torch.arange(12.0).reshape(3, 4).T,
        "middle": torch.arange(10.0)[3:7],
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
        "bfloat": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "double": torch.tensor([1e-300], dtype=torch.float64),
        "flags": torch.tensor([True, False]),
        "bytes": torch.tensor([255], dtype=torch.uint8),
        "steps": torch.tensor(7),
    }
)
STATE["shared"] = STATE["whole"][1:]


def saved(value: Any, path: Path) -> Path:
    torch.save(value, path)
    return path


def test_the_reader_finds_the_tensors_that_pytorch_finds(tmp_path: Path) -> None:
    path = saved({"model": STATE, "step": 3, "name": "é", "list": [1, None, (2.5, True)]}, tmp_path / "a.pt")
    ours, theirs = read_torch_file(path), torch.load(path, weights_only=True)
    assert ours["model"].keys() == theirs["model"].keys()
    for name, tensor in theirs["model"].items():
        assert ours["model"][name].dtype == tensor.dtype
        assert torch.equal(ours["model"][name], tensor), name
    assert {k: v for k, v in ours.items() if k != "model"} == {
        k: v for k, v in theirs.items() if k != "model"
    }


@pytest.fixture
def settings_class(monkeypatch: pytest.MonkeyPatch) -> type:
    """A stand-in for OmegaConf's container, which marks when it is revived."""

    class DictConfig:
        def __init__(self, content: dict[str, Any]) -> None:
            self._content = content

        def __setstate__(self, state: dict[str, Any]) -> None:
            raise AssertionError("an object of the file was revived")

    module = types.ModuleType("omegaconf.dictconfig")
    DictConfig.__module__, DictConfig.__qualname__ = module.__name__, "DictConfig"
    module.DictConfig = DictConfig  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return DictConfig


def test_a_settings_object_beside_the_weights_is_read_as_plain_data(
    tmp_path: Path, settings_class: type
) -> None:
    config = settings_class({"unet": settings_class({"heads": 4, "mult": [1, 2]}), "name": "x"})
    path = saved({"model": {"w": torch.ones(2)}, "config": config}, tmp_path / "a.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)  # or the stand-in would prove nothing
    weights = read_weights(path)
    assert torch.equal(weights.tensors["w"], torch.ones(2))
    assert weights.settings == {"unet": {"heads": 4, "mult": [1, 2]}, "name": "x"}
    assert any("nothing was run" in note for note in weights.notes)


def test_settings_that_contain_themselves_many_times_over_end(tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(60):
        value = [value] * 60
    assert isinstance(plain(value), list)


class Call:
    """Pickles to a call of ``function`` on reading."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def attacks(target: Path) -> Iterator[tuple[str, Any]]:
    """Values that would make ``target`` when unpickled."""
    write = f"open({str(target)!r}, 'w')"
    yield "touch", Call(Path.touch, Call(Path, str(target)))
    yield "system", Call(os.system, f"touch {target}")
    yield "eval", Call(eval, write)
    yield "exec", Call(exec, write)
    yield "getattr", Call(getattr, Call(Path, str(target)), "touch")
    yield "key", {Call(eval, write): 1}
    yield "load", Call(pickle.loads, pickle.dumps(Call(eval, write)))


@pytest.mark.parametrize("index", range(7))
@pytest.mark.parametrize("place", ["beside", "inside", "alone"])
def test_a_file_that_would_run_code_is_refused_and_not_run(tmp_path: Path, index: int, place: str) -> None:
    target = tmp_path / "harm"
    name, attack = list(attacks(target))[index]
    weights = {"w": torch.ones(2)}
    values = {
        "beside": {"model": weights, "config": attack},
        "inside": weights | {"x": attack},
        "alone": attack,
    }
    path = saved(values[place], tmp_path / f"{name}.pt")
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert "run code" in str(caught.value) and "\n" not in str(caught.value)
    if place != "alone":
        assert torch.equal(read_weights(path, tensors_only=True).tensors["w"], torch.ones(2))
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists() or name == "getattr", "the attack must work on a careless reader"


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    for suffix in (".pt", ".pth", ".ckpt"):
        path = tmp_path / f"evil{suffix}"
        path.write_bytes(pickle.dumps(dict(attacks(tmp_path / "harm"))["touch"]))
        with pytest.raises(CheckpointError):
            read_weights(path, tensors_only=True)
    assert not (tmp_path / "harm").exists()


def test_no_module_named_in_a_file_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap_module.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')\nclass Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    reader = PickleReader({}, lambda _: None)
    value = reader.read(b"\x80\x02ctrap_module\nThing\n)\x81.")
    assert isinstance(value, Opaque) and value.name == "trap_module.Thing"
    assert reader.globals == {"trap_module.Thing"}
    assert "trap_module" not in sys.modules and not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "code",
    [
        b"(S'touch harm'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch harm'\no.",  # OBJ
        b"cos\nsystem\n}S'x'\nI1\nsb.",  # BUILD sets attributes of a function
        b"cos\nsystem\n(S'touch harm'\ntR.",
    ],
)
def test_every_way_to_call_only_records_the_name(code: bytes) -> None:
    value = PickleReader({}, lambda _: None).read(code)
    assert isinstance(value, Opaque | Global) and value.name == "os.system"


def with_pickle(path: Path, data: bytes, extra: dict[str, bytes] | None = None) -> Path:
    """A zip checkpoint with this ``data.pkl``."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for name, content in (extra or {}).items():
            archive.writestr(f"archive/{name}", content)
    return path


def tensor_pickle(offset: int, size: tuple[int, ...], stride: tuple[int, ...], count: int = 4) -> bytes:
    """A pickle of one tensor with these numbers in a storage ``0`` of float32."""

    class Saver(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if value is storage else None

    class Tensor:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, OrderedDict())

    storage, out = object(), io.BytesIO()
    Saver(out, protocol=2).dump({"w": Tensor()})
    return out.getvalue()


def test_tensors_that_reach_beyond_their_storage_are_refused(tmp_path: Path) -> None:
    data = {"data/0": np.arange(4, dtype="<f4").tobytes()}
    good = with_pickle(tmp_path / "good.pt", tensor_pickle(1, (3,), (1,)), data)
    assert torch.equal(read_torch_file(good)["w"], torch.tensor([1.0, 2.0, 3.0]))
    bad = [
        (2, (3,), (1,), 4),
        (0, (3, 3), (1, 1), 4),
        (-1, (2,), (1,), 4),
        (0, (2,), (-1,), 4),
        (0, (9,), (1,), 9),
    ]
    # Stride 0 repeats one number: small in the file, endless in memory.
    bad.append((0, (10**12,), (0,), 4))
    for k, (offset, size, stride, count) in enumerate(bad):
        path = with_pickle(tmp_path / f"{k}.pt", tensor_pickle(offset, size, stride, count), data)
        with pytest.raises(CheckpointError, match="cannot be read"):
            read_torch_file(path)


def test_damage_anywhere_is_told_and_never_crashes(tmp_path: Path, rng: np.random.Generator) -> None:
    path = saved({"model": dict(STATE), "config": {"a": [1, 2, {"b": (3,)}]}}, tmp_path / "a.pt")
    whole = path.read_bytes()
    outcomes = set()
    for k in range(150):
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        bad = tmp_path / "bad.pt"
        bad.write_bytes(damaged[: rng.integers(1, len(damaged))] if k % 3 == 0 else damaged)
        for read in (read_weights, read_torch_file):
            try:
                read(bad)
                outcomes.add("read")
            except CheckpointError as error:
                outcomes.add("refused")
                assert "\n" not in str(error)
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_wrappers_and_prefixes_are_taken_off(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    state: Any = {prefix + "a.w": torch.ones(2, dtype=torch.float16), prefix + "b.w": torch.zeros(1)}
    path = saved({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "a.pt")
    tensors = read_weights(path).tensors
    assert list(tensors) == ["a.w", "b.w"]
    assert tensors["a.w"].dtype == torch.float32


def test_what_is_no_network_is_refused_with_what_it_is(tmp_path: Path) -> None:
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))]).state_dict()
    with pytest.raises(CheckpointError, match=r"state of an optimiser.*\(savedmodel000100.pt\)"):
        read_weights(saved(optimiser, tmp_path / "optsavedmodel000100.pt"))
    with pytest.raises(CheckpointError, match="no state_dict"):
        read_weights(saved({"epoch": 1}, tmp_path / "a.pt"))
    with pytest.raises(CheckpointError, match="no state_dict"):
        read_weights(saved([1, 2], tmp_path / "b.pt"))
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        read_weights(tmp_path / "missing.pt")
    with pytest.raises(CheckpointError, match="run code"):
        read_weights(saved(torch.nn.Linear(1, 1), tmp_path / "module.pt"))
    (tmp_path / "empty.pt").touch()
    with pytest.raises(CheckpointError, match="not a whole"):
        read_weights(tmp_path / "empty.pt")


def test_averaged_weights_beside_the_file_are_pointed_out(tmp_path: Path) -> None:
    path = saved({"w": torch.ones(1)}, tmp_path / "savedmodel000100.pt")
    assert read_weights(path).notes == ()
    saved({"w": torch.ones(1)}, tmp_path / "emasavedmodel_0.9999_000200.pt")
    assert read_weights(path).notes == ()
    average = saved({"w": torch.ones(1)}, tmp_path / "emasavedmodel_0.9999_000100.pt")
    assert average.name in read_weights(path).notes[0]
    assert read_weights(average).notes == ()
