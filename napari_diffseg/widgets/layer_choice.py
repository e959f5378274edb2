"""Which Image layer is which channel of the model: a magicgui chooser each, layers told by identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox
from napari.utils._magicgui import find_viewer_ancestor
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from napari_diffseg.layerdata import own
from napari_diffseg.session import unwrapped
from napari_diffseg.widgets.panel import GAP, slim

if TYPE_CHECKING:
    from diffseg.case import Case


class LayerChoice(QWidget):
    """``chosen(list)`` gives the layers in the model's order of channels, when the person changed one."""

    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.box = QGridLayout(self)
        self.box.setContentsMargins(0, 0, 0, 0)
        self.box.setSpacing(GAP)
        self.box.setColumnStretch(1, 1)
        self.combos: list[ComboBox] = []
        self._names: list[QLabel] = []
        self._case: Case | None = None
        self._kept: list[Any] = []
        self.show_channels(())

    def show_channels(self, channels: Sequence[str]) -> None:
        """A chooser per channel; one without a name while there is no model."""
        wanted = list(channels) if len(channels) > 1 else [""]
        if [label.text() for label in self._names] == wanted:
            return
        while self.box.count():
            if (item := self.box.takeAt(0)) is not None and (old := item.widget()) is not None:
                old.hide()
                old.deleteLater()
        self.combos, self._names = [], []
        for number, name in enumerate(wanted):
            self._add(number, name)
        self.reset_choices()

    def show_case(self, case: Case) -> None:
        """Choose the layers that show ``case``."""
        self._case = case
        self.reset_choices()

    def reset_choices(self) -> None:
        """Read the viewer's layers again, and show those of the case; tells nobody."""
        for number, combo in enumerate(self.combos):
            with combo.changed.blocked():
                combo.reset_choices()
                layer = self._layer_of(number)
                if layer is not None:
                    combo.value = layer

    def _layer_of(self, channel: int) -> Any:
        """The layer that shows this channel of the case: ours by its note, another's as it was chosen."""
        layers = [layer for layer in self.combos[0].choices if layer is not None]
        for layer in layers:
            if own(layer).get("case") is self._case and own(layer).get("channel") == channel:
                return layer
        kept = self._kept[channel] if channel < len(self._kept) else None
        return kept if any(layer is kept for layer in layers) else None

    def _add(self, number: int, name: str) -> None:
        label = QLabel(name)
        label.setVisible(bool(name))
        combo = ComboBox(choices=self._scans, nullable=True, name=name or "scan")
        combo.native.setAccessibleName(f"Layer of channel {name}" if name else "Scan")
        combo.native.setToolTip("The Image layer that is segmented")
        slim(combo.native)
        combo.changed.connect(self._on_changed)
        self.box.addWidget(label, number, 0)
        self.box.addWidget(combo.native, number, 1)
        self.combos.append(combo)
        self._names.append(label)

    def _scans(self, _: Any) -> list[Any]:
        viewer = find_viewer_ancestor(self)
        return [] if viewer is None else [layer for layer in unwrapped(viewer).layers if _is_scan(layer)]

    def _on_changed(self, _: Any) -> None:
        layers = [combo.value for combo in self.combos]
        if all(layer is not None for layer in layers):
            self._kept = layers
            self.chosen.emit(layers)


def _is_scan(layer: Any) -> bool:
    """Whether a layer may be segmented: an Image that is no result of ours."""
    return getattr(layer, "_type_string", "") == "image" and own(layer).get("role", "scan") == "scan"
