"""Scan, x_t, x̂0 and the x̂0 of the branches beside each other, every one in a view of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffseg.grid import Box
from napari_diffseg.layer_updates import show
from napari_diffseg.layerdata import own
from napari_diffseg.stage import Stage
from napari_diffseg.trajectory_mirror import FAINT

COMPARED = ("x", "x0", "branch x0")
# Hidden without being asked: what belongs to the scan and comes back with it.
QUIET = ("scan", "rater")


class SideBySide:
    """Follows ``session.side_by_side``. Every visible layer gets a view, so the others are hidden meanwhile and come
    back at the end. It begins by itself only where nothing but the scan and its readers is hidden by that, and ends
    by itself when there are results, which are shown on the scan.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage, self.session = stage, stage.session
        # What is wanted; what was done to layers; whether they have views of their own.
        self._on = self._gathered = self._parted = False
        self._hidden: list[Any] = []
        # Layers that wait for views of their own before they are shown.
        self._veiled: list[Any] = []
        self._run: int | None = None
        self._letters: tuple[str, ...] = ()
        events = self.session.events
        stage.on(events.trajectory, self.refresh)
        stage.on(events.branches, self._on_branches)
        stage.on(events.side_by_side, self._on_asked)
        stage.on(events.maps, self._on_maps)

    def refresh(self) -> None:
        view = self.session.trajectory
        if view is None:
            self._run = None
            self._leave()
        elif view.run_id != self._run:
            self._run = view.run_id
            if self.session.side_by_side and not self._on:
                if all(own(la).get("role") in QUIET for la in self._others()):
                    self._enter()
                else:
                    self.session.side_by_side = False

    def removed(self, layer: Any) -> None:
        self._hidden = [la for la in self._hidden if la is not layer]

    def _compared(self) -> list[Any]:
        return [la for la in self.stage.layers if own(la).get("role") in COMPARED]

    def _others(self) -> list[Any]:
        """Visible layers that get no view: all but what is compared and the topmost scan."""
        kept = self._compared()
        scans = [la for la in self.stage.layers if own(la).get("role") == "scan" and la.visible]
        # A scan of the person's own, not read by us, lies lowest.
        kept += scans[-1:] or self.stage.layers[:1]
        return [la for la in self.stage.layers if la.visible and la not in kept]

    def _on_asked(self) -> None:
        if self.session.trajectory is None:
            return
        if self.session.side_by_side and not self._on:
            self._enter()
        elif not self.session.side_by_side:
            self._leave()

    def _on_branches(self) -> None:
        """Another branch needs another view; it also asks for the comparison."""
        letters = tuple(b.letter for b in self.session.branches)
        if letters == self._letters:
            return
        more, self._letters = set(letters) - set(self._letters), letters
        if more and not self.session.side_by_side:
            self.session.side_by_side = True
        elif self._on:
            self._again()

    def _again(self) -> None:
        """Other layers want views, with the camera on them."""
        for piece in (self._dissolve, self._gather, self._part):
            self.stage.soon(piece)

    def _on_maps(self) -> None:
        if self.session.maps is not None and self._on:
            self.session.side_by_side = False

    def _enter(self) -> None:
        """Each piece in a turn of its own, after the layers that wait; those are shown when they have their views."""
        compared = self._compared()
        if compared and not self._on:
            self._on = True
            for layer in compared:
                if self.stage.slider(layer) is None:
                    self._veiled.append(layer)
                    show(layer, False)
            for piece in (self._gather, self._part):
                self.stage.soon(piece)

    def _gather(self) -> None:
        if not self._on or self._gathered:
            return
        self._gathered = True
        self._veiled = []  # the views show them
        self._hidden = self._others()
        for layer in self._hidden:
            show(layer, False)
        for layer in self._compared():
            if layer.opacity == FAINT:
                layer.opacity = 1.0
            if layer.blending == "additive":
                layer.blending = "opaque"

    def _part(self) -> None:
        if self._gathered and not self._parted:
            self._parted = self.stage.side_by_side(True, self._box(), self._compared())
            if not self._parted:
                self._on = False  # the person has a grid already
                self._restore()

    def _leave(self) -> None:
        """Before the layers that wait: in a grid each of them would get a view."""
        if self._on:
            self._on = False
            self.stage.soon(self._unite, first=True)

    def _unite(self) -> None:
        if not self._on:
            self._dissolve()
            # A run may end before there were any views.
            veiled, self._veiled = self._veiled, []
            for layer in veiled:
                if layer in self.stage.layers:
                    show(layer, True)

    def _dissolve(self) -> None:
        if self._gathered:
            if self._parted:
                self.stage.side_by_side(False)
            self._restore()

    def _restore(self) -> None:
        """Everything onto the scan again, faintly where there are results."""
        self._gathered = self._parted = False
        for layer in self._compared():
            if layer.blending == "opaque":
                layer.blending = "additive"
            if self.session.maps is not None and layer.opacity == 1.0:
                layer.opacity = FAINT
                show(layer, own(layer)["role"] != "x")
        hidden, self._hidden = self._hidden, []
        for layer in hidden:
            if layer in self.stage.layers:
                show(layer, True)

    def _box(self) -> Box:
        """The region of the case that the window covers."""
        view = self.session.trajectory
        assert view is not None
        ends = [np.array(view.offset) + np.array(view.step) * (np.array(i) - 0.5) for i in ((0,), view.x.shape[1:])]
        start, stop = (tuple(int(v) for v in np.rint(end + 0.5)) for end in ends)
        return Box(start, stop)
