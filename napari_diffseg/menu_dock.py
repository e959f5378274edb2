"""The dock that an entry of a menu opens, and what it asks there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from napari_diffseg import actions
from napari_diffseg.session import Session, session_for

if TYPE_CHECKING:
    from napari_diffseg.widgets.denoise_panel import DenoisePanel
    from napari_diffseg.widgets.dock import Dock
    from napari_diffseg.widgets.ensemble_panel import EnsemblePanel

PLUGIN = "napari-diffseg"
DOCK = "DiffSeg"


def do(viewer: Any, act: Callable[[Session], object]) -> None:
    """Ask a command of the viewer's session."""
    dock(viewer)
    act(session_for(viewer))


def may(session: Session, verb: str) -> bool:
    """Whether a dialog is worth opening; says why not."""
    return actions.possible(session, verb)


def page(viewer: Any, title: str) -> object:
    """The page of this title, in front."""
    found = dock(viewer)
    found.turn_to(title)
    return found.panels[title]


def ensemble(viewer: Any) -> EnsemblePanel:
    """The page Ensemble."""
    return cast("EnsemblePanel", page(viewer, "Ensemble"))


def export(viewer: Any, suffix: str) -> None:
    """Ask for a file of this suffix and write the trajectory."""
    panel = cast("DenoisePanel", page(viewer, "Denoise"))
    if may(panel.session, "export"):
        panel.choose_and_export(suffix)


def dock(viewer: Any) -> Dock:
    """The viewer's dock, opened if need be."""
    return cast("Dock", viewer.window.add_plugin_dock_widget(PLUGIN, DOCK)[1])
