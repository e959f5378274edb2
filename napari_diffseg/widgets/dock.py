"""The dock: the pages in the order of the work, the job bar below, and an orderly end."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QShowEvent
from qtpy.QtWidgets import QFrame, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_diffseg import commands
from napari_diffseg.session import session_for
from napari_diffseg.sync import sync_for
from napari_diffseg.widgets.case_panel import CasePanel
from napari_diffseg.widgets.denoise_panel import DenoisePanel
from napari_diffseg.widgets.ensemble_panel import EnsemblePanel
from napari_diffseg.widgets.job_bar import JobBar
from napari_diffseg.widgets.mask_panel import MaskPanel
from napari_diffseg.widgets.panel import Panel

if TYPE_CHECKING:
    import napari

# Results that a tab can tell of.
FIELDS = ("case", "model", "trajectory", "snapshot", "mask")
NARROWEST_PX = 340


class Dock(QWidget):
    """Pages and job bar for one viewer. ``shutdown`` lets go of the Session; results stay with it."""

    pages: ClassVar[tuple[type[Panel], ...]] = (CasePanel, DenoisePanel, EnsemblePanel, MaskPanel)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.session = session_for(napari_viewer)
        sync_for(napari_viewer)
        self.panels: dict[str, Panel] = {page.title: page(self.session) for page in self.pages}
        self.bar = JobBar(self.session)
        self._build()
        self._connect()
        self._window: QWidget | None = None
        self._open = True

    def _build(self) -> None:
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.setUsesScrollButtons(False)
        self.tabs.setElideMode(Qt.TextElideMode.ElideNone)
        for title, panel in self.panels.items():
            self.tabs.addTab(_scrolling(panel), title)
        self.tabs.tabBar().setVisible(len(self.panels) > 1)
        box.addWidget(self.tabs, 1)
        box.addWidget(self.bar)
        self.setMinimumWidth(NARROWEST_PX)
        self.setAcceptDrops(True)

    def _connect(self) -> None:
        self.bar.turned.connect(self.turn_to)
        self.bar.save_asked.connect(self._save)
        for field in FIELDS:
            getattr(self.session.events, field).connect(self._on_results)
        self._on_results()

    def turn_to(self, title: str) -> None:
        """Show the page of this title, if it is here."""
        titles = list(self.panels)
        if title in titles:
            self.tabs.setCurrentIndex(titles.index(title))

    def reset_choices(self, *_: object) -> None:
        """napari calls this when its layers change."""
        panel = self.panels.get(CasePanel.title)
        if isinstance(panel, CasePanel):
            panel.reset_choices()

    def _save(self) -> None:
        panel = self.panels.get(MaskPanel.title)
        if isinstance(panel, MaskPanel):
            panel.choose_and_save()

    def _on_results(self) -> None:
        for number, (title, panel) in enumerate(self.panels.items()):
            self.tabs.setTabText(number, f"{title} ✓" if panel.finished() else title)

    # ---- the end: a dock's cross only takes the parent away, and nobody gets a closeEvent ----

    def showEvent(self, event: QShowEvent) -> None:
        """Watch the window that this now lies in."""
        super().showEvent(event)
        if self.window() is not self._window and self.window() is not self:
            self._unwatch()
            self._window = self.window()
            self._window.installEventFilter(self)

    def event(self, event: QEvent) -> bool:
        """Shut down when taken out of the viewer."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shutdown()
        return super().event(event)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Shut down with the viewer's window."""
        if event is not None and watched is self._window and event.type() == QEvent.Type.Close:
            self.shutdown()
        return False

    def shutdown(self) -> None:
        """Stop what runs and stop listening; safe to call again."""
        if not getattr(self, "_open", False):
            return
        self._open = False
        self._unwatch()
        for field in FIELDS:
            getattr(self.session.events, field).disconnect(self._on_results, missing_ok=True)
        for panel in (*self.panels.values(), self.bar):
            panel.shutdown()
        commands.shutdown(self.session)

    def _unwatch(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            window.removeEventFilter(self)

    # ---- a scan may be dropped anywhere on the dock ----

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """As on the page Case."""
        panel = self.panels.get(CasePanel.title)
        if isinstance(panel, CasePanel):
            panel.dragEnterEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:
        """As on the page Case."""
        panel = self.panels.get(CasePanel.title)
        if isinstance(panel, CasePanel):
            panel.dropEvent(event)


class CaseDock(Dock):
    """The page Case alone."""

    pages = (CasePanel,)


class DenoiseDock(Dock):
    """The page Denoise alone."""

    pages = (DenoisePanel,)


class EnsembleDock(Dock):
    """The page Ensemble alone."""

    pages = (EnsemblePanel,)


class MaskDock(Dock):
    """The page Mask alone."""

    pages = (MaskPanel,)


def _scrolling(panel: Panel) -> QScrollArea:
    """Scrolls in windows too low for the page, instead of forcing them to be higher."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setWidget(panel)
    return area
