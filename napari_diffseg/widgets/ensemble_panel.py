"""Page "Ensemble": how many masks, which distinct answers there are, and the maps of where they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QListWidget, QListWidgetItem, QWidget

from napari_diffseg import commands, forms, masks
from napari_diffseg.layerdata import mode_color
from napari_diffseg.state import SampleSettings
from napari_diffseg.widgets.panel import GAP, Panel, adopt, button, enable, line, row, say, slim, swatch

if TYPE_CHECKING:
    from diffseg.modes import Mode

MAPS = (
    ("inner", "95 % inner", "Contour of what at least 95 % of the masks contain"),
    ("outer", "5 % outer", "Contour of what at least 5 % of the masks contain"),
    ("variance", "Variance", "Disagreement between samples, from 0 (black) to 0.25"),
    ("entropy", "Entropy", "Entropy of the mean, in nats; its scale is the same for every case"),
    ("mean", "Mean", "Share of the masks that mark a voxel, from 0 to 1"),
)


class EnsemblePanel(Panel):
    """See the module."""

    title = "Ensemble"

    def _build(self) -> None:
        self.members = forms.form(SampleSettings, vars(self.session.settings), only=("members",))
        forms.on_change(self.members, lambda name, value: commands.set_settings(self.session, **{name: value}))
        spin = self.members["members"].native
        self.grow = button("▶ Grow", "Draw masks up to this number; those there are stay")
        self.stop = button("■ Stop", "Stop within one step; the masks so far stay", "Stop growing")
        adopt(self, self.members)
        slim(spin, self.grow, self.stop)
        top = row(QLabel("Members"), spin, self.grow, self.stop)
        top.setStretch(1, 1)
        self.page.addLayout(top)
        self.hint = line(name="Why something cannot be done here", faint=True)
        self.page.addWidget(self.hint)
        self.summary = line(name="Ensemble so far")
        self.page.addWidget(self.summary)
        self.modes = QListWidget()
        self.modes.setAccessibleName("Modes: the distinct answers")
        self.modes.setToolTip("Click or Enter: show or hide. Double-click: make it the editable mask.")
        self.modes.setUniformItemSizes(True)
        self.modes.setMinimumHeight(90)
        self.modes.setSizeAdjustPolicy(QListWidget.SizeAdjustPolicy.AdjustToContents)
        self.page.addWidget(self.modes, 1)
        self.aside = line("Click a mode to show it, double-click to correct it.", faint=True)
        self.page.addWidget(self.aside)
        self.page.addWidget(self._build_maps())

    def _build_maps(self) -> QWidget:
        holder = QWidget()
        grid = QGridLayout(holder)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(GAP)
        grid.addWidget(QLabel("Show"), 0, 0)
        self.maps: dict[str, QCheckBox] = {}
        for number, (key, words, tip) in enumerate(MAPS):
            made = QCheckBox(words)
            made.setToolTip(tip)
            made.clicked.connect(lambda on, key=key: commands.show_map(self.session, key, on))
            # Two contours above, three maps below.
            place = (0, 1 + number) if number < 2 else (1, number - 1)
            grid.addWidget(made, *place)
            self.maps[key] = made
        grid.setColumnStretch(4, 1)
        return holder

    def _connect(self) -> None:
        self.grow.clicked.connect(lambda: commands.grow_ensemble(self.session))
        self.stop.clicked.connect(lambda: commands.cancel(self.session))
        self.modes.itemClicked.connect(self._toggle)
        self.modes.itemDoubleClicked.connect(self._edit)
        self.modes.itemActivated.connect(self._show)
        self.hear("settings", by=self._on_settings)
        self.hear("snapshot", "modes", by=self._on_snapshot)
        self.hear("mode", by=self._on_mode)
        self.hear("shown", by=self._on_shown)
        self.hear("job", "case", "model", by=self._on_job)

    # ---- from the person ----

    def _toggle(self, item: QListWidgetItem) -> None:
        index = item.data(Qt.ItemDataRole.UserRole)
        commands.show_mode(self.session, None if index == self.session.mode else index)

    def _show(self, item: QListWidgetItem) -> None:
        commands.show_mode(self.session, item.data(Qt.ItemDataRole.UserRole))

    def _edit(self, item: QListWidgetItem) -> None:
        commands.promote(self.session, f"mode:{item.data(Qt.ItemDataRole.UserRole)}")

    # ---- from the session ----

    def finished(self) -> bool:
        """There is more than the first mask."""
        return self.session.snapshot is not None and len(self.session.snapshot) > 1

    def _on_settings(self) -> None:
        forms.show(self.members, vars(self.session.settings))

    def _on_snapshot(self) -> None:
        snapshot = self.session.snapshot
        here = snapshot is not None
        n = len(snapshot) if snapshot is not None else 0
        for made in self.maps.values():
            made.setEnabled(here)
        self.aside.setVisible(here)
        count = len(self.session.modes)
        self.summary.setText(
            f"{n} mask{'s' * (n != 1)} in {count} mode{'s' * (count != 1)}" if here else "No masks yet: press Grow."
        )
        self.modes.clear()
        for mode in self.session.modes:
            item = QListWidgetItem(swatch(mode_color(mode.index)), mode_line(mode, n))
            item.setData(Qt.ItemDataRole.UserRole, mode.index)
            item.setToolTip(self.modes.toolTip())
            self.modes.addItem(item)
        self._on_mode()

    def _on_mode(self) -> None:
        for number in range(self.modes.count()):
            if (item := self.modes.item(number)) is not None:
                item.setSelected(item.data(Qt.ItemDataRole.UserRole) == self.session.mode)

    def _on_shown(self) -> None:
        for key, made in self.maps.items():
            made.setChecked(key in self.session.shown)

    def _on_job(self) -> None:
        blockers = self.session.blockers("grow")
        enable(self.grow, blockers)
        enable(self.stop, self.session.blockers("cancel"))
        forms.enable(self.members, not self.session.blockers("choose"))
        say(self.hint, blockers[0] if blockers else "")


def mode_line(mode: Mode, members: int) -> str:
    """``Mode 1 · 19/32 · 1.8 ml``; an empty answer is named so."""
    share = f"{round(mode.frequency * members)}/{members}"
    return f"Mode {mode.index}   {share}   {masks.ml(mode.volume_ml)}{' (nothing found)' if mode.empty else ''}"
