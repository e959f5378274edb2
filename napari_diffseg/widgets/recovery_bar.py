"""A line that offers a mask of an earlier session back; there only when needed, and never in the way."""

from __future__ import annotations

from qtpy.QtCore import QTimer

from napari_diffseg import recovery
from napari_diffseg.journaling import journaling
from napari_diffseg.session import Session
from napari_diffseg.state import Message
from napari_diffseg.widgets.panel import GAP, MARGIN, Panel, button, enable, line, row

# How often the journal is asked whether it is well, in ms.
ASK_MS = 1000


class RecoveryBar(Panel):
    """Recover or Discard a mask that was left in its journal; Discard asks once more in its own words."""

    title = "Recovery"

    def _build(self) -> None:
        self.page.setContentsMargins(MARGIN, GAP, MARGIN, 0)
        self.words = line(name="A mask that can be recovered")
        self.recover = button("Recover", "Open its scan again, with mask, slice, mode and seed as they were")
        self.discard = button("Discard", "Delete this mask from the journal", "Discard the mask")
        self.page.addWidget(self.words)
        self.page.addLayout(row(self.recover, self.discard, 1))
        self._sure = False
        self._trouble = ""
        self.timer = QTimer(self)
        self.timer.timeout.connect(self._ask)
        self.timer.start(ASK_MS)

    def _connect(self) -> None:
        self.recover.clicked.connect(lambda: recovery.recover(self.session))
        self.discard.clicked.connect(self._on_discard)
        self.hear("offer", by=self._on_offer)
        self.hear("job", "offer", by=self._on_blockers)

    def shutdown(self) -> None:
        """Stop listening and asking; safe to call again."""
        self.timer.stop()
        super().shutdown()

    def _on_discard(self) -> None:
        if self._sure:
            recovery.discard(self.session)
            return
        self._sure = True
        self.discard.setText("Discard for good")

    def _on_offer(self) -> None:
        offer = self.session.offer
        self._sure = False
        self.discard.setText("Discard")
        self.words.setText("" if offer is None else recovery.offer_words(offer))
        self.setVisible(offer is not None)

    def _on_blockers(self) -> None:
        enable(self.recover, self.session.blockers("open"))

    def _ask(self) -> None:
        """Trouble with the journal is told once; it comes from a thread that must not touch the session."""
        trouble = journaling(self.session).trouble
        if trouble and trouble != self._trouble:
            self.session.message = Message(trouble, "warning")
        self._trouble = trouble


def journal_words(session: Session) -> str:
    """What the page says of the journal; empty while there is none."""
    journal = journaling(session)
    if journal.trouble:
        return "journal not written"
    return "journal up to date" if journal.running else ""

