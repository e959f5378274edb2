"""Which of several images is which channel of a model, told by their names. Free of torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diffseg.case import Case

# What one contrast is also called; names are compared in small letters.
SYNONYMS = {
    "t1ce": ("t1gd", "t1c", "t1post", "t1wce", "t1n1"),
    "t1": ("t1w", "t1n", "t1pre"),
    "t2": ("t2w",),
    "flair": ("t2f", "t2flair", "fl"),
    "pd": ("pdw",),
    "ct": ("ctp0",),
    "dwi": ("b1000",),
}
# How contrasts are written that are not all capitals.
CALLED = {"t1ce": "T1 after contrast"}


def match(names: Sequence[str], wanted: Sequence[str], by_order: bool = True) -> tuple[int | None, ...]:
    """For each wanted channel the index into ``names`` of the image that shows it, each image at most once.

    A name matches when it is the channel's, or holds it (or a synonym) as a word: ``sub01_t1ce`` is ``T1ce`` and not
    ``T1``. With as many images as channels, those without a match take the channels left over in order, unless
    ``by_order`` is False; with more, a channel without a match is None.
    """
    found: dict[int, int] = {}
    for exact in (True, False):
        for channel, want in enumerate(wanted):
            free = (i for i in range(len(names)) if i not in found.values())
            hit = next((i for i in free if _is(names[i], want, exact)), None)
            if channel not in found and hit is not None:
                found[channel] = hit
    if by_order and len(names) == len(wanted):
        left = [i for i in range(len(names)) if i not in found.values()]
        for channel in range(len(wanted)):
            if channel not in found:
                found[channel] = left.pop(0)
    return tuple(found.get(channel) for channel in range(len(wanted)))


def doubtful(names: Sequence[str], wanted: Sequence[str]) -> tuple[str, str, str] | None:
    """An image that says by its name to be of another contrast than the channel it would be taken for: its name, the
    contrast that it names and the channel; None where there is none. Names that tell no contrast are in no doubt.
    """
    for channel, index in zip(wanted, match(names, wanted), strict=True):
        if index is None or not (own := _synonyms(channel.casefold())) or _is(names[index], channel, exact=False):
            continue
        named = next((key for key in SYNONYMS if key not in own and _is(names[index], key, exact=False)), None)
        if named is not None:
            return names[index], CALLED.get(named, named.upper()), channel
    return None


def select(case: Case, wanted: Sequence[str]) -> Case | None:
    """The case with the channels of a model alone; itself if it has as many, None if it lacks one."""
    if len(wanted) == len(case.channels):
        return case
    index = [i for i in match(case.channels, wanted) if i is not None]
    return _only(case, index) if len(index) == len(wanted) else None


def arrange(case: Case, wanted: Sequence[str]) -> tuple[Case, Case | None]:
    """The case with the channels of a model in their order, and one of the images left over, None if there are none.

    A case that lacks a channel is returned as it is.
    """
    index = [i for i in match(case.channels, wanted) if i is not None]
    if len(index) < len(wanted):
        return case, None
    left = [i for i in range(len(case.channels)) if i not in index]
    return _only(case, index), _only(case, left) if left else None


def _only(case: Case, index: Sequence[int]) -> Case:
    if list(index) == list(range(len(case.channels))):
        return case
    image = np.ascontiguousarray(case.image[list(index)])
    return replace(case, image=image, channels=tuple(case.channels[i] for i in index))


def _is(name: str, channel: str, exact: bool) -> bool:
    name, channel = name.casefold(), channel.casefold()
    if exact or not channel:
        return name == channel
    words = [word for word in re.split(r"[^a-z0-9]+", name) if word]
    joined = {a + b for a, b in zip(words, words[1:], strict=False)}  # "t1 ce"
    called = {channel, *_synonyms(channel)}
    others = {other for key in SYNONYMS if key not in called for other in (key, *SYNONYMS[key])} - called
    return bool(called & {*words, *joined}) and not (others & joined)


def _synonyms(channel: str) -> set[str]:
    for key, others in SYNONYMS.items():
        if channel == key or channel in others:
            return {key, *others}
    return set()
