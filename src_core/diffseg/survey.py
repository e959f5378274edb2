"""What a data folder holds, as far as a training recipe depends on it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffseg.errors import PlanError
from diffseg.io import open_file
from diffseg.layouts import Layout

MOST_CLASSES = 255  # labels are kept as uint8


@dataclass(frozen=True)
class Survey:
    """Of labelled cases: sides in voxels and spacings in mm in display order, one row a case.

    ``raters`` is the largest number of raters of a case, ``classes`` the largest label and 1 for the background.
    """

    channels: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    spacings_mm: tuple[tuple[float, ...], ...]
    raters: int
    classes: int

    @property
    def spatial(self) -> int:
        """2 for slices, 3 for volumes."""
        return len(self.shapes[0])

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """The median spacing of volumes; None for slices, whose pixels are taken as they are."""
        return None if self.spatial == 2 else tuple(round(float(s), 4) for s in np.median(self.spacings_mm, axis=0))

    @property
    def large_shape(self) -> tuple[int, ...]:
        """Sides that nine of ten cases do not exceed, in voxels of ``spacing_mm``."""
        sides = np.array(self.shapes, dtype=float)
        if self.spacing_mm is not None:
            sides *= np.array(self.spacings_mm) / self.spacing_mm
        return tuple(int(np.ceil(side - 1e-3)) for side in np.percentile(sides, 90, axis=0))


def survey(layout: Layout, names: Sequence[str]) -> Survey:
    """Open the masks of these cases, which lie on the grid of the image.

    Raises:
        CaseError: files that are missing or unusable.
        PlanError: no cases, slices among volumes, no structure in any mask, or more classes than a model can have.
    """
    if not names:
        raise PlanError(f"{layout.folder} names no case to train on; add some.")
    shapes, spacings, most, raters = [], [], 0, 0
    for name in names:
        paths = layout.raters(name)
        volumes = [open_file(path) for path in paths]
        most = max(most, *(int(volume.labels().max()) for volume in volumes))
        raters = max(raters, len(paths))
        shapes.append(volumes[0].grid.shape)
        spacings.append(volumes[0].grid.spacing_mm)
        if len(shapes[-1]) != len(shapes[0]):
            raise PlanError(
                f"{names[0]} is {len(shapes[0])}D but {name} is {len(shapes[-1])}D; put slices and volumes into "
                "folders of their own."
            )
    if not 1 <= most < MOST_CLASSES:
        raise PlanError(
            f"The largest label in {layout.folder} is {most}, but structures have the labels 1 to {MOST_CLASSES - 1}; "
            "correct or renumber them."
        )
    return Survey(layout.channels(names[0]), tuple(shapes), tuple(spacings), raters, most + 1)
