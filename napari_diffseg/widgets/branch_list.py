"""The trajectory and its branches, one row each: letter in its colour, seed, where it left, volume."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QSizePolicy, QToolButton, QWidget

from napari_diffseg import commands, masks
from napari_diffseg.layerdata import line_color
from napari_diffseg.session import Session
from napari_diffseg.state import TrajectoryView
from napari_diffseg.widgets.panel import GAP, enable, small_button, swatch


class BranchList(QWidget):
    """Empty, and without height, until there is a branch."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.setAccessibleName("Branches")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Maximum)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(GAP)
        self._grid.setVerticalSpacing(1)
        self._grid.setColumnStretch(1, 1)
        self._rows: dict[str, tuple[QLabel, QLabel, QToolButton | None]] = {}
        self.setVisible(False)

    def show_lines(self) -> None:
        """Make the rows like the session; rows that stay are kept, with what has the focus."""
        first, branches = self.session.trajectory, self.session.branches
        wanted = {} if first is None or not branches else {"A": row_words("A", first, None)}
        wanted |= {b.letter: row_words(b.letter, b.view, b.slot) for b in branches}
        for letter in [letter for letter in self._rows if letter not in wanted]:
            self._remove(letter)
        for letter, words in wanted.items():
            if letter not in self._rows:
                self._add(letter)
            self._rows[letter][1].setText(words)
        self.setVisible(bool(wanted))
        for _, _, cross in self._rows.values():
            if cross is not None:
                enable(cross, self.session.blockers("remove branch"))

    @property
    def words(self) -> dict[str, str]:
        """Letter to what its row says."""
        return {letter: row[1].text() for letter, row in self._rows.items()}

    def cross(self, letter: str) -> QToolButton:
        """The button that removes a branch."""
        made = self._rows[letter][2]
        assert made is not None
        return made

    def _add(self, letter: str) -> None:
        sign, words = QLabel(), QLabel()
        sign.setPixmap(swatch(line_color(letter), 10).pixmap(10, 10))
        words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        words.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        cross = None
        if letter != "A":
            cross = small_button("✕", f"Remove branch {letter} and its layers", f"Remove branch {letter}")
            act: Callable[..., object] = partial(_remove_branch, self.session, letter)
            cross.clicked.connect(act)
        number = "ABCDEF".index(letter)
        for column, made in enumerate((sign, words, cross)):
            if made is not None:
                self._grid.addWidget(made, number, column)
        self._rows[letter] = (sign, words, cross)

    def _remove(self, letter: str) -> None:
        for made in self._rows.pop(letter):
            if made is not None:
                self._grid.removeWidget(made)
                made.deleteLater()


def row_words(letter: str, view: TrajectoryView, slot: int | None) -> str:
    """For example ``B · seed 43 from step 2 · 4.4 ml``."""
    origin = "" if slot is None else f" from step {view.number(slot)}"
    end = (
        masks.size(view.volume_ml, len(view.step))
        if view.volume_ml is not None
        else f"step {view.number(view.done)}/{view.steps}"
    )
    return f"{letter} · seed {view.seed}{origin} · {end}"


def _remove_branch(session: Session, letter: str, *_: object) -> None:
    commands.remove_branch(session, letter)
