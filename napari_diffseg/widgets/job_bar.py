"""The bar below the pages: what runs, how far it is, how long it takes, and the one obvious next thing."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFrame, QProgressBar, QSizePolicy

from napari_diffseg import commands, keys
from napari_diffseg.session import Session
from napari_diffseg.state import JobState
from napari_diffseg.widgets.next_step import next_step
from napari_diffseg.widgets.panel import Panel, button, enable, line, row, say, small_button

STATES = {"running": "running", "paused": "paused", "cancelling": "stopping", "idle": "ready"}
DEVICES = {"auto": "Device automatic", "cpu": "CPU", "cuda": "GPU", "mps": "GPU"}
SIGNS = {"info": "", "warning": "⚠ ", "error": "⚠ "}


class JobBar(Panel):
    """``turned(str)`` names the page that the primary button leads to; ``save_asked`` wants a file name; ``ask`` is
    down while the page is to be explained.
    """

    title = "Job"
    turned = Signal(str)
    save_asked = Signal()

    def _build(self) -> None:
        ruler = QFrame()
        ruler.setFrameShape(QFrame.Shape.HLine)
        self.page.addWidget(ruler)
        self.state = line(name="State")
        self.ask = small_button("?", "What am I looking at? And which keys are there?", "What am I looking at?")
        self.ask.setCheckable(True)
        top = row(self.state, self.ask)
        top.setStretch(0, 1)
        self.page.addLayout(top)
        self.primary = button("", "", "Next step")
        self.primary.setDefault(True)
        font = self.primary.font()
        font.setBold(True)
        self.primary.setFont(font)
        self.progress = QProgressBar()
        self.progress.setAccessibleName("Progress")
        self.progress.setTextVisible(True)
        self.progress.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.stop = small_button("■", keys.tip("Stop within one step; what is finished stays", "cancel"), "Stop")
        tools = row(self.primary, self.progress, self.stop)
        tools.setStretch(1, 1)
        self.page.addLayout(tools)
        self.why = line(name="Why the next step cannot be done", faint=True)
        self.page.addWidget(self.why)
        self.message = line(name="Message")
        self.copy = button("Copy details", "The whole error, for a report")
        self.page.addWidget(self.message)
        self.page.addLayout(row(1, self.copy))

    def _connect(self) -> None:
        self.primary.clicked.connect(self._go)
        self.stop.clicked.connect(lambda: commands.cancel(self.session))
        self.copy.clicked.connect(self._copy)
        self.hear("job", by=self._on_job)
        self.hear("job", "case", "model", "snapshot", "mask", "settings", "hint_model", "cut", by=self._on_next)
        self.hear("message", by=self._on_message)

    # ---- from the person ----

    def _go(self) -> None:
        step = next_step(self.session)
        if step.blockers:
            return
        if step.page:
            self.turned.emit(step.page)
        if step.act is not None:
            step.act(self.session)
        else:
            self.save_asked.emit()

    def _copy(self) -> None:
        if self.session.message is not None and (board := QGuiApplication.clipboard()) is not None:
            board.setText(self.session.message.details)

    # ---- from the session ----

    def _on_job(self) -> None:
        job = self.session.job
        self.state.setText(state_words(self.session))
        self.progress.setVisible(job.state != "idle")
        self.stop.setVisible(job.state != "idle")
        # A range of 0 to 0 is Qt's "busy": before the first record nobody knows how much there is.
        self.progress.setRange(0, job.total)
        self.progress.setValue(job.done)
        self.progress.setFormat("%v/%m")
        enable(self.stop, self.session.blockers("cancel"))

    def _on_next(self) -> None:
        step = next_step(self.session)
        self.primary.setText(step.words)
        self.primary.setAccessibleName(f"Next step: {step.words}")
        self.primary.setProperty("tip", step.tip)
        enable(self.primary, list(step.blockers))
        idle = self.session.job.state == "idle"
        say(self.why, step.blockers[0] if step.blockers and idle else "")

    def _on_message(self) -> None:
        message = self.session.message
        say(self.message, SIGNS[message.kind] + message.text if message else "")
        self.copy.setVisible(bool(message and message.details))


def state_words(session: Session) -> str:
    """For example ``● CPU · First mask running · 2 s left``."""
    job = session.job
    device = job.device or session.settings.device
    parts = [DEVICES.get(device.split(":")[0], device)]
    parts.append(f"{job.name} {STATES[job.state]}" if job.state != "idle" else STATES["idle"])
    if job.state == "running" and job.seconds_left is not None:
        parts.append(f"{time_words(job)} left")
    return f"{'●' if job.state == 'idle' else '◐'} {' · '.join(parts)}"


def time_words(job: JobState) -> str:
    """``0:02``, minutes and seconds, or hours too."""
    seconds = round(job.seconds_left or 0)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"{minutes}:{seconds % 60:02d}"
