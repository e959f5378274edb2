"""The table of masks: a row a mask, sorted by any column, a click shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem, QWidget

from napari_diffseg.layerdata import mode_color
from napari_diffseg.widgets.panel import GAP, swatch

ROWS_SEEN = 6
MEMBER = Qt.ItemDataRole.UserRole
# Left out here: the same in every row.
CONSTANT = ("seed",)
# napari's headings take more room than the numbers below them.
TIGHT = "QHeaderView::section { padding: 2px 3px; } QTableView::item { padding: 0 3px; }"


class MemberList(QTableWidget):
    """``picked(member)`` for a mask to show, by its number from 0."""

    picked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Masks, one a row")
        self.setToolTip("Click, or arrow keys and Enter: show this mask. A click on a heading sorts.")
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setAlternatingRowColors(False)
        self.setSortingEnabled(True)
        if (side := self.verticalHeader()) is not None:
            side.hide()
            side.setDefaultSectionSize(self.fontMetrics().lineSpacing() + 2 * GAP)
        self.cellClicked.connect(self._pick)
        self.cellActivated.connect(self._pick)
        self.setMinimumHeight(ROWS_SEEN * 24)
        self.setStyleSheet(TIGHT)

    def show_table(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Show these columns; "mask" counts from 1, "mode" is marked with its colour."""
        names = [name for name in columns if name not in CONSTANT]
        rows = len(columns["mask"]) if names else 0
        # Sorting while cells are filled would move rows under way.
        self.setSortingEnabled(False)
        self.setColumnCount(len(names))
        self.setHorizontalHeaderLabels([heading(name) for name in names])
        self.setRowCount(rows)
        for column, name in enumerate(names):
            for row in range(rows):
                self.setItem(row, column, _cell(name, columns[name][row], int(columns["mask"][row]) - 1))
        self.setSortingEnabled(True)
        self.resizeColumnsToContents()

    def mark(self, member: int | None) -> None:
        """Show which mask is on display."""
        for row in range(self.rowCount()):
            item = self.item(row, 0)
            if item is not None and item.data(MEMBER) == member:
                self.selectRow(row)
                return
        self.clearSelection()

    def _pick(self, row: int, column: int) -> None:
        if (item := self.item(row, 0)) is not None:
            self.picked.emit(item.data(MEMBER))


def heading(name: str) -> str:
    """A column's name in two short lines."""
    return "\n".join(name.removeprefix("largest ").replace("mm2", "mm²").rsplit(" ", 1))


class _cell(QTableWidgetItem):  # noqa: N801 - reads as a function where it is used
    """A value that sorts as a number and shows two or three digits."""

    def __init__(self, name: str, value: Any, member: int) -> None:
        super().__init__(str(value) if isinstance(value, int) else f"{value:.3g}" if value == value else "–")
        self.value = value if value == value else float("-inf")
        self.setData(MEMBER, member)
        self.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if name == "mode":
            self.setIcon(swatch(mode_color(value), 10))

    def __lt__(self, other: Any) -> bool:
        return bool(self.value < other.value)
