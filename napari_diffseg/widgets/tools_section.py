"""Tools for the chosen class of the mask: between slices, largest part, holes, growing and shrinking in mm."""

from __future__ import annotations

from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QLabel, QVBoxLayout, QWidget

from napari_diffseg import keys, mask_tools
from napari_diffseg.session import Session
from napari_diffseg.widgets.panel import GAP, button, row, slim


class ToolsSection(QWidget):
    """Buttons in two rows; the page tells it when a field has changed."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        undone = "; Ctrl+Z on the mask layer takes it back"
        self.between = button(
            "Fill between slices",
            keys.tip("Shapes for the slices between those that you painted, along the axis you look along", "fill")
            + undone,
        )
        self.largest = button("Largest part", "Erase all of the class but its largest connected part" + undone)
        self.holes = button("Fill holes", "Fill what the class encloses, slice by slice of this plane" + undone)
        self.shrink = button("−", "Move the outline of the class inwards" + undone, "Shrink the class")
        self.grow = button("+", "Move the outline of the class outwards" + undone, "Grow the class")
        self.mm = QDoubleSpinBox()
        self.mm.setRange(0.1, 50.0)
        self.mm.setSingleStep(0.5)
        self.mm.setDecimals(1)
        self.mm.setSuffix(" mm")
        self.mm.setToolTip("How far the outline moves, in mm; voxels count by their centres")
        self.mm.setAccessibleName("Distance to grow or shrink")
        self.protect = QCheckBox("Protect other classes")
        self.protect.setToolTip("Tools leave voxels of other classes as they are; the brush does not")
        self.origin = QCheckBox("Who wrote it")
        self.origin.setToolTip("A layer that tells what was painted, redrawn, interpolated or cleaned up")
        slim(self.between, self.largest, self.holes, self.shrink, self.grow)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(GAP)
        box.addLayout(row(self.largest, self.holes, self.between))
        box.addLayout(row(QLabel("Shrink, grow"), self.shrink, self.mm, self.grow, 1))
        box.addLayout(row(self.protect, self.origin, 1))
        self._connect()

    def _connect(self) -> None:
        session = self.session
        self.between.clicked.connect(lambda: mask_tools.fill_between(session))
        self.largest.clicked.connect(lambda: mask_tools.keep_largest(session))
        self.holes.clicked.connect(lambda: mask_tools.fill_holes(session))
        self.grow.clicked.connect(lambda: mask_tools.grow(session))
        self.shrink.clicked.connect(lambda: mask_tools.shrink(session))
        self.mm.valueChanged.connect(lambda value: mask_tools.set_tools(session, mm=value))
        self.protect.clicked.connect(lambda on: mask_tools.set_tools(session, protect=on))
        self.origin.clicked.connect(lambda on: mask_tools.show_origin(session, on))

    # ---- from the session; the page listens ----

    def on_settings(self) -> None:
        """Distance, protection, and whether the layer of origins is on."""
        tools = self.session.tools
        self.mm.setValue(tools.mm)
        self.protect.setChecked(tools.protect)
        self.origin.setChecked(self.session.origin_shown)

    def on_mask(self) -> None:
        """Whether there are slices, and other classes."""
        mask = self.session.mask
        self.between.setVisible(mask is not None and mask.case.ndim > 2)
        self.protect.setVisible(mask is not None and len(mask.classes) != 2)
