"""Reading 2D pictures: PNG, JPEG and TIFF files of one grey value per pixel.

Pictures say nothing of the patient, so their grid is a plain one: 1 mm pixels, and row and column of the picture
are y and x in display order. Results are written as NIfTI, whose first axis is then the column, its second the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffseg.case import Labels, Origin, origin_of
from diffseg.errors import CaseError
from diffseg.grid import Grid
from diffseg.io.volume import Volume, cut_short

JPEG_SUFFIXES = (".jpg", ".jpeg")
# Columns run to the left and rows to the back of the patient, as on a radiological axial slice.
_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
# Pillow's modes that are no arrays of grey or RGB values, and what they are read as.
_PLAIN_MODES = {"1": "L", "P": "RGBA", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"}
_PNG_LIMIT = 1100  # deflate shrinks at most 1032 times
_FEWEST_GREYS = 20  # a picture whose values all lie below holds label numbers
_FOREGROUND_ABOVE = 127
_NEAR_THE_ENDS = 64
_SHARE_NEAR_THE_ENDS = 0.9


@dataclass(frozen=True, eq=False)
class Picture(Volume):
    """An opened picture; ``stored`` is (1, y, x)."""

    def _values(self, member: int) -> tuple[NDArray[np.float32], int]:
        stored = self.stored[member]
        return super()._values(member) if stored.dtype.kind == "f" else (stored.astype(np.float32), 0)

    def labels(self, member: int = 0) -> Labels:
        """Label numbers (y, x) as uint8.

        Values that are all below 20 are label numbers as they stand. Otherwise the picture must be black and white,
        0 and 255, with at most a tenth of its pixels farther than 64 from both (JPEG rings around edges, tools soften
        them): label 1 where it is above 127, else 0. Raises CaseError for any other picture, and for a JPEG with
        label numbers, which JPEG does not keep.
        """
        grey = self.stored[member]
        most = grey.max()
        if most == 0:
            return np.zeros(grey.shape, np.uint8)
        if most < _FEWEST_GREYS and self.path.suffix.lower() in JPEG_SUFFIXES:
            raise CaseError(
                f"{self.path.name!r} holds values up to {most}, but JPEG does not keep label numbers; save masks as "
                "0 and 255, or as PNG."
            )
        if most < _FEWEST_GREYS:
            return super().labels(member)  # which checks that float values are whole numbers
        near = np.count_nonzero(grey <= _NEAR_THE_ENDS) + np.count_nonzero(grey >= 255 - _NEAR_THE_ENDS)
        if most > 255 or near < _SHARE_NEAR_THE_ENDS * grey.size:
            raise CaseError(
                f"{self.path.name!r} is no mask: it has values up to {most} that are neither label numbers below "
                f"{_FEWEST_GREYS} nor black and white (0 and 255); choose a mask."
            )
        return (grey > _FOREGROUND_ABOVE).astype(np.uint8)


def open_picture(path: Path) -> Picture:
    """Open a picture of 8 or 16 bits or of float values, grey or with three equal channels.

    Raises CaseError when the file is missing, damaged, in colour, partly transparent or has several pages.
    """
    grey = _grey(path)
    origin, grid = _geometry(*grey.shape)
    placed = Origin(path, origin.shape, origin.affine, origin.axes, origin.flips)
    return Picture(path, grey[None], 1.0, 0.0, grid, placed)


@lru_cache(maxsize=8)
def _geometry(rows: int, columns: int) -> tuple[Origin, Grid]:
    """Shared by all pictures of one size: thousands are read in a row, and the linear algebra takes its time."""
    origin = origin_of((columns, rows), _AFFINE)
    return origin, origin.display_grid()


def _grey(path: Path) -> NDArray[Any]:
    """The values (y, x)."""
    if not path.is_file():
        raise CaseError(f"{str(path)!r} does not exist; check the name.")
    try:
        with Image.open(path) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise CaseError(f"{path.name!r} holds several pages; save the one you want as its own file.")
            # One bit a pixel is the least; a header that promises more than a packing can hold is wrong.
            if picture.format == "PNG" and picture.width * picture.height / 8 > path.stat().st_size * _PNG_LIMIT:
                raise cut_short(path)
            mode = _PLAIN_MODES.get(picture.mode)
            values = np.asarray(picture.convert(mode) if mode else picture)
    except CaseError:
        raise
    except Exception as error:  # Pillow raises any of OS, syntax, value and struct errors on damaged files
        raise CaseError(f"{path.name!r} cannot be read as a picture; it is damaged, or of another format.") from error
    return values if values.ndim == 2 else _without_colour(path, values)


def _without_colour(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Channels (y, x, C) of grey, grey and alpha, RGB or RGBA as one grey (y, x)."""
    channels = values.shape[2]
    if channels in (2, 4) and values[..., -1].min() < 255:
        raise CaseError(f"{path.name!r} is partly transparent; save it as plain grey values.")
    grey = values[..., 0]
    if channels > 2 and not (np.array_equal(grey, values[..., 1]) and np.array_equal(grey, values[..., 2])):
        raise CaseError(f"{path.name!r} is in colour; convert it to one grey value per pixel.")
    return grey
