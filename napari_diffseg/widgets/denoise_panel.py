"""Page "Denoise": the settings of a run, its transport, its curves, its branches, and its export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from magicgui.widgets import Container
from qtpy.QtGui import QAction
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QGridLayout,
    QLabel,
    QMenu,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_diffseg import commands, forms, keys
from napari_diffseg.exporting import FORMATS, proposed_name
from napari_diffseg.layerdata import line_color
from napari_diffseg.state import SampleSettings, TrajectoryView
from napari_diffseg.widgets.branch_list import BranchList
from napari_diffseg.widgets.panel import GAP, Panel, adopt, button, enable, line, offer, row, say, slim
from napari_diffseg.widgets.plots import Curve
from napari_diffseg.widgets.transport_bar import TransportBar

DEVICES = (("auto", "auto"), ("cuda", "GPU (CUDA)"), ("mps", "GPU (Apple)"), ("cpu", "CPU"))
# The curves grow with the dock up to this height.
CURVE_PX = 320
# Least room for the digits of steps and seed.
NUMBER_PX = 44


class DenoisePanel(Panel):
    """See the module."""

    title = "Denoise"
    help = (
        "The model starts from noise and removes some of it in every step. x_t is the noisy state, x̂0 the mask that "
        "the model sees in it, as opaque as it is certain. The upper curve tells how much of the mask stands out of "
        "the noise, the lower one how much of the mask still changes. Branch here asks what else could have come of "
        "the state on display: the same state, other noise from there on."
    )

    def _build(self) -> None:
        self._build_settings()
        self.bar = TransportBar(self.session)
        self.page.addWidget(self.bar)
        self.parts.append(self.bar)
        self.heard.extend(self.bar.heard)
        self.play, self.step, self.back, self.reset = self.bar.play, self.bar.step, self.bar.back, self.bar.reset
        self.timeline, self.where, self.follow, self.hint = (
            self.bar.timeline,
            self.bar.where,
            self.bar.follow,
            self.bar.hint,
        )
        self.snr = Curve("Noise schedule: log-SNR at each step", "How much of the mask stands out of the noise")
        self.change = Curve("Change of the mask", "How much is expected to change its class", lowest=0)
        for curve in (self.snr, self.change):
            curve.setMaximumHeight(CURVE_PX)
            self.page.addWidget(curve, 1)
        self._build_branches()

    def _build_settings(self) -> None:
        self.sampler, self.device = QComboBox(), QComboBox()
        for name, words in DEVICES:
            self.device.addItem(words, name)
        self.device.setToolTip("Where the network runs")
        self.lock = QCheckBox("Lock seed")
        self.lock.setToolTip("On: every trajectory starts from the same noise. Off: each one takes the next seed.")
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
        steps, seed = self.common
        # napari's style asks for 70 px, which is too much in the narrowest dock.
        for widget in (steps, seed):
            widget.native.setStyleSheet(f"QAbstractSpinBox {{ min-width: {NUMBER_PX}px; }}")
        self._place(1, 0, steps.label, steps.native)
        self._place(1, 2, seed.label, seed.native)
        adopt(self, self.common)
        self.own: Container | None = None
        self.own_holder = QWidget()
        self.own_holder.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.own_box = QVBoxLayout(self.own_holder)
        self.own_box.setContentsMargins(0, 0, 0, 0)
        self.grid.addWidget(self.own_holder, 2, 0, 1, 3)
        self.grid.addWidget(self.lock, 2, 3)

    def _place(self, number: int, column: int, words: str, widget: QWidget) -> None:
        widget.setAccessibleName(words)
        self.grid.addWidget(QLabel(words), number, column)
        self.grid.addWidget(widget, number, column + 1)

    def _build_branches(self) -> None:
        self.branch = button(
            "Branch here",
            keys.tip(
                "What else could have come of this state? The same state, and the noise of another seed from here "
                "on. Deterministic samplers go on as DDIM with eta 1.",
                "branch",
            ),
        )
        self.export = button("Export", "Write what is shown here as an animation or a strip of pictures")
        self.formats = QMenu(self.export)
        for suffix, words in FORMATS.items():
            action = QAction(f"{words}…", self.formats)
            action.setData(suffix)
            self.formats.addAction(action)
        self.export.setMenu(self.formats)
        self.page.addLayout(row(self.branch, self.export))
        self.why = line(name="Why there is no branch from here", faint=True)
        self.page.addWidget(self.why)
        self.branches = BranchList(self.session)
        self.page.addWidget(self.branches)

    def _connect(self) -> None:
        self.sampler.activated.connect(self._choose_sampler)
        self.device.activated.connect(
            lambda index: commands.set_settings(self.session, device=self.device.itemData(index))
        )
        self.lock.clicked.connect(lambda on: commands.lock_seed(self.session, on))
        self.branch.clicked.connect(lambda: commands.branch_here(self.session))
        self.formats.triggered.connect(lambda action: self.choose_and_export(action.data()))
        self.hear("settings", "seed_locked", by=self._on_settings)
        self.hear("trajectory", "branches", by=self._on_lines)
        self.hear("step", "trajectory", by=self._on_step)
        self.hear("job", "case", "model", "trajectory", "branches", "step", by=self._on_job)

    # ---- from the person ----

    def _choose_sampler(self, index: int) -> None:
        name = self.sampler.itemData(index)
        if name != self.session.settings.sampler:
            commands.set_settings(self.session, sampler=name, sampler_settings={})

    def _set_own(self, name: str, value: Any) -> None:
        commands.set_settings(self.session, sampler_settings={**self.session.settings.sampler_settings, name: value})

    def choose_and_export(self, suffix: str) -> None:
        """Ask for a file of this suffix and write what is shown."""
        kind = f"{FORMATS[suffix]} (*{suffix})"
        chosen, _ = QFileDialog.getSaveFileName(self, "Export", proposed_name(self.session, suffix), kind)
        if chosen:
            path = Path(chosen)
            commands.export_trajectory(self.session, path if path.suffix else path.with_suffix(suffix))

    # ---- from the session ----

    def finished(self) -> bool:
        """A trajectory has reached its mask."""
        view = self.session.trajectory
        return view is not None and view.done == view.total

    def shutdown(self) -> None:
        """Stop listening and playing back."""
        self.bar.shutdown()
        super().shutdown()

    def _on_settings(self) -> None:
        from diffseg.sample import SAMPLERS  # torch: not before the page is seen

        offer(self.sampler, SAMPLERS, str.upper)
        settings = self.session.settings
        self.sampler.setCurrentIndex(self.sampler.findData(settings.sampler))
        self.sampler.setToolTip(SAMPLERS.help(settings.sampler))
        self.device.setCurrentIndex(max(0, self.device.findData(settings.device)))
        self.lock.setChecked(self.session.seed_locked)
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

    def _on_lines(self) -> None:
        view = self.session.trajectory
        total, numbers = (view.total, view.numbers) if view else (1, ())
        self.snr.show_values(view.log_snr if view else (), total, numbers)
        # A flat scan has areas: its pixels count as 1 mm thick.
        flat = view is not None and len(view.step) < 3
        self.change.rename(f"Change of the mask at each step ({'mm²' if flat else 'ml'})")
        self.change.show_values(_curve(view, flat) if view else (), total, numbers)
        others = []
        for b in self.session.branches:
            # Up to where it left, a branch has the curve of the trajectory.
            own = (float("nan"),) * b.slot + _curve(b.view, flat)[b.slot :]
            others.append((own, line_color(b.letter)))
        self.change.show_others(others)

    def _on_step(self) -> None:
        step = self.session.step if self.session.trajectory is not None else None
        self.snr.mark(step)
        self.change.mark(step)

    def _on_job(self) -> None:
        session = self.session
        busy = session.blockers("choose")
        forms.enable(self.common, not busy)
        for widget in (self.sampler, self.device, self.own_holder):
            widget.setEnabled(not busy)
        why = session.blockers("branch")
        enable(self.branch, why)
        say(self.why, why[0] if why and session.trajectory is not None and session.job.state == "idle" else "")
        enable(self.export, session.blockers("export"))
        self.branches.show_lines()


def _curve(view: TrajectoryView, flat: bool) -> tuple[float, ...]:
    """The change of step k under step k, in ml or mm²; slot 0 is the noise."""
    return (float("nan"), *(1000 * c if flat else c for c in view.changes))
