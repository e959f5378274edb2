"""Conversion end to end: settings, cards, weights that do not fit, the self-check, and running what came out."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffseg.__main__ import main
from diffseg.card import Card, ImageInput
from diffseg.case import Case, origin_of
from diffseg.checkpoint import image_input, load_checkpoint
from diffseg.convert.cards import unet_card
from diffseg.convert.conversion import Conversion, convert
from diffseg.convert.profiles import PROFILES, ambdiffseg_stored
from diffseg.convert.selfcheck import self_check
from diffseg.convert.settings import Settings, changed, parse_changes
from diffseg.denoise import NetworkDenoiser
from diffseg.errors import CheckpointError, PlanError
from diffseg.nets.classifier import GuidedClassifier, GuidedClassifierConfig
from diffseg.nets.guided_unet import GuidedUNet, GuidedUNetConfig
from diffseg.plan import plan_for
from diffseg.records import to_json
from diffseg.run import Run
from diffseg.sample import DDPM, Noise

SMALL: dict[str, Any] = {"base": 32, "widths": (32, 32), "blocks": (1, 1), "attention": (2,)}
UNETS: dict[str, dict[str, Any]] = {
    "guided-diffusion": {"inputs": 3, "outputs": 6, "scale_shift": True},
    "cimd": {"inputs": 5, "outputs": 2},
    "wolleb-brats": {"inputs": 5, "outputs": 2},
    "cdm-wsss": {"inputs": 3, "outputs": 6, "scale_shift": True, "labels": 10},
    "diffusion-anomaly": {"inputs": 4, "outputs": 8, "labels": 2},
    "ambdiffseg": {"inputs": 4, "outputs": 1, "spare": 1, "middle_blocks": 3},
}


def random_network(kind: type, config: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind(config).eval()
        for name, p in network.named_parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=p[0].numel() ** -0.5)
            else:
                nn.init.normal_(p, mean=float(name.endswith("weight")), std=0.1)
    return network


def foreign(path: Path, profile: str, prefix: str = "", wrapper: str | None = None, **changes: Any) -> Path:
    """A small random checkpoint as the code base of a profile would have saved it."""
    state = random_network(GuidedUNet, GuidedUNetConfig(**SMALL | UNETS[profile] | changes)).state_dict()
    state = {prefix + k: v for k, v in state.items()}
    torch.save({wrapper: state, "step": 1} if wrapper else state, path)
    return path


def slice_case(channels: int, shape: tuple[int, int] = (21, 30)) -> Case:
    image = np.random.default_rng(0).integers(0, 256, size=(channels, *shape)).astype(np.float32)
    image[:, 0, :2] = (0, 255)
    origin = origin_of(shape[::-1], np.diag([-1.0, -1.0, 1.0, 1.0]))
    return Case(image, origin.display_grid(), tuple("abcd"[:channels]), {}, origin, "slice")


def opened(made: Conversion, folder: Path, channels: int, **choices: Any) -> Run:
    """A run of a converted model, by way of its file."""
    path = folder / "model.safetensors"
    made.save(path)
    checkpoint = load_checkpoint(path)
    plan = plan_for(checkpoint.card, checkpoint.sha256, (), device="cpu", **choices)
    return Run(plan, slice_case(channels), checkpoint)


@pytest.mark.parametrize("profile", UNETS)
def test_every_profile_gives_a_model_with_the_same_weights(tmp_path: Path, profile: str) -> None:
    source = foreign(tmp_path / "theirs.pt", profile, prefix="module.")
    made = convert(source, profile)
    made.save(tmp_path / "ours.safetensors")
    again = load_checkpoint(tmp_path / "ours.safetensors")
    assert to_json(again.card) == to_json(made.card)
    theirs = torch.load(source, weights_only=True)
    assert {f"module.{k}" for k in again.network.state_dict()} == set(theirs)
    assert all(torch.equal(v, theirs[f"module.{k}"]) for k, v in again.network.state_dict().items())
    assert again.card.source.startswith(f"{profile}: theirs.pt, SHA-256 ")
    assert again.card.task == ("mask" if profile in ("cimd", "wolleb-brats", "ambdiffseg") else "image")


@pytest.mark.parametrize(("profile", "channels"), [("cimd", 1), ("wolleb-brats", 4), ("ambdiffseg", 1)])
def test_a_converted_model_runs_like_a_house_model(tmp_path: Path, profile: str, channels: int) -> None:
    made = convert(foreign(tmp_path / "theirs.pt", profile), profile, {"steps": "10"})
    run = opened(made, tmp_path, channels, members=2)
    ensemble = run.ensemble()
    for _ in run.grow(ensemble, 2):
        pass
    snapshot = ensemble.snapshot()
    assert snapshot.shape == (21, 30)
    together = run.sampler.steps(run.denoiser, run.initial((0, 1)), run.noise((0, 1)), run.levels)
    *_, last = together
    for k in range(2):
        # Batches and single runs differ by float32 rounding, which decides at few pixels of a random network.
        assert (run.mask(last.x0[k : k + 1]) == snapshot.member(k)).mean() > 0.99
    assert 0 < snapshot.member(0).mean() < 1 and (snapshot.member(0) != snapshot.member(1)).any()


def test_cimd_sees_its_image_divided_by_255_four_times_and_the_mask_last(tmp_path: Path) -> None:
    made = convert(foreign(tmp_path / "theirs.pt", "cimd"), "cimd")
    run = opened(made, tmp_path, 1, steps=3, seed=5)
    *_, ours = run.trajectory()
    network = random_network(GuidedUNet, GuidedUNetConfig(**SMALL | UNETS["cimd"]))
    image = torch.as_tensor(run.prepared.image)[None]
    assert image.shape == (1, 1, 22, 30)
    assert torch.equal(image[0, 0, :21], torch.as_tensor(slice_case(1).image[0] / np.float32(255)))
    plain = NetworkDenoiser(network, torch.cat([image] * 4, dim=1), run.checkpoint.head, run.checkpoint.codec)
    x = Noise(5, (0,)).draw(0, (1, 22, 30))
    *_, theirs = DDPM("learned").steps(plain, x, Noise(5, (0,)), run.levels)
    torch.testing.assert_close(ours.x, theirs.x, rtol=0, atol=1e-4)
    assert run.codec.labels(torch.tensor([[[0.4]], [[0.6]]])).tolist() == [[0], [1]]


def test_an_image_is_normalised_and_then_repeated() -> None:
    image = torch.tensor([[[[0.5]], [[1.0]]]])
    card = replace(card_of("ambdiffseg"), image=ImageInput(2, (0.5, 0.0, 0.0, 1.0), (1.0, 2.0, 4.0, 0.5)))
    assert image_input(card, image).flatten().tolist() == [0.0, 0.5, 0.125, 0.0]
    with pytest.raises(CheckpointError, match="cannot be repeated"):
        ImageInput(repeat=0)


def card_of(profile: str, **changes: Any) -> Card:
    """The card of a small network of a profile; no weights are loaded."""
    config = GuidedUNetConfig(**SMALL | UNETS[profile])
    settings = changed(PROFILES[profile].settings, {"name": "x"} | changes, "test")
    return unet_card({**vars(config), "mask_first": settings.mask == "first"}, settings)


def test_image_models_and_classifiers_refuse_to_draw_masks(tmp_path: Path) -> None:
    made = convert(foreign(tmp_path / "theirs.pt", "cdm-wsss"), "cdm-wsss")
    with pytest.raises(CheckpointError, match="draws images, not masks"):
        list(opened(made, tmp_path, 1).trajectory())
    config = GuidedClassifierConfig(inputs=1, outputs=2, side=4, head_channels=32, **SMALL)
    torch.save(random_network(GuidedClassifier, config).state_dict(), tmp_path / "classifier.pt")
    made = convert(tmp_path / "classifier.pt", "cdm-wsss", {"head_channels": 32})
    assert made.card.task == "classifier" and made.card.window == (8, 8) and made.card.labels == ("normal", "lesion")
    made.save(tmp_path / "classifier.safetensors")
    loaded = load_checkpoint(tmp_path / "classifier.safetensors")
    with pytest.raises(CheckpointError, match="names the class"):
        loaded.denoiser(torch.zeros(1, 1, 8, 8))


def test_settings_are_read_from_text() -> None:
    start = Settings(sampler_settings={"variance": "learned"})
    texts = ["heads=4", "head_channels=none", "mask=first", "channels=t1, t2", "mean=0.5,0.25", "window=[64, 32]"]
    made = changed(start, parse_changes([*texts, "schedule.count=4000", "schedule.rescale=true", "name=12"]), "--set")
    assert (made.heads, made.head_channels, made.mask) == (4, None, "first")
    assert made.channels == ("t1", "t2") and made.mean == (0.5, 0.25) and made.window == (64, 32)
    assert made.schedule_settings == {"count": 4000, "rescale": True} and made.name == "12"
    assert made.sampler_settings == {"variance": "learned"}
    assert changed(start, {"sampler": "ddim", "sampler.eta": "0.5"}, "--set").sampler_settings == {"eta": 0.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("headz=4", "no setting 'headz'.*heads, head_channels.*schedule.<setting>"),
        ("schedule.=4", "no setting 'schedule.'"),
        ("heads", "key=value"),
        ("heads=many", "heads"),
        ("mask=middle", "mask"),
        ("normalise=percent", "normalise"),
        ("schedule.counts=5", "schedule guided has no setting 'counts'; it has: betas, count"),
        ("schedule=spiral", "no noise schedule called 'spiral'"),
        ("codec.threshold=9", "threshold"),
        ("prediction=w", "no prediction called 'w'"),
        ("heads=5", "attention heads"),
        ("repeat=3", "not 3 copies"),
        ("channels=a,b,c", r"not 1 copies of 3 \(a, b, c\)"),
        ("classes=a,b,c", "binary codec has 2 classes"),
        ("codec=onehot", "network has 1 mask channel"),
        ("mean=1,2", "Give 1 or 4 numbers"),
        ("prediction.learned_variance=false", "network has 2 mask channel"),
        ("task=image", "does not fit a network that draws images"),
        ("colors=#000000", "as many colors"),
    ],
)
def test_a_wrong_setting_is_told_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    source = foreign(tmp_path / "theirs.pt", "cimd")
    with pytest.raises((PlanError, CheckpointError), match=words) as caught:
        convert(source, "cimd", parse_changes([text]))
    assert "\n" not in str(caught.value)


def test_settings_in_the_file_win_over_the_profile_and_lose_to_the_person(tmp_path: Path) -> None:
    source = foreign(tmp_path / "theirs.pt", "ambdiffseg", wrapper="model")
    content = torch.load(source, weights_only=True)
    content["config"] = {
        "unet": {"num_heads": 2, "num_heads_upsample": -1, "predict": "v", "final_act": "none"},
        "diffusion": {"noise_schedule": "linear_simple", "input_scale": 0.3, "var_type": "small"},
        "sampling": {"num_timesteps": 7, "sampler_type": "ddpm"},
    }
    torch.save(content, source)
    card = convert(source, "ambdiffseg", {"heads": 8}).card
    assert card.network["heads"] == 8 and card.network["heads_up"] is None and card.network["mask_first"]
    assert card.prediction == "v" and card.prediction_settings["keep_eps"]
    assert card.schedule == "linear-simple" and card.schedule_settings == {"input_scale": 0.3}
    assert card.steps == 7 and card.sampler_settings == {"variance": "small"}
    assert ambdiffseg_stored({"unet": {}, "other": 3}) == {}


def test_tensors_that_do_not_fit_are_counted_and_named(tmp_path: Path) -> None:
    source = foreign(tmp_path / "theirs.pt", "cimd")
    state = torch.load(source, weights_only=True)
    del state["middle_block.1.norm.bias"]
    state["extra.weight"] = torch.zeros(1)
    state["out.0.bias"] = torch.zeros(31)
    torch.save(state, source)
    with pytest.raises(CheckpointError) as caught:
        convert(source, "cimd")
    for part in ("1 missing (middle_block.1.norm.bias)", "1 left over (extra.weight)", "out.0.bias (31,) for (32,)"):
        assert part in str(caught.value)
    for lost in ("time_embed.0.weight", "output_blocks.1.0.out_layers.3.weight", "out.2.weight"):
        torch.save({k: v for k, v in state.items() if k != lost}, source)
        with pytest.raises(CheckpointError):
            convert(source, "cimd")
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, source)
    with pytest.raises(CheckpointError, match="no network of the guided-diffusion family"):
        convert(source, "cimd")


def test_unknown_profiles_and_imgx_say_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no profile called 'x'; choose one of: guided-diffusion, cimd"):
        convert(tmp_path / "a.pt", "x")
    with pytest.raises(PlanError, match="cannot be converted"):
        convert(tmp_path / "a.pt", "imgx")


class Ideal(nn.Module):
    """What a perfectly trained network of the CIMD kind would answer, given the image that shows its mask."""

    stride = 2

    def __init__(self, mask_first: bool = False) -> None:
        super().__init__()
        self.mask_first = mask_first

    def forward(self, x: Tensor, t: Tensor, image: Tensor) -> Tensor:
        if self.mask_first:
            both = torch.cat([image, x], dim=1)
            x, image = both[:, :1], both[:, 1:]
        beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        abar = (1 - beta).cumprod(0)[t.long()].float().view(-1, 1, 1, 1)
        # An image in [-1, 1] of a bright disc in a mask of {0, 1}.
        mask = (image[:, :1] > 0).float()
        eps = (x - abar.sqrt() * mask) / (1 - abar).sqrt()
        return torch.cat([eps, eps], dim=1)


def test_the_self_check_is_content_with_a_trained_network_and_not_with_a_wrong_one() -> None:
    card = card_of("cimd")
    assert [f.suspicious for f in self_check(card, Ideal())] == [False] * 3
    assert max(f.error for f in self_check(card, Ideal())) < 1e-6
    swapped = self_check(card, Ideal(mask_first=True))
    assert swapped[0].suspicious and "almost pure noise" in swapped[0].sentence
    # Noise taken for the mask itself is wrong where there is almost no noise.
    wrong = replace(card, prediction="x0-value")
    assert any(f.suspicious for f in self_check(wrong, Ideal()))


def test_weights_that_are_no_numbers_are_noticed(tmp_path: Path) -> None:
    source = foreign(tmp_path / "theirs.pt", "cimd")
    state = torch.load(source, weights_only=True)
    state["out.2.bias"][0] = float("nan")
    torch.save(state, source)
    assert any("no number" in w for w in convert(source, "cimd").warnings)


def monai_checkpoint(folder: Path, spatial: int) -> tuple[Path, Mapping[str, Any], nn.Module]:
    for name in ("monai", "einops"):
        pytest.importorskip(name, reason="needs the extra 'monai'")
    from monai.networks.nets import DiffusionModelUNet

    arguments: dict[str, Any] = {
        "spatial_dims": spatial,
        "in_channels": 3,
        "out_channels": 1,
        "num_res_blocks": 1,
        "channels": [8, 16],
        "attention_levels": [False, True],
        "norm_num_groups": 4,
        "num_head_channels": 8,
    }
    network = DiffusionModelUNet(**arguments).eval()
    for p in network.parameters():
        nn.init.normal_(p, std=0.1)
    torch.save(network.state_dict(), folder / "monai.pt")
    return folder / "monai.pt", arguments, network


@pytest.mark.parametrize("spatial", [2, 3])
def test_a_monai_network_gives_the_same_answer_after_conversion(tmp_path: Path, spatial: int) -> None:
    source, arguments, theirs = monai_checkpoint(tmp_path, spatial)
    with pytest.raises(PlanError, match=r"monai.json.*--set args=FILE.json"):
        convert(source, "monai")
    source.with_suffix(".json").write_text(json.dumps(arguments))
    made = convert(source, "monai")
    assert made.card.spatial == spatial and len(made.card.channels) == 2
    made.save(tmp_path / "ours.safetensors")
    ours = load_checkpoint(tmp_path / "ours.safetensors")
    x, image = torch.randn(2, 1, *[8] * spatial), torch.randn(2, 2, *[8] * spatial)
    t = torch.tensor([3.0, 900.0])
    with torch.no_grad():
        expected = theirs(torch.cat([image, x], dim=1), t)
        torch.testing.assert_close(ours.network(x, t, image), expected, rtol=0, atol=1e-5)
    denoiser = ours.denoiser(image[:1])
    *_, last = DDPM().steps(denoiser, x, Noise(0, (0, 1)), ours.schedule.levels(3))
    assert last.x.shape == x.shape and last.x.isfinite().all()
    other = tmp_path / "other.json"
    other.write_text("[1]")
    with pytest.raises(PlanError, match="must hold a JSON object"):
        convert(source, "monai", {"args": str(other)})


def test_monai_is_named_when_it_is_missing_or_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, arguments, _ = monai_checkpoint(tmp_path, 2)
    with pytest.raises(CheckpointError, match="MONAI refuses"):
        convert(source, "monai", {"args": {**arguments, "colour": 3}})
    with pytest.raises(CheckpointError, match="context or class label"):
        convert(source, "monai", {"args": {**arguments, "num_class_embeds": 3}})
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(CheckpointError, match=r"napari-diffseg\[monai\]"):
        convert(source, "monai", {"args": arguments})


def test_the_command_converts_and_the_result_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = foreign(tmp_path / "savedmodel000100.pt", "cimd", prefix="module."), tmp_path / "m.safetensors"
    assert main(["convert", str(source), "--profile", "cimd", "--set", "steps=4", "-o", str(out)]) == 0
    printed = capsys.readouterr()
    assert "savedmodel000100" in printed.out and "Warning: From almost pure noise" in printed.err
    scan = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(slice_case(1).image[0].T, np.diag([-1.0, -1.0, 1.0, 1.0])), scan)
    assert main(["sample", str(scan), "-m", str(out), "-o", str(tmp_path / "r"), "-n", "2", "--device", "cpu"]) == 0
    assert (tmp_path / "r" / "members.nii.gz").is_file()


def test_the_command_ends_in_a_sentence_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = foreign(tmp_path / "theirs.pt", "cimd")
    (tmp_path / "other.safetensors").write_bytes(b"mine")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    bad = [
        ["cimd", "--set", "headz=3", "-o", "m.safetensors"],
        ["imgx", "-o", "m.safetensors"],
        ["cimd", "-o", "m.pt"],
        ["cimd", "-o", "other.safetensors"],
    ]
    for profile, *rest in bad:
        rest[-1] = str(tmp_path / rest[-1])
        assert main(["convert", str(source), "--profile", profile, *rest]) == 2
        said = capsys.readouterr().err
        assert said.startswith("diffseg: ") and said.count("\n") == 1
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
