"""A trajectory as pictures with captions: an animation (GIF, MP4) or a strip of steps (PNG). No torch.

Every frame shows, for each line (the trajectory and its branches), ``x_t`` in grey and ``x0hat`` on the scan in the
colours of its classes, both cut at the same slice, upright as on the screen, with pixels of their size in mm.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from diffseg.errors import PlanError
from diffseg.io.atomic import atomic_file
from diffseg.trajectory import read_field

Picture = NDArray[np.uint8]

# Pictures of one slice: longer side in pixels, alone or with several lines below each other.
SIDE_PX, SMALL_PX = 320, 208
GAP_PX, TEXT_PX, FONT_PX = 8, 22, 15
STRIP_PX, STRIP_STEPS = 160, 8
# Longer runs are shown with this many frames, evenly spread.
MOST_FRAMES = 120
FRAME_S, LAST_S = 0.3, 2.0
# Opacity of a certain class on the scan.
SHINE = 0.65
PAPER, INK, FAINT = (16, 16, 18), (235, 235, 235), (160, 160, 165)


@dataclass(frozen=True, eq=False)
class Line:
    """One trajectory cut at a slice: ``x, x0 (T + 1, H, W)``; colours ``#rrggbb`` of line and foreground classes."""

    words: str
    x: NDArray[Any]
    x0: NDArray[Any]
    color: str
    class_colors: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Film:
    """What is to be shown. ``scan (H, W)`` lies in [0, 1]; ``pixel_mm`` is its pixels' height and width.

    ``numbers`` and ``times`` have an entry per slot; slots beyond ``done`` are left out.
    """

    model: str
    seed: int
    scan: NDArray[Any]
    pixel_mm: tuple[float, float]
    lines: tuple[Line, ...]
    numbers: tuple[int, ...]
    times: tuple[float, ...]
    done: int

    def caption(self, slot: int) -> str:
        """For example ``step 3/5 · t = 0.40 · hippocampus-3d · seed 42``."""
        return f"step {self.numbers[slot]}/{self.numbers[-1]} · t = {self.times[slot]:.2f} · {self.tail}"

    @property
    def tail(self) -> str:
        """Model and seed."""
        return f"{self.model} · seed {self.seed}"


@dataclass(frozen=True)
class Drawn:
    """Progress: ``done`` of ``total`` frames."""

    done: int
    total: int


def write_film(film: Film, path: Path) -> Iterator[Drawn]:
    """Write the film as ``path`` says (.gif, .mp4 or .png for a strip), frame by frame, whole or not at all.

    Raises:
        PlanError: another suffix, or MP4 without the package that encodes it.
        CaseError: the system refuses to write there.
    """
    kind = path.suffix.lower()
    if kind == ".png":
        yield from _write_strip(film, path)
    elif kind == ".gif":
        yield from _write_gif(film, path)
    elif kind == ".mp4":
        refuse_missing_encoder()
        yield from _write_mp4(film, path)
    else:
        raise PlanError(f"A trajectory is exported as .gif, .mp4 or .png, not as {kind or 'a file without suffix'}.")


def refuse_missing_encoder() -> None:
    """Raise ``PlanError`` with what to install when MP4 files cannot be written."""
    try:
        import imageio_ffmpeg  # noqa: F401
    except ImportError:
        raise PlanError(
            "MP4 needs the package imageio-ffmpeg: install it with 'pip install imageio-ffmpeg', or export a GIF."
        ) from None


def shown_slots(done: int, most: int) -> list[int]:
    """At most ``most`` of the slots 0 to ``done``, evenly spread, the first and the last among them."""
    return sorted({round(float(k)) for k in np.linspace(0, done, min(most, done + 1))})


def frame(film: Film, slot: int) -> Picture:
    """One picture of the animation, ``(H, W, 3)``, with even sides as video needs them."""
    scale = _scale(film, SIDE_PX if len(film.lines) == 1 else SMALL_PX)
    high, wide = scale.pixels
    width = 2 * wide + 3 * GAP_PX
    rows = len(film.lines)
    height = TEXT_PX * (rows + 2) + rows * (high + GAP_PX) + GAP_PX
    sheet = Sheet(max(width, _text_width(film.caption(slot)) + 2 * GAP_PX), height)
    left, right = GAP_PX, 2 * GAP_PX + wide
    sheet.write(left, 0, "x_t, noisy", FAINT)
    sheet.write(right, 0, "mask seen (x0)", FAINT)
    top = TEXT_PX
    for line in film.lines:
        sheet.write(left, top, line.words, _rgb(line.color))
        top += TEXT_PX
        sheet.paste(left, top, scale(grey(line.x[slot])))
        sheet.paste(right, top, scale(on_scan(film.scan, line.x0[slot], line.class_colors)))
        top += high + GAP_PX
    sheet.write(left, top, film.caption(slot), INK)
    return sheet.pixels()


