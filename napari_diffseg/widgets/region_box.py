"""The region of interest: a box or the whole scan, what each costs, and ways to place the box."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QRadioButton, QSpinBox, QWidget

from diffseg.grid import Box
from napari_diffseg import keys
from napari_diffseg.widgets.panel import GAP, button, enable, line, row, slim

if TYPE_CHECKING:
    from diffseg.case import Case

# Display axes (z, y, x) in a radiologist's words, and what larger numbers mean.
AXES = (
    ("head–foot", "Slices from the head (0) to the foot"),
    ("front–back", "Rows from the front (0) to the back"),
    ("right–left", "Columns from the patient's right (0) to the left"),
)


class RegionBox(QWidget):
    """``moved(Box)`` tells of a box typed in; the buttons are wired by the page."""

    moved = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(GAP)
        grid.setColumnStretch(2, 1)
        self.box, self.whole = QRadioButton("box"), QRadioButton("whole scan")
        self.box_words, self.whole_words = line(name="Size and cost of the box"), line(name="Cost of the whole scan")
        self.box.setToolTip("Segment a part of the scan, of the model's window to begin with")
        self.whole.setToolTip("Segment everything, by overlapping windows where the scan is large")
        for choice in (self.box, self.whole):
            choice.setProperty("tip", choice.toolTip())
            choice.setAutoExclusive(True)
        self.place = button(
            "Place", keys.tip("Show the box in the view: drag it, pull its handles", "region"), "Place the region"
        )
        self.place.setCheckable(True)
        self.centre = button("Centre", "The model's window around the centre of the view", "Centre the region")
        self.go = button("Go there", "Move the view to the middle of the region", "Go to the region")
        slim(self.place, self.centre, self.go)
        self.numbers = QWidget()
        grid.addWidget(QLabel("Region"), 0, 0)
        grid.addWidget(self.box, 0, 1)
        grid.addWidget(self.box_words, 0, 2)
        grid.addLayout(row(self.place, self.centre, self.go, 1, gap=2), 1, 1, 1, 2)
        grid.addWidget(self.numbers, 2, 0, 1, 3)
        grid.addWidget(self.whole, 3, 1)
        grid.addWidget(self.whole_words, 3, 2)
        self._build_numbers()
        self._shape: tuple[int, ...] = ()

    def _build_numbers(self) -> None:
        grid = QGridLayout(self.numbers)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2)
        self.first: list[QSpinBox] = []
        self.last: list[QSpinBox] = []
        self.axes: list[tuple[QWidget, ...]] = []
        for number, (words, tip) in enumerate(AXES):
            caption, dash = QLabel(words), QLabel("to")
            first, last = self._spin(f"First voxel {words}", tip), self._spin(f"Last voxel {words}", tip)
            for column, widget in enumerate((caption, first, dash, last)):
                grid.addWidget(widget, number, column)
            self.first.append(first)
            self.last.append(last)
            self.axes.append((caption, first, dash, last))
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(3, 1)

    def _spin(self, name: str, tip: str) -> QSpinBox:
        made = QSpinBox()
        made.setAccessibleName(name)
        made.setToolTip(tip)
        made.setKeyboardTracking(False)
        slim(made)
        made.valueChanged.connect(self._on_typed)
        return made

    def show_region(self, case: Case | None, roi: Box | None, box_cost: str = "", whole_cost: str = "") -> None:
        """Show ``roi`` of ``case``, None being the whole scan, and what box and scan would cost."""
        if case is None:
            self._shape = ()
            return
        self._shape = case.grid.shape
        box = roi or Box.whole(self._shape)
        spare = len(AXES) - len(self._shape)
        for number, widgets in enumerate(self.axes):
            for widget in widgets:
                widget.setVisible(number >= spare)
        for k, n in enumerate(self._shape):
            self._set(self.first[k + spare], 0, n - 1, box.start[k])
            self._set(self.last[k + spare], 0, n - 1, box.stop[k] - 1)
        mm = " × ".join(f"{n * s:.3g}" for n, s in zip(box.shape, case.spacing_mm, strict=True))
        self.box_words.setText("" if roi is None else f"{mm} mm{f', {box_cost}' if box_cost else ''}")
        self.whole_words.setText(whole_cost)
        (self.whole if roi is None else self.box).setChecked(True)
        self.numbers.setVisible(roi is not None)

    def show_dragging(self, on: bool) -> None:
        """Show whether the box lies in the view."""
        self.place.blockSignals(True)
        self.place.setChecked(on)
        self.place.blockSignals(False)

    def block(self, blockers: list[str], no_model: bool) -> None:
        """Grey out what cannot act."""
        size = blockers or (["Choose a model first: it tells the size."] if no_model else [])
        enable(self.centre, size)
        for made in (self.whole, self.place, self.go):
            enable(made, blockers)
        enable(self.box, size if self.whole.isChecked() else blockers)
        self.numbers.setEnabled(not blockers)

    def _set(self, spin: QSpinBox, low: int, high: int, value: int) -> None:
        spin.blockSignals(True)
        spin.setRange(low, high)
        spin.setValue(value)
        spin.blockSignals(False)

    def _on_typed(self) -> None:
        spare = len(AXES) - len(self._shape)
        pairs = [(a.value(), b.value()) for a, b in zip(self.first[spare:], self.last[spare:], strict=True)]
        # Whichever end was moved past the other takes it along.
        start, stop = tuple(min(p) for p in pairs), tuple(max(p) + 1 for p in pairs)
        self.moved.emit(Box(start, stop))
