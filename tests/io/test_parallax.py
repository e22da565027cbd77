"""Parallax: what moves how far, what is never seen, and loops that close."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from text2layer import save_parallax
from text2layer.blend_modes import BLEND_MODES
from text2layer.errors import FormatError, InputError, WriteError
from text2layer.io import parallax
from text2layer.io.parallax import Parallax
from text2layer.layers import Layer, LayeredImage

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)


def full(size: tuple[int, int], colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((size[1], size[0], 3), colour, np.uint8)


def box(size: tuple[int, int], colour, name: str, offset, **fields) -> Layer:
    alpha = np.full((size[1], size[0]), 255, np.uint8)
    return Layer(full(size, colour), alpha, name, offset, **fields)


@pytest.fixture
def scene() -> LayeredImage:
    """A smooth background and two boxes; a hidden one and an empty one take no part."""
    rows, columns = np.indices((60, 100))
    sky = np.dstack([rows * 2, columns * 2, 255 - rows]).astype(np.uint8)
    layers = (
        box((20, 10), RED, "Far", (10, 10)),
        box((30, 30), GREEN, "Hidden", (0, 0), visible=False),
        box((20, 20), GREEN, "Near", (60, 30)),
        box((40, 40), RED, "Empty", (0, 0), opacity=0.0),
    )
    return LayeredImage(sky, layers, metadata={"prompt": "two boxes"})


def middle_of(frame: np.ndarray, colour: tuple[int, int, int]) -> tuple[float, float]:
    """(x, y) in the middle of what has a colour."""
    rows, columns = np.nonzero(np.abs(frame.astype(int) - colour).max(-1) < 40)
    assert len(rows)
    return columns.mean(), rows.mean()


def test_a_still_camera_shows_the_picture(scene: LayeredImage) -> None:
    frame = Parallax(scene, move=[(0, 0)]).frame(0.3)
    assert np.abs(frame - scene.composite.astype(int)).max() <= 1


@pytest.mark.parametrize("mode", BLEND_MODES)
def test_a_blend_mode_is_kept(scene: LayeredImage, mode: str) -> None:
    layers = tuple(layer.replace(blend_mode=mode, opacity=0.6) for layer in scene.foregrounds)
    blended = LayeredImage(scene.background, layers)
    frame = Parallax(blended, move=[(0, 0)]).frame(0.3)
    assert np.abs(frame - blended.composite.astype(int)).max() <= 3


def test_layers_move_by_their_depths(scene: LayeredImage) -> None:
    film = Parallax(scene, depths=[0, 0.5, 1], move=[(10, 5)])
    still, right = film.frame(0), film.frame(0.25)
    for colour, depth in ((RED, 0.5), (GREEN, 1)):
        before, after = middle_of(still, colour), middle_of(right, colour)
        moved = after[0] - before[0], after[1] - before[1]
        assert moved == pytest.approx((-10 * depth, -3 * depth), abs=0.3)
    assert np.abs(still[:5] - right[:5].astype(int)).max() <= 1  # a background of depth 0


def test_a_layer_moves_by_parts_of_a_pixel(scene: LayeredImage) -> None:
    film = Parallax(scene, depths=[0, 0, 1], move=[(0.5, 0)])
    edge = film.frame(0.25)[40, 59].astype(int)  # half covered by the box now
    sky = scene.background[40, 59].astype(int)
    assert edge == pytest.approx((sky + GREEN) / 2, abs=16)


def test_what_a_layer_leaves_shows_the_background(scene: LayeredImage) -> None:
    """No trace of a layer stays where it was: the hole is filled by the background."""
    film = Parallax(scene, depths=[0, 0, 1], move=[(25, 0)])
    alone = Parallax(scene.replace(foregrounds=()), depths=[0], move=[(25, 0)])
    without_box = film.frame(0.25)[30:50, 62:80], alone.frame(0.25)[30:50, 62:80]
    assert film._view == alone._view
    np.testing.assert_array_equal(*without_box)


def test_opacity_is_kept_and_hidden_layers_stay_out() -> None:
    layers = (
        box((40, 40), RED, "Half", (10, 10), opacity=0.5),
        box((60, 60), GREEN, "Hidden", (0, 0), visible=False),
    )
    frame = Parallax(LayeredImage(full((60, 60), BLUE), layers), move=[(2, 2)]).frame(0)
    assert frame[30, 30].tolist() == pytest.approx([125, 0, 125], abs=2)
    assert frame[..., 1].max() == 0


@pytest.mark.parametrize("depths", [[1, 0.2], [-2, 1], [0.3, 3]])
@pytest.mark.parametrize("move", [[(6, 4)], [(-5, 3), (5, -3), (5, 5), (0, -4)]])
@pytest.mark.parametrize("size", [(37, 90), (240, 20)])
def test_no_edge_ever_comes_into_view(depths, move, size) -> None:
    """Neither the background's, nor that of a layer cut off at the canvas' borders."""
    rows, columns = np.indices((60, 100))
    sky = np.dstack([columns * 2, rows * 4, np.full_like(rows, 255)]).astype(np.uint8)
    film = Parallax(LayeredImage(sky), depths=depths[:1], move=move, size=size)
    left, top, width, height = film._view
    for time in np.linspace(0, 1, 12):
        x, y = (shift * depths[0] for shift in film._path.at(time))
        across = left + x + (np.arange(size[0]) + 0.5) * width / size[0] - 0.5
        down = top + y + (np.arange(size[1]) + 0.5) * height / size[1] - 0.5
        frame = film.frame(time).astype(int)
        assert np.abs(frame[..., 0] - 2 * across)[2:-2, 2:-2].max() < 2
        assert np.abs(frame[..., 1] - 4 * down[:, None])[2:-2, 2:-2].max() < 4
    curtain = box((100, 60), RED, "Curtain", (0, 0))
    covered = LayeredImage(sky, (curtain,))
    for frame in Parallax(covered, depths=depths, move=move, size=size).frames(12):
        assert frame.shape == (size[1], size[0], 3)
        assert np.abs(frame - np.array(RED)).max() <= 1  # nothing of the sky


def test_a_layer_that_goes_on_past_the_canvas_costs_less_view() -> None:
    sky = full((100, 60), BLUE)
    cut = LayeredImage(sky, (box((100, 20), RED, "Floor", (0, 40)),))
    whole = LayeredImage(sky, (box((140, 40), RED, "Floor", (-20, 40)),))
    widths = [Parallax(one, depths=[0, 1], move=[(10, 0)])._view[2] for one in (cut, whole)]
    assert widths == pytest.approx([80, 100], abs=0.1)


@pytest.mark.parametrize("move", [[(6, 4)], [(0, 0), (6, 0), (6, 4)]])
def test_the_loop_closes(scene: LayeredImage, move) -> None:
    film = Parallax(scene, move=move)
    np.testing.assert_array_equal(film.frame(0), film.frame(1))
    frames = [frame.astype(int) for frame in film.frames(50)]
    steps = [np.abs(a - b).mean() for a, b in zip(frames, frames[1:] + frames[:1], strict=True)]
    assert 0 < steps[-1] <= max(steps[:-1]) * 1.1  # from the last to the first is a step like any


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
@pytest.mark.parametrize(("seconds", "fps"), [(1, 10), (0.5, 30)])
def test_a_film_has_its_frames_and_its_length(scene, tmp_path: Path, suffix, seconds, fps) -> None:
    path = tmp_path / f"film{suffix}"
    save_parallax(scene, path, seconds=seconds, fps=fps, size=(50, 30))
    film = Parallax(scene, size=(50, 30))
    length = 0
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        for number in range(image.n_frames):  # Pillow joins neighbours that are equal
            image.seek(number)
            shown = np.asarray(image.convert("RGB")).astype(int)
            turn = round(length / 1000 * fps) / round(seconds * fps)
            assert np.abs(shown - film.frame(turn)).mean() < 12
            length += image.info["duration"]
        assert image.n_frames > seconds * fps / 2
        assert b"two boxes" in image.info.get("xmp", b"two boxes" if suffix == ".gif" else b"")
    assert length == seconds * 1000
    assert list(tmp_path.iterdir()) == [path]


def test_an_mp4_has_its_frames(scene: LayeredImage, tmp_path: Path) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="MP4 needs the extra 'mp4'")
    odd = scene.replace(background=scene.background[:59, :99])
    save_parallax(odd, tmp_path / "film.mp4", seconds=1, fps=12)
    reader = ffmpeg.read_frames(str(tmp_path / "film.mp4"))
    assert next(reader)["size"] == (100, 60)
    frames = [np.frombuffer(data, np.uint8).reshape(60, 100, 3) for data in reader]
    film = Parallax(odd, size=(100, 60))
    assert len(frames) == 12
    for number, frame in enumerate(frames):
        assert np.abs(frame - film.frame(number / 12).astype(int)).mean() < 8
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    with pytest.raises(InputError, match="even sides, not 51 x 30"):
        save_parallax(scene, tmp_path / "odd.mp4", size=(51, 30))
    save_parallax(LayeredImage(full((1, 1), RED)), tmp_path / "dot.mp4", seconds=1)
    assert (tmp_path / "dot.mp4").stat().st_size > 0


@pytest.mark.parametrize("reads", ["", "cat > /dev/null;"])
def test_an_mp4_that_ffmpeg_gives_up_is_not_there(scene, tmp_path, monkeypatch, reads) -> None:
    """Also if it has written a part of it, and taken all frames."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="MP4 needs the extra 'mp4'")
    fake = tmp_path / "ffmpeg"
    last = 'for last; do :; done; echo part > "$last"'
    fake.write_text(f"#!/bin/sh\n{reads} {last}; echo disk full >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(ffmpeg, "get_ffmpeg_exe", lambda: str(fake))
    with pytest.raises(WriteError, match="could not write the MP4: disk full"):
        save_parallax(scene, tmp_path / "film.mp4", size=(400, 240))
    assert list(tmp_path.iterdir()) == [fake]


def test_mp4_without_its_package_names_the_extra(scene, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(InputError, match=r"Writing MP4 needs imageio-ffmpeg: .*\[mp4\]"):
        save_parallax(scene, tmp_path / "film.mp4")


def test_a_canvas_of_one_pixel_is_a_film(tmp_path: Path) -> None:
    save_parallax(LayeredImage(full((1, 1), RED)), tmp_path / "dot.webp", seconds=0.2)
    save_parallax(LayeredImage(full((1, 1), RED)), tmp_path / "dot.gif", seconds=0.2)
    with Image.open(tmp_path / "dot.gif") as image:
        assert image.convert("RGB").getpixel((0, 0)) == RED


def test_a_large_canvas_makes_a_film_of_a_usual_size() -> None:
    film = Parallax(LayeredImage(full((3000, 1500), BLUE)))
    assert film.size == (1280, 640)
    assert max(film._background.size) < 1400


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"depths": [1]}, "1 depths do not fit: give 3, bottom first, for Background, Far, Near"),
        ({"depths": [0, 1, 2, 3, 4]}, "5 depths do not fit"),
        ({"depths": [0, 1, float("nan")]}, "Depths lie in -10 to 10"),
        ({"move": []}, "1 to 100 points"),
        ({"move": [(1, 2, 3)]}, "1 to 100 points"),
        ({"move": [(float("inf"), 0)]}, "-100 to 100 percent"),
        ({"move": [(30, 0)], "depths": [1, 1, 1]}, "less than half of the picture"),
        ({"size": (5000, 10)}, "at most 4096 pixels"),
        ({"size": (0, 10)}, "at least 1 x 1"),
        ({"seconds": 0}, "more than 0 seconds"),
        ({"seconds": float("nan")}, "more than 0 seconds"),
        ({"seconds": 1000}, "a loop has 2 to 3000"),
        ({"seconds": 0.04}, "a loop has 2 to 3000"),
        ({"fps": 0}, "1 to 60"),
        ({"fps": float("nan")}, "1 to 60"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(scene, tmp_path: Path, options, says) -> None:
    with pytest.raises(InputError, match=says):
        save_parallax(scene, tmp_path / "film.webp", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_film_of_another_suffix_or_too_long_a_gif_is_refused(scene, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"end it in \.webp, \.gif, \.mp4"):
        save_parallax(scene, tmp_path / "film.avi")
    with pytest.raises(InputError, match="too much for a GIF"):
        save_parallax(scene, tmp_path / "film.gif", size=(4096, 4096), seconds=4)
    with pytest.raises(InputError, match="1 to 50"):
        save_parallax(scene, tmp_path / "film.gif", fps=60)
    assert list(tmp_path.iterdir()) == []


def test_frames_are_drawn_one_at_a_time(scene: LayeredImage, tmp_path: Path, monkeypatch) -> None:
    """A WebP holds one frame at a time, however long it is."""
    alive, most = set(), 0
    draw = Parallax.frame

    def watched(self, time):
        nonlocal most
        frame = draw(self, time)
        token = object()
        alive.add(id(token))
        __import__("weakref").finalize(frame, alive.discard, id(token))
        most = max(most, len(alive))
        return frame

    monkeypatch.setattr(parallax.Parallax, "frame", watched)
    save_parallax(scene, tmp_path / "film.webp", seconds=2, size=(20, 12))
    assert most <= 3