def strip(film: Film) -> Picture:
    """Some steps from left to right, for each line ``x_t`` above ``x0hat``."""
    slots = shown_slots(film.done, STRIP_STEPS)
    scale = _scale(film, STRIP_PX)
    high, wide = scale.pixels
    rows = len(film.lines)
    height = TEXT_PX * (rows + 2) + rows * 2 * (high + GAP_PX) + GAP_PX
    sheet = Sheet(len(slots) * (wide + GAP_PX) + GAP_PX, height)
    sheet.write(GAP_PX, 0, film.tail, INK)
    for column, slot in enumerate(slots):
        left = GAP_PX + column * (wide + GAP_PX)
        sheet.write(left, TEXT_PX, f"step {film.numbers[slot]}/{film.numbers[-1]} · t = {film.times[slot]:.2f}", FAINT)
        top = 2 * TEXT_PX
        for line in film.lines:
            if column == 0:
                sheet.write(left, top, line.words, _rgb(line.color))
            top += TEXT_PX
            sheet.paste(left, top, scale(grey(line.x[slot])))
            sheet.paste(left, top + high + GAP_PX, scale(on_scan(film.scan, line.x0[slot], line.class_colors)))
            top += 2 * (high + GAP_PX)
    return sheet.pixels()


def grey(x: NDArray[Any]) -> Picture:
    """A field in [-1, 1] as grey values ``(H, W, 3)``."""
    value = np.rint((np.clip(np.asarray(x, np.float32), -1, 1) + 1) * 127.5).astype(np.uint8)
    return np.repeat(value[..., None], 3, axis=2)


def on_scan(scan: NDArray[Any], x0: NDArray[Any], colors: Sequence[str]) -> Picture:
    """A ``class_field`` over the scan, each class in its colour, as opaque as it is certain."""
    which, s = read_field(x0, len(colors) + 1)
    hues = np.array([(0, 0, 0), *map(_rgb, colors)], np.float32)[which]
    alpha = SHINE * s[..., None]
    below = 255 * np.clip(np.asarray(scan, np.float32), 0, 1)[..., None]
    return np.rint((1 - alpha) * below + alpha * hues).astype(np.uint8)


def few_colors(picture: Picture) -> Picture:
    """The picture with 256 colours, as a GIF holds: spread over all hues, where the usual choice by frequency would
    spend them on the many greys and turn a small mask grey.
    """
    image = Image.fromarray(picture)
    few = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    return np.asarray(few.convert("RGB"))


class Sheet:
    """A dark page on which pictures and words are put."""

    def __init__(self, width: int, height: int) -> None:
        # Video formats want even sides.
        self._image = Image.new("RGB", (width + width % 2, height + height % 2), PAPER)
        self._pen = ImageDraw.Draw(self._image)

    def paste(self, left: int, top: int, picture: Image.Image) -> None:
        """Put a picture with its upper left corner there."""
        self._image.paste(picture, (left, top))

    def write(self, left: int, top: int, words: str, color: tuple[int, int, int]) -> None:
        """Put one line of words there."""
        self._pen.text((left, top + 3), words, fill=color, font=_font())

    def pixels(self) -> Picture:
        """The page, ``(H, W, 3)``."""
        return np.asarray(self._image)


@dataclass(frozen=True)
class Scale:
    """Enlarges pictures to ``pixels`` (height, width); voxels stay visible as such."""

    pixels: tuple[int, int]

    def __call__(self, picture: Picture) -> Image.Image:
        return Image.fromarray(picture).resize(self.pixels[::-1], Image.Resampling.NEAREST)


def _scale(film: Film, longest: int) -> Scale:
    mm = np.array(film.scan.shape) * film.pixel_mm
    high, wide = np.maximum(1, np.rint(mm * longest / mm.max())).astype(int)
    return Scale((int(high), int(wide)))


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_PX)


def _text_width(words: str) -> int:
    return int(np.ceil(_font().getlength(words)))


def _rgb(color: str) -> tuple[int, int, int]:
    r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return r, g, b


def _write_strip(film: Film, path: Path) -> Iterator[Drawn]:
    picture = strip(film)
    with atomic_file(path) as temporary:
        imageio.imwrite(temporary, picture)
    yield Drawn(1, 1)


def _drawn(film: Film, pictures: list[Picture]) -> Iterator[Drawn]:
    """Draws the frames into ``pictures``. A file is only begun when all are there: nothing is left of a run that is
    stopped, and an encoder is never ended in the middle.
    """
    slots = shown_slots(film.done, MOST_FRAMES)
    for slot in slots:
        pictures.append(frame(film, slot))
        yield Drawn(len(pictures), len(slots) + 1)


def _write_gif(film: Film, path: Path) -> Iterator[Drawn]:
    pictures: list[Picture] = []
    yield from _drawn(film, pictures)
    pictures = [few_colors(picture) for picture in pictures]
    durations = [round(1000 * FRAME_S)] * (len(pictures) - 1) + [round(1000 * LAST_S)]
    # A list for a single picture is refused.
    duration = durations if len(durations) > 1 else durations[0]
    with atomic_file(path) as temporary:
        imageio.mimwrite(temporary, pictures, format="GIF", duration=duration, loop=0)  # type: ignore[arg-type]
    yield Drawn(len(pictures) + 1, len(pictures) + 1)


def _write_mp4(film: Film, path: Path) -> Iterator[Drawn]:
    pictures: list[Picture] = []
    yield from _drawn(film, pictures)
    options: dict[str, Any] = {"fps": 1 / FRAME_S, "codec": "libx264", "macro_block_size": 2, "quality": 8}
    with (
        atomic_file(path) as temporary,
        _writer(temporary, **options) as writer,
    ):
        for picture in pictures + pictures[-1:] * (round(LAST_S / FRAME_S) - 1):
            writer.append_data(picture)
    yield Drawn(len(pictures) + 1, len(pictures) + 1)


def _writer(path: Path, **options: Any) -> Any:
    """imageio's own types do not tell a writer from a reader."""
    return imageio.get_writer(path, format="FFMPEG", mode="I", **options)  # type: ignore[arg-type]
