"""A few of the random sequences of edits that ``torture/edits.py`` runs by the thousand."""

from __future__ import annotations

from typing import Any

import edits
import pytest

from napari_diffseg import mask_mirror


def test_random_edits_undo_redo_and_redrawing_leave_the_mask_of_a_model_in_numpy() -> None:
    faults, counts = edits.run(count=4, seed=11, length=25)
    assert faults == [] and counts["undo"] > 5


def test_the_sequences_notice_an_origin_that_forgets_undo(monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(known: Any, undo: Any, redo: Any) -> Any:
        return known

    monkeypatch.setattr(mask_mirror, "revised", deaf)
    faults, _ = edits.run(count=4, seed=11, length=25)
    assert any("origins differ" in fault for fault in faults)
