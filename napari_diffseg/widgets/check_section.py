"""The next place to check: where it is, how much the masks disagree there, and how many are left."""

from __future__ import annotations

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QComboBox, QLabel, QVBoxLayout, QWidget

from diffseg.places import Place
from napari_diffseg import checking, keys
from napari_diffseg.session import Session
from napari_diffseg.widgets.panel import GAP, button, enable, line, row, say, slim

# After the last stroke, and after the job whose end brings another ensemble.
SOON_MS = 200


class CheckSection(QWidget):
    """Keeps the queue like the ensemble while nothing runs; the page tells it when a field has changed."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.by = QComboBox()
        self.by.addItem("slices", "slice")
        self.by.addItem("regions", "region")
        self.by.setToolTip("Slices of the plane on display, or connected regions, most disagreement first")
        self.by.setAccessibleName("What to check")
        self.next = button("Next", keys.tip("Go to the next place", "place"), "Next place to check")
        self.done = button("✓", keys.tip("This place is fine: go to the next", "tick"), "Tick this place")
        slim(self.by, self.next, self.done)
        self.where = line(name="Place to check")
        self.where.setToolTip(
            "The volume on which two masks of the ensemble, drawn at random, are expected to differ there.\n"
            "Places drop out once you ticked them or half of their disagreement lies where you edited, voxels beside\n"
            "edited ones in the slice included. Those that hold 95 % of all the disagreement are listed."
        )
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(GAP // 2)
        self.caption = QLabel("Check")
        line_ = row(self.caption, self.by, self.next, self.done)
        line_.setStretch(1, 1)
        box.addLayout(line_)
        box.addWidget(self.where)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(SOON_MS)
        self._soon.timeout.connect(self._refresh)
        self.by.activated.connect(lambda index: checking.look_by(session, self.by.itemData(index)))
        self.next.clicked.connect(lambda: checking.next_place(session))
        self.done.clicked.connect(lambda: checking.tick(session))

    # ---- from the session; the page listens ----

    def refresh(self) -> None:
        """Soon, so that strokes are not held up."""
        self._soon.start()

    def _refresh(self) -> None:
        session = self.session
        blockers = session.blockers("check")
        deep = session.case is not None and session.case.ndim > 2
        self.by.setVisible(deep)
        self.by.setCurrentIndex(self.by.findData(session.tools.places))
        if not blockers and session.job.state == "idle" and checking.stale(session):
            checking.search(session)
        left = () if blockers else checking.places_left(session)
        enable(self.next, blockers)
        enable(self.done, blockers or ([] if session.place is not None else ["Go to a place first: press Next."]))
        say(self.where, blockers[0] if blockers else words(session, left))


def words(session: Session, left: tuple[Place, ...]) -> str:
    """For example ``Slice 61 · 83 mm³ · 7 left``: the place gone to, or else the first one."""
    queue = session.queue
    if queue is None:
        return "Looking for places…"
    if not queue.places:
        return checking.ALL_AGREE
    if not left:
        return "No place left: all are ticked or edited."
    at = next((p for p in queue.places if p.key == session.place), None)
    place = at or left[0]
    flat = session.case is not None and session.case.ndim == 2
    size = f"{float(f'{place.disagreement_mm3:.2g}'):g} {'mm²' if flat else 'mm³'}"
    state = "first: " if at is None else "" if any(p.key == at.key for p in left) else "checked: "
    return f"{state}{name(place)} · {size} · {len(left)} left"


def name(place: Place) -> str:
    """``slice 61`` or ``region 2``, as napari's slider counts."""
    return f"{place.by} {place.number}"
