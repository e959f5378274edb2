"""Exported trajectories, read again."""

from __future__ import annotations

import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from diffseg import film as films
from diffseg.errors import PlanError
from diffseg.film import Film, Line, frame, grey, on_scan, shown_slots, strip, write_film
from diffseg.trajectory import class_field


def film(slots: int = 4, lines: int = 1, done: int | None = None) -> Film:
    x = np.linspace(-1, 1, slots)[:, None, None] * np.ones((1, 12, 8))
    p = np.zeros((3, slots, 12, 8), np.float32)
    p[0], p[1, :, 3:9, 2:6] = 1, np.linspace(0, 1, slots)[:, None, None]
    p[0] -= p[1]
    x0 = class_field(p).astype(np.float16)
    rows = tuple(Line(f"{'AB'[k]} · seed {42 + k}", x, x0, "#56b4e9", ("#e69f00", "#56b4e9")) for k in range(lines))
    last = slots - 1 if done is None else done
    return Film("tiny", 42, np.full((12, 8), 0.5), (1.0, 2.0), rows, tuple(range(slots)), (1.0, 0.6, 0.4, 0.0), last)


def test_certain_classes_have_their_colour_on_the_scan_and_background_leaves_it() -> None:
    p = np.array([[[1.0, 0, 0]], [[0, 1.0, 0]], [[0, 0, 1.0]]], np.float32)
    picture = on_scan(np.full((1, 3), 0.2), class_field(p), ("#ff0000", "#0000ff"))
    share = films.SHINE
    below = 255 * 0.2
    np.testing.assert_array_equal(picture[0, 0], [51, 51, 51])
    np.testing.assert_allclose(picture[0, 1], [(1 - share) * below + share * 255, *[(1 - share) * below] * 2], atol=1)
    np.testing.assert_allclose(picture[0, 2], [*[(1 - share) * below] * 2, (1 - share) * below + share * 255], atol=1)


def test_grey_values_have_fixed_limits() -> None:
    np.testing.assert_array_equal(grey(np.array([[-3.0, -1.0, 0.0, 1.0, 3.0]]))[0, :, 0], [0, 0, 128, 255, 255])


def test_a_frame_shows_pixels_in_their_size_in_mm_and_has_even_sides() -> None:
    picture = frame(film(), 1)
    assert picture.ndim == 3 and picture.shape[0] % 2 == picture.shape[1] % 2 == 0
    # 12 x 8 pixels of 1 x 2 mm are 12 x 16 mm: the longer side gets SIDE_PX.
    value = grey(film().lines[0].x[1])[0, 0]
    inside = (picture == value).all(axis=2)
    rows, columns = inside.any(axis=1).nonzero()[0], inside.any(axis=0).nonzero()[0]
    assert columns.max() - columns.min() + 1 >= films.SIDE_PX
    assert inside.sum() >= films.SIDE_PX * films.SIDE_PX * 3 // 4
    assert rows.max() - rows.min() + 1 >= films.SIDE_PX * 3 // 4


def test_captions_name_step_time_model_and_seed_and_differ_from_step_to_step() -> None:
    made = film()
    assert made.caption(2) == "step 2/3 · t = 0.40 · tiny · seed 42"
    bottom = frame(made, 1)[-films.TEXT_PX - films.GAP_PX :]
    assert (bottom != frame(made, 2)[-films.TEXT_PX - films.GAP_PX :]).any()
    assert bottom.max() > 200, "letters"


def test_branches_get_rows_of_their_own() -> None:
    assert frame(film(lines=2), 0).shape[0] > 1.2 * frame(film(lines=1), 0).shape[0]
    assert strip(film(lines=2)).shape[0] > 1.8 * strip(film(lines=1)).shape[0] - 4 * films.TEXT_PX


def test_long_runs_are_spread_over_few_frames_with_both_ends() -> None:
    assert shown_slots(3, 8) == [0, 1, 2, 3] and shown_slots(0, 8) == [0]
    many = shown_slots(1000, 120)
    assert len(many) == 120 and many[0] == 0 and many[-1] == 1000


def test_a_gif_holds_one_frame_per_finished_step_and_waits_at_the_end(tmp_path: Path) -> None:
    records = list(write_film(film(done=2), tmp_path / "run.gif"))
    assert [r.done for r in records] == [1, 2, 3, 4] and {r.total for r in records} == {4}
    with Image.open(tmp_path / "run.gif") as gif:
        assert gif.n_frames == 3
        durations = []
        for k in range(3):
            gif.seek(k)
            durations.append(gif.info["duration"])
    assert durations == [300, 300, 2000]


def test_small_masks_keep_their_colour_in_a_gif_of_many_greys(tmp_path: Path, rng: np.random.Generator) -> None:
    noise, flat = rng.uniform(-1, 1, (1, 64, 64)), np.zeros((3, 1, 64, 64), np.float32)
    flat[0], flat[1, :, 10:14, 10:14] = 1, 1
    flat[0, :, 10:14, 10:14] = 0
    line = Line("B", noise, class_field(flat), "#cc79a7", ("#cc79a7", "#e6bcd3"))
    made = Film("tiny", 1, rng.random((64, 64)), (1.0, 1.0), (line,), (0,), (1.0,), 0)
    list(write_film(made, tmp_path / "run.gif"))
    wanted = frame(made, 0).astype(int)
    with Image.open(tmp_path / "run.gif") as gif:
        shown = np.asarray(gif.convert("RGB")).astype(int)
    # 256 colours for all hues: a step of some 16 per channel.
    assert np.abs(shown - wanted).max() <= 24


def test_an_mp4_is_written_with_the_size_of_its_frames(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="the encoder is an extra")
    list(write_film(film(), tmp_path / "run.mp4"))
    frames = iio.imread(tmp_path / "run.mp4", plugin="FFMPEG")
    assert frames.shape[1:] == frame(film(), 0).shape and len(frames) >= 4
    # Lossy: the last frame resembles what was drawn.
    assert np.abs(frames[-1].astype(float) - frame(film(), 3)).mean() < 8


def test_without_the_encoder_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(PlanError, match="pip install imageio-ffmpeg"):
        list(write_film(film(), tmp_path / "run.mp4"))
    assert not list(tmp_path.iterdir())


def test_a_strip_is_one_picture_and_other_suffixes_are_refused(tmp_path: Path) -> None:
    list(write_film(film(lines=2), tmp_path / "run.png"))
    np.testing.assert_array_equal(iio.imread(tmp_path / "run.png"), strip(film(lines=2)))
    with pytest.raises(PlanError, match=".gif, .mp4 or .png"):
        list(write_film(film(), tmp_path / "run.avi"))


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_an_export_that_is_stopped_leaves_the_earlier_file_alone(tmp_path: Path, suffix: str) -> None:
    if suffix == ".mp4":
        pytest.importorskip("imageio_ffmpeg", reason="the encoder is an extra")
    path = tmp_path / f"run{suffix}"
    path.write_bytes(b"before")
    writing = write_film(film(), path)
    next(writing)
    writing.close()  # type: ignore[attr-defined]
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]
