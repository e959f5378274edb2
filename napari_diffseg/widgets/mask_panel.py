"""Page "Mask": make an answer editable, correct it, check where the ensemble disagrees, save."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel

from napari_diffseg import commands, dialogs
from napari_diffseg.layerdata import class_colors
from napari_diffseg.widgets.blind_section import BlindSection
from napari_diffseg.widgets.check_section import CheckSection
from napari_diffseg.widgets.panel import GAP, Panel, button, enable, line, say, slim, swatch
from napari_diffseg.widgets.question import Question
from napari_diffseg.widgets.recovery_bar import journal_words
from napari_diffseg.widgets.redraw_section import RedrawSection
from napari_diffseg.widgets.tools_section import ToolsSection

HOW = (
    "Paint with napari's own tools on the mask layer: 2 brush, 1 eraser, 4 fill, 3 polygon; "
    "[ and ] change the brush, Ctrl+Z takes a stroke back."
)


class MaskPanel(Panel):
    """See the module."""

    title = "Mask"
    help = (
        "One answer as a mask of your own, to correct with napari's brush, fill and eraser, and to save. It starts "
        "from what is chosen here; the answer itself stays as it was. The tools work on the chosen class, each as one "
        "step that Ctrl+Z takes back. Check leads to where the masks of the ensemble differ most, in mm³. A blind "
        "reading hides all results until you have drawn what you see; both masks are kept. The file lies on the "
        "scan's own grid, and beside it a text file tells which run it came from and what was edited."
    )

    def _build(self) -> None:
        self._build_start()
        self.tools = ToolsSection(self.session)
        self.redraw = RedrawSection(self.session, self)
        # It listens by itself; this way it stops with the page.
        self.heard += self.redraw.heard
        self.check = CheckSection(self.session)
        self.blind = BlindSection(self.session)
        for section in (self.tools, self.redraw, self.check, self.blind):
            self.page.addWidget(section)
        self.save = button("Save mask…", "On the scan's own grid, with its plan beside it", "Save the mask")
        self.replacing = Question(
            "What becomes of the other file",
            button("Replace it", "Save the mask in its place"),
            button("Leave it", "Choose another name with Save mask…"),
        )
        self.page.addWidget(self.replacing)
        self.page.addWidget(self.save)
        self.saved = line(name="Saved or not")
        self.page.addWidget(self.saved)
        self.page.addStretch(1)

    def _build_start(self) -> None:
        grid = QGridLayout()
        grid.setSpacing(GAP)
        grid.setColumnStretch(1, 1)
        self.page.addLayout(grid)
        self.sources, self.classes = QComboBox(), QComboBox()
        # What the person chose, as long as it is there; else the best there is, which comes first.
        self._wanted = ""
        self.sources.setAccessibleName("Start from")
        self.sources.setToolTip("The answer to correct: the model's, a reader's, or a Labels layer of your own")
        self.sources.setMinimumContentsLength(8)
        self.sources.setMaxVisibleItems(12)
        self.classes.setAccessibleName("Class to paint")
        self.classes.setToolTip("What the brush, the fill tool and the tools below work on")
        self.edit = button("Make editable", "One editable mask per scan; an edited one is asked about first, and kept")
        slim(self.sources, self.edit)
        grid.addWidget(QLabel("Start from"), 0, 0)
        grid.addWidget(self.sources, 0, 1)
        grid.addWidget(self.edit, 0, 2)
        self.question = Question(
            "What becomes of the edited mask",
            button("Keep it as a layer", "The edited mask stays in the layer list, and a new one begins"),
            button("Go on with it", "Nothing changes"),
        )
        grid.addWidget(self.question, 1, 0, 1, 3)
        self.class_caption = QLabel("Class")
        grid.addWidget(self.class_caption, 2, 0)
        grid.addWidget(self.classes, 2, 1, 1, 2)
        self.hint = line(name="Why something cannot be done here", faint=True)
        self.page.addWidget(self.hint)
        self.how = line(HOW, "How to paint")
        self.page.addWidget(self.how)

    def _connect(self) -> None:
        session = self.session
        self.sources.activated.connect(self._choose_source)
        self.edit.clicked.connect(lambda: commands.promote(session, self.sources.currentData()))
        self.question.yes.clicked.connect(lambda: commands.keep_and_start(session))
        self.question.no.clicked.connect(lambda: commands.dismiss_start(session))
        self.replacing.yes.clicked.connect(lambda: commands.replace_other(session))
        self.replacing.no.clicked.connect(lambda: commands.keep_other(session))
        self.classes.activated.connect(lambda index: commands.select_class(session, self.classes.itemData(index)))
        self.save.clicked.connect(lambda: self.choose_and_save())
        starts = ("snapshot", "modes", "trajectory", "case", "added_raters", "label_layers", "cut", "blind")
        self.hear(*starts, by=self._on_sources)
        self.hear("mask", by=self._on_mask)
        self.hear("asked", "replacing", by=self._on_asked)
        self.hear("case", "mask", "job", "blind", by=self._on_blockers)
        self.hear("tools", "origin_shown", by=self.tools.on_settings)
        checked = ("snapshot", "job", "mask", "queue", "checked", "place", "plane", "tools", "blind")
        self.hear(*checked, by=self.check.refresh)
        self.hear("case", "blind", "mask", "job", by=self.blind.refresh)

    # ---- from the person ----

    def _choose_source(self, index: int) -> None:
        self._wanted = self.sources.itemData(index)

    def choose_and_save(self, path: Path | None = None) -> None:
        """Save to ``path``, or where the person says."""
        if path is None:
            path = dialogs.ask_where_to_save(self, self._proposal())
        if path is not None:
            commands.save_mask(self.session, path, origin=self.session.origin_shown)

    def _proposal(self) -> Path:
        """Beside the scan, or where the mask was last saved."""
        mask = self.session.mask
        if mask is None:
            return Path()
        if mask.path is not None:
            return mask.path
        scan = mask.case.origin.path
        folder = scan.parent if scan is not None else Path.home()
        return folder / f"{mask.case.name}_mask.nii.gz"

    # ---- from the session ----

    def finished(self) -> bool:
        """The mask as it is on screen is saved."""
        mask = self.session.mask
        return mask is not None and mask.saved_at is not None and not mask.dirty

    def _on_sources(self) -> None:
        found = self.session.sources()
        before = self._wanted
        shown = [(self.sources.itemData(i), self.sources.itemText(i)) for i in range(self.sources.count())]
        if shown == list(found):
            return
        self.sources.clear()
        for key, words in found:
            self.sources.addItem(words, key)
        self.sources.setCurrentIndex(max(0, self.sources.findData(before)) if found else -1)

    def _on_mask(self) -> None:
        mask = self.session.mask
        for widget in (self.classes, self.class_caption, self.how, self.tools):
            widget.setVisible(mask is not None)
        self.tools.on_mask()
        self.classes.clear()
        if mask is None:
            self.saved.setText("No mask yet.")
            return
        names = {k: info.name for k, info in enumerate(mask.classes) if k}
        for label, color in class_colors(mask.classes).items():
            self.classes.addItem(swatch(color), names.get(label, f"label {label}"), label)
        self.classes.setCurrentIndex(self.classes.findData(mask.selected))
        when = (
            f"Saved {mask.saved_at:%H:%M} as {mask.path.name if mask.path else ''}"
            if mask.saved_at
            else "Not saved yet"
        )
        changed = ", changed since" if mask.saved_at and mask.dirty else ""
        journal = "".join(f" · {words}" for words in [journal_words(self.session)] if words)
        self.saved.setText(f"{when}{changed}{journal}. Made from {mask.source}.")

    def _on_asked(self) -> None:
        asked, other = self.session.asked, self.session.replacing
        self.question.ask(
            f"The mask has edits that are not saved. Keep it as a layer and start anew from {asked.words}?"
            if asked is not None
            else ""
        )
        self.replacing.ask("" if other is None else f"{other.path.name} is not ours, or changed since. Replace it?")

    def _on_blockers(self) -> None:
        promote, save = self.session.blockers("promote"), self.session.blockers("save")
        enable(self.edit, promote)
        self.sources.setEnabled(not promote)
        enable(self.save, save)
        say(self.hint, (promote or save or [""])[0])
