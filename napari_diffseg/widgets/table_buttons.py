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
        self.copy.clicked.connect(self._copy)
        self.export.clicked.connect(self._export)
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

    def _copy(self) -> None:
        text = ensemble_commands.csv_of(self.session, self.which)
        if text and (board := QGuiApplication.clipboard()) is not None:
            board.setText(text)
            self.session.message = Message(f"Copied {len(text.splitlines()) - 1} rows.")

    def _export(self) -> None:
        case = self.session.case
        name = f"{case.name}_{self.which}.csv" if case is not None else f"{self.which}.csv"
        path, _ = QFileDialog.getSaveFileName(self, "Export the table", name, "Comma-separated values (*.csv)")
        if path:
            ensemble_commands.export_csv(self.session, self.which, path)
