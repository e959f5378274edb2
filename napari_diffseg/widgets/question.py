"""A question on the page itself, which takes no room while there is none: nothing of ours is modal."""

from __future__ import annotations

from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_diffseg.widgets.panel import GAP, line, row, slim


class Question(QWidget):
    """A sentence and two buttons, ``yes`` and ``no``."""

    def __init__(self, name: str, yes: QPushButton, no: QPushButton, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = line(name=name)
        self.yes, self.no = yes, no
        slim(yes, no)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(GAP // 2)
        box.addWidget(self.words)
        box.addLayout(row(yes, no, 1))
        self.hide()

    def ask(self, words: str) -> None:
        """Show the question; an empty one is none."""
        self.words.setText(words)
        self.setVisible(bool(words))
