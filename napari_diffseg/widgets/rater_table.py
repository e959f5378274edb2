"""The board: a row per reader, a column per mode, the IoU in colour and number, and each reader's own figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import QAbstractItemView, QTableWidget, QTableWidgetItem, QWidget

from diffseg.raters import RaterBoard, RaterScore
from napari_diffseg.layerdata import mode_color
from napari_diffseg.widgets.panel import swatch

# IoU 0 to 1 in steps of viridis, which colour-blind people can order as well.
SCALE = ("#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725")
# From this brightness on, black letters are easier to read than white ones.
BRIGHT = 140
OWN = ("Dice", "HD95\n(mm)")
OWN_TIPS = (
    "Mean Dice overlap of the reader's mask with every mask of the ensemble",
    "Mean over the masks of the 95 % Hausdorff distance to the reader's mask: how far apart the outlines are",
)


class RaterTable(QTableWidget):
    """``picked(mode)`` for the mode of a cell that was clicked."""

    picked = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Readers against modes: overlap (IoU)")
        self.setToolTip("Overlap (IoU) of each reader's mask with each mode; click a cell to show the mode.")
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        if (side := self.verticalHeader()) is not None:
            side.hide()
        self._modes: tuple[int, ...] = ()
        self.cellClicked.connect(self._pick)
        self.cellActivated.connect(self._pick)

    def show_board(self, board: RaterBoard, scores: Sequence[RaterScore], threshold: float) -> None:
        """Fill the table; cells that match are bold, and readers and modes that nobody matches are marked."""
        self._modes = board.modes
        self.setRowCount(len(board.raters))
        self.setColumnCount(1 + len(board.modes) + len(OWN))
        self._show_heads(board, threshold)
        alone = board.raters_alone(threshold)
        for row, (name, values, score) in enumerate(zip(board.raters, board.iou, scores, strict=True)):
            side = QTableWidgetItem(name + (" ✗" if name in alone else ""))
            side.setToolTip(f"No mode matches {name}" if name in alone else name)
            self.setItem(row, 0, side)
            for column, value in enumerate(values, start=1):
                self.setItem(row, column, iou_cell(value, value >= threshold))
            self.setItem(row, 1 + len(values), number(score.dice, 2, score.dice_left_out))
            self.setItem(row, 2 + len(values), number(score.hd95_mm, 1, score.hd95_left_out))
        self.resizeColumnsToContents()
        self.resizeRowsToContents()
        self._fit()

    def _show_heads(self, board: RaterBoard, threshold: float) -> None:
        alone = board.modes_alone(threshold)
        heads = [QTableWidgetItem("reader / mode")]
        for mode in board.modes:
            words = f"{mode} ✗" if mode in alone else f"{mode}"
            heads.append(QTableWidgetItem(swatch(mode_color(mode), 10), words))
            heads[-1].setToolTip(f"No reader matches mode {mode}" if mode in alone else f"Mode {mode}")
        for words, tip in zip(OWN, OWN_TIPS, strict=True):
            heads.append(QTableWidgetItem(words))
            heads[-1].setToolTip(tip)
        for column, head in enumerate(heads):
            self.setHorizontalHeaderItem(column, head)

    def _fit(self) -> None:
        """As high as its rows, so that the page scrolls and not a table within it."""
        head, side = self.horizontalHeader(), self.horizontalScrollBar()
        if head is not None and side is not None:
            rows = sum(self.rowHeight(row) for row in range(self.rowCount()))
            self.setFixedHeight(rows + head.sizeHint().height() + side.sizeHint().height() + 4)

    def _pick(self, row: int, column: int) -> None:
        if 0 < column <= len(self._modes):
            self.picked.emit(self._modes[column - 1])


def iou_cell(value: float, matches: bool) -> QTableWidgetItem:
    """A number on its colour."""
    item = QTableWidgetItem(f"{value:.2f}")
    ground = QColor(SCALE[min(int(value * len(SCALE)), len(SCALE) - 1)])
    item.setBackground(QBrush(ground))
    bright = 0.299 * ground.red() + 0.587 * ground.green() + 0.114 * ground.blue()
    item.setForeground(QBrush(QColor("black" if bright > BRIGHT else "white")))
    item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
    font = item.font()
    font.setBold(matches)
    item.setFont(font)
    item.setToolTip(f"IoU {value:.3f}" + (": they match" if matches else ""))
    return item


def number(value: float, digits: int, left_out: int) -> QTableWidgetItem:
    """A figure, "–" where it is undefined; masks left out are told by the tooltip."""
    item = QTableWidgetItem(f"{value:.{digits}f}" if math.isfinite(value) else "–")
    item.setTextAlignment(Qt.AlignmentFlag.AlignCenter)
    if left_out:
        item.setToolTip(f"{left_out} pairs left out, because a mask is empty")
    return item
