"""The index: every photo once, near-duplicates found, killed and gone on without loss."""

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from text2layer.errors import DataError, WriteError
from text2layer.photos.decode import Decode
from text2layer.photos.index import (
    BITS,
    CELLS,
    PhotoIndex,
    angle_between,
    bands,
    hamming,
    perceptual_hash,
    photo_cells,
)
from text2layer.photos.photo import Photo, PhotoRef
from text2layer.photos.settings import BuildSettings
from text2layer.photos.sources import open_photos

ROOT = Path(__file__).parents[2]
SETTINGS = BuildSettings(min_size=64)


def scene(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """Coarse random colours, smoothly enlarged: as unlike one another as photos are."""
    pixels = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, **options: object) -> None:
    image.save(path, **options)
    path.with_suffix(".txt").write_text(f"caption of {path.stem}")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        save(scene(number), folder / f"p{number:02d}.jpg", quality=90)
    return folder


def filled(path: Path, photos: Path, settings: BuildSettings = SETTINGS) -> PhotoIndex:
    index = PhotoIndex(path)
    index.fill(open_photos(photos), settings, progress=False)
    return index


def verdicts(index: PhotoIndex) -> dict[str, str]:
    index.chunks(1000)
    return {Path(ref.location).name: rejection.reason if rejection else ""
            for ref, rejection in index.chunk(0)}  # fmt: skip


def test_copies_are_found_and_others_stay(photos, tmp_path):
    save(scene(3).resize((200, 150)), photos / "q-smaller.jpg", quality=60)
    save(scene(3), photos / "q-worse.jpg", quality=25)
    bright = scene(5).point(lambda value: int(20 + 0.9 * value))
    save(bright, photos / "q-brighter.png")
    save(scene(99), photos / "q-other.jpg")
    found = verdicts(filled(tmp_path / "index.sqlite", photos))
    copies = {name for name, reason in found.items() if reason == "near duplicate"}
    assert copies == {"q-smaller.jpg", "q-worse.jpg", "q-brighter.png"}
    assert all(reason in ("", "near duplicate") for reason in found.values())


def test_the_verdict_names_the_first_of_the_copies(photos, tmp_path):
    save(scene(0), photos / "z.png")
    index = filled(tmp_path / "index.sqlite", photos)
    index.chunks(100)
    refs = index.chunk(0)
    assert refs[-1][1].detail == f"of {refs[0][0].key}"


def test_what_the_source_says_decides_before_the_pixels(photos, tmp_path):
    (photos / "p00.txt").unlink()
    (photos / "p01.json").write_text('{"noai": true}')
    (photos / "p02.json").write_text('{"license": "CC0-1.0"}')
    (photos / "p03.jpg").write_bytes(b"nothing")
    found = verdicts(filled(tmp_path / "a.sqlite", photos))
    wanted = {"p00.jpg": "no caption", "p01.jpg": "opted out", "p02.jpg": "",
              "p03.jpg": "unreadable"}  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    strict = verdicts(
        filled(tmp_path / "b.sqlite", photos, replace(SETTINGS, require_license=True))
    )
    assert [name for name, reason in strict.items() if not reason] == ["p02.jpg"]
    lax = verdicts(filled(tmp_path / "c.sqlite", photos, replace(SETTINGS, require_caption=False)))
    assert lax["p00.jpg"] == ""


def test_what_decode_will_reject_does_not_stand_in_for_a_better_copy(photos, tmp_path):
    save(scene(0).resize((80, 60)), photos / "a-thumbnail.jpg")
    save(scene(1).convert("L"), photos / "a-grey.jpg")
    found = verdicts(filled(tmp_path / "index.sqlite", photos))
    assert set(found.values()) == {""}  # decode says why the two are not used
    reasons = []
    for name in ("a-thumbnail.jpg", "a-grey.jpg"):
        photo = Photo(PhotoRef("a", str(photos / name)))
        Decode(SETTINGS).run([photo])
        reasons.append(photo.rejected.reason)
    assert reasons == ["too small", "grey"]


def test_plain_grounds_are_not_copies_of_one_another(photos, tmp_path):
    for number, colour in enumerate([(250, 20, 20), (20, 250, 20), (20, 20, 250)]):
        save(Image.new("RGB", (320, 240), colour), photos / f"plain{number}.png")
    assert set(verdicts(filled(tmp_path / "index.sqlite", photos)).values()) == {""}


POLYGONS = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "octagon": 8}


