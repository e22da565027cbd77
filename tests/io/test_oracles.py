"""Other programs' readings of our files: psd-tools, pyora, Pillow and ImageMagick."""

import shutil
import subprocess
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.io.stacks import rich
from text2layer import io


def imagemagick():
    """The command that really is ImageMagick, or None."""
    for command in ("magick", "convert", "/usr/bin/convert"):
        found = shutil.which(command)
        if found is None:
            continue
        told = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
        if "ImageMagick 6" in told.stdout or "ImageMagick 7" in told.stdout:
            return found
    return None


MAGICK = imagemagick()
needs_imagemagick = pytest.mark.skipif(
    MAGICK is None, reason="ImageMagick is not installed (Debian package imagemagick)"
)


@pytest.fixture(scope="module", params=io.ALPHAS)
def psd(request, tmp_path_factory):
    """`rich` as a PSD whose stem says where it holds alpha."""
    path = tmp_path_factory.mktemp("psd") / f"{request.param}.psd"
    io.save(rich(), path, alpha=request.param)
    return path


def test_psd_tools_reads_names_places_pixels_and_alpha(psd):
    psd_tools = pytest.importorskip("psd_tools")
    document, layered = psd_tools.PSDImage.open(psd), rich()
    assert document.size == layered.size
    background, *layers = list(document)
    assert background.name == "Himmel"
    assert [x.name for x in layers] == [x.name for x in layered.foregrounds]
    assert [x.offset for x in layers] == [x.offset for x in layered.foregrounds]
    assert [x.opacity for x in layers] == [x.opacity_byte for x in layered.foregrounds]
    assert [x.visible for x in layers] == [x.visible for x in layered.foregrounds]
    assert {x.kind for x in document} == {"pixel"}
    np.testing.assert_array_equal(np.array(background.topil().convert("RGB")), layered.background)
    for found, layer in zip(layers, layered.foregrounds, strict=True):
        if psd.stem == "mask":
            assert found.mask.bbox == found.bbox
            np.testing.assert_array_equal(np.array(found.mask.topil()), layer.alpha)
        else:
            assert not found.has_mask()
            np.testing.assert_array_equal(np.array(found.topil())[..., 3], layer.alpha)
        colour = np.rint(found.numpy("color") * 255).astype(np.uint8)
        np.testing.assert_array_equal(colour, layer.colour)


def test_the_merged_preview_of_the_psd_is_the_composite_without_alpha(psd):
    psd_tools = pytest.importorskip("psd_tools")
    document = psd_tools.PSDImage.open(psd)
    assert (document.channels, document.topil().mode) == (3, "RGB")
    np.testing.assert_array_equal(np.array(document.topil()), rich().composite)
    with Image.open(psd) as by_pillow:
        assert by_pillow.mode == "RGB"
        np.testing.assert_array_equal(np.array(by_pillow), rich().composite)


