"""What all pages share: observing the Session, saying why a button cannot act, small pieces of layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import ref

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap, QResizeEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from diffseg.registry import Registry
from napari_diffseg.session import Session

# Gaps and margins in logical pixels.
GAP = 6
MARGIN = 8


# A signal of the Session, and who listens to it.
Heard = tuple[Any, Callable[..., None]]


class Panel(QWidget):
    """A page: ``_build`` makes widgets, ``_connect`` wires them, ``_on_<field>`` shows a field.

    ``title`` is what its tab says, ``help`` what one looks at here, in a few sentences.
    """

    title = ""
    help = ""

    def __init__(self, session: Session, parent: QWidget | None = None, awake: bool = True) -> None:
        """``awake=False``: nobody sees it yet, so that it shows nothing, and imports nothing, until ``wake``."""
        super().__init__(parent)
        self.session = session
        self.heard: list[Heard] = []
        # Panels within this one.
        self.parts: list[Panel] = []
        self._ears: list[_Ear] = []
        self._awake = awake
        self._missed: set[Callable[[], None]] = set()
        self.page = QVBoxLayout(self)
        self.page.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        self.page.setSpacing(GAP)
        self._build()
        self._connect()

    def _build(self) -> None:
        """Make the widgets."""

    def _connect(self) -> None:
        """Wire widgets to commands, and fields to ``_on_`` methods."""

    def hear(self, *fields: str, by: Callable[[], None]) -> None:
        """Call ``by`` now and at every change of these fields; while the page sleeps, once when it wakes."""
        ear = _Ear(self, by)
        self._ears.append(ear)
        for field in fields:
            signal = getattr(self.session.events, field)
            signal.connect(ear.hear)
            self.heard.append((signal, ear.hear))
        self.tell(by)

    def tell(self, by: Callable[[], None]) -> None:
        """``by`` has something to show."""
        if self._awake:
            by()
        else:
            self._missed.add(by)

    def sleep(self) -> None:
        """Show nothing more until ``wake``: nobody sees this page, and what it shows would hold up those that run."""
        self._awake = False
        for part in self.parts:
            part.sleep()

    def wake(self) -> None:
        """Show what was missed, and everything that comes."""
        self._awake = True
        for ear in self._ears:  # in the order in which the page was built
            if ear.by in self._missed:
                self._missed.remove(ear.by)
                ear.by()
        for part in self.parts:
            part.wake()

    def finished(self) -> bool:
        """Whether this page has a result, which its tab shows with a tick."""
        return False

    def shutdown(self) -> None:
        """Stop listening; safe to call again."""
        deafen(self.heard)


class _Ear:
    """Hears fields of the Session for a panel. An object of its own, since signals hold methods weakly."""

    def __init__(self, panel: Panel, by: Callable[[], None]) -> None:
        self._panel, self.by = ref(panel), by

    def hear(self) -> None:
        """Something changed."""
        panel = self._panel()
        if panel is not None:
            panel.tell(self.by)


def deafen(heard: list[Heard]) -> None:
    """Undo these connections; touches no widget, which may be gone already."""
    while heard:
        signal, by = heard.pop()
        signal.disconnect(by, missing_ok=True)


def button(text: str, tip: str, name: str = "") -> QPushButton:
    """A push button with a tooltip and a name for screen readers."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setProperty("tip", tip)
    made.setAccessibleName(name or text)
    return made


def offer(box: QComboBox, parts: Registry[Any], words: Callable[[str], str]) -> None:
    """Fill a box with the entries of a table, once; ``words`` is what each name reads on the screen."""
    for name in parts if box.count() == 0 else ():
        box.addItem(words(name), name)
        box.setItemData(box.count() - 1, parts.help(name), Qt.ItemDataRole.ToolTipRole)


def slim(*made: QPushButton | QComboBox | QSpinBox) -> None:
    """Let widgets in a row shrink to their text, so that the row fits the narrowest dock."""
    for widget in made:
        text = widget.text() if isinstance(widget, QPushButton) else "0" * 8
        policy = QSizePolicy.Policy.Preferred if isinstance(widget, QPushButton) else QSizePolicy.Policy.Ignored
        widget.setSizePolicy(policy, QSizePolicy.Policy.Fixed)
        widget.setMinimumWidth(widget.fontMetrics().horizontalAdvance(text) + 2 * GAP)


def small_button(text: str, tip: str, name: str) -> QToolButton:
    """A button for one sign."""
    made = QToolButton()
    made.setText(text)
    made.setToolTip(tip)
    made.setProperty("tip", tip)
    made.setAccessibleName(name)
    return made


def enable(made: QAbstractButton, blockers: list[str]) -> None:
    """Grey out with the first reason in the tooltip, or bring back the button's own."""
    made.setEnabled(not blockers)
    made.setToolTip(blockers[0] if blockers else made.property("tip"))


class Line(QLabel):
    """Text that wraps and is exactly as high as it needs to be at its width.

    Qt's own label asks for the height of its narrowest form, which leaves gaps all over a page that scrolls.
    """

    def hasHeightForWidth(self) -> bool:
        """Not told to layouts: they would ask for the height at the least width."""
        return False

    def sizeHint(self) -> QSize:
        """As high as the text at the width of now; the width is the layout's affair."""
        return QSize(0, max(self.heightForWidth(self.width()), 0))

    def minimumSizeHint(self) -> QSize:
        """As ``sizeHint``."""
        return self.sizeHint()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Another width may need another height."""
        super().resizeEvent(event)
        if event is not None and event.oldSize().width() != event.size().width():
            self.updateGeometry()


def line(text: str = "", name: str = "", faint: bool = False) -> QLabel:
    """A line of text that wraps and can be selected; ``faint`` ones are asides."""
    made = Line(text)
    made.setWordWrap(True)
    made.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    made.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    if name:
        made.setAccessibleName(name)
    if faint:
        font = made.font()
        font.setItalic(True)
        made.setFont(font)
    return made


def say(label: QLabel, text: str) -> None:
    """Show ``text``, or take no room for nothing."""
    label.setText(text)
    label.setVisible(bool(text))


def row(*widgets: QWidget | int, gap: int = GAP) -> QHBoxLayout:
    """Widgets side by side; a number is a stretch."""
    made = QHBoxLayout()
    made.setSpacing(gap)
    for widget in widgets:
        if isinstance(widget, int):
            made.addStretch(widget)
        else:
            made.addWidget(widget)
    return made


def beside(*widgets: QWidget, gap: int = GAP) -> QWidget:
    """A ``row`` as one widget without margins; the first takes the room that is left."""
    holder = QWidget()
    box = row(*widgets, gap=gap)
    box.setContentsMargins(0, 0, 0, 0)
    box.setStretch(0, 1)
    holder.setLayout(box)
    return holder


def adopt(panel: QWidget, form: Any) -> None:
    """Keep the empty shell of a form whose widgets were laid out one by one, so that it goes with the page."""
    form.native.setParent(panel)
    form.native.hide()


def swatch(color: str, side: int = 14) -> QIcon:
    """A filled square of ``#rrggbb``."""
    picture = QPixmap(QSize(side, side))
    picture.fill(QColor(color))
    return QIcon(picture)


def ink(widget: QWidget) -> QColor:
    """The colour in which napari's theme writes on this widget."""
    widget.ensurePolished()
    return widget.palette().color(widget.foregroundRole())
