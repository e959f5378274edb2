"""Redraw around my strokes: the button, and the answers to look through, to take or to leave."""

from __future__ import annotations

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_diffseg import keys, redrawing
from napari_diffseg.session import Session
from napari_diffseg.widgets.panel import Heard, beside, button, deafen, enable, line, row, say, small_button

TIP = (
    "What you painted and erased stays exactly as it is; the mask around it is drawn again to agree with it, in a\n"
    "local box. Several answers, each an outline on the mask; nothing changes until you take one"
)


class RedrawSection(QWidget):
    """Listens to the Session by itself; ``shutdown`` ends that, and so does the widget's own end."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.heard: list[Heard] = []
        self.ask = button("Redraw around my strokes", keys.tip(TIP, "redraw"))
        self.back = small_button("‹", keys.tip("The answer before", "previous answer"), "Answer before")
        self.on = small_button("›", keys.tip("The next answer", "next answer"), "Next answer")
        self.take = small_button(
            "✓", keys.tip("Take it: one step that Ctrl+Z takes back", "accept"), "Take this answer"
        )
        self.leave = small_button("✗", keys.tip("Leave the mask as it is", "reject"), "Leave the mask as it is")
        self.count = QLabel()
        self.count.setAccessibleName("Answer on display")
        self.how = line(name="How the answer was found", faint=True)
        self.choice = QWidget()
        inner = row(self.back, self.count, self.on, self.take, self.leave, gap=2)
        inner.setContentsMargins(0, 0, 0, 0)
        self.choice.setLayout(inner)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(2)
        box.addWidget(beside(self.ask, self.choice))
        box.addWidget(self.how)
        self._connect()

    def _connect(self) -> None:
        session = self.session
        self.ask.clicked.connect(lambda: redrawing.redraw(session))
        self.back.clicked.connect(lambda: redrawing.previous_answer(session))
        self.on.clicked.connect(lambda: redrawing.next_answer(session))
        self.take.clicked.connect(lambda: redrawing.accept_answer(session))
        self.leave.clicked.connect(lambda: redrawing.reject_answers(session))
        for name in ("case", "model", "mask", "job", "redraw", "blind"):
            signal = getattr(session.events, name)
            signal.connect(self.refresh)
            self.heard.append((signal, self.refresh))
        heard = self.heard
        self.destroyed.connect(lambda: deafen(heard))
        self.refresh()

    def shutdown(self) -> None:
        """Stop listening; safe to call again."""
        deafen(self.heard)

    def refresh(self) -> None:
        """Show the field that has changed."""
        session = self.session
        found, state = redrawing.proposal_of(session), redrawing.state_of(session)
        enable(self.ask, session.blockers("redraw"))
        self.choice.setVisible(found is not None)
        if found is None:
            used = state.used if state is not None else ""
            say(self.how, f"Last: {used}." if used else "")
            return
        enable(self.back, alone := ["There is one answer only."] if len(found.alternatives) == 1 else [])
        enable(self.on, alone)
        place, _, words = found.words(redrawing.members_of(session)).partition(" · ")
        self.count.setText(place)
        say(self.how, f"{words[:1].upper()}{words[1:]}.")
