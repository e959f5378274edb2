"""The trajectory and its branches as layers with a step axis."""

from __future__ import annotations

from typing import Any

from napari_diffseg import layerdata, transport
from napari_diffseg.layer_updates import fade, replace, show
from napari_diffseg.layerdata import own
from napari_diffseg.stage import Stage
from napari_diffseg.state import Branch, TrajectoryView

# How strongly x̂0 still shines on the scan once there are results.
FAINT = 0.4


class TrajectoryMirror:
    """``x_t`` and ``x̂0`` with a step axis that follows the run.

    The worker fills slots that are out of reach of the slider, so nothing on display ever needs to be
    redrawn.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layers: dict[str, Any] = {}
        self._run: int | None = None
        # The run whose x̂0 has given way to an ensemble.
        self._hushed: int | None = None
        self._given_way: int | None = None
        stage.on(self.session.events.trajectory, self.refresh)
        stage.on(self.session.events.step, self._on_looked_at)
        stage.on(self.session.events.maps, self._on_maps)
        stage.on(stage.viewer.dims.events.current_step, self._on_moved)

    def refresh(self) -> None:
        view, case, frame = self.session.trajectory, self.session.case, self.stage.frame
        if view is None or case is None or frame is None:
            self._forget()
            return
        if view.run_id != self._run:
            self._begin(view)
        self._on_step()

    def removed(self, layer: Any) -> None:
        self._layers = {which: la for which, la in self._layers.items() if la is not layer}

    def _begin(self, view: TrajectoryView) -> None:
        """The layers of an earlier run are used again, with whatever look the person gave them."""
        case, frame, model = self.session.case, self.stage.frame, self.session.model
        assert case is not None and frame is not None
        self._run, new = view.run_id, False
        for which in ("x", "x0"):
            data = layerdata.trajectory_layer(view, which, case, frame, model.classes if model is not None else ())
            old = self._layers.get(which) or next(iter(self.stage.find(which)), None)
            if old is not None and old.ndim == data[0].ndim:
                replace(old, data)
                if old.opacity == FAINT:
                    show(old, True)
                    fade(old, 1.0)
                self._layers[which] = old
            else:
                new = True
                self._layers[which] = self.stage.add(data, self.stage.top())
        if new:
            self.stage.soon(self._on_step)

    def _forget(self) -> None:
        layers, self._layers, self._run = self._layers, {}, None
        for layer in layers.values():
            self.stage.drop(layer)

    def _on_looked_at(self) -> None:
        """Another step is wanted, and so is x̂0."""
        if self._hushed == self._run and self._run is not None:
            self._hushed = None
            self._show_x0(True)
        self._on_step()

    def _on_step(self) -> None:
        for layer in self._layers.values():
            axis = self.stage.slider(layer)
            if axis is not None:
                self.stage.move(axis, self.session.step)
                return  # all have the same step axis

    def _on_moved(self, event: Any = None) -> None:
        """The person moved napari's slider; slots not yet computed are out of reach."""
        view = self.session.trajectory
        axes = [axis for layer in self._layers.values() if (axis := self.stage.slider(layer)) is not None]
        if view is None or not axes or self.stage.held:
            return
        step = self.stage.position(axes[0])
        if step == self.session.step:
            return
        if step > transport.reach(self.session):
            self._on_step()
            return
        self.session.follow = self.session.follow and step == transport.newest(self.session)
        self.session.step = step

    def _on_maps(self) -> None:
        """Results are shown on the scan, and the trajectory must not hide it."""
        view = self.session.trajectory
        if self.session.maps is not None and view is not None and view.done == view.total:
            self.stage.soon(self._step_back)
            if self.session.maps.members > 1 and self._given_way != view.run_id:
                self._given_way = self._hushed = view.run_id
                self.stage.soon(self._give_way)

    def _give_way(self) -> None:
        """One run of many is not to lie on what they agree on; the person may show it again."""
        if self._hushed is not None:
            self._show_x0(False)

    def _show_x0(self, on: bool) -> None:
        """That of the trajectory and of its branches."""
        own_x0 = [self._layers["x0"]] if "x0" in self._layers else []
        for layer in (*own_x0, *self.stage.find(own_role("x0"))):
            show(layer, on)

    def _step_back(self) -> None:
        for which, layer in self._layers.items():
            if layer.opacity == 1.0:
                fade(layer, FAINT)
                if which == "x":
                    show(layer, False)


class BranchMirror:
    """``x̂0`` of every branch in the shades of its letter, and its ``x_t``, which is hidden until asked for."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        self._layers: dict[str, dict[str, Any]] = {}
        # Branches whose layers were made; one that the person removed stays away.
        self._made: dict[str, Any] = {}
        stage.on(self.session.events.branches, self.refresh)

    def refresh(self) -> None:
        wanted = {b.letter: b for b in self.session.branches}
        for letter in list(self._made):
            if letter not in wanted or self._made[letter] is not wanted[letter].view.x0:
                self._drop(letter)
        for letter, branch in wanted.items():
            if letter not in self._made:
                self._add(branch)

    def removed(self, layer: Any) -> None:
        for layers in self._layers.values():
            for which in [which for which, la in layers.items() if la is layer]:
                del layers[which]

    def _add(self, branch: Branch) -> None:
        case, frame, model = self.session.case, self.stage.frame, self.session.model
        if case is None or frame is None:
            return
        classes = model.classes if model is not None else ()
        self._made[branch.letter] = branch.view.x0
        layers = self._layers[branch.letter] = {}
        for which in ("x", "x0"):
            data = layerdata.trajectory_layer(branch.view, which, case, frame, classes, branch.letter)
            if which == "x":
                data[1]["visible"] = False
            left = [la for la in self.stage.find(own_role(which)) if own(la).get("letter") == branch.letter]
            if left and left[0].data is not data[0]:
                replace(left[0], data)
            layers[which] = left[0] if left else self.stage.add(data, self.stage.top())

    def _drop(self, letter: str) -> None:
        del self._made[letter]
        for layer in self._layers.pop(letter).values():
            self.stage.drop(layer)


def own_role(which: str) -> str:
    """The role that a branch's layers are noted with."""
    return f"branch {which}"
