"""The person's own defaults, from napari's Preferences (manifest: ``configurations``)."""

from __future__ import annotations

from dataclasses import replace

from napari.settings import get_plugin_settings

from napari_diffseg.state import SampleSettings


def preferred(settings: SampleSettings) -> SampleSettings:
    """``settings`` with the number of masks, the seed and the device that the person set in Preferences."""
    try:
        sampling = get_plugin_settings("napari-diffseg").sampling
    except KeyError:  # not discovered as a plugin, as in a script that builds the dock by hand
        return settings
    return replace(settings, members=sampling.members, seed=sampling.seed, device=str(sampling.device))
