"""Drawing before the results are seen, and revealing them."""

from __future__ import annotations

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_diffseg import blind
from napari_diffseg.session import Session
from napari_diffseg.widgets.panel import GAP, button, enable, line, row, say, slim


class BlindSection(QWidget):
    """One button that begins and one that reveals; the page tells it when a field has changed."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.begin = button("Draw blind first", "Draw an empty mask while all results and readers' masks are hidden")
        self.reveal = button("Reveal results", "Show the results again; what you drew is kept as a reader's mask")
        slim(self.begin, self.reveal)
        self.state = line(name="Blind reading")
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(GAP // 2)
        box.addLayout(row(self.begin, self.reveal, 1))
        box.addWidget(self.state)
        self.begin.clicked.connect(lambda: blind.begin(session))
        self.reveal.clicked.connect(lambda: blind.reveal(session))

    def refresh(self) -> None:
        """Which of the two can be pressed, and what is kept."""
        reading = self.session.blind
        hiding = reading is not None and reading.hiding
        self.begin.setVisible(not hiding)
        self.reveal.setVisible(hiding)
        enable(self.begin, self.session.blockers("blind"))
        told = ""
        if reading is not None and hiding:
            told = f"Blind reading since {reading.begun_at:%H:%M}: results are hidden."
        elif reading is not None and reading.revealed_at is not None:
            told = f"Revealed {reading.revealed_at:%H:%M}; your blind mask is reader {reading.name!r}."
        say(self.state, told)
