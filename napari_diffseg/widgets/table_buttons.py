"""Copy a table to the clipboard, or export it as a file of comma-separated values."""

from __future__ import annotations

from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QWidget

from napari_diffseg import ensemble_commands
from napari_diffseg.session import Session
from napari_diffseg.state import Message
from napari_diffseg.widgets.panel import GAP, button, enable, slim

EMPTY = {
    "members": "There are no masks yet: press Grow.",
    "readers": "There is no comparison yet: press Compare.",
}


class TableButtons(QWidget):
    """Copy and Export for the table ``which`` of ``ensemble_commands.csv_of``."""

    def __init__(self, session: Session, which: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session, self.which = session, which
        self.copy = button("Copy", "Copy the table as comma-separated values, for a spreadsheet", f"Copy {which}")
        self.export = button("Export CSV…", "Write the table to a file of comma-separated values", f"Export {which}")
        slim(self.copy, self.export)
        self.copy.clicked.connect(lambda: self.copy_table())
        self.export.clicked.connect(lambda: self.choose_and_export())
        box = QHBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(GAP)
        box.addWidget(self.copy)
        box.addWidget(self.export)
        box.addStretch(1)

    def refresh(self, there: bool) -> None:
        """Grey out with the reason while there is nothing to copy."""
        for made in (self.copy, self.export):
            enable(made, [] if there else [EMPTY[self.which]])

    def copy_table(self) -> None:
        """The table to the clipboard; says why not where there is none."""
        text = self._text()
        if text and (board := QGuiApplication.clipboard()) is not None:
            board.setText(text)
            self.session.message = Message(f"Copied {len(text.splitlines()) - 1} rows.")

    def choose_and_export(self) -> None:
        """The table to a file that is asked for; says why not where there is none."""
        if not self._text():
            return
        case = self.session.case
        name = f"{case.name}_{self.which}.csv" if case is not None else f"{self.which}.csv"
        path, _ = QFileDialog.getSaveFileName(self, "Export the table", name, "Comma-separated values (*.csv)")
        if path:
            ensemble_commands.export_csv(self.session, self.which, path)

    def _text(self) -> str:
        text = ensemble_commands.csv_of(self.session, self.which)
        if not text:
            self.session.message = Message(EMPTY[self.which], "warning")
        return text
