"""The ensemble against the readers: figures, board, maps and the curve over the slices, folded at first."""

from __future__ import annotations

import math

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QLabel, QWidget

from diffseg.raters import MATCH_IOU, Figures, RaterBoard
from napari_diffseg import commands, ensemble_commands, keys
from napari_diffseg.ensemble_commands import listed
from napari_diffseg.ensemble_state import READER_MAPS
from napari_diffseg.session import Session
from napari_diffseg.widgets.folded import Folded
from napari_diffseg.widgets.panel import button, enable, line, row, say, slim
from napari_diffseg.widgets.rater_table import RaterTable
from napari_diffseg.widgets.slice_curve import SliceCurve
from napari_diffseg.widgets.table_buttons import TableButtons

TITLE = "Against the readers"
GED_HELP = (
    "Generalised energy distance (GED): how far the masks of the model are from those of the readers as two sets,\n"
    "0 for the same variety and 2 at most: 2 E[d(mask, reader)] - E[d(mask, mask')] - E[d(reader, reader')] with\n"
    "d = 1 - IoU; the IoU of two empty masks is 1. Papers keep the zero distance of each mask to itself, which makes\n"
    "small ensembles look worse; the second number leaves these pairs out. Only numbers of equal N compare."
)
INSIGHT_HELP = (
    "Collective Insight: the mean 3abc / (a + b + c) of combined sensitivity (share of what any reader drew that some\n"
    "mask covers), best match (for each reader the best Dice) and agreement of diversity (whether the masks differ as\n"
    "much as the readers do)."
)
MAPS = {
    "ged": ("GED map", "Where masks and readers differ in frequency, from 0 to 2; 0 is see-through"),
    "local_ged": ("Local GED map", "The same distance within 5 mm around each point, from 0 to 2; takes longer"),
}


