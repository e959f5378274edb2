"""The transport of a trajectory, |◀ ◀ ▶/❚❚ ▶ ▶|, and its timeline."""

from __future__ import annotations

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QSizePolicy, QSlider

from napari_diffseg import commands, keys, transport
from napari_diffseg.session import Session
from napari_diffseg.widgets.panel import Panel, button, enable, line, row, say, slim, small_button

# Time between two steps while the timeline is played back.
PLAYBACK_MS = 300
# Beside the words of a button.
ROOM_PX = 18
FINISHED = "This is the finished mask: go back, or Reset to start again from noise."


class TransportBar(Panel):
    """Play computes what is missing and then plays back what there is; Step goes to the next state, and computes it
    if need be.
    """

    title = "Transport"

    def _build(self) -> None:
        self.page.setContentsMargins(0, 0, 0, 0)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.first = small_button("|◀", "To the starting noise", "First step")
        self.back = button("◀ Back", keys.tip("One step back", "back"), "Previous step")
        self.play = button("▶ Play", "", "Play")
        self.step = button("Step ▶", keys.tip("The next step; it is computed if need be", "step"), "Next step")
        self.last = small_button("▶|", "To the newest step", "Newest step")
        self.reset = button("Reset", "Drop the trajectory and its branches, and start again from noise")
        slim(self.back, self.play, self.step, self.reset)
        # The widest of its words, so that nothing moves under the mouse.
        for made, words in ((self.play, "▶ Resume"), (self.back, "◀ Back"), (self.step, "Step ▶")):
            made.setMinimumWidth(made.fontMetrics().horizontalAdvance(words) + ROOM_PX)
        tools = row(self.first, self.back, self.play, self.step, self.last, self.reset, gap=3)
        tools.setStretch(2, 1)
        self.page.addLayout(tools)
        self.hint = line(name="Why something cannot be done here", faint=True)
        self.page.addWidget(self.hint)
        self.timeline = QSlider(Qt.Orientation.Horizontal)
        self.timeline.setAccessibleName("Step on display")
        self.timeline.setToolTip("The step on display; napari's own slider moves along")
        self.timeline.setTickPosition(QSlider.TickPosition.TicksBelow)
        self.timeline.setPageStep(1)
        self.page.addWidget(self.timeline)
        self.where = line(name="Step on display in words")
        self.follow = QCheckBox("Follow")
        self.follow.setToolTip(keys.tip("Show each new step as it is computed", "follow"))
        self.beside = QCheckBox("Side by side")
        self.beside.setToolTip(
            keys.tip("Scan, x_t and x̂0 each in a view of its own; other layers are hidden meanwhile", "beside")
        )
        told = row(self.where, self.follow, self.beside)
        told.setStretch(0, 1)
        self.page.addLayout(told)
        self.playback = QTimer(self)
        self.playback.setInterval(PLAYBACK_MS)

    def _connect(self) -> None:
        self.first.clicked.connect(lambda: commands.show_step(self.session, 0))
        self.back.clicked.connect(lambda: commands.step_back(self.session))
        self.play.clicked.connect(self._play)
        self.step.clicked.connect(lambda: commands.advance(self.session))
        self.last.clicked.connect(lambda: commands.show_step(self.session, transport.newest(self.session)))
        self.reset.clicked.connect(lambda: commands.reset(self.session))
        self.timeline.valueChanged.connect(self._scrub)
        self.playback.timeout.connect(self._next)
        self.follow.clicked.connect(lambda on: commands.set_follow(self.session, on))
        self.beside.clicked.connect(lambda on: commands.set_side_by_side(self.session, on))
        self.hear("trajectory", by=self._on_trajectory)
        self.hear("step", "trajectory", by=self._on_step)
        self.hear("follow", "side_by_side", by=self._on_switches)
        self.hear("job", "case", "model", "trajectory", "branches", "step", "settings", "roi", by=self._on_job)

    def shutdown(self) -> None:
        """Stop listening and playing back."""
        self.playback.stop()
        super().shutdown()

    # ---- from the person ----

    def _scrub(self, step: int) -> None:
        commands.show_step(self.session, step)
        # Back to where the run is, when the person pulled further.
        self._on_step()

    def _play(self) -> None:
        state = self.session.job.state
        if self.playback.isActive():
            self.playback.stop()
        elif state in ("running", "paused"):
            {"running": commands.pause, "paused": commands.resume}[state](self.session)
        elif plays_back(self.session):
            if self.session.step >= transport.newest(self.session):
                commands.show_step(self.session, 0)
            self.playback.start()
        else:
            commands.play(self.session)
        self._on_job()

    def _next(self) -> None:
        commands.show_step(self.session, self.session.step + 1)
        if self.session.step >= transport.newest(self.session):
            self.playback.stop()
            self._on_job()

    # ---- from the session ----

    def _on_trajectory(self) -> None:
        view = self.session.trajectory
        if view is None:
            self.playback.stop()
        self.timeline.blockSignals(True)
        self.timeline.setRange(0, view.total if view else 1)
        self.timeline.blockSignals(False)

    def _on_step(self) -> None:
        view, step = self.session.trajectory, self.session.step
        self.timeline.blockSignals(True)
        self.timeline.setValue(step)
        self.timeline.blockSignals(False)
        self.timeline.setEnabled(view is not None)
        self.where.setText(where_words(self.session))

    def _on_switches(self) -> None:
        self.follow.setChecked(self.session.follow)
        self.beside.setChecked(self.session.side_by_side)

    def _on_job(self) -> None:
        session, state = self.session, self.session.job.state
        backwards = [] if session.step > 0 else ["This is the starting noise."]
        for made in (self.first, self.back):
            enable(made, session.blockers("reset") or backwards)
        behind = session.step < transport.newest(session)
        enable(self.last, session.blockers("reset") or ([] if behind else ["This is the newest step."]))
        enable(self.step, [] if behind else session.blockers("step") or unless(transport.can_step(session), FINISHED))
        enable(self.reset, session.blockers("reset"))
        verb = {"running": "pause", "paused": "resume"}.get(state, "play")
        back = state == "idle" and plays_back(session)
        blockers = [] if back or self.playback.isActive() else session.blockers(verb)
        words = {"running": "❚❚ Pause", "paused": "▶ Resume"}.get(state, "▶ Play")
        self.play.setText("❚❚ Pause" if self.playback.isActive() else words)
        self.play.setProperty(
            "tip", "Play back what is computed" if back else keys.tip("Denoise to the mask, all steps", "play")
        )
        enable(self.play, blockers)
        say(self.hint, blockers[0] if blockers else "")


def plays_back(session: Session) -> bool:
    """Whether Play has nothing to compute: the trajectory is finished, and the settings are still its own."""
    view = session.trajectory
    return view is not None and view.done == view.total and transport.is_current(session)


def where_words(session: Session) -> str:
    """For example ``Step 3/5 · t = 0.40``."""
    view = session.trajectory
    if view is None:
        return "No trajectory yet"
    return f"Step {view.number(session.step)}/{view.steps} · t = {view.times[session.step]:.2f}"


def unless(met: bool, sentence: str) -> list[str]:
    """The sentence as a blocker, or none."""
    return [] if met else [sentence]
