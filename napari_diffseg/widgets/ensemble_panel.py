"""Page "Ensemble": how many masks, which distinct answers there are, how large they are, and where they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QWidget

from diffseg.settling import wilson_half_width
from napari_diffseg import commands, ensemble_commands, forms, keys, masks
from napari_diffseg.ensemble_layers import mode_of
from napari_diffseg.layerdata import mode_color
from napari_diffseg.state import SampleSettings
from napari_diffseg.widgets.dot_plot import DotPlot
from napari_diffseg.widgets.folded import Folded
from napari_diffseg.widgets.gallery import Gallery
from napari_diffseg.widgets.member_list import MemberList
from napari_diffseg.widgets.panel import GAP, Panel, adopt, button, enable, line, row, say, slim
from napari_diffseg.widgets.readers_section import ReadersSection
from napari_diffseg.widgets.table_buttons import TableButtons

if TYPE_CHECKING:
    import numpy as np

    from diffseg.ensemble import Snapshot
    from diffseg.measurements import Distribution
    from diffseg.modes import Mode

MAPS = (
    ("inner", "95 % inner", "Contour of what at least 95 % of the masks contain"),
    ("outer", "5 % outer", "Contour of what at least 5 % of the masks contain"),
    ("variance", "Variance", "Disagreement between samples, from 0 (see-through) to 0.25"),
    ("entropy", "Entropy", "Entropy of the mean, in nats; its scale is the same for every case"),
    ("mean", "Mean", "Share of the masks that mark a voxel, from 0 to 1"),
)
SETTLED_TIP = (
    "Stop before the number when every mode's share is known to ± 15 %, the next volume lies within the\n"
    "interval at least 85 times of 100, and the newest quarter of the masks has moved the interval by\n"
    "less than 5 %. At least 13 masks are drawn."
)
AREA_TIP = (
    "Relative-area post-processing: a mask at most half as large as the largest one counts as empty\n"
    "(Christensen et al. 2025). The masks as drawn are kept and come back when this is switched off."
)
INTERVAL_TIP = (
    "One dot per mask, in the colour of its mode; the line is the median, the grey band the interval. The next mask\n"
    "of this model falls into a 95 % interval 95 times of 100; that takes 39 masks, and with fewer the band is their\n"
    "whole range. Uncalibrated: nobody has checked that the model's masks vary as much as people's do.\n"
    "Click a dot to show its mask."
)


class EnsemblePanel(Panel):
    """See the module."""

    title = "Ensemble"
    help = (
        "The model draws many masks of the same scan. Those that hardly differ are one mode, shown with how often it "
        "came: 11 of 32 means that a third of the masks look so. The contours hold what nearly all masks contain "
        "(inner) and what any of them contain (outer); the plots show how large the masks are. None of this is "
        "calibrated: it tells what the model thinks possible, not how probable it is."
    )

    def _build(self) -> None:
        self._build_top()
        self.modes = Gallery()
        self.page.addWidget(self.modes, 2)
        self.aside = line("Click: show. Double-click: correct.", faint=True)
        self.aside.setToolTip(keys.tip("One after the other", "mode"))
        self.page.addWidget(self.aside)
        self._build_sizes()
        self.page.addWidget(self._build_maps())
        self.readers = ReadersSection(self.session)
        self.page.addWidget(self.readers)
        self._build_table()

    def _build_top(self) -> None:
        self.members = forms.form(SampleSettings, vars(self.session.settings), only=("members",))
        forms.on_change(self.members, lambda name, value: commands.set_settings(self.session, **{name: value}))
        spin = self.members["members"].native
        self.grow = button("▶ Grow", keys.tip("Draw masks up to this number; those there are stay", "grow"))
        self.stop = button("■ Stop", keys.tip("Stop within one step; the masks so far stay", "cancel"), "Stop growing")
        adopt(self, self.members)
        slim(spin, self.grow, self.stop)
        top = row(QLabel("Members"), spin, self.grow, self.stop)
        top.setStretch(1, 1)
        self.page.addLayout(top)
        self.settled = QCheckBox("Stop when settled")
        self.settled.setToolTip(SETTLED_TIP)
        self.area = QCheckBox("Drop small masks")
        self.area.setToolTip(AREA_TIP)
        self.area.setProperty("tip", AREA_TIP)
        self.page.addLayout(row(self.settled, self.area, 1))
        self.hint = line(name="Why something cannot be done here", faint=True)
        self.page.addWidget(self.hint)
        self.summary = line(name="Ensemble so far")
        self.page.addWidget(self.summary)

    def _build_sizes(self) -> None:
        self.volume_words, self.diameter_words = line(name="Volume"), line(name="Largest diameter")
        self.volume = DotPlot("Volumes of the masks", INTERVAL_TIP)
        self.diameter = DotPlot(
            "Largest diameters of the masks",
            INTERVAL_TIP + "\nThe longest straight line within one piece of a mask, in any direction.",
        )
        # Beside each other, so that the page fits a low window.
        grid = QGridLayout()
        grid.setSpacing(GAP)
        pairs = ((self.volume_words, self.volume), (self.diameter_words, self.diameter))
        for column, (words, plot) in enumerate(pairs):
            words.setToolTip(plot.toolTip())
            grid.addWidget(words, 0, column)
            grid.addWidget(plot, 1, column)
            grid.setColumnStretch(column, 1)
        self.page.addLayout(grid, 3)
        self.number = line(name="What the intervals rest on")
        self.number.setToolTip(INTERVAL_TIP)
        self.page.addWidget(self.number)

    def _build_maps(self) -> QWidget:
        holder = QWidget()
        grid = QGridLayout(holder)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(GAP)
        grid.addWidget(QLabel("Show"), 0, 0)
        self.maps: dict[str, QCheckBox] = {}
        for number, (key, words, tip) in enumerate(MAPS):
            made = QCheckBox(words)
            made.setToolTip(keys.tip(tip, key) if key in keys.KEYS else tip)
            made.clicked.connect(lambda on, key=key: commands.show_map(self.session, key, on))
            # Two contours above, three maps below.
            place = (0, 1 + number) if number < 2 else (1, number - 1)
            grid.addWidget(made, *place)
            self.maps[key] = made
        grid.setColumnStretch(4, 1)
        return holder

    def _build_table(self) -> None:
        self.table = Folded("Members (table)", "Every mask with its mode, size and overlap with the others")
        self.list = MemberList()
        self.features = button(
            "napari's table", "The same rows in napari's own table, as features of the layer of masks", "Open the table"
        )
        slim(self.features)
        self.buttons = TableButtons(self.session, "members")
        self.table.body.addWidget(self.list)
        self.table.body.addLayout(row(self.buttons, self.features, 1))
        self.page.addWidget(self.table)
        self.page.addStretch(1)

    def _connect(self) -> None:
        session = self.session
        self.grow.clicked.connect(lambda: commands.grow_ensemble(session))
        self.stop.clicked.connect(lambda: commands.cancel(session))
        self.settled.clicked.connect(lambda on: ensemble_commands.set_stop_early(session, on))
        self.area.clicked.connect(self._on_area)
        self.modes.picked.connect(self._toggle)
        self.modes.opened.connect(self._edit)
        self.volume.picked.connect(self._pick)
        self.diameter.picked.connect(self._pick)
        self.list.picked.connect(self._toggle_member)
        self.features.clicked.connect(lambda: ensemble_commands.open_features_table(session))
        self.table.turned.connect(lambda on: self._on_table())
        self.hear("settings", "ensemble", by=self._on_settings)
        self.hear("snapshot", by=self._on_snapshot)
        self.hear("mode", by=self._on_mode)
        self.hear("member", by=self._on_member)
        self.hear("shown", by=self._on_shown)
        self.hear("job", "case", "model", by=self._on_job)
        self.hear("snapshot", "readers", "case", "added_raters", "job", by=self.readers.refresh)
        self.hear("looked_at", by=self.readers.on_slice)

    # ---- from the person ----

    def _toggle(self, index: int) -> None:
        commands.show_mode(self.session, None if index == self.session.mode else index)

    def _edit(self, index: int) -> None:
        commands.promote(self.session, f"mode:{index}")

    def _pick(self, position: int) -> None:
        if self.session.findings is not None:
            self._toggle_member(self.session.findings.measures[position].member)

    def _toggle_member(self, member: int) -> None:
        ensemble_commands.show_member(self.session, None if member == self.session.member else member)

    def _on_area(self, on: bool) -> None:
        ensemble_commands.set_relative_area(self.session, on)
        self._on_settings()  # as it was, where it could not be done

    # ---- from the session ----

    def finished(self) -> bool:
        """There is more than the first mask."""
        return self.session.snapshot is not None and len(self.session.snapshot) > 1

    def _on_settings(self) -> None:
        forms.show(self.members, vars(self.session.settings))
        self.settled.setChecked(self.session.ensemble.stop_early)
        self.area.setChecked(self.session.ensemble.relative_area)

    def _on_snapshot(self) -> None:
        here = self.session.snapshot is not None
        for made in self.maps.values():
            made.setEnabled(here)
        self.aside.setVisible(here)
        self.summary.setText(self._summary())
        found = self.session.findings
        self.summary.setToolTip(f"{found.settling.words}\n{SETTLED_TIP}" if here and found is not None else "")
        self._show_modes()
        self._show_sizes()
        self._on_table()

    def _summary(self) -> str:
        snapshot, found = self.session.snapshot, self.session.findings
        if snapshot is None:
            return "No masks yet: press Grow."
        n, count = len(snapshot), len(self.session.modes)
        words = f"{n} mask{'s' * (n != 1)} in {count} mode{'s' * (count != 1)}"
        if found is None or n < 2:
            return words
        emptied = f", {found.emptied} too small" if found.emptied else ""
        return f"{words}{emptied}; {'settled' if found.settling.settled else 'not settled yet'}"

    def _show_modes(self) -> None:
        snapshot, found = self.session.snapshot, self.session.findings
        entries: list[tuple[int, str, np.ndarray | None, str]] = []
        # While a case is closed, its snapshot goes before its modes.
        for i, mode in enumerate(self.session.modes if snapshot is not None else ()):
            assert snapshot is not None
            picture = found.thumbnails[i] if found is not None and i < len(found.thumbnails) else None
            entries.append((mode.index, mode_words(mode, snapshot), picture, spoken(mode, snapshot)))
        self.modes.show_modes(entries)
        self._on_mode()

    def _show_sizes(self) -> None:
        found, modes = self.session.findings, self.session.modes
        many = self.finished() and found is not None
        for part in (self.volume_words, self.volume, self.diameter_words, self.diameter, self.number):
            part.setVisible(many)
        if found is None or not many:
            return
        colors = [mode_color(mode_of(i, modes)) for i in range(len(found.measures))]
        flat = self.session.case is not None and self.session.case.ndim == 2
        volume = ("Area", found.volume, "mm²", 1000.0) if flat else ("Volume", found.volume, "ml", 1.0)
        self.volume_words.setText(size_words(*volume))
        self.diameter_words.setText(size_words("Largest diameter", found.diameter, "mm"))
        self.number.setText(number_words(found.volume))
        self.volume.show_values(found.volume, colors, volume[-1])
        self.diameter.show_values(found.diameter, colors)

    def _on_table(self) -> None:
        here = self.session.snapshot is not None
        self.buttons.refresh(here)
        enable(self.features, [] if self.finished() else ["The table needs two masks: press Grow."])
        # A thousand cells take their time, so only what is seen is filled.
        if self.table.open:
            self.list.show_table(ensemble_commands.columns(self.session))
            self._on_member()

    def _on_mode(self) -> None:
        self.modes.mark(self.session.mode)

    def _on_member(self) -> None:
        if self.table.open:
            self.list.mark(self.session.member)

    def _on_shown(self) -> None:
        for key, made in self.maps.items():
            made.setChecked(key in self.session.shown)
        self.readers.on_shown()

    def _on_job(self) -> None:
        blockers, busy = self.session.blockers("grow"), self.session.blockers("choose")
        enable(self.grow, blockers)
        enable(self.stop, self.session.blockers("cancel"))
        enable(self.area, busy)
        forms.enable(self.members, not busy)
        say(self.hint, blockers[0] if blockers else "")


def mode_words(mode: Mode, snapshot: Snapshot) -> str:
    """Frequency, size and representative mask, a line each."""
    share = f"{len(mode.members)} of {len(snapshot)}"
    return f"{share}\n{mode_size(mode, snapshot)}\nmask {snapshot.ids[mode.medoid] + 1}"


def spoken(mode: Mode, snapshot: Snapshot) -> str:
    """A mode in one sentence, with how surely its share is known."""
    k, n = len(mode.members), len(snapshot)
    share = f"{100 * k / n:.0f} ± {100 * wilson_half_width(k, n):.0f} %"
    return f"Mode {mode.index}: {k} of {n} masks ({share} of all that could be drawn), {mode_size(mode, snapshot)}"


def mode_size(mode: Mode, snapshot: Snapshot) -> str:
    """Volume, or area of a flat scan; an empty answer is named so."""
    return "nothing found" if mode.empty else masks.size(mode.volume_ml, len(snapshot.shape))


def size_words(what: str, found: Distribution, unit: str, scale: float = 1.0) -> str:
    """Median and interval, values times ``scale``; with too few members for one, their range."""
    middle, low, high = (value * scale for value in (found.median, found.low, found.high))
    between = ends(low, high)
    if "–" not in between:
        return f"{what} <b>{rounded(middle)} {unit}</b> in all masks"
    kind = f"{found.level * 100:.0f} %:" if found.enough else "range"
    together = f"{between} {unit}".replace(" ", "\u00a0")
    return f"{what} <b>{rounded(middle)} {unit}</b>, {kind} {together}"


def number_words(found: Distribution) -> str:
    """N and the word that belongs to every interval; where there is none yet, what it takes."""
    level = f"{found.level * 100:.0f} %"
    if found.enough:
        return f"{level} intervals, N = {len(found)}, <i>uncalibrated</i>"
    return f"N = {len(found)}, <i>uncalibrated</i>; a {level} interval takes {found.needed} masks"


def ends(low: float, high: float) -> str:
    """Both ends with two significant digits, or three where that tells them apart; one number where it does not."""
    for digits in (2, 3):
        first, last = rounded(low, digits), rounded(high, digits)
        if first != last:
            return f"{first} – {last}"
    return rounded(low)


def rounded(value: float, digits: int = 2) -> str:
    """So many significant digits, whole numbers in full."""
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{float(f'{value:.{digits}g}'):g}"
