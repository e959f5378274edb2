"""Page "Case": the scan, the model, the region and the view."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFileDialog,
    QFrame,
    QGridLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from diffseg.io.formats import PICTURES
from diffseg.zoo import sample_scans
from napari_diffseg import commands, dialogs, keys, opening, raters, whole_scan
from napari_diffseg.region_cost import cost_words
from napari_diffseg.verbs import doubt, hints_only
from napari_diffseg.widgets.layer_choice import LayerChoice
from napari_diffseg.widgets.panel import GAP, MARGIN, Panel, beside, button, enable, line, row, say, slim
from napari_diffseg.widgets.region_box import RegionBox

if TYPE_CHECKING:
    from diffseg.card import Card
    from napari_diffseg.state import Plane

PLANES: tuple[tuple[Plane, str, str], ...] = (
    ("axial", "Axial", "Seen from the feet: patient right on the left, front at the top"),
    ("coronal", "Coronal", "Seen from the front: patient right on the left, head at the top"),
    ("sagittal", "Sagittal", "Seen from the left: front on the left, head at the top"),
    ("3d", "3D", "The whole volume; drag to turn it"),
)
OTHER = "Other file…"
CARD_PX = 340
NO_MODEL = "No shipped model is for a scan like this: choose one, or draw from an empty mask on the page Mask."


class CasePanel(Panel):
    """See the module."""

    title = "Case"
    help = (
        "The scan, the model that draws on it, and the part of the scan that is drawn on. Drop files or a DICOM "
        "folder: several contrasts of one scan become the model's inputs by their names, and masks become readers. "
        "Planes are radiological: the patient's right is on the left. A box is quicker than the whole scan, and can "
        "be dragged."
    )

    def _build(self) -> None:
        self.empty, self.filled = QWidget(), QWidget()
        self.page.addWidget(self.empty)
        self.page.addWidget(self.filled)
        self._build_empty()
        self._build_filled()
        self.hint = line(name="Why something cannot be done here", faint=True)
        self.page.addWidget(self.hint)
        self.page.addStretch(1)
        self.setAcceptDrops(True)

    def _build_empty(self) -> None:
        box = QVBoxLayout(self.empty)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(GAP)
        box.addWidget(line("Drop a scan here, or try one:"))
        self.samples: list[QPushButton] = []
        for name, scan in sample_scans().items():
            made = button(scan.title, scan.description, f"Open the sample {scan.title}")
            made.clicked.connect(lambda _=False, name=name: commands.open_sample(self.session, name))
            box.addWidget(made)
            box.addWidget(line(scan.description, faint=True))
            self.samples.append(made)
        self.open = button("Open files…", "One file per contrast of the same scan, or a DICOM slice", "Open scan files")
        self.folder = button("Open DICOM folder…", "A folder with the slices of one series", "Open a DICOM folder")
        box.addLayout(row(self.open, self.folder))

    def _build_filled(self) -> None:
        grid = QGridLayout(self.filled)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(GAP)
        grid.setColumnStretch(1, 1)
        self.inputs = LayerChoice()
        self.extent = line(name="Size of the scan")
        self.models = QComboBox()
        self.models.setAccessibleName("Model")
        self.models.setToolTip("The diffusion model that draws the masks")
        self.card = button("Card", "What this model was made for, from what data, and how well it does", "Model card")
        slim(self.models, self.card)
        self.region = RegionBox()
        self.readers = line(name="Masks by human readers")
        self.add = button("Add…", "Masks of this scan that people drew, one file each", "Add readers' masks")
        slim(self.add)
        parts = (
            ("Scan", self.inputs),
            ("", self.extent),
            ("Model", beside(self.models, self.card)),
            ("", self.region),
            ("Readers", beside(self.readers, self.add)),
            ("View", self._planes()),
        )
        self.view = parts[-1][1]
        self.captions: dict[str, QLabel] = {}
        for number, (words, widget) in enumerate(parts):
            if widget is self.region:
                grid.addWidget(widget, number, 0, 1, 2)
                continue
            caption = QLabel(words)
            caption.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
            caption.setContentsMargins(0, 4, 0, 0)
            self.captions[words] = caption
            grid.addWidget(caption, number, 0)
            grid.addWidget(widget, number, 1)

    def _planes(self) -> QWidget:
        self.planes: dict[str, QPushButton] = {}
        group = QButtonGroup(self)
        for key, words, tip in PLANES:
            made = button(words, keys.tip(tip, key) if key in keys.KEYS else tip, f"View: {words}")
            made.setCheckable(True)
            group.addButton(made)
            made.clicked.connect(lambda _=False, key=key: commands.set_plane(self.session, key))
            self.planes[key] = made
        slim(*self.planes.values())
        holder = QWidget()
        box = row(*self.planes.values(), gap=2)
        box.setContentsMargins(0, 0, 0, 0)
        holder.setLayout(box)
        return holder

    def _connect(self) -> None:
        self.open.clicked.connect(self.choose_files)
        self.folder.clicked.connect(self.choose_folder)
        self.inputs.chosen.connect(lambda layers: commands.use_layers(self.session, layers))
        self.models.activated.connect(self._choose_model)
        self.card.clicked.connect(self._show_card)
        self.region.moved.connect(lambda box: commands.place_region(self.session, box))
        self.region.centre.clicked.connect(lambda: commands.centre_region(self.session))
        self.region.box.clicked.connect(self._choose_box)
        self.region.whole.clicked.connect(self._choose_whole)
        self.region.go.clicked.connect(lambda: commands.look_at(self.session))
        self.region.place.clicked.connect(lambda on: commands.show_region_box(self.session, on))
        self.add.clicked.connect(self.choose_masks)
        self.hear("case", by=self._on_case)
        self.hear("model", by=self._on_model)
        self.hear("added_raters", "case", by=self._on_readers)
        self.hear("roi", "region_box", "case", "model", "settings", by=self._on_roi)
        self.hear("plane", "case", by=self._on_plane)
        self.hear("job", "case", "model", "hint_model", by=self._on_job)

    # ---- from the person ----

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take files."""
        if event is not None and (data := event.mimeData()) is not None and data.hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Open what was dropped: channels of one scan, a folder of slices, readers' masks, or a model."""
        data = event.mimeData() if event is not None else None
        paths = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()] if data is not None else []
        if event is not None and paths:
            event.acceptProposedAction()
            opening.open_any(self.session, paths)

    def reset_choices(self, *_: object) -> None:
        """The viewer's layers changed."""
        self.inputs.reset_choices()

    def choose_files(self) -> None:
        """Ask for a scan's files and open them."""
        if paths := dialogs.ask_for_files(self, "Open a scan"):
            opening.open_any(self.session, paths)

    def choose_folder(self) -> None:
        """Ask for a folder of DICOM slices and open it."""
        if (folder := dialogs.ask_for_folder(self, "Open a folder of DICOM slices")) is not None:
            opening.open_any(self.session, [folder])

    def choose_masks(self) -> None:
        """Ask for masks of readers and add them."""
        if paths := dialogs.ask_for_files(self, "Add readers' masks"):
            raters.add_raters(self.session, paths)

    def _choose_whole(self) -> None:
        whole_scan.choose_whole(self.session)
        self._on_roi()

    def _choose_box(self) -> None:
        """A whole scan gets a box of the model's window."""
        if self.session.roi is None:
            commands.centre_region(self.session)
        self._on_roi()

    def _choose_model(self, index: int) -> None:
        path = self.models.itemData(index)
        if path is None:
            name, _ = QFileDialog.getOpenFileName(self, "Open a model", "", "Models (*.safetensors);;All files (*)")
            path = Path(name) if name else None
        if path is not None:
            commands.choose_model(self.session, path)
        self._on_model()

    def _show_card(self) -> None:
        if self.session.model is None:
            return
        popup = QFrame(self, Qt.WindowType.Popup)
        popup.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        popup.setObjectName("card")
        popup.setStyleSheet("#card { border: 1px solid gray; }")
        text = line(card_words(self.session.model), "Model card")
        text.setOpenExternalLinks(False)
        box = QVBoxLayout(popup)
        box.addWidget(text)
        width = max(CARD_PX, self.width())
        box.setContentsMargins(MARGIN, MARGIN, MARGIN, MARGIN)
        # The theme's font is taken on here, and the height depends on it.
        text.ensurePolished()
        text.setFixedSize(width - 2 * MARGIN, text.heightForWidth(width - 2 * MARGIN))
        popup.adjustSize()
        below = self.card.mapToGlobal(QPoint(self.card.width() - width, self.card.height()))
        screen = self.card.screen()
        if screen is not None:
            below.setY(max(0, min(below.y(), screen.availableGeometry().bottom() - popup.height())))
        popup.move(below)
        popup.show()

    # ---- from the session ----

    def finished(self) -> bool:
        """A scan is open and a model chosen."""
        return self.session.case is not None and self.session.model is not None

    def _on_case(self) -> None:
        case = self.session.case
        self.empty.setVisible(case is None)
        self.filled.setVisible(case is not None)
        if case is None:
            return
        voxels = " × ".join(str(n) for n in case.grid.shape)
        mm = " × ".join(f"{v:.2g}" for v in case.spacing_mm)
        for widget in (self.view, self.captions["View"]):
            widget.setVisible(case.ndim == 3)
        picture = case.origin.path is not None and case.origin.path.suffix.lower() in PICTURES
        self.extent.setText(f"{voxels} pixels · scale unknown" if picture else f"{voxels} voxels · {mm} mm")
        self.inputs.show_case(case)

    def _on_readers(self) -> None:
        self.readers.setText(", ".join(self.session.raters) or "none")

    def _on_model(self) -> None:
        shipped = commands.models()
        chosen = self.session.model_path
        self.models.clear()
        for name, path in shipped.items():
            self.models.addItem(name, path)
        if chosen is not None and chosen not in shipped.values():
            self.models.addItem(chosen.stem, chosen)
        self.models.addItem(OTHER, None)
        index = next((i for i in range(self.models.count()) if chosen and self.models.itemData(i) == chosen), -1)
        self.models.setCurrentIndex(index)
        self.models.setPlaceholderText("Choose a model")
        self.card.setVisible(self.session.model is not None)
        self.inputs.show_channels(self.session.model.channels if self.session.model else ())

    def _on_roi(self) -> None:
        session = self.session
        box_cost = cost_words(session, session.roi) if session.roi is not None else ""
        self.region.show_region(session.case, session.roi, box_cost, cost_words(session, None))
        self.region.show_dragging(self.session.region_box)

    def _on_plane(self) -> None:
        for key, made in self.planes.items():
            made.setChecked(key == (self.session.plane or "axial"))

    def _on_job(self) -> None:
        opening = self.session.blockers("open")
        for made in (*self.samples, self.open, self.folder):
            enable(made, opening)
        busy = self.session.blockers("choose")
        self.models.setEnabled(not busy)
        self.inputs.setEnabled(not opening)
        enable(self.add, self.session.blockers("region"))
        if self.session.job.state == "idle":
            self._on_roi()  # a run may have taught how long the next one takes
        region = self.session.blockers("region")
        self.region.block(region, self.session.window() is None)
        misfit = [] if self.session.case is None else self.session.blockers("play")
        if misfit and hints_only(self.session):
            misfit = ["For this scan there is a model of hints, which draws no masks: see the page Saliency."]
        elif misfit and self.session.model is None:
            misfit = [NO_MODEL]
        say(self.hint, (misfit or opening or [doubt(self.session)])[0])


def card_words(card: Card) -> str:
    """A model card as rich text."""
    grid = (
        "the scan's own voxels" if card.spacing_mm is None else " × ".join(f"{v:.2g}" for v in card.spacing_mm) + " mm"
    )
    rows = [
        ("Input", ", ".join(card.channels)),
        ("Classes", ", ".join(c.name for c in card.classes[1:])),
        ("Window", f"{' × '.join(map(str, card.window))} voxels of {grid}"),
        ("Sampling", f"{card.sampler}, {card.steps} steps"),
        ("Trained on", card.training),
        ("Quality", ", ".join(f"{name}: {value:.3g}" for name, value in card.quality.items())),
        ("Licence", card.licence),
        ("Citation", card.citation),
    ]
    body = "".join(f"<p><b>{name}</b><br>{escape(text)}</p>" for name, text in rows if text)
    return f"<h3>{escape(card.title)}</h3><p>{escape(card.description)}</p>{body}"
