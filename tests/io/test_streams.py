"""Other formats in, JPEG out, and files without a name: open streams, standard input and output."""

import io as streams
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.io.stacks import pixels, rich
from text2layer import io
from text2layer.errors import FormatError, InputError, WriteError
from text2layer.layers import LayeredImage

COLOUR, _ = pixels(5, 24, 32)
SMOOTH = np.dstack([np.linspace(0, 255, 24 * 32).reshape(24, 32)] * 3).astype(np.uint8)
LOSSLESS = {"TIFF": {"compression": "tiff_lzw"}, "BMP": {}, "GIF": {},
            "AVIF": {"quality": 100, "subsampling": "4:4:4"}}  # fmt: skip
SUFFIXES = {"TIFF": (".tif", ".tiff"), "BMP": (".bmp",), "GIF": (".gif",), "AVIF": (".avif",)}


def encoded(kind: str, pixels: np.ndarray = COLOUR, **options: object) -> bytes:
    file = streams.BytesIO()
    image = Image.fromarray(pixels)
    if kind == "GIF":
        image = image.quantize(256)
    image.save(file, kind, **(LOSSLESS.get(kind, {}) | options))
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "suffix"), [(kind, suffix) for kind in SUFFIXES for suffix in SUFFIXES[kind]]
)
def test_other_formats_are_read(tmp_path, kind, suffix):
    expected = np.array(Image.fromarray(COLOUR).quantize(256).convert("RGB"))
    expected = expected if kind == "GIF" else COLOUR
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(kind))
    layered = io.load(path)
    difference = np.abs(layered.background.astype(int) - expected)
    assert difference.mean() <= (3 if kind == "AVIF" else 0)
    assert io.inspect(path)["format"] == kind
    if kind == "TIFF":  # it is written with layers
        io.save(layered, path)
        assert io.load(path) == layered
        return
    with pytest.raises(FormatError, match=f"{kind} is only read; save as .psd"):
        io.save(layered, path)


@pytest.mark.parametrize("kind", [*SUFFIXES, "JPEG"])
def test_a_picture_cut_short_is_refused(kind):
    data = encoded(kind)
    for part in range(1, 40):
        with pytest.raises(FormatError, match=r"^The stream"):
            io.load(streams.BytesIO(data[: len(data) * part // 40]))


@pytest.mark.parametrize("kind", [*SUFFIXES, "JPEG"])
def test_random_damage_gives_a_picture_or_a_sentence(kind):
    rng, whole, sentences = np.random.default_rng(0), encoded(kind, SMOOTH), []
    for number in range(80):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 10 * (number + 1)), 3):
            data[place] = rng.integers(256)
        try:
            assert isinstance(io.load(streams.BytesIO(data)), LayeredImage)
        except FormatError as error:
            sentences.append(str(error))
    assert len(sentences) > 5
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in sentences)


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path):
    for kind in SUFFIXES:
        with pytest.raises(FormatError, match="limit of 767"):
            io.load(streams.BytesIO(encoded(kind)), max_pixels=24 * 32 - 1)


def test_of_a_gif_and_a_tiff_the_first_frame_is_taken():
    for kind in ("GIF", "TIFF"):
        file, first = streams.BytesIO(), Image.new("RGB", (8, 8), (200, 0, 0))
        first.save(file, kind, save_all=True, append_images=[Image.new("RGB", (8, 8), (0, 0, 9))])
        file.seek(0)
        assert (io.load(file).background == (200, 0, 0)).all()


