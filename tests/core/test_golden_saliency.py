"""Weak supervision against numbers of the published code (see the README of each golden folder).

Any folder of the same layout can be tested: set DIFFSEG_GOLDEN. Tolerances are those that its READMEs state.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from converted import classifier_of, network_of
from diffseg.codec import ImageCodec
from diffseg.convert.conversion import Conversion
from diffseg.denoise import Prediction, build_head
from diffseg.guidance import Guided, GuidedMean, NetworkImageDenoiser, class_gradient, time_table
from diffseg.noise import Level, TableSchedule
from diffseg.saliency import SALIENCY, Models, Question
from diffseg.saliency.cdm import LabelDifference
from diffseg.saliency.method import Partial
from diffseg.saliency.otsu import cut_slices, largest_per_slice, minmax
from diffseg.saliency.reconstruction import Move, Reconstruction
from diffseg.sample import DDIM, DDPM, Noise
from golden import arrays, found

Arrays = Mapping[str, NDArray[Any]]


def tensor(array: NDArray[Any]) -> Tensor:
    return torch.as_tensor(np.asarray(array, dtype=np.float32))


def image_model(made: Conversion) -> NetworkImageDenoiser:
    card = made.card
    head, codec = build_head(card.prediction, card.prediction_settings), ImageCodec(**card.codec_settings)
    return NetworkImageDenoiser(made.network, card.network["labels"], head, codec)


@pytest.mark.parametrize("path", found("*/classifier*_forward.npz"))
def test_the_classifier_and_its_gradient_are_those_of_the_published_code(path: Path) -> None:
    golden = arrays(path)
    network = classifier_of(path.parent, path.stem.removeprefix("classifier").removesuffix("_forward")).network
    x, t = tensor(golden["x"]), torch.as_tensor(golden["t"])
    with torch.no_grad():
        logits = network(x, t)
    np.testing.assert_allclose(logits, golden["logits"], atol=2e-5)  # stated for forward passes
    for k, target in enumerate(golden["y"]):
        gradient = class_gradient(network, x[k : k + 1], float(t[k]), int(target))
        np.testing.assert_allclose(gradient[0], golden["grad"][k], atol=1e-5)  # stated for gradients


@pytest.mark.parametrize("path", found("*/guided_steps*.npz"))
def test_guided_steps_of_both_kinds_are_those_of_the_published_code(path: Path) -> None:
    golden = arrays(path)
    channels = golden["x"].shape[1]
    made = network_of(path.parent, fitting(path.parent, "flags_", channels, labelled=False))
    head = build_head(made.card.prediction, made.card.prediction_settings)

    @torch.no_grad()
    def denoiser(x: Tensor, level: Level) -> Prediction:
        output = made.network(x, torch.full((len(x),), level.told))
        return head.predict(
            output, x, torch.tensor(level.alpha), torch.tensor(level.sigma), ImageCodec(channels=channels)
        )

    levels = TableSchedule(**made.card.schedule_settings).levels(len(golden["timestep_map"]))
    start = len(levels) - 2 - int(golden["t_index"][0])
    classifier, scale = classifier_of(path.parent, "").network, float(golden["scale"])
    for k, y in enumerate(golden["y"]):
        x, noise = tensor(golden["x"][k : k + 1]), Recorded(0, (0,), tensor(golden["noise"][k : k + 1]))
        score = Guided(denoiser, classifier, int(y), scale)
        step = next(DDIM().steps(score, x, noise, levels, start))
        np.testing.assert_allclose(step.x[0], golden["ddim_sample"][k], atol=5e-5)  # stated for single steps
        np.testing.assert_allclose(step.x0[0], golden["ddim_pred_xstart"][k], atol=5e-5)
        sampler = DDPM("learned")
        mean = GuidedMean(denoiser, classifier, int(y), scale, levels, sampler)
        step = next(sampler.steps(mean, x, noise, levels, start))
        np.testing.assert_allclose(step.x[0], golden["ddpm_sample"][k], atol=5e-5)


@dataclass(frozen=True)
class Recorded(Noise):
    """Gives one recorded draw whatever is asked for."""

    value: Tensor | None = None

    def draw(self, index: int, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        assert self.value is not None and self.value.shape[1:] == tuple(shape)
        return self.value


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


@pytest.fixture(params=found("cond_ddpm_wsss/wsss_*.npz"))
def published(request: pytest.FixtureRequest) -> Published:
    path: Path = request.param
    named = re.fullmatch(r"wsss_(plain|guided)_(linear|cosine)(\d+)", path.stem)
    assert named is not None, f"{path.name} does not say which schedule it was made with"
    golden, guided = arrays(path), named[1] == "guided"
    tag = fitting(path.parent, "flags_", golden["image"].shape[1], labelled=True)
    denoiser = image_model(network_of(path.parent, tag))
    network = classifier_of(path.parent, "").network if guided else None
    schedule = TableSchedule(named[2], int(named[3]))  # type: ignore[arg-type]
    models = Models(time_table(schedule, schedule.count), denoiser, network)
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
            reached = method.moved(models, tensor(states[k]), label, guide, walk[k], walk[k + 1])
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


def fitting(folder: Path, prefix: str, channels: int, labelled: bool | None = None) -> str:
    """The tag of the flags of that prefix whose network sees so many channels, and takes class labels or not."""
    for path in sorted(folder.glob(f"{prefix}*.json")):
        tag = path.stem.removeprefix(prefix)
        made = json.loads(path.read_text())
        fits = labelled is None or made.get("class_cond") == labelled
        if made.get("_in_channels", made.get("in_channels")) == channels and "classifier" not in tag and fits:
            return tag
    pytest.skip(f"{folder.name} has no {prefix} for {channels} channels")


@pytest.fixture(params=found("diffusion_anomaly/ddim_encode_decode*.npz"))
def anomaly(request: pytest.FixtureRequest) -> tuple[Arrays, Models, Reconstruction]:
    path: Path = request.param
    golden = arrays(path)
    stride = int(golden["timestep_map"][1] - golden["timestep_map"][0])
    channels = golden["image"].shape[1]
    denoiser = image_model(network_of(path.parent, fitting(path.parent, "flags_", channels)))
    network = classifier_of(path.parent, fitting(path.parent, "flags_classifier", channels)).network
    models = Models(time_table(TableSchedule(), 1000), denoiser, network)
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
