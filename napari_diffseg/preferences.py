"""The person's own defaults, from napari's Preferences (manifest: ``configurations``)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from napari.settings import get_plugin_settings

from napari_diffseg.session import Session
from napari_diffseg.state import SampleSettings


def preferred(settings: SampleSettings) -> SampleSettings:
    """``settings`` with the number of masks, the seed and the device that the person set in Preferences."""
    chosen = _chosen()
    if chosen is None:
        return settings
    sampling = chosen.sampling
    return replace(settings, members=sampling.members, seed=sampling.seed, device=str(sampling.device))


def prepare(session: Session) -> None:
    """Give a session without a scan all defaults of the person."""
    session.settings = preferred(session.settings)
    chosen = _chosen()
    if chosen is None:
        return
    ensemble, trajectory = chosen.ensemble, chosen.trajectory
    session.ensemble = replace(session.ensemble, stop_early=ensemble.stop_early, relative_area=ensemble.relative_area)
    session.follow, session.seed_locked = trajectory.follow, trajectory.seed_locked


def wants_keys() -> bool:
    """Whether keys are to be bound to the viewer."""
    chosen = _chosen()
    return chosen is None or bool(chosen.keyboard.keys)


def _chosen() -> Any:
    """None where the plugin was not discovered, as in a script that builds the dock by hand."""
    try:
        return get_plugin_settings("napari-diffseg")
    except KeyError:
        return None