@needs_imagemagick
def test_imagemagick_sees_the_composite_and_every_layer(psd, tmp_path):
    subprocess.run([MAGICK, psd, tmp_path / "x-%d.png"], check=True, capture_output=True)
    layered = rich()
    merged, background, *layers = [tmp_path / f"x-{n}.png" for n in range(6)]
    for file, expected in ((merged, layered.composite), (background, layered.background)):
        np.testing.assert_array_equal(np.array(Image.open(file).convert("RGB")), expected)
    for file, layer in list(zip(layers, layered.foregrounds, strict=True))[:2]:
        with Image.open(file) as image:
            assert image.size == layer.size
            rgba = np.array(image.convert("RGBA"))
        shown = layer.alpha > 0
        np.testing.assert_array_equal(rgba[..., :3][shown], layer.colour[shown])
        exact = layer.alpha * layer.opacity  # ImageMagick folds the opacity in
        assert np.abs(rgba[..., 3] - exact).max() < 1
    told = subprocess.run(
        [MAGICK, f"{psd}[2]", "-format", "%X %Y %[label]", "info:"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["-5", "+7", "Vordergrund"]


@needs_imagemagick
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_imagemagick_sees_the_hidden_colour_of_a_cut_out(tmp_path, suffix):
    io.save(rich(), tmp_path / f"a{suffix}", part="foreground")
    raw = subprocess.run(
        [MAGICK, tmp_path / f"a{suffix}", "-depth", "8", "rgba:-"], capture_output=True, check=False
    )
    if suffix == ".webp" and raw.returncode:
        pytest.skip("this ImageMagick was built without WebP")
    rgba = np.frombuffer(raw.stdout, np.uint8).reshape(40, 50, 4)
    np.testing.assert_array_equal(rgba[..., :3], rich().foreground)
    np.testing.assert_array_equal(rgba[..., 3], rich().mask)


def test_pyora_reads_the_ora(tmp_path):
    pyora = pytest.importorskip("pyora")
    io.save(rich(), tmp_path / "a.ora")
    project, layered = pyora.Project.load(str(tmp_path / "a.ora")), rich()
    assert project.dimensions == layered.size
    background, *layers = list(project.children)[::-1]  # pyora lists the topmost first
    assert background.name == "Himmel"
    assert [x.name for x in layers] == [x.name for x in layered.foregrounds]
    for found, layer in zip(layers, layered.foregrounds, strict=True):
        assert found.offsets == layer.offset
        assert round(found.opacity * 255) == layer.opacity_byte
        assert found.visible == layer.visible
        image = np.array(found.get_image_data(raw=True))
        np.testing.assert_array_equal(image, np.dstack([layer.colour, layer.alpha]))


def test_the_ora_is_laid_out_as_the_standard_says(tmp_path):
    io.save(rich(), tmp_path / "a.ora")
    head = (tmp_path / "a.ora").read_bytes()[:54]
    assert head[30:54] == b"mimetypeimage/openraster"
    with zipfile.ZipFile(tmp_path / "a.ora") as archive:
        assert archive.testzip() is None
        assert archive.infolist()[0].compress_type == zipfile.ZIP_STORED
        with archive.open("mergedimage.png") as merged:
            np.testing.assert_array_equal(np.array(Image.open(merged)), rich().composite)
        with archive.open("Thumbnails/thumbnail.png") as thumbnail:
            assert max(Image.open(thumbnail).size) <= 256


def test_psdtags_and_pillow_read_a_layered_tiff(tmp_path):
    psdtags = pytest.importorskip("psdtags", reason="reads TIFF layers")
    pytest.importorskip("imagecodecs", reason="psdtags unpacks with it")
    layered = rich()
    io.save(layered, tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as by_pillow:
        assert by_pillow.mode == "RGB"
        np.testing.assert_array_equal(np.array(by_pillow), layered.composite)
        assert b"guidance_scale" in by_pillow.tag_v2[700]
    found = psdtags.TiffImageSourceData.fromtiff(str(tmp_path / "a.tif"))
    layers = list(found.layers)[1:]
    assert [str(x.info[0]) for x in found.layers] == [
        "Himmel", *(x.name for x in layered.foregrounds)
    ]  # fmt: skip
    for one, layer in zip(layers, layered.foregrounds, strict=True):
        assert one.offset == layer.offset[::-1]
        assert one.opacity == layer.opacity_byte
        planes = {int(channel.channelid): channel.data for channel in one.channels}
        np.testing.assert_array_equal(np.dstack([planes[n] for n in range(3)]), layer.colour)
        np.testing.assert_array_equal(planes[-1], layer.alpha)


def test_layers_of_another_byte_order_are_noted_and_the_picture_is_read(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    block = b"Adobe Photoshop Document Data Block\0MIB8ryaL" + bytes(8)
    composite = rich().composite
    tifffile.imwrite(
        tmp_path / "a.tif", composite, photometric="rgb", byteorder="<", metadata=None,
        extratags=[(37724, 7, len(block), block, True)],
    )  # fmt: skip
    np.testing.assert_array_equal(io.load(tmp_path / "a.tif").background, composite)
    assert "layers in a form that is not read" in io.inspect(tmp_path / "a.tif")["notes"][0]
