"""Page "Saliency": where the scan shows a class, by models that know image-level labels only; a hint, not a mask."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from magicgui.widgets import Container
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QComboBox, QDoubleSpinBox, QFileDialog, QGridLayout, QLabel, QWidget

from napari_diffseg import commands, forms, keys, masks, saliency_commands
from napari_diffseg.saliency_state import HintSettings, SaliencyCut
from napari_diffseg.session import Session
from napari_diffseg.widgets.histogram import Histogram
from napari_diffseg.widgets.panel import GAP, Panel, adopt, beside, button, enable, line, offer, row, say, slim

OTHER = "Other file…"
MODELS = "Models (*.safetensors);;All files (*)"
RULES = {
    "otsu-average": "Otsu, mean of draws",
    "otsu-slice": "Otsu, first draw",
    "otsu-volume": "Otsu, whole volume",
}
NAMES = {
    "cdm": "CDM",
    "cg-cdm": "CG-CDM",
    "cdm-code": "CDM, as the authors' code",
    "cg-cdm-code": "CG-CDM, as the authors' code",
    "cg-diff": "CG-Diff",
    "cg-diff-code": "CG-Diff, as the authors' code",
    "grad-cam": "Grad-CAM",
    "grad-cam++": "Grad-CAM++",
    "score-cam": "Score-CAM",
    "layer-cam": "Layer-CAM",
}
# Knobs by the names that their papers give them.
SYMBOLS = {"q": "Q", "r": "R", "tau": "tau", "scale": "s", "aug_smooth": "Flips", "eigen_smooth": "Component"}
HINT = "A hint, not a mask."
COMMON = ("draws", "seed")
# An estimate waits until the person has stopped turning a knob.
ESTIMATE_MS = 150


class SaliencyPanel(Panel):
    """See the module."""

    title = "Saliency"
    help = (
        "The colours say how much each place speaks for the class that is looked for. The models have never seen a "
        "mask, only which images show the class: this is a hint where to look, and no segmentation. What lies above "
        "the threshold is outlined; Otsu's rule sets it, and the line in the histogram moves it. A map of an image "
        "without any lesion has a brightest place too."
    )

    def _build(self) -> None:
        self._build_choice()
        self._build_run()
        self._build_result()
        self.page.addStretch(0)

    def _build_choice(self) -> None:
        self.models, self.methods, self.labels = QComboBox(), QComboBox(), QComboBox()
        self.models.setToolTip("An image diffusion model, or a classifier for class activation maps")
        self.models.setPlaceholderText("Choose a model")
        self.labels.setToolTip("The class that is looked for")
        slim(self.models, self.methods, self.labels)
        self.choice = QGridLayout()
        self.choice.setSpacing(GAP)
        self.choice.setColumnStretch(1, 1)
        self.page.addLayout(self.choice)
        self.captions: dict[str, QLabel] = {}
        for number, (words, widget) in enumerate(
            (("Model", self.models), ("Method", self.methods), ("Look for", self.labels))
        ):
            widget.setAccessibleName(words)
            self.captions[words] = QLabel(words)
            self.choice.addWidget(self.captions[words], number, 0)
            self.choice.addWidget(widget, number, 1)
        self.knobs = QWidget()
        self.grid = QGridLayout(self.knobs)
        self.grid.setContentsMargins(0, 0, 0, 0)
        self.grid.setSpacing(GAP)
        self.grid.setColumnStretch(1, 1)
        self.grid.setColumnStretch(3, 1)
        self.page.addWidget(self.knobs)
        self.common = forms.form(HintSettings, vars(self.session.hints), only=COMMON)
        forms.on_change(self.common, lambda name, value: saliency_commands.set_hints(self.session, **{name: value}))
        adopt(self, self.common)
        self.own: Container | None = None

    def _build_run(self) -> None:
        self.run = button(
            "▶ Show saliency",
            keys.tip("Make the map of the region, slice by slice in a volume", "hint"),
            "Show saliency",
        )
        self.stop = button("Stop", keys.tip("Stop within one step; the map so far stays", "cancel"))
        self.cost = line(name="What the map would cost")
        self.page.addWidget(beside(self.cost, self.run, self.stop))
        self.hint = line(name="Why something cannot be done here", faint=True)
        self.page.addWidget(self.hint)
        self.estimate = QTimer(self)
        self.estimate.setSingleShot(True)
        self.estimate.setInterval(ESTIMATE_MS)

    def _build_result(self) -> None:
        self.histogram = Histogram(
            "Values of the map (logarithm of their number)", "Drag the line: what lies to its right is outlined"
        )
        self.page.addWidget(self.histogram, 1)
        self.rules, self.at = QComboBox(), QDoubleSpinBox()
        self.rules.setAccessibleName("Rule of the threshold")
        self.at.setAccessibleName("Threshold")
        self.at.setToolTip("On the scale of the colours, from 0 to 1")
        self.at.setRange(0, 1)
        self.at.setSingleStep(0.01)
        self.at.setKeyboardTracking(False)
        self.reset = button("Reset", "Back to the rule's own threshold", "Reset the threshold")
        self.largest = QCheckBox("Largest part")
        self.largest.setToolTip("Keep the largest connected part of each slice")
        slim(self.rules, self.reset)
        rule = row(QLabel("Threshold"), self.rules, self.largest)
        rule.setStretch(1, 1)
        self.page.addLayout(rule)
        self.above = line(name="What lies above the threshold")
        self.page.addWidget(beside(self.above, self.at, self.reset))
        self.used = line(name="Time and passes used")
        self.page.addWidget(self.used)
        self.start = button("Use as start", "Take what is outlined as a mask to correct", "Use saliency as start")
        note = line(HINT)
        font = note.font()
        font.setBold(True)
        note.setFont(font)
        self.page.addWidget(beside(note, self.start))

    def _connect(self) -> None:
        self.models.activated.connect(self._choose_model)
        self.methods.activated.connect(
            lambda index: saliency_commands.set_method(self.session, self.methods.itemData(index))
        )
        self.labels.activated.connect(self._choose_label)
        self.run.clicked.connect(lambda: saliency_commands.explain(self.session))
        self.stop.clicked.connect(lambda: commands.cancel(self.session))
        self.histogram.moved.connect(lambda at: saliency_commands.set_threshold(self.session, at))
        self.at.valueChanged.connect(lambda at: saliency_commands.set_threshold(self.session, at))
        self.reset.clicked.connect(lambda: saliency_commands.set_threshold(self.session, None))
        self.rules.activated.connect(
            lambda index: saliency_commands.set_hints(self.session, threshold=self.rules.itemData(index))
        )
        self.largest.clicked.connect(lambda on: saliency_commands.set_hints(self.session, largest=on))
        self.start.clicked.connect(lambda: commands.promote(self.session, "saliency"))
        self.estimate.timeout.connect(self._on_estimate)
        self.hear("hint_model", by=self._on_model)
        self.hear("hints", "hint_model", by=self._on_settings)
        self.hear("case", "roi", "hints", "hint_model", "settings", by=self._soon)
        self.hear("saliency", by=self._on_saliency)
        self.hear("cut", "saliency", by=self._on_cut)
        self.hear("job", "case", "hint_model", "hints", "cut", by=self._on_job)
        self.hear("added_raters", by=self._on_readers)

    # ---- from the person ----

    def _choose_model(self, index: int) -> None:
        path = self.models.itemData(index)
        if path is None:
            name, _ = QFileDialog.getOpenFileName(self, "Open a model", "", MODELS)
            path = Path(name) if name else None
        if path is not None:
            saliency_commands.choose_hint_model(self.session, path)
        self._on_model()

    def _choose_label(self, index: int) -> None:
        target = self.labels.itemData(index)
        background = 0 if target else 1
        saliency_commands.set_hints(self.session, target=target, background=background)

    def _set_knob(self, name: str, value: Any) -> None:
        saliency_commands.set_hints(self.session, knobs={**self.session.hints.knobs, name: value})

    # ---- from the session ----

    def finished(self) -> bool:
        """There is a final map."""
        return self.session.saliency is not None and self.session.saliency.whole

    def shutdown(self) -> None:
        """Stop listening and estimating."""
        self.estimate.stop()
        super().shutdown()

    def _on_model(self) -> None:
        model, shipped = self.session.hint_model, saliency_commands.hint_models()
        self.models.clear()
        for name, path in shipped.items():
            self.models.addItem(name, path)
        if model is not None and model.path not in shipped.values():
            self.models.addItem(model.path.stem, model.path)
        self.models.addItem(OTHER, None)
        here = (i for i in range(self.models.count()) if model is not None and self.models.itemData(i) == model.path)
        self.models.setCurrentIndex(next(here, -1))
        labels = model.labels if model is not None else ()
        self.labels.clear()
        for number, name in enumerate(labels):
            self.labels.addItem(name, number)
        for widget in (self.labels, self.captions["Look for"]):
            widget.setVisible(len(labels) > 2)

    def _on_settings(self) -> None:
        from diffseg.saliency import SALIENCY, THRESHOLDS  # torch: not before the page is seen

        offer(self.methods, SALIENCY, lambda name: NAMES.get(name, name))
        offer(self.rules, THRESHOLDS, lambda name: RULES.get(name, name))
        hints = self.session.hints
        self.methods.setCurrentIndex(self.methods.findData(hints.method))
        self.methods.setToolTip(SALIENCY.help(hints.method))
        self.labels.setCurrentIndex(self.labels.findData(hints.target))
        self.rules.setCurrentIndex(self.rules.findData(hints.threshold))
        self.rules.setToolTip(THRESHOLDS.help(hints.threshold))
        self.largest.setChecked(hints.largest)
        kind = SALIENCY[hints.method]
        if self.own is None or self.own.name != hints.method:
            self._replace_own(kind, hints.method)
        assert self.own is not None
        forms.show(self.own, {**forms.defaults(kind), **hints.knobs})
        forms.show(self.common, vars(hints))

    def _replace_own(self, kind: type, name: str) -> None:
        """The method's own knobs, then draws and seed where there is noise, in two columns."""
        while self.grid.count():
            if (item := self.grid.takeAt(0)) is not None and (old := item.widget()) is not None:
                shared = any(widget.native is old for widget in self.common)
                old.hide()
                old.setParent(self.common.native if shared else None)
        if self.own is not None:
            self.own.native.deleteLater()
        self.own = forms.form(kind)
        self.own.name = name
        forms.on_change(self.own, self._set_knob)
        adopt(self, self.own)
        shown = [*self.own, *(self.common if getattr(kind, "random", True) else ())]
        for number, widget in enumerate(shown):
            words = SYMBOLS.get(widget.name, widget.label)
            native = widget.native
            slim(native)
            if isinstance(native, QCheckBox):
                native.setText("")  # the caption says it
                native.setAccessibleName(words)
            caption = QLabel(words)
            caption.setToolTip(widget.tooltip or "")
            self.grid.addWidget(caption, number // 2, 2 * (number % 2))
            self.grid.addWidget(native, number // 2, 2 * (number % 2) + 1)
            native.show()

    def _soon(self) -> None:
        self.estimate.start()

    def _on_estimate(self) -> None:
        say(self.cost, saliency_commands.cost_words(self.session))

    def _on_saliency(self) -> None:
        view = self.session.saliency
        self.histogram.show_counts(None if view is None else view.counts)
        self.used.setVisible(view is not None)
        if view is not None:
            state = "" if view.whole else f"Step {view.done} of {view.total}. "
            self.used.setText(state + saliency_commands.used_words(view))
            if view.whole:
                self.estimate.start()

    def _on_cut(self) -> None:
        cut = self.session.cut
        self.histogram.show_line(None if cut is None else cut.line)
        self.at.setEnabled(cut is not None)
        self.above.setText("No map yet." if cut is None else cut_words(self.session, cut))
        if cut is not None:
            self.at.blockSignals(True)
            self.at.setValue(cut.line)
            self.at.blockSignals(False)

    def _on_readers(self) -> None:
        """There is more to compare with."""
        if (cut := self.session.cut) is not None:
            saliency_commands.set_threshold(self.session, cut.line if cut.own else None)

    def _on_job(self) -> None:
        blockers = self.session.blockers("hint")
        running = self.session.job.state != "idle" and self.session.job.name == "Saliency"
        enable(self.run, blockers)
        self.run.setVisible(not running)
        self.stop.setVisible(running)
        enable(self.stop, self.session.blockers("cancel"))
        busy = self.session.blockers("choose")
        for widget in (self.models, self.methods, self.labels, self.knobs):
            widget.setEnabled(not busy)
        cut = self.session.cut
        for widget in (self.rules, self.largest):
            widget.setEnabled(cut is not None and not busy)
        nothing = [] if cut is not None else ["There is no map yet: press Show saliency."]
        enable(self.start, nothing or self.session.blockers("promote"))
        by_rule = [] if cut is None or cut.own else ["The threshold is the rule's own already."]
        enable(self.reset, nothing or by_rule)
        say(self.hint, blockers[0] if blockers and not running else "")


def cut_words(session: Session, cut: SaliencyCut) -> str:
    """``Above 0.43 (yours): 1.2 ml. Dice 0.71 to R1.``"""
    case = session.case
    assert case is not None
    size = masks.size(cut.volume_ml, case.ndim)
    low, high = float(cut.thresholds.min()), float(cut.thresholds.max())
    at = f"{cut.line:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}, slice by slice"
    words = f"Above {at} ({'yours' if cut.own else 'Otsu'}): {size}."
    scores = [f"{dice:.2f} to {name}" for name, dice in cut.dice if math.isfinite(dice)]
    return words + (f" Dice {', '.join(scores)}." if scores else "")
