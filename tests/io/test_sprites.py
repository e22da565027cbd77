"""Sprites: every visible pixel on an atlas, read by real engines, in names that engines take."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.io.stacks import pixels, rich
from text2layer import blend, save_sprites
from text2layer.errors import FormatError, InputError
from text2layer.io import sprites
from text2layer.layers import Layer, LayeredImage

ENGINES = Path(__file__).parent / "engines"
PACKAGES = ("pixi.js@8.22.0", "phaser@4.2.1")


def read(files: list[Path]) -> tuple[dict, dict]:
    """Frames of all sheets with their atlas, and the first sheet's meta."""
    sheets = [json.loads(path.read_text()) for path in files if path.suffix == ".json"]
    frames = {}
    for sheet in sheets:
        with Image.open(files[0].parent / sheet["meta"]["image"]) as image:
            assert image.size == tuple(sheet["meta"]["size"].values())
            atlas = np.asarray(image)
        frames |= {key: (frame, atlas) for key, frame in sheet["frames"].items()}
    return frames, sheets[0]["meta"]


def cut(atlas: np.ndarray, x: int, y: int, w: int, h: int) -> np.ndarray:
    part = atlas[y : y + h, x : x + w]
    assert part.shape == (h, w, 4), "a frame lies outside its atlas"
    return part


def put_together(frames: dict, meta: dict, size: tuple[int, int]) -> np.ndarray:
    """The picture that the sprites make, all put at the canvas' corner, bottom first."""
    layers = []
    for note in meta["layers"]:
        frame, atlas = frames[note["frame"]]
        place = frame["spriteSourceSize"]
        rgba = cut(atlas, **frame["frame"])
        offset = place["x"], place["y"]
        mode = note["blendMode"]
        layers.append(Layer(rgba[..., :3], rgba[..., 3], offset=offset, blend_mode=mode))
    return blend.blend(np.zeros((size[1], size[0], 3), np.uint8), layers)


def test_sprites_at_the_corner_make_the_picture_again(tmp_path: Path) -> None:
    layered = rich()
    files = save_sprites(layered, tmp_path / "hero.json")
    assert [path.name for path in files] == ["hero.json", "hero.png"]
    frames, meta = read(files)
    assert list(frames) == ["Himmel", "Vordergrund", "苹果 🍎 ض"]  # not the hidden, not the empty
    difference = np.abs(put_together(frames, meta, layered.size) - layered.composite.astype(int))
    assert difference.max() <= sprites.SEEN
    assert "related_multi_packs" not in meta
    everything, meta = read(save_sprites(layered, tmp_path / "all.json", hidden=True))
    assert [note["visible"] for note in meta["layers"]] == [True, True, True, False]
    assert "<layer & 'co'>" in everything


def soft_disc() -> Layer:
    """A disc of 20 pixels in a layer of 64, its lower half covered by a tenth."""
    rows, columns = np.indices((64, 64))
    alpha = np.where((rows - 30) ** 2 + (columns - 40) ** 2 < 100, 255, 0).astype(np.uint8)
    alpha[0, 0] = 2  # nobody sees it
    return Layer(np.full((64, 64, 3), (200, 30, 40), np.uint8), alpha, "Disc", (5, -3), 0.5)


def test_a_sprite_is_trimmed_and_keeps_its_pivot_and_opacity(tmp_path: Path) -> None:
    layered = LayeredImage(np.zeros((100, 200, 3), np.uint8), (soft_disc(),))
    frames, _ = read(save_sprites(layered, tmp_path / "a.json", pivot=(0.5, 1)))
    frame, atlas = frames["Disc"]
    assert frame["trimmed"] is True
    assert frame["rotated"] is False
    assert frame["spriteSourceSize"] == {"x": 36, "y": 18, "w": 19, "h": 19}
    assert frame["sourceSize"] == {"w": 200, "h": 100}
    assert frame["pivot"] == frame["anchor"] == {"x": (36 + 9.5) / 200, "y": (18 + 19) / 100}
    assert cut(atlas, **frame["frame"])[..., 3].max() == 128
    assert frames["Background"][0]["trimmed"] is False


def test_filtering_at_an_edge_finds_the_edge_again(tmp_path: Path) -> None:
    """The pixels around an opaque sprite are its own, so no seam shows between tiles."""
    colour, _ = pixels(5, 20, 30)
    frames, _ = read(save_sprites(LayeredImage(colour), tmp_path / "a.json"))
    frame, atlas = frames["Background"]
    x, y = frame["frame"]["x"], frame["frame"]["y"]
    assert (atlas[y : y + 20, x - 1] == atlas[y : y + 20, x]).all()
    assert (atlas[y + 20, x : x + 30] == atlas[y + 19, x : x + 30]).all()


def test_names_are_no_paths_and_no_two_are_alike(tmp_path: Path) -> None:
    names = ["a/b", "a\\b", "../../etc", "__proto__", "__BASE", "Background", "___", "."]
    colour, alpha = pixels(1, 4, 4)
    alpha[:] = 255
    layers = tuple(Layer(colour, alpha, name) for name in names)
    frames, meta = read(save_sprites(LayeredImage(colour, layers), tmp_path / "a.json"))
    assert list(frames) == ["Background", "a-b", "a-b 2", "-..-etc", "proto__", "BASE",
                            "Background 2", "layer", "layer 2"]  # fmt: skip
    assert [note["name"] for note in meta["layers"]] == ["Background", *names]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.json", "a.png"]


