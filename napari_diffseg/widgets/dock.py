"""The dock: the pages in the order of the work, the job bar below, and an orderly end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar
from weakref import ref

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QShowEvent
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QFrame, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_diffseg import commands, keys, recovery
from napari_diffseg.garbage import Aside
from napari_diffseg.session import Session, unwrapped
from napari_diffseg.sync import attach
from napari_diffseg.widgets.case_panel import CasePanel
from napari_diffseg.widgets.denoise_panel import DenoisePanel
from napari_diffseg.widgets.ensemble_panel import EnsemblePanel
from napari_diffseg.widgets.job_bar import JobBar
from napari_diffseg.widgets.mask_panel import MaskPanel
from napari_diffseg.widgets.panel import GAP, MARGIN, Heard, Panel, deafen, line
from napari_diffseg.widgets.recovery_bar import RecoveryBar
from napari_diffseg.widgets.saliency_panel import SaliencyPanel

if TYPE_CHECKING:
    import napari

# Results that a tab can tell of.
FIELDS = ("case", "model", "trajectory", "snapshot", "saliency", "mask")
# Pages that tell what the model found.
TELLING = (DenoisePanel.title, EnsemblePanel.title, SaliencyPanel.title)
NARROWEST_PX = 360
# napari squeezes the tabs of its own; these are to be read and hit.
TAB_STYLE = "QTabBar::tab { padding: 4px 6px; min-height: 20px; }"


class Dock(QWidget):
    """Pages and job bar for one viewer. ``shutdown`` lets go of the Session; results stay with it."""

    pages: ClassVar[tuple[type[Panel], ...]] = (CasePanel, DenoisePanel, EnsemblePanel, SaliencyPanel, MaskPanel)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self.session = attach(napari_viewer)
        self.panels: dict[str, Panel] = {page.title: page(self.session, awake=False) for page in self.pages}
        self.bar = JobBar(self.session)
        self.recovery = RecoveryBar(self.session)
        self._build()
        heard = [panel.heard for panel in (*self.panels.values(), self.bar, self.recovery)]
        self._ears = Ears(self.session, heard, Aside(unwrapped(napari_viewer)))
        self._connect()
        self._window: QWidget | None = None
        self._closing = False
        # Told after the widgets are gone, so that it may know nothing of them.
        self.destroyed.connect(self._ears.end)
        recovery.look(self.session)

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
        self.tabs.setTabBarAutoHide(True)
        self.tabs.setStyleSheet(TAB_STYLE)
        box.addWidget(self.tabs, 1)
        self.about = line(name="What am I looking at?")
        self.about.setTextFormat(Qt.TextFormat.PlainText)
        self.about.setContentsMargins(MARGIN, GAP, MARGIN, 0)
        self.about.hide()
        box.addWidget(self.about)
        box.addWidget(self.recovery)
        box.addWidget(self.bar)
        self.setMinimumWidth(NARROWEST_PX)
        self.setAcceptDrops(True)

    def _connect(self) -> None:
        self.bar.turned.connect(self.turn_to)
        self.bar.save_asked.connect(self._save)
        self.bar.ask.toggled.connect(self._explain)
        self.tabs.currentChanged.connect(self._explain)
        self.tabs.currentChanged.connect(self._wake)
        self._wake()
        own: list[Heard] = [(getattr(self.session.events, field), self._on_results) for field in FIELDS]
        for signal, by in own:
            signal.connect(by)
        own.append((self.session.events.blind, self._on_blind))
        self.session.events.blind.connect(self._on_blind)
        self._ears.heard.append(own)
        self._on_results()
        self._on_blind()

    def turn_to(self, title: str) -> None:
        """Show the page of this title, if it is here."""
        titles = list(self.panels)
        if title in titles:
            self.tabs.setCurrentIndex(titles.index(title))

    def _wake(self, *_: object) -> None:
        """Only the page on display follows what happens; the others catch up when they are turned to."""
        for number, panel in enumerate(self.panels.values()):
            if number == self.tabs.currentIndex():
                panel.wake()
            else:
                panel.sleep()

    def reset_choices(self, *_: object) -> None:
        """napari calls this when its layers change."""
        panel = self.panels.get(CasePanel.title)
        if isinstance(panel, CasePanel):
            panel.reset_choices()

    def _save(self) -> None:
        panel = self.panels.get(MaskPanel.title)
        if isinstance(panel, MaskPanel):
            panel.choose_and_save()

    def _explain(self, *_: object) -> None:
        """Words on the page on display, and its keys, as long as they are asked for."""
        if self.bar.ask.isChecked():
            title, panel = list(self.panels.items())[self.tabs.currentIndex()]
            found = keys.words_for(title)
            self.about.setText(f"{panel.help}\nKeys: {found}" if found else panel.help)
        self.about.setVisible(self.bar.ask.isChecked())

    def _on_results(self) -> None:
        for number, (title, panel) in enumerate(self.panels.items()):
            self.tabs.setTabText(number, f"{title} ✓" if panel.finished() else title)

    def _on_blind(self) -> None:
        """No page with results while somebody reads blind."""
        blind = self.session.blind
        hiding = blind is not None and blind.hiding
        if hiding and list(self.panels)[self.tabs.currentIndex()] in TELLING:
            self.turn_to(MaskPanel.title)
        for number, title in enumerate(self.panels):
            self.tabs.setTabEnabled(number, not (hiding and title in TELLING))
            self.tabs.setTabToolTip(number, "Hidden during a blind reading" if hiding and title in TELLING else "")

    # ---- the end: a dock's cross only takes the parent away, and nobody gets a closeEvent ----

    def showEvent(self, event: QShowEvent | None) -> None:
        """Watch the window that this now lies in."""
        super().showEvent(event)
        window = _main_window(self)
        if window is not self._window and window is not self:
            self._unwatch()
            self._window = window
            window.installEventFilter(self)
            if self.session.view is not None:
                self.session.view.draw_by(partial(_draw, ref(window)))

    def event(self, event: QEvent | None) -> bool:
        """Shut down when taken out of the viewer."""
        taken_out = event is not None and event.type() == QEvent.Type.ParentChange and self.parent() is None
        if taken_out and hasattr(self, "_ears"):
            self.shutdown()
        return super().event(event)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Shut down with the viewer's window: when it hides after a close that nobody took back."""
        # While Python takes the dock apart, Qt may still call.
        window = getattr(self, "_window", None)
        if event is None or not isinstance(window, QWidget) or watched is not window:
            return False
        if event.type() == QEvent.Type.Close:
            self._closing = True
        ended = event.type() in (QEvent.Type.Close, QEvent.Type.Hide) and not window.isVisible()
        if self._closing and ended:
            self.shutdown()
        return False

    def shutdown(self) -> None:
        """Stop what runs and stop listening; safe to call again, even when Qt has taken the dock apart."""
        if not self._ears.open:
            return
        self._unwatch()
        for panel in (*self.panels.values(), self.recovery):
            panel.shutdown()
        self._ears.end()

    def _unwatch(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            window.removeEventFilter(self)

    # ---- a scan may be dropped anywhere on the dock ----

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """As on the page Case."""
        panel = self.panels.get(CasePanel.title)
        if isinstance(panel, CasePanel):
            panel.dragEnterEvent(event)

    def dropEvent(self, event: QDropEvent | None) -> None:
        """As on the page Case."""
        panel = self.panels.get(CasePanel.title)
        if isinstance(panel, CasePanel):
            panel.dropEvent(event)


# Of docks that have not ended. Python may take a forgotten dock apart in any order; what is called in the middle of
# that, when Qt says that the dock is destroyed, must not be among the parts.
_listening: set[Ears] = set()


@dataclass(eq=False)
class Ears:
    """What a dock listens to and has set aside, without the dock."""

    session: Session
    heard: list[list[Heard]]
    aside: Aside
    open: bool = True

    def __post_init__(self) -> None:
        _listening.add(self)

    def end(self, *_: object) -> None:
        """Stop what runs and stop listening, once."""
        if not self.open:
            return
        self.open = False
        _listening.discard(self)
        for heard in self.heard:
            deafen(heard)
        self.aside.release()
        commands.shutdown(self.session)


class CaseDock(Dock):
    """The page Case alone."""

    pages = (CasePanel,)


class DenoiseDock(Dock):
    """The page Denoise alone."""

    pages = (DenoisePanel,)


class EnsembleDock(Dock):
    """The page Ensemble alone."""

    pages = (EnsemblePanel,)


class SaliencyDock(Dock):
    """The page Saliency alone."""

    pages = (SaliencyPanel,)


class MaskDock(Dock):
    """The page Mask alone."""

    pages = (MaskPanel,)


def _main_window(widget: QWidget) -> QWidget:
    """The viewer's window, also while the dock floats in one of its own."""
    while (parent := widget.parentWidget()) is not None:
        widget = parent
    return widget


def _draw(window: Callable[[], QWidget | None], on: bool) -> None:
    """Suspend or resume the drawing of napari's canvases in a window, if it is still there."""
    with suppress(RuntimeError):
        found = window()
        for canvas in found.findChildren(QOpenGLWidget) if found is not None else ():
            canvas.setUpdatesEnabled(on)


def _scrolling(panel: Panel) -> QScrollArea:
    """Scrolls where the window is too low for the page or the letters too large, instead of clipping."""
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setWidget(panel)
    return area
