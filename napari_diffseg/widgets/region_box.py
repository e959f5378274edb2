"""The region of interest: its size, first and last voxel along each axis of the scan, ways to place it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from diffseg.grid import Box
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
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(GAP)
        self.words = line(name="Region")
        box.addWidget(self.words)
        self.centre = button("Centre here", "The model's window around the centre of the view")
        self.drag = button("Drag", "Show the region as a box in the view, to drag and resize", "Drag the region")
        self.drag.setCheckable(True)
        self.whole = button("Whole scan", "Segment everything; large scans take long")
        self.go = button("Go there", "Move the view to the middle of the region", "Go to the region")
        buttons = (self.centre, self.drag, self.go, self.whole)
        slim(*buttons)
        box.addLayout(row(*buttons, gap=2))
        self.numbers = QWidget()
        box.addWidget(self.numbers)
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

    def show_region(self, case: Case | None, roi: Box | None) -> None:
        """Show ``roi`` of ``case``; None is the whole scan."""
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
        self.words.setText(f"Region: {'box of' if roi else 'whole scan,'} {mm} mm")

    def show_dragging(self, on: bool) -> None:
        """Show whether the box lies in the view."""
        self.drag.blockSignals(True)
        self.drag.setChecked(on)
        self.drag.blockSignals(False)

    def block(self, blockers: list[str], no_model: bool) -> None:
        """Grey out what cannot act."""
        enable(self.centre, blockers or (["Choose a model first: it tells the size."] if no_model else []))
        enable(self.whole, blockers)
        enable(self.drag, blockers)
        enable(self.go, blockers)
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
