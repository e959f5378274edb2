"""Cards of foreign models: what the tensors show and what the settings say, brought together and checked."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from diffseg.card import Card, ClassInfo, ImageInput
from diffseg.codec import CODECS, build_codec
from diffseg.convert.infer import infer_classifier, infer_unet
from diffseg.convert.settings import Settings, network_arguments
from diffseg.convert.weights import Weights
from diffseg.denoise import HEADS
from diffseg.errors import CheckpointError, PlanError
from diffseg.noise import SCHEDULES
from diffseg.preprocess import ImageRule
from diffseg.registry import Registry
from diffseg.sample import SAMPLERS

CLASSIFIER_HEAD_CHANNELS = 64
PART_REGISTRIES: dict[str, Registry[Any]] = {
    "schedule": SCHEDULES,
    "prediction": HEADS,
    "codec": CODECS,
    "sampler": SAMPLERS,
}
# What of a guided network is a setting because no tensor shows it.
NETWORK_SETTINGS = ("heads", "head_channels", "heads_up", "head_order", "max_period")


def refuse_unknown(settings: Settings) -> None:
    """Raise ``PlanError`` for a part that does not exist or does not have a setting that it is given."""
    for part, registry in PART_REGISTRIES.items():
        name, given = getattr(settings, part), getattr(settings, f"{part}_settings")
        if name is None:
            continue
        known = [f.name for f in fields(registry[name]) if f.name != "classes"]
        for key in given:
            if key not in known:
                raise PlanError(
                    f"{part} {name} has no setting {key!r}; it has: {', '.join(known) or 'none'} "
                    f"(write --set {part}.<setting>=value)."
                )


def guided_card(weights: Weights, settings: Settings, source: Path) -> Card:
    """The card of a U-Net or a classifier of the guided-diffusion family.

    Raises:
        CheckpointError: no network of this family.
        PlanError: settings that contradict the tensors.
    """
    unreadable = {k: getattr(settings, k) for k in NETWORK_SETTINGS}
    is_classifier = not any(k.startswith("output_blocks.") for k in weights.tensors)
    try:
        if is_classifier:
            found = infer_classifier(weights.shapes, settings.window, settings.blocks)
            return classifier_card({**found, **unreadable}, settings)
        found = infer_unet(weights.shapes)
    except (LookupError, ValueError) as bad:
        raise CheckpointError(f"{source.name} is no complete network of the guided-diffusion family ({bad}).") from None
    network = {**found, **unreadable, "mask_first": settings.mask == "first"}
    return unet_card(network, settings)


def unet_card(network: dict[str, Any], settings: Settings) -> Card:
    """The card of a guided U-Net that draws masks or images."""
    inputs, outputs, images = network["inputs"], network["outputs"], settings.task == "image"
    learned = bool(settings.prediction_settings.get("learned_variance"))
    if images:
        learned = outputs == 2 * inputs
    states, odd = divmod(outputs, 2 if learned or settings.prediction == "both" else 1)
    if odd or states > inputs or (images and states != inputs) or (not images and states == inputs):
        raise PlanError(
            f"The network takes {inputs} and gives {outputs} channels, which does not fit a network that draws "
            f"{'images' if images else 'masks of an image'}; correct --set task=mask|image or "
            "--set prediction.learned_variance=true|false."
        )
    if network["labels"] and not images:
        raise PlanError("The network was trained with class labels, which only image models can be given here.")
    settings = replace(settings, prediction_settings=settings.prediction_settings | {"learned_variance": learned})
    settings = with_channels(settings, states if images else inputs - states)
    card = common_card(settings, network, 2 ** (len(network["widths"]) - 1), states)
    return replace(card, architecture="guided-unet", labels=settings.labels[: network["labels"]])


def classifier_card(network: dict[str, Any], settings: Settings) -> Card:
    """The card of a classifier of noised images; the settings of its diffusion model say how times are told.

    The published code gives every head of a classifier 64 channels, whatever the heads of the diffusion model.
    """
    network["head_channels"] = settings.head_channels or CLASSIFIER_HEAD_CHANNELS
    settings = replace(settings, task="classifier", codec=None, codec_settings={})
    settings = with_channels(settings, network["inputs"])
    if network["side"]:
        settings = replace(settings, window=(network["side"] * 2 ** (len(network["widths"]) - 1),) * 2)
    card = common_card(settings, network, 2 ** (len(network["widths"]) - 1), network["inputs"])
    return replace(card, architecture="guided-classifier", labels=settings.labels[: network["outputs"]])


def monai_card(weights: Weights, settings: Settings, source: Path) -> Card:
    """The card of MONAI's ``DiffusionModelUNet``.

    Raises:
        PlanError: no constructor arguments, or settings that contradict them.
    """
    arguments = network_arguments(settings, source)
    try:
        inputs, states = int(arguments["in_channels"]), int(arguments["out_channels"])
        spatial, stride = int(arguments["spatial_dims"]), 2 ** (len(arguments["channels"]) - 1)
    except (KeyError, TypeError, ValueError):
        raise PlanError(
            "The arguments of DiffusionModelUNet must name spatial_dims, in_channels, out_channels and channels."
        ) from None
    if len(settings.window) != spatial:
        settings = replace(settings, window=(settings.window[0],) * spatial)
    network = {"arguments": arguments, "mask_first": settings.mask == "first"}
    card = common_card(with_channels(settings, inputs - states), network, stride, states)
    return replace(card, architecture="monai-diffusion-unet")


def with_channels(settings: Settings, images: int) -> Settings:
    """The settings with named channels and a number of copies that make up the network's ``images`` channels.

    Raises:
        PlanError: the named channels, each ``repeat`` times, are another number.
    """
    named = len(settings.channels) if settings.channels else None
    repeat = settings.repeat or (images // named if named else 1)
    count = images // repeat
    if images < 1 or count * repeat != images or (named is not None and named != count):
        have = f"{named} ({', '.join(settings.channels or ())})" if named else "some"
        raise PlanError(
            f"The network takes {images} image channel(s), which are not {repeat} copies of {have}; correct "
            "--set channels=a,b,... or --set repeat=N."
        )
    if len(settings.mean) not in (1, images) or len(settings.std) not in (1, images):
        raise PlanError(f"Give 1 or {images} numbers for --set mean and --set std, as the network has channels.")
    names = settings.channels or (("image",) if count == 1 else tuple(f"image {k + 1}" for k in range(count)))
    return replace(settings, channels=names, repeat=repeat)


def class_names(settings: Settings, states: int) -> tuple[str, ...]:
    """Names of the classes of a mask of ``states`` channels, background first."""
    if settings.classes is not None:
        return settings.classes
    if settings.task != "mask":
        return ("background", "lesion")
    return ("background", "lesion") if states <= 2 else ("background", *(f"class {k}" for k in range(1, states)))


def codec_of(settings: Settings, states: int, classes: int) -> tuple[str, dict[str, Any]]:
    """Name and settings of the codec.

    Raises:
        PlanError, CheckpointError: a codec that does not have ``states`` channels for these classes.
    """
    if settings.task != "mask":
        return "image", {"channels": states} | settings.codec_settings
    name = settings.codec or ("binary" if states == 1 else "onehot")
    own = build_codec(name, classes, settings.codec_settings).channels
    if own != states:
        raise PlanError(
            f"The network has {states} mask channel(s), but codec {name} has {own} for {classes} classes; correct "
            "--set codec=binary|onehot or --set classes=background,..."
        )
    return name, settings.codec_settings


def common_card(settings: Settings, network: dict[str, Any], stride: int, states: int) -> Card:
    """A card without its architecture's name; ``states`` channels diffuse, ``stride`` divides the window."""
    classes = class_names(settings, states)
    codec, codec_settings = codec_of(settings, states, len(classes))
    if len(settings.colors) < len(classes):
        raise PlanError(f"{len(classes)} classes need as many colors; give them with --set colors=#rrggbb,...")
    return Card(
        name=settings.name or "",
        title=settings.title or settings.name or "",
        description=settings.description,
        architecture="",
        network=network,
        schedule=settings.schedule,
        schedule_settings=settings.schedule_settings,
        prediction=settings.prediction,
        prediction_settings=settings.prediction_settings,
        codec=codec,
        codec_settings=codec_settings,
        task=settings.task,
        channels=settings.channels or (),
        classes=tuple(ClassInfo(n, c) for n, c in zip(classes, settings.colors, strict=False)),
        image=ImageInput(settings.repeat or 1, settings.mean, settings.std),
        rule=ImageRule(settings.spacing_mm, settings.clip_percentiles, settings.normalise, stride),
        window=settings.window,
        sampler=settings.sampler,
        sampler_settings=settings.sampler_settings,
        steps=settings.steps,
        licence=settings.licence,
        citation=settings.citation,
        training=settings.training,
    )