class ReadersSection(Folded):
    """Asks for the comparison when it is unfolded, and again when the ensemble has grown."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(TITLE, "How the masks compare with those of people; unfold to compute", parent)
        self.session = session
        # After the job that has just ended has told its result; one try per ensemble, so that Stop is respected.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._compare)
        self._asked: object = None
        self._build_figures()
        self._build_board()
        self._build_maps()
        self.turned.connect(lambda on: self._ask())

    def _build_figures(self) -> None:
        self.note = line(name="Why there is no comparison", faint=True)
        self.ged = line(name="Generalised energy distance")
        self.ged.setToolTip(GED_HELP)
        self.insight = line(name="Collective Insight")
        self.insight.setToolTip(INSIGHT_HELP)
        self.overlap = line(name="Overlap with the readers")
        for made in (self.note, self.ged, self.insight, self.overlap):
            self.body.addWidget(made)

    def _build_board(self) -> None:
        self.board = RaterTable()
        self.board.picked.connect(lambda mode: commands.show_mode(self.session, mode))
        self.threshold = QDoubleSpinBox()
        self.threshold.setRange(0.05, 1.0)
        self.threshold.setSingleStep(0.05)
        self.threshold.setValue(MATCH_IOU)
        self.threshold.setAccessibleName("IoU from which a mode matches a reader")
        self.threshold.setToolTip("Overlap (IoU) from which a mode matches a reader; 0.7 is what makes masks one mode")
        self.threshold.valueChanged.connect(self._on_board)
        self.alone = line(name="Who stands alone")
        self.matching = row(QLabel("Match from IoU"), self.threshold, 1)
        self.body.addWidget(self.board)
        self.body.addLayout(self.matching)
        self.body.addWidget(self.alone)

    def _build_maps(self) -> None:
        self.maps: dict[str, QCheckBox] = {}
        for key in READER_MAPS:
            words, tip = MAPS[key]
            made = QCheckBox(words)
            made.setToolTip(tip)
            made.clicked.connect(lambda on, key=key: ensemble_commands.show_reader_map(self.session, key, on))
            self.maps[key] = made
        self.body.addLayout(row(QLabel("Show"), *self.maps.values(), 1))
        self.curve = SliceCurve("GED per slice", "Each axial slice by itself, self-pairs kept; click to go there")
        self.curve.picked.connect(lambda index: ensemble_commands.look_at_slice(self.session, index))
        self.body.addWidget(self.curve)
        self.again = button("Compare", keys.tip("Measure the masks against the readers again", "compare"))
        slim(self.again)
        self.again.clicked.connect(lambda: ensemble_commands.compare_readers(self.session))
        self.buttons = TableButtons(self.session, "readers")
        self.body.addLayout(row(self.again, self.buttons, 1))

    # ---- from the session; the panel listens ----

    def refresh(self) -> None:
        """Everything anew; asks for a comparison where the one there is belongs to a smaller ensemble."""
        session, readers = self.session, self.session.readers
        number = len(session.raters)
        self.set_title(f"{TITLE} ({number})" if number else f"{TITLE} (none)")
        there = readers is not None
        for made in (self.ged, self.insight, self.overlap, self.board, self.threshold, self.alone):
            made.setVisible(there)
        self.buttons.refresh(there)
        blockers = session.blockers("compare")
        enable(self.again, blockers)
        for box in self.maps.values():
            box.setEnabled(there)
        say(self.note, self._note(blockers))
        if readers is not None:
            self.ged.setText(ged_words(readers.figures))
            self.insight.setText(insight_words(readers.figures))
            self.overlap.setText(overlap_words(readers.figures))
            self._on_board()
        self._on_curve()
        self._ask()

    def on_shown(self) -> None:
        """Which maps are on."""
        for key, made in self.maps.items():
            made.setChecked(key in self.session.shown)

    def on_slice(self) -> None:
        """The slice on display."""
        self.curve.mark_slice(self.session.looked_at)

    def _note(self, blockers: list[str]) -> str:
        readers, snapshot = self.session.readers, self.session.snapshot
        if readers is None:
            return blockers[0] if blockers else "Comparing…" if self.session.job.state != "idle" else ""
        if snapshot is not None and readers.snapshot is not snapshot:
            return f"For {readers.figures.members} masks; there are {len(snapshot)} now."
        outside = readers.figures.outside
        return f"{outside:.0%} of what the readers drew lies outside the region and counts." if outside >= 0.005 else ""

    def _on_board(self) -> None:
        readers = self.session.readers
        if readers is not None:
            threshold = self.threshold.value()
            self.board.show_board(readers.board, readers.figures.scores, threshold)
            self.alone.setText(alone_words(readers.board, threshold))

    def _on_curve(self) -> None:
        readers = self.session.readers
        deep = readers is not None and len(readers.figures.slices_papers) > 1
        self.curve.setVisible(deep)
        if deep and readers is not None:
            self.curve.show_slices(readers.figures.slices_papers, readers.box.start[0], readers.box.stop[0])
            self.on_slice()

    def _ask(self) -> None:
        snapshot, readers = self.session.snapshot, self.session.readers
        done = readers is not None and readers.snapshot is snapshot
        if self.open and snapshot is not None and not done and self._asked != self._question():
            self._soon.start(0)

    def _question(self) -> tuple[int, tuple[str, ...]]:
        return id(self.session.snapshot), tuple(self.session.raters)

    def _compare(self) -> None:
        session = self.session
        if session.blockers("compare"):
            return
        self._asked = self._question()
        ensemble_commands.compare_readers(session)


def ged_words(figures: Figures) -> str:
    """Both estimators with all that decides them, and the name spelled out."""
    g = figures.ged
    return (
        f"Generalised energy distance (GED): <b>{g.papers:.2f}</b> as in papers, <b>{shown(g.unbiased)}</b> without "
        f"self-pairs. N = {g.n_samples} masks, {g.n_raters} reader{'s' * (g.n_raters != 1)}; "
        f"d = {g.distance.replace('-', '−')}, both empty: {g.both_empty}."
    )


def insight_words(figures: Figures) -> str:
    """The score and its three parts, for each class where there are several."""
    lines = []
    for name, part in zip(figures.classes, figures.insight, strict=True):
        whose = f" ({name})" if len(figures.classes) > 1 else ""
        lines.append(
            f"Collective Insight{whose}: <b>{part.score:.2f}</b> = sensitivity {part.combined_sensitivity:.2f}, "
            f"best match {part.d_max:.2f}, diversity {part.diversity_agreement:.2f}"
        )
    return "<br>".join(lines)


def overlap_words(figures: Figures) -> str:
    """Matched IoU, Dice and HD95 over all pairs."""
    distances = [s.hd95_mm for s in figures.scores if math.isfinite(s.hd95_mm)]
    hd95 = f"{sum(distances) / len(distances):.1f} mm" if distances else "undefined"
    left = sum(s.hd95_left_out for s in figures.scores)
    aside = f" ({left} pairs with an empty mask left out)" if left else ""
    return (
        f"Matched IoU <b>{figures.matched_iou:.2f}</b> · Dice <b>{figures.mean_dice:.2f}</b> · "
        f"HD95 <b>{hd95}</b>{aside}"
    )


def alone_words(board: RaterBoard, threshold: float) -> str:
    """Which reader has no matching mode, which mode no reader."""
    raters, modes = board.raters_alone(threshold), board.modes_alone(threshold)
    parts = [f"No mode matches {listed(raters)}."] if raters else ["Every reader has a matching mode."]
    if modes:
        parts.append(f"No reader matches mode {listed([str(m) for m in modes])}.")
    else:
        parts.append("Every mode has a matching reader.")
    return " ".join(parts)


def shown(value: float) -> str:
    """Two digits; "undefined" for a set of one mask."""
    return f"{value:.2f}" if math.isfinite(value) else "undefined"
