"""Weak supervision against numbers of the published code (see the README of each golden folder).

Any folder of the same layout can be tested: set DIFFSEG_GOLDEN. Tolerances are those that its READMEs state.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffseg.convert.infer import infer_classifier, infer_unet
from diffseg.convert.weights import read_weights
from diffseg.guidance import NetworkImageDenoiser, class_gradient
from diffseg.nets.classifier import GuidedClassifier, GuidedClassifierConfig
from diffseg.nets.guided_unet import GuidedUNet, GuidedUNetConfig
from diffseg.noise import Level
from diffseg.saliency import SALIENCY, Models, Question
from diffseg.saliency.cdm import LabelDifference
from diffseg.saliency.method import Partial
from diffseg.saliency.otsu import cut_slices, largest_per_slice, minmax
from diffseg.saliency.reconstruction import Move, Reconstruction

Arrays = Mapping[str, NDArray[Any]]


REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("DIFFSEG_SHARED", REPOSITORY.parent / "shared"))
GOLDEN = Path(os.environ.get("DIFFSEG_GOLDEN", SHARED / "golden"))


def files(folder: str, pattern: str) -> list[Any]:
    """One parameter for each golden file of that pattern, so that other sets may hold more or fewer."""
    found = sorted((GOLDEN / folder).glob(pattern))
    missing = pytest.mark.skip(reason=f"there is no {folder}/{pattern} in {GOLDEN}; set DIFFSEG_GOLDEN to use others")
    return [pytest.param(path, id=path.stem) for path in found] or [pytest.param(None, marks=missing)]


def arrays(path: Path) -> Arrays:
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def json_flags(path: Path) -> dict[str, Any]:
    flags: dict[str, Any] = json.loads(path.read_text())
    return flags


def filled(network: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    network.load_state_dict({k: v.float() for k, v in tensors.items()})
    return network.eval()


def unet(weights: Path, flags: Path) -> NetworkImageDenoiser:
    tensors, made = read_weights(weights).tensors, json_flags(flags)
    head_channels = made["num_head_channels"]
    config = GuidedUNetConfig(
        **infer_unet({k: tuple(v.shape) for k, v in tensors.items()}),
        heads=made["num_heads"],
        heads_up=None if made["num_heads_upsample"] == -1 else made["num_heads_upsample"],
        head_channels=None if head_channels == -1 else head_channels,
        head_order="new" if made["use_new_attention_order"] else "legacy",
    )
    return NetworkImageDenoiser(filled(GuidedUNet(config), tensors), config.labels)


def classifier(weights: Path) -> nn.Module:
    tensors, made = read_weights(weights).tensors, json_flags(weights.with_name(f"flags_{weights.stem}.json"))
    shapes = {k: tuple(v.shape) for k, v in tensors.items()}
    read = infer_classifier(shapes, (made["image_size"],) * 2, (made["num_res_blocks"],) * len(made["channel_mult"]))
    config = GuidedClassifierConfig(**read, head_channels=made["num_head_channels"])
    return filled(GuidedClassifier(config), tensors)


def table(schedule: str, count: int) -> tuple[Level, ...]:
    """Every time step of a guided-diffusion schedule."""
    if schedule == "linear":
        scale = 1000 / count
        betas = np.linspace(scale * 1e-4, scale * 0.02, count)
    else:
        curve = np.cos((np.arange(count + 1) / count + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - curve[1:] / curve[:-1], 0.999)
    abar = np.cumprod(1 - betas)
    rows = enumerate(zip(np.sqrt(abar), np.sqrt(1 - abar), strict=True))
    return tuple(Level(i / (count - 1), float(i), float(a), float(s)) for i, (a, s) in rows)


def tensor(array: NDArray[Any]) -> Tensor:
    return torch.as_tensor(np.asarray(array, dtype=np.float32))


FOLDERS = ("cond_ddpm_wsss", "diffusion_anomaly", "guided_diffusion")


@pytest.mark.parametrize("path", [p for name in FOLDERS for p in files(name, "classifier*_forward.npz")])
def test_the_classifier_and_its_gradient_are_those_of_the_published_code(path: Path) -> None:
    golden = arrays(path)
    network = classifier(path.with_name(path.name.replace("_forward.npz", ".safetensors")))
    x, t = tensor(golden["x"]), torch.as_tensor(golden["t"])
    with torch.no_grad():
        logits = network(x, t)
    np.testing.assert_allclose(logits, golden["logits"], atol=2e-5)  # stated for forward passes
    for k, target in enumerate(golden["y"]):
        gradient = class_gradient(network, x[k : k + 1], float(t[k]), int(target))
        np.testing.assert_allclose(gradient[0], golden["grad"][k], atol=1e-5)  # stated for gradients


@dataclass(frozen=True, eq=False)
class Published:
    """One recorded run of the weakly supervised system and the models that it used."""

    golden: Arrays
    models: Models
    method: LabelDifference
    question: Question

    @property
    def noise(self) -> Tensor:
        return tensor(self.golden["noise_xq"])


@pytest.fixture(params=files("cond_ddpm_wsss", "wsss_*.npz"))
def published(request: pytest.FixtureRequest) -> Published:
    path: Path = request.param
    named = re.fullmatch(r"wsss_(plain|guided)_(linear|cosine)(\d+)", path.stem)
    assert named is not None, f"{path.name} does not say which schedule it was made with"
    golden, guided = arrays(path), named[1] == "guided"
    denoiser = unet(path.with_name("model.pt"), path.with_name("flags_a.json"))
    network = classifier(path.with_name("classifier.safetensors")) if guided else None
    models = Models(table(named[2], int(named[3])), denoiser, network)
    settings = {"q": int(golden["q_index"]), "r": len(golden["t"]), "tau": float(golden["tau"])}
    if guided:
        settings["scale"] = float(golden["classifier_scale"])
    method = SALIENCY["cg-cdm-code" if guided else "cdm-code"](**settings)
    assert isinstance(method, LabelDifference)
    image = tensor(golden["image"])
    target, background = int(golden["y_cond"][0]), int(golden["y_mixed"][0])
    return Published(golden, models, method, Question(image, tuple(range(len(image))), target, background))


def test_the_accumulated_difference_is_that_of_the_published_code(published: Published) -> None:
    golden, question = published.golden, published.question
    parts = list(published.method.partials(published.models, question.images, published.noise, question))
    walk = published.method.walk(published.models)
    assert [level.told for level in walk[:-1]] == list(golden["t"][:, 0])
    expected = golden["diff_accumulated"].sum(axis=2)
    for part, sums in zip(parts, expected, strict=True):
        np.testing.assert_allclose(part.map, sums, atol=1e-4)  # stated for the map before normalisation


def test_every_step_of_both_walks_is_that_of_the_published_code(published: Published) -> None:
    golden, method, models = published.golden, published.method, published.models
    walk = method.walk(models)
    labels = method.labels(models, published.question, torch.device("cpu"))
    for name, label in zip(("cond", "mixed"), labels, strict=True):
        states = [golden["x_q"], *golden[f"x_{name}"]]
        guide = int(golden[f"y_{name}"][0])
        for k in range(len(walk) - 1):
            reached = method._step(models, tensor(states[k]), label, guide, walk[k], walk[k + 1])
            np.testing.assert_allclose(reached, states[k + 1], atol=1e-4)  # stated for steps fed the stored state


def test_thresholds_and_masks_are_those_of_the_published_code(published: Published) -> None:
    golden, question = published.golden, published.question
    *_, last = published.method.partials(published.models, question.images, published.noise, question)
    stretched = minmax(last.map.numpy())
    np.testing.assert_allclose(stretched, golden["map_minmax"], atol=2e-3)
    cut = cut_slices(stretched)
    np.testing.assert_allclose(cut.thresholds, golden["otsu"], atol=1 / 256)
    # A pixel that equals the threshold keeps its value there; only 1 is foreground.
    assert (cut.mask == (golden["mask"] == 1)).mean() >= 0.995


def test_the_largest_component_is_that_of_the_published_code(published: Published) -> None:
    golden = published.golden
    found = largest_per_slice(golden["mask"] == 1)
    np.testing.assert_array_equal(found, golden["mask_largest_component"] == 1)


def fitting(folder: Path, pattern: str, channels: int) -> Path:
    """The weights of that pattern whose network sees so many channels."""
    for weights in sorted(folder.glob(pattern)):
        flags = json_flags(weights.with_name(f"flags_{weights.stem.removeprefix('unet_')}.json"))
        if flags.get("_in_channels", flags.get("in_channels")) == channels:
            return weights
    pytest.skip(f"{folder.name} has no {pattern} for {channels} channels")


@pytest.fixture(params=files("diffusion_anomaly", "ddim_encode_decode*.npz"))
def anomaly(request: pytest.FixtureRequest) -> tuple[Arrays, Models, Reconstruction]:
    path: Path = request.param
    golden = arrays(path)
    stride = int(golden["timestep_map"][1] - golden["timestep_map"][0])
    weights = fitting(path.parent, "unet_*.safetensors", golden["image"].shape[1])
    denoiser = unet(weights, weights.with_name(f"flags_{weights.stem.removeprefix('unet_')}.json"))
    network = classifier(fitting(path.parent, "classifier*.safetensors", golden["image"].shape[1]))
    models = Models(table("linear", 1000), denoiser, network)
    settings = {"q": int(golden["noise_level"]) * stride, "stride": stride}
    method = SALIENCY["cg-diff-code"](**settings, scale=float(golden["classifier_scale"]))
    assert isinstance(method, Reconstruction)
    return golden, models, method


def reconstructed(method: Reconstruction, models: Models, golden: Arrays) -> list[Partial]:
    image = tensor(golden["image"])
    question = Question(image, tuple(range(len(image))), target=1, background=int(golden["y"][0]))
    return list(method.partials(models, image, tensor(golden["noise_first"]), question))


def test_encoding_and_decoding_visit_the_steps_of_the_published_code(
    anomaly: tuple[Arrays, Models, Reconstruction],
) -> None:
    golden, models, method = anomaly
    noisy = method.begin(models, tensor(golden["image"]), tensor(golden["noise_first"]))
    np.testing.assert_allclose(noisy, golden["x_noisy"], atol=1e-6)
    moves: list[Move] = method.moves(models)
    assert len(moves) == len(golden["states"])
    assert [m.told for m in moves if m.guided] == list(golden["classifier_t_seen"])
    label = torch.eye(2)[int(golden["y"][0])]
    states = [golden["x_noisy"], *golden["states"]]
    for move, before, after in zip(moves, states, states[1:], strict=False):
        reached, _ = method.moved(models, tensor(before), move, label, int(golden["y"][0]))
        np.testing.assert_allclose(reached, after, atol=1e-4)  # stated for steps fed the stored state


def test_the_reconstruction_map_is_that_of_the_published_code(anomaly: tuple[Arrays, Models, Reconstruction]) -> None:
    golden, models, method = anomaly
    maps = reconstructed(method, models, golden)[-1].map.numpy()
    # 1e-3 is stated for the last state; the map adds up its channels.
    np.testing.assert_allclose(maps, golden["abs_diff_sum"], atol=4e-3)
    cut = cut_slices(maps)
    # A bin of the histogram, plus the shift of the map.
    bin_width = float(np.ptp(golden["abs_diff_sum"])) / 256
    assert cut.thresholds[0] == pytest.approx(float(golden["otsu_threshold"]), abs=bin_width + 1e-3)
    assert (cut.mask[0] == golden["mask"]).mean() >= 0.995
