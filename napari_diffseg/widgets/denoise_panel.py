"""Page "Denoise": the settings of a run, its transport, its timeline and its two curves."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import Container
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QLabel,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from diffseg.sample import SAMPLERS
from napari_diffseg import commands, forms
from napari_diffseg.state import SampleSettings
from napari_diffseg.widgets.panel import GAP, Panel, adopt, button, enable, line, row, say, slim, small_button
from napari_diffseg.widgets.plots import Curve

DEVICES = (("auto", "auto"), ("cuda", "GPU (CUDA)"), ("mps", "GPU (Apple)"), ("cpu", "CPU"))
# Time between two steps while the timeline is played back.
PLAYBACK_MS = 300


class DenoisePanel(Panel):
    """See the module."""

    title = "Denoise"

    def _build(self) -> None:
        self._build_settings()
        self._build_transport()
        self.snr = Curve("Noise schedule: log-SNR at each step", "How much of the mask stands out of the noise")
        self.change = Curve("Change of the predicted mask, step by step", "Mean absolute change of x̂0")
        self.page.addWidget(self.snr, 1)
        self.page.addWidget(self.change, 1)
        self.playback = QTimer(self)
        self.playback.setInterval(PLAYBACK_MS)

    def _build_settings(self) -> None:
        self.sampler, self.device = QComboBox(), QComboBox()
        for name in SAMPLERS:
            self.sampler.addItem(name.upper(), name)
            self.sampler.setItemData(self.sampler.count() - 1, SAMPLERS.help(name), Qt.ItemDataRole.ToolTipRole)
        for name, words in DEVICES:
            self.device.addItem(words, name)
        self.device.setToolTip("Where the network runs")
        self.common = forms.form(SampleSettings, vars(self.session.settings), only=("steps", "seed"))
        forms.on_change(self.common, lambda name, value: commands.set_settings(self.session, **{name: value}))
        self.grid = QGridLayout()
        self.grid.setSpacing(GAP)
        self.grid.setColumnStretch(1, 1)
        self.grid.setColumnStretch(3, 1)
        self.page.addLayout(self.grid)
        slim(self.sampler, self.device, *(widget.native for widget in self.common))
        self._place(0, 0, "Sampler", self.sampler)
        self._place(0, 2, "Device", self.device)
        for column, widget in zip((0, 2), self.common, strict=True):
            self._place(1, column, widget.label, widget.native)
        adopt(self, self.common)
        self.own: Container | None = None
        self.own_holder = QWidget()
        self.own_holder.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.own_box = QVBoxLayout(self.own_holder)
        self.own_box.setContentsMargins(0, 0, 0, 0)
        self.grid.addWidget(self.own_holder, 2, 0, 1, 4)

    def _place(self, number: int, column: int, words: str, widget: QWidget) -> None:
        widget.setAccessibleName(words)
        self.grid.addWidget(QLabel(words), number, column)
        self.grid.addWidget(widget, number, column + 1)

    def _build_transport(self) -> None:
        self.play = button("▶ Play", "Denoise to the first mask, all steps")
        self.step = button("Step", "One denoising step, then wait")
        self.reset = button("Reset", "Drop the trajectory and start again from noise")
        self.page.addLayout(row(self.play, self.step, self.reset))
        self.hint = line(name="Why something cannot be done here", faint=True)
        self.page.addWidget(self.hint)
        self.first = small_button("|◀", "To the starting noise", "First step")
        self.back = small_button("◀", "One step back", "Previous step")
        self.replay = small_button("▷", "Play back what is computed", "Play back")
        self.forward = small_button("▶", "One step on", "Next step")
        self.last = small_button("▶|", "To the newest step", "Last step")
        self.timeline = QSlider(Qt.Orientation.Horizontal)
        self.timeline.setAccessibleName("Step on display")
        self.timeline.setTickPosition(QSlider.TickPosition.TicksBelow)
        self.timeline.setPageStep(1)
        self.where = line(name="Step on display in words")
        self.follow = QCheckBox("Follow")
        self.follow.setToolTip("Show each new step as it is computed")
        tools = (self.first, self.back, self.replay, self.forward, self.last)
        self.page.addLayout(row(*tools, self.timeline, gap=2))
        self.beside = QCheckBox("Side by side")
        self.beside.setToolTip("x_t and x̂0 each in a view of its own")
        where = row(self.where, self.follow, self.beside)
        where.setStretch(0, 1)
        self.page.addLayout(where)

    def _connect(self) -> None:
        self.sampler.activated.connect(self._choose_sampler)
        self.device.activated.connect(
            lambda index: commands.set_settings(self.session, device=self.device.itemData(index))
        )
        self.play.clicked.connect(self._play)
        self.step.clicked.connect(lambda: commands.step_once(self.session))
        self.reset.clicked.connect(lambda: commands.reset(self.session))
        self.timeline.valueChanged.connect(self._scrub)
        self.first.clicked.connect(lambda: commands.show_step(self.session, 0))
        self.back.clicked.connect(lambda: commands.show_step(self.session, self.session.step - 1))
        self.forward.clicked.connect(lambda: commands.show_step(self.session, self.session.step + 1))
        self.last.clicked.connect(lambda: commands.show_step(self.session, self._done()))
        self.replay.clicked.connect(self._play_back)
        self.playback.timeout.connect(self._next)
        self.follow.clicked.connect(lambda on: commands.set_follow(self.session, on))
        self.beside.clicked.connect(lambda on: commands.set_side_by_side(self.session, on))
        self.hear("settings", by=self._on_settings)
        self.hear("trajectory", by=self._on_trajectory)
        self.hear("step", "trajectory", by=self._on_step)
        self.hear("follow", "side_by_side", by=self._on_switches)
        self.hear("job", "case", "model", "trajectory", by=self._on_job)

    # ---- from the person ----

    def _choose_sampler(self, index: int) -> None:
        name = self.sampler.itemData(index)
        if name != self.session.settings.sampler:
            commands.set_settings(self.session, sampler=name, sampler_settings={})

    def _set_own(self, name: str, value: Any) -> None:
        commands.set_settings(self.session, sampler_settings={**self.session.settings.sampler_settings, name: value})

    def _scrub(self, step: int) -> None:
        commands.show_step(self.session, step)
        # Back to where the run is, when the person pulled further.
        self._on_step()

    def _play(self) -> None:
        act = {"running": commands.pause, "paused": commands.resume}.get(self.session.job.state, commands.play)
        act(self.session)

    def _play_back(self) -> None:
        if self.playback.isActive():
            self.playback.stop()
            return
        if self.session.step >= self._done():
            commands.show_step(self.session, 0)
        self.playback.start()

    def _next(self) -> None:
        commands.show_step(self.session, self.session.step + 1)
        if self.session.step >= self._done():
            self.playback.stop()

    # ---- from the session ----

    def finished(self) -> bool:
        """A trajectory has reached its mask."""
        view = self.session.trajectory
        return view is not None and view.done == view.total

    def shutdown(self) -> None:
        """Stop listening and playing back."""
        self.playback.stop()
        super().shutdown()

    def _done(self) -> int:
        return self.session.trajectory.done if self.session.trajectory else 0

    def _on_settings(self) -> None:
        settings = self.session.settings
        self.sampler.setCurrentIndex(self.sampler.findData(settings.sampler))
        self.sampler.setToolTip(SAMPLERS.help(settings.sampler))
        self.device.setCurrentIndex(max(0, self.device.findData(settings.device)))
        forms.show(self.common, vars(settings))
        kind = SAMPLERS[settings.sampler]
        if self.own is None or self.own.name != settings.sampler:
            self._replace_own(kind, settings.sampler)
        assert self.own is not None
        forms.show(self.own, {**forms.defaults(kind), **settings.sampler_settings})

    def _replace_own(self, kind: type, name: str) -> None:
        if self.own is not None:
            self.own_box.removeWidget(self.own.native)
            self.own.native.deleteLater()
        self.own = forms.form(kind)
        self.own.name = name
        self.own.margins = (0, 0, 0, 0)
        forms.on_change(self.own, self._set_own)
        self.own_box.addWidget(self.own.native)

    def _on_trajectory(self) -> None:
        view = self.session.trajectory
        self.snr.show_values(view.log_snr if view else (), view.total if view else 1)
        # The change of step k belongs under step k; slot 0 is the noise.
        self.change.show_values((float("nan"), *view.changes) if view else (), view.total if view else 1)
        self.timeline.blockSignals(True)
        self.timeline.setRange(0, view.total if view else 1)
        self.timeline.blockSignals(False)

    def _on_step(self) -> None:
        view, step = self.session.trajectory, self.session.step
        self.timeline.blockSignals(True)
        self.timeline.setValue(step)
        self.timeline.blockSignals(False)
        here = view is not None
        for made, act in ((self.first, step > 0), (self.back, step > 0)):
            made.setEnabled(here and act)
        for made in (self.forward, self.last):
            made.setEnabled(here and step < self._done())
        self.replay.setEnabled(self._done() > 0)
        self.timeline.setEnabled(here)
        self.snr.mark(step if here else None)
        self.change.mark(step if here else None)
        self.where.setText(f"Step {step}/{view.total} · t = {view.times[step]:.2f}" if view else "No trajectory yet")

    def _on_switches(self) -> None:
        self.follow.setChecked(self.session.follow)
        self.beside.setChecked(self.session.side_by_side)

    def _on_job(self) -> None:
        state = self.session.job.state
        verb = {"running": "pause", "paused": "resume"}.get(state, "play")
        self.play.setText({"running": "❚❚ Pause", "paused": "▶ Resume"}.get(state, "▶ Play"))
        blockers = self.session.blockers(verb)
        enable(self.play, blockers)
        enable(self.step, self.session.blockers("step"))
        enable(self.reset, self.session.blockers("reset"))
        busy = self.session.blockers("choose")
        forms.enable(self.common, not busy)
        for widget in (self.sampler, self.device, self.own_holder):
            widget.setEnabled(not busy)
        say(self.hint, blockers[0] if blockers else "")
