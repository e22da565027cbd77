"""What is saved comes back: every pixel, also hidden ones, and every attribute."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from tests.io.stacks import rich, stacks
from text2layer import io
from text2layer.errors import FormatError, InputError
from text2layer.io.xmp import TRAINED_ALGORITHMIC_MEDIA
from text2layer.layers import Layer, LayeredImage

LAYERED = ("a.psd", "a.ora", "a.layers", "a.tif")


@pytest.mark.parametrize("name", LAYERED)
@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(layered=stacks())
def test_layered_formats_keep_everything(name, layered):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        io.save(layered, path)
        assert io.load(path) == layered
        assert [file.name for file in Path(folder).iterdir()] == [name]


def test_a_tour_through_all_layered_formats_loses_nothing(tmp_path):
    layered = rich()
    for step in ("1.psd", "2.ora", "3", "4.psd", "5.layers", "6.tif", "7.ora", "8/"):
        io.save(layered, f"{tmp_path}/{step}")
        layered = io.load(f"{tmp_path}/{step}")
        assert layered == rich()


@pytest.mark.parametrize("name", ["a.psd", "a.ora", "a.tif"])
def test_equal_pictures_are_equal_files(tmp_path, name):
    io.save(rich(), tmp_path / name)
    first = (tmp_path / name).read_bytes()
    io.save(rich(), tmp_path / name)
    assert (tmp_path / name).read_bytes() == first


@pytest.mark.parametrize("name", LAYERED)
def test_inspect_tells_what_is_inside(tmp_path, name):
    layered = rich()
    io.save(layered, tmp_path / name)
    found = io.inspect(tmp_path / name)
    json.dumps(found)
    formats = {"a.psd": "PSD", "a.ora": "ORA", "a.layers": "folder", "a.tif": "TIFF"}
    assert found["format"] == formats[name]
    assert found["size"] == [50, 40]
    assert found["background"] == {"name": "Himmel"}
    assert [x["name"] for x in found["layers"]] == [x.name for x in layered.foregrounds]
    assert found["layers"][0]["offset"] == [-5, 7]
    assert found["layers"][0]["size"] == [30, 20]
    assert found["layers"][0]["opacity"] == pytest.approx(128 / 255)
    assert found["layers"][2]["visible"] is False
    assert found["metadata"] == layered.metadata
    assert found["digital_source_type"] == TRAINED_ALGORITHMIC_MEDIA
    assert found["preview_equals_composite"] is True


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_single_pictures_hold_the_chosen_part(tmp_path, suffix):
    layered = LayeredImage(rich().background, (rich().foregrounds[0],), metadata={"seed": 1})
    for part in io.PARTS:
        io.save(layered, tmp_path / f"{part}{suffix}", part=part)
    for part in ("composite", "background"):
        loaded = io.load(tmp_path / f"{part}{suffix}")
        np.testing.assert_array_equal(loaded.background, getattr(layered, part))
        assert (loaded.foregrounds, loaded.metadata) == ((), {"seed": 1})
    cut_out = io.load(tmp_path / f"foreground{suffix}")
    assert (cut_out.background == 255).all()
    assert cut_out.metadata == {"seed": 1, "background_added": True}
    np.testing.assert_array_equal(cut_out.foregrounds[0].colour, layered.foreground)
    np.testing.assert_array_equal(cut_out.foregrounds[0].alpha, layered.mask)
    mask = np.array(Image.open(tmp_path / f"mask{suffix}").convert("L"))
    np.testing.assert_array_equal(mask, layered.mask)
    assert io.inspect(tmp_path / f"mask{suffix}")["preview_equals_composite"] is None


def test_colour_under_alpha_0_survives_even_if_it_is_all_black(tmp_path):
    colour, alpha = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8)
    colour[4, 4], alpha[4, 4] = 200, 255
    layered = LayeredImage.from_parts(colour, np.full_like(colour, 7), alpha)
    for name in (*LAYERED, "a.png", "a.webp"):
        part = "foreground" if name in ("a.png", "a.webp") else "composite"
        io.save(layered, tmp_path / name, part=part)
        np.testing.assert_array_equal(io.load(tmp_path / name).foregrounds[0].colour, colour)


def test_a_large_stack_keeps_its_order(tmp_path):
    layers = tuple(
        Layer(np.full((2, 2, 3), n % 256, np.uint8), np.full((2, 2), 255, np.uint8), f"Layer {n}")
        for n in range(120)
    )
    layered = LayeredImage(np.zeros((2, 2, 3), np.uint8), layers)
    for name in LAYERED:
        io.save(layered, tmp_path / name)
        assert io.load(tmp_path / name) == layered


def test_a_folder_is_recognised_by_its_path(tmp_path):
    (tmp_path / "v1.5").mkdir()
    for name in ("plain", "v1.5", "a.layers", "b/"):
        io.save(rich(), f"{tmp_path}/{name}")
        assert (tmp_path / name.strip("/") / "manifest.json").is_file()
        assert io.inspect(f"{tmp_path}/{name}")["format"] == "folder"


def test_a_folder_lists_its_layers_and_how_they_were_made(tmp_path):
    io.save(rich(), tmp_path / "a")
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    layers = ["01-vordergrund.png", "02-layer.png", "03-layer-co.png", "04-vordergrund.png"]
    assert names == [*layers, "background.png", "composite.png", "manifest.json"]
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert [layer["file"] for layer in manifest["layers"]] == layers
    assert manifest["metadata"]["seed"] == 2**63 - 1
    assert manifest["digital_source_type"] == TRAINED_ALGORITHMIC_MEDIA


def test_a_folder_edited_by_hand_loads_in_its_new_order(tmp_path):
    io.save(rich(), tmp_path / "a")
    file = tmp_path / "a" / "manifest.json"
    manifest = json.loads(file.read_text())
    for layer in manifest["layers"]:
        layer["order"] = -layer["order"]
    file.write_text(json.dumps(manifest))
    assert io.load(tmp_path / "a").foregrounds == rich().foregrounds[::-1]
    assert io.inspect(tmp_path / "a")["preview_equals_composite"] is False


def test_formats_name_what_they_can_do():
    layered = [".psd", ".psb", ".ora", ".layers", ".tif", ".tiff"]
    assert [s for s, f in io.FORMATS.items() if f.layered] == layered
    written = [".psd", ".ora", ".layers", ".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff"]
    assert [s for s, f in io.FORMATS.items() if f.writable] == written


def test_saving_refuses_what_it_cannot_do(tmp_path):
    layered = rich()
    with pytest.raises(FormatError, match=r'unknown format "\.xcf".*\.psd, \.psb, \.ora'):
        io.save(layered, tmp_path / "a.xcf")
    with pytest.raises(FormatError, match=r"a\.gif: GIF is only read"):
        io.save(layered, tmp_path / "a.gif")
    with pytest.raises(InputError, match='no part "sky"'):
        io.save(layered, tmp_path / "a.png", part="sky")
    with pytest.raises(InputError, match="holds all layers"):
        io.save(layered, tmp_path / "a.psd", part="mask")
    with pytest.raises(InputError, match="metadata takes"):
        io.save(layered.replace(metadata={"prompt": "x" * 300_000}), tmp_path / "a.png")
    wide = LayeredImage(np.zeros((1, 30_001, 3), np.uint8))
    for suffix in (".psd", ".webp"):
        with pytest.raises(FormatError, match="30001"):
            io.save(wide, tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []
    io.save(wide, tmp_path / "a.ora")
    assert io.load(tmp_path / "a.ora") == wide


def test_a_psd_holds_alpha_as_transparency_or_if_asked_as_a_mask(tmp_path):
    """Pillow passes over layers with a mask and shows those with transparency."""
    layered = rich()
    inside = layered.replace(foregrounds=(layered.foregrounds[0].replace(offset=(3, 4)),))
    for chosen, frames in (({"alpha": "mask"}, 1), ({"alpha": "transparency"}, 2), ({}, 2)):
        for picture in (layered, inside):
            io.save(picture, tmp_path / "a.psd", **chosen)
            assert io.load(tmp_path / "a.psd") == picture
        with Image.open(tmp_path / "a.psd") as file:
            assert file.n_frames == frames
            file.seek(frames)
            shown = np.array(file.convert("RGBA"))[4:24, 3:33, 3]
    np.testing.assert_array_equal(shown, inside.foregrounds[0].alpha)
    with pytest.raises(InputError, match="transparency, mask"):
        io.save(layered, tmp_path / "b.psd", alpha="both")