def product(shape: str, colour: str, ground: str = "white") -> Image.Image:
    """One shape of one colour in the middle of a plain ground, as a shop shows its goods."""
    picture = Image.new("RGB", (320, 320), ground)
    draw = ImageDraw.Draw(picture)
    if shape in POLYGONS:
        draw.regular_polygon((160, 160, 90), POLYGONS[shape], fill=colour)
    elif shape == "ring":
        draw.ellipse((80, 80, 240, 240), outline=colour, width=30)
    elif shape == "disc":
        draw.ellipse((80, 80, 240, 240), fill=colour)
    elif shape == "bar":
        draw.rectangle((60, 140, 260, 180), fill=colour)
    elif shape == "post":
        draw.rectangle((140, 60, 180, 260), fill=colour)
    else:
        draw.rectangle((140, 80, 180, 240), fill=colour)
        draw.rectangle((80, 140, 240, 180), fill=colour)
    return picture


SHAPES = [*POLYGONS, "ring", "disc", "bar", "post", "cross"]


@pytest.mark.parametrize("ground", ["white", "black", "#d8d8d8"])
def test_different_subjects_on_a_plain_ground_stay_and_their_copies_are_found(ground, tmp_path):
    for number, shape in enumerate(SHAPES):
        picture = product(shape, ("chocolate", "teal", "olive")[number % 3], ground)
        save(picture, tmp_path / f"a-{shape}.jpg", quality=92)
        save(picture, tmp_path / f"b-{shape}-worse.jpg", quality=20)
        save(picture.resize((131, 131)), tmp_path / f"b-{shape}-smaller.jpg")
        darker = picture.point(lambda value: int(0.75 * value))
        save(darker, tmp_path / f"b-{shape}-darker.png")
    found = verdicts(filled(tmp_path / "index.sqlite", tmp_path))
    assert {name for name, reason in found.items() if not reason} == {
        f"a-{shape}.jpg" for shape in SHAPES
    }
    assert {reason for name, reason in found.items() if name.startswith("b")} == {"near duplicate"}


def test_one_article_in_two_colours_is_no_copy(tmp_path):
    for colour in ("red", "green", "blue", "orange"):  # red and green are alike as grey
        save(product("hexagon", colour), tmp_path / f"{colour}.png")
    assert set(verdicts(filled(tmp_path / "index.sqlite", tmp_path)).values()) == {""}


def test_a_picture_that_prohibits_data_mining_in_its_xmp_is_opted_out(photos, tmp_path):
    terms = {"p00": "DMI-PROHIBITED-AIMLTRAINING", "p01": "DMI-ALLOWED"}
    for name, term in terms.items():
        xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/">plus:DataMining="{term}"</x:xmpmeta>'
        save(scene(int(name[1:])), photos / f"{name}.jpg", xmp=xmp.encode())
    found = verdicts(filled(tmp_path / "index.sqlite", photos))
    assert {name for name, reason in found.items() if reason} == {"p00.jpg"}
    assert found["p00.jpg"] == "opted out"


def test_chunks_hold_every_photo_once_in_order(photos, tmp_path):
    index = filled(tmp_path / "index.sqlite", photos)
    assert len(index) == 12
    assert index.chunks(5) == 3
    chunks = [index.chunk(number) for number in range(3)]
    assert [len(chunk) for chunk in chunks] == [5, 5, 2]
    refs = [ref for chunk in chunks for ref, _ in chunk]
    assert refs == list(open_photos(photos))


def test_filling_again_changes_nothing(photos, tmp_path):
    index = filled(tmp_path / "index.sqlite", photos)
    before = index.fingerprint()
    index.fill(open_photos(photos), SETTINGS, progress=False)
    assert (len(index), index.fingerprint()) == (12, before)
    asked = PhotoIndex(tmp_path / "none.sqlite")
    asked.fill(open_photos(photos), SETTINGS, progress=False, stop=lambda: True)
    assert len(asked) == 0


SCRIPT = """
import sys
from text2layer.photos import index
from text2layer.photos.settings import BuildSettings
from text2layer.photos.sources import open_photos

index.BATCH = 2
made = index.PhotoIndex(sys.argv[2])
for ref in open_photos(sys.argv[1]):
    made.fill([ref], BuildSettings(min_size=64), progress=False)
    print(len(made), flush=True)
"""


def test_killed_while_indexing_and_gone_on_it_equals_an_uninterrupted_index(photos, tmp_path):
    save(scene(2), photos / "z.png")
    whole = filled(tmp_path / "whole.sqlite", photos).fingerprint()
    path = tmp_path / "killed.sqlite"
    for photos_done in (1, 4, 9):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(photos), str(path)], cwd=ROOT,
            stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            deadline = time.monotonic() + 60
            while int(process.stdout.readline() or -1) < photos_done:
                assert process.poll() is None
                assert time.monotonic() < deadline
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        assert len(PhotoIndex(path)) >= photos_done
    assert filled(path, photos).fingerprint() == whole


