"""What each kind of result looks like in the viewer, and what the person's doings there mean for the Session.

A mirror listens to fields of the Session and keeps its layers like them. Layers grow in place; one that the
person removed stays away until it is asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from napari_diffseg import layerdata
from napari_diffseg.blind_mirror import BlindMirror
from napari_diffseg.ensemble_mirror import ENSEMBLE_MIRRORS
from napari_diffseg.journal_mirror import JournalMirror
from napari_diffseg.labels_mirror import LabelsMirror
from napari_diffseg.layerdata import LayerData
from napari_diffseg.mask_mirror import MaskMirror
from napari_diffseg.origin_mirror import OriginMirror
from napari_diffseg.picked_mirror import PickedMirror
from napari_diffseg.rater_mirror import RaterMirror
from napari_diffseg.redraw_mirror import RedrawMirror
from napari_diffseg.region_mirror import RegionMirror
from napari_diffseg.saliency_mirror import SaliencyMirror
from napari_diffseg.side_by_side import SideBySide
from napari_diffseg.stage import Stage
from napari_diffseg.state import MAP_NAMES, Maps
from napari_diffseg.switched_mirror import SwitchedMirror
from napari_diffseg.trajectory_mirror import BranchMirror, TrajectoryMirror


class Mirror(Protocol):
    """One kind of layer."""

    def refresh(self) -> None:
        """Make the layers like the Session; also finds layers left by an earlier dock."""
        ...

    def removed(self, layer: Any) -> None:
        """The person took a layer away."""
        ...


class MapsMirror(SwitchedMirror):
    """Contours and maps of an ensemble."""

    names = MAP_NAMES

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage, stage.session.events.maps)

    def _record(self) -> Maps | None:
        return self.session.maps

    def _data(self, name: str, record: Maps) -> LayerData:
        case, frame, model = self.session.case, self.stage.frame, self.session.model
        assert case is not None and frame is not None
        return layerdata.map_layer(name, record, model.classes if model is not None else (), case, frame)


class ModeMirror(PickedMirror):
    """The representative mask of the mode that is picked out."""

    role = "mode"

    def _data(self) -> LayerData | None:
        session, frame = self.session, self.stage.frame
        mode = next((m for m in session.modes if m.index == session.mode), None)
        if mode is None or session.snapshot is None or session.maps is None or session.case is None or frame is None:
            return None
        classes = session.model.classes if session.model is not None else ()
        return layerdata.mode_layer(mode, session.snapshot, session.maps, classes, session.case, frame)


MIRRORS: tuple[Callable[[Stage], Mirror], ...] = (
    TrajectoryMirror,
    BranchMirror,
    SideBySide,
    MapsMirror,
    ModeMirror,
    MaskMirror,
    JournalMirror,
    RedrawMirror,
    LabelsMirror,
    OriginMirror,
    RaterMirror,
    RegionMirror,
    SaliencyMirror,
    *ENSEMBLE_MIRRORS,
    # Last, so that it hides what the others have just shown.
    BlindMirror,
)