def test_what_does_not_fit_goes_on_to_further_pages(tmp_path: Path) -> None:
    layers = tuple(Layer(*pixels(seed, 10 + seed, 30 - seed), f"{seed}") for seed in range(1, 15))
    layered = LayeredImage(pixels(50, 40, 40)[0], layers)
    files = save_sprites(layered, tmp_path / "a.json", max_atlas=64)
    frames, meta = read(files)
    assert len(frames) == 15
    assert len(files) > 4
    assert meta["related_multi_packs"] == [f"a-page{n}.json" for n in range(2, len(files) // 2 + 1)]
    for path in files[1::2]:
        with Image.open(path) as image:
            assert max(image.size) <= 64
    difference = np.abs(put_together(frames, meta, layered.size) - layered.composite.astype(int))
    assert difference.max() <= sprites.SEEN


@pytest.mark.parametrize("limit", [40, 41, 42, 64, 1000])
def test_packed_rectangles_keep_apart(limit: int) -> None:
    rng = np.random.default_rng(limit)
    sizes = [(int(w), int(h)) for w, h in rng.integers(1, 41, (60, 2))] + [(40, 40), (40, 1)]
    places, pages = sprites.pack(sizes, limit)
    taken = [np.zeros((h, w), int) for w, h in pages]
    for (w, h), place in zip(sizes, places, strict=True):
        part = taken[place.page][place.y : place.y + h, place.x : place.x + w]
        assert part.shape == (h, w)
        part += 1
    assert all(max(size) <= limit for size in pages)
    assert max(page.max() for page in taken) == 1


def test_a_canvas_of_one_pixel_is_a_sprite(tmp_path: Path) -> None:
    layered = LayeredImage(np.full((1, 1, 3), 7, np.uint8))
    frames, _ = read(save_sprites(layered, tmp_path / "a.json", max_atlas=1))
    assert frames["Background"][1].tolist() == [[[7, 7, 7, 255]]]


@pytest.mark.parametrize(
    ("name", "options", "error", "says"),
    [
        ("a.json", {"max_atlas": 39}, InputError, "'Himmel' has 50 x 40 pixels, an atlas 39"),
        ("a.json", {"max_atlas": 0}, InputError, "1 to 16384 pixels a side, not 0"),
        ("a.json", {"pivot": (0.5, float("nan"))}, InputError, "from 0 to 1"),
        ("a.json", {"pivot": (0.5,)}, InputError, "from 0 to 1"),
        ("a.png", {}, FormatError, "end it in .json"),
        ("none/a.json", {}, InputError, "does not exist"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(tmp_path, name, options, error, says) -> None:
    with pytest.raises(error, match=says):
        save_sprites(rich(), tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_atlas_that_cannot_be_replaced_leaves_the_json(tmp_path: Path, monkeypatch) -> None:
    save_sprites(rich(), tmp_path / "a.json")
    before = (tmp_path / "a.json").read_bytes()
    monkeypatch.setattr(
        sprites.pictures, "write_png", lambda *_: (_ for _ in ()).throw(OSError(28))
    )
    with pytest.raises(FormatError):
        save_sprites(rich(), tmp_path / "a.json", pivot=(0, 0))
    assert (tmp_path / "a.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with PixiJS and Phaser; skips where node or its registry is missing."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm")
    folder = tmp_path_factory.mktemp("engines")
    (folder / "package.json").write_text("{}")
    command = ["npm", "install", "--ignore-scripts", "--no-audit", *PACKAGES]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install the engines: {done.stderr[-200:]}")
    return folder


@pytest.mark.slow
@pytest.mark.node
@pytest.mark.parametrize("script", ["pixi.mjs", "phaser.cjs"])
@pytest.mark.parametrize("limit", [72, 4096])
def test_an_engine_reads_the_sheets_and_draws_the_picture(
    engines: Path, tmp_path: Path, script: str, limit: int
) -> None:
    """Sprites put at their pivots give the picture, by the engine's own figures."""
    layered = rich()
    files = save_sprites(layered, tmp_path / "hero.json", max_atlas=limit, pivot=(0.25, 1))
    sheets = [path for path in files if path.suffix == ".json"]
    done = subprocess.run(
        ["node", ENGINES / script, *sheets], cwd=engines, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    read_back = {one["name"]: one for one in json.loads(done.stdout)}
    meta = json.loads(sheets[0].read_text())["meta"]
    layers = []
    for note in meta["layers"]:
        one = read_back[note["frame"]]
        assert tuple(one["source"]) == layered.size
        with Image.open(tmp_path / one["image"]) as image:
            rgba = cut(np.asarray(image), *map(int, one["frame"]))
        at_pivot = [share * side for share, side in zip(one["pivot"], layered.size, strict=True)]
        corner = [at + by for at, by in zip(at_pivot, one["corner"], strict=True)]
        assert corner == pytest.approx([round(c) for c in corner], abs=1e-4)
        offset = (round(corner[0]), round(corner[1]))
        assert offset == (note["x"], note["y"])
        layers.append(Layer(rgba[..., :3], rgba[..., 3], offset=offset))
    drawn = blend.blend(np.zeros_like(layered.background), layers)
    assert np.abs(drawn - layered.composite.astype(int)).max() <= sprites.SEEN