def test_what_is_no_index_or_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "index.sqlite").write_text("this is a text, and long enough to be looked at" * 20)
    with pytest.raises(DataError, match="is not an index of photos"):
        PhotoIndex(tmp_path / "index.sqlite")
    with pytest.raises(WriteError, match="could not be written"):
        PhotoIndex(tmp_path / "nowhere" / "index.sqlite")


def test_a_full_disk_is_named_and_the_same_command_goes_on(photos, tmp_path):
    (photos / "p03.txt").write_text("word " * 4000)  # more than the pages that are there can hold
    whole = filled(tmp_path / "whole.sqlite", photos).fingerprint()
    index = PhotoIndex(tmp_path / "index.sqlite")
    index._base.execute("PRAGMA max_page_count = 1")  # SQLite's own full disk
    with pytest.raises(WriteError, match=r"the disk is full.*free some space"):
        index.fill(open_photos(photos), SETTINGS, progress=False)
    assert len(index) == 0
    index._base.execute("PRAGMA max_page_count = 1000000")
    index.fill(open_photos(photos), SETTINGS, progress=False)
    assert index.fingerprint() == whole


def test_a_size_limit_of_the_system_is_a_write_error_too(photos, tmp_path):
    (photos / "p03.txt").write_text("word " * 4000)
    program = """
import resource, signal, sys
from text2layer.photos.index import PhotoIndex
from text2layer.photos.settings import BuildSettings
from text2layer.photos.sources import open_photos
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    index = PhotoIndex(sys.argv[2])
    print(len(index))
    index.fill(open_photos(sys.argv[1]), BuildSettings(min_size=64), progress=False)
except Exception as error:
    print(type(error).__name__, error)
"""
    for limit, opened in ((24_000, "0\n"), (1_000, "")):  # while it is filled, while it is made
        done = subprocess.run(
            [sys.executable, "-c", program, str(photos), str(tmp_path / f"{limit}"), str(limit)],
            capture_output=True, text=True, check=True, cwd=ROOT,
        )  # fmt: skip
        assert done.stdout.startswith(f"{opened}WriteError '{tmp_path / str(limit)}' could not be")


def test_an_index_that_was_damaged_later_is_one_sentence(photos, tmp_path):
    path = tmp_path / "index.sqlite"
    filled(path, photos).close()
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)  # behind the page of the tables' names
        file.write(b"?" * (size - 4096))
    index = PhotoIndex(path)
    for read in (lambda: len(index), lambda: index.chunk(0), index.fingerprint):
        with pytest.raises(DataError, match=r"index\.sqlite' cannot be read"):
            read()


def test_bits_follow_the_angle_and_neither_brightness_nor_contrast_changes_it():
    first, second = (photo_cells(scene(number)) for number in (0, 1))
    assert angle_between(first, first) == pytest.approx(0, abs=1e-3)
    apart = angle_between(first, second)
    bits = hamming(perceptual_hash(first), perceptual_hash(second))
    assert bits == pytest.approx(BITS * apart / 180, abs=12)  # three deviations
    ramp = np.zeros((CELLS, CELLS, 3), np.uint8)
    ramp[..., 0] = 4 * np.arange(CELLS)
    assert angle_between(ramp, 2 * ramp + 50) == pytest.approx(0, abs=1e-3)
    assert perceptual_hash(ramp) == perceptual_hash(2 * ramp + 50)
    assert angle_between(ramp, 255 - ramp) == pytest.approx(180)
    assert photo_cells(Image.new("RGB", (40, 30), "white")) is None


def test_near_hashes_share_a_band_and_bands_hold_every_bit():
    random = np.random.default_rng(0)
    for distance in (0, 1, 4, 9, 15):
        for _ in range(50):
            value = int(random.integers(0, 2**63)) * 2 + int(random.integers(2))
            near = value
            for bit in random.choice(BITS, distance, replace=False):
                near ^= 1 << int(bit)
            assert hamming(value, near) == distance
            pairs = zip(bands(value, distance + 1), bands(near, distance + 1), strict=True)
            assert any(a == b for a, b in pairs)
    assert sum(part.bit_length() for part in bands(2**64 - 1, 5)) == BITS


def test_hashes_with_the_highest_bit_are_found_too(tmp_path):
    steps = Image.fromarray(np.tile(np.arange(9, dtype=np.uint8) * 20, (8, 1)))
    buffer = io.BytesIO()
    steps.save(buffer, "PNG")
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(buffer.getvalue())
    refs = [PhotoRef(name, str(tmp_path / f"{name}.png"), caption="x") for name in ("a", "b")]
    for distance in (0, 4):
        index = PhotoIndex(tmp_path / f"{distance}.sqlite")
        settings = BuildSettings(duplicate_distance=distance, min_size=1, min_colour=0)
        index.fill(refs, settings, progress=False)
        index.chunks(2)
        assert [bool(rejection) for _, rejection in index.chunk(0)] == [False, True]