def test_heic_is_read_upright_or_says_what_is_missing(tmp_path):
    path = tmp_path / "a.heic"
    try:
        import pillow_heif
    except ImportError:
        path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".ljust(64, b"\0"))
        with pytest.raises(FormatError, match="Reading HEIC needs pillow-heif"):
            io.load(path)
        return
    exif = Image.Exif()
    exif[0x0112] = 6
    heif = pillow_heif.from_pillow(Image.fromarray(SMOOTH))
    heif.info["exif"] = exif.tobytes()
    heif.save(path, quality=100)
    for source in (path, streams.BytesIO(path.read_bytes())):
        layered = io.load(source)
        expected = SMOOTH if layered.size == (32, 24) else np.rot90(SMOOTH, -1)
        assert np.abs(layered.background.astype(int) - expected).mean() < 4
    assert layered.size == (24, 32)
    for length in (30, 64, 200, len(path.read_bytes()) // 2):
        with pytest.raises(FormatError):
            io.load(streams.BytesIO(path.read_bytes()[:length]))


def test_brands_of_avif_and_heic_are_told_apart():
    from text2layer.io.pictures import sniff

    def box(*brands: bytes) -> bytes:
        body = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
        return (len(body) + 4).to_bytes(4, "big") + body + b"meta avif"

    assert sniff(box(b"heic", b"mif1")) == "HEIC"
    assert sniff(box(b"mif1", b"heic", b"miaf")) == "HEIC"
    assert sniff(box(b"mif1", b"avif", b"miaf")) == "AVIF"
    assert sniff(box(b"avis", b"msf1")) == "AVIF"
    assert sniff(box(b"mp42", b"isom")) is None


def test_jpeg_is_written(tmp_path):
    layered = LayeredImage(SMOOTH, metadata={"prompt": "a grey ramp", "seed": 4})
    for name in ("a.jpg", "a.jpeg"):
        io.save(layered, tmp_path / name)
        again = io.load(tmp_path / name)
        assert np.abs(again.background.astype(int) - SMOOTH).max() <= 6
        assert again.metadata == layered.metadata
    io.save(rich(), tmp_path / "m.jpg", part="mask")
    assert Image.open(tmp_path / "m.jpg").mode == "L"
    before = (tmp_path / "a.jpg").read_bytes()
    long = layered.replace(metadata={"prompt": "x" * 70_000})
    wide = LayeredImage(np.zeros((1, 65_536, 3), np.uint8))
    for picture, part, words in (
        (rich(), "foreground", "no transparency"),
        (long, "composite", "65502 bytes of metadata"),
        (wide, "composite", "at most 65535 pixels a side"),
    ):
        with pytest.raises(FormatError, match=words):
            io.save(picture, tmp_path / "a.jpg", part=part)
    assert (tmp_path / "a.jpg").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpeg", "a.jpg", "m.jpg"]


@pytest.mark.parametrize("name", ["psd", ".ora", "PNG", "webp", "jpg"])
def test_a_stream_holds_what_a_file_holds(tmp_path, name):
    path = tmp_path / f"a.{name.lower().removeprefix('.')}"
    io.save(rich(), path)
    file = streams.BytesIO(b"before")
    file.seek(6)
    io.save(rich(), file, format=name)
    assert file.getvalue() == b"before" + path.read_bytes()
    file.seek(6)
    assert io.load(file) == io.load(path)
    with path.open("rb") as opened:
        assert io.inspect(opened) == io.inspect(path)


def test_a_stream_that_cannot_be_used_gets_one_sentence(tmp_path):
    layered = LayeredImage(COLOUR)
    with pytest.raises(InputError, match='say which format, as in format="psd"'):
        io.save(layered, streams.BytesIO())
    for name in ("xcf", "layers"):
        with pytest.raises(FormatError, match=f'format "{name}" cannot be written'):
            io.save(layered, streams.BytesIO(), format=name)
    with pytest.raises(FormatError, match=r'The format "gif": GIF is only read'):
        io.save(layered, streams.BytesIO(), format="gif")
    with pytest.raises(InputError, match="binary mode"):
        io.save(layered, streams.StringIO(), format="png")
    with pytest.raises(InputError, match="binary mode"):
        io.load(streams.StringIO("text"))
    file = streams.BytesIO()
    io.save(layered, file, format="png")
    with pytest.raises(FormatError, match="The stream is empty, or has been read to its end"):
        io.load(file)
    with pytest.raises(FormatError, match="no file of a known format"):
        io.load(streams.BytesIO(b"<html>nothing</html>"))
    with (tmp_path / "a.png").open("wb") as opened, pytest.raises(InputError, match=r"a\.png"):
        io.load(opened)
    with Path("/dev/full").open("wb", 0) as full, pytest.raises(WriteError, match="/dev/full"):
        io.save(layered, full, format="png")


def test_a_stream_gets_nothing_of_a_picture_that_cannot_be_written():
    file = streams.BytesIO()
    with pytest.raises(FormatError):
        io.save(LayeredImage(np.zeros((1, 30_001, 3), np.uint8)), file, format="psd")
    assert file.getvalue() == b""


class Standard(streams.TextIOWrapper):
    """Standard input or output of a given content, no terminal unless told."""

    def __init__(self, content: bytes = b"", terminal: bool = False) -> None:
        super().__init__(streams.BytesIO(content))
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def test_a_dash_is_standard_input_and_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    io.save(rich(), "a.psd")
    psd = Path("a.psd").read_bytes()
    for dash in ("-", Path("-")):
        monkeypatch.setattr(sys, "stdin", Standard(psd))
        assert io.load(dash) == rich()
    for name, kind in (("-", "PNG"), ("psd:-", "PSD"), ("JPG:-", "JPEG")):
        monkeypatch.setattr(sys, "stdout", Standard())
        io.save(rich(), name)
        written = sys.stdout.buffer.getvalue()
        assert io.inspect(streams.BytesIO(written))["format"] == kind
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.psd"]


def test_a_terminal_is_no_picture(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Standard(terminal=True))
    monkeypatch.setattr(sys, "stdout", Standard(terminal=True))
    with pytest.raises(InputError, match="input is a terminal"):
        io.load("-")
    with pytest.raises(InputError, match="output is a terminal"):
        io.save(rich(), "-")
    assert sys.stdout.buffer.getvalue() == b""


def test_a_reader_that_has_gone_is_one_sentence(monkeypatch):
    class Gone(streams.BytesIO):
        def write(self, data):
            raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(WriteError, match="Broken pipe"):
        io.save(rich(), Gone(), format="png")
