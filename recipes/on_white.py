"""How many different subjects on white does the data builder keep, and does it find their copies?

    python recipes/on_white.py LIBRARY [COUNT]

Lays cut-outs of a library, one of each group, in the middle of a white square of 512 pixels, adds
a copy of each that is smaller, darker and compressed harder, and counts what index and decode say.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from PIL import Image

from text2layer.data.library import Library
from text2layer.photos.decode import Decode
from text2layer.photos.index import PhotoIndex
from text2layer.photos.photo import Photo
from text2layer.photos.settings import BuildSettings
from text2layer.photos.sources import open_photos

SIDE, SUBJECT = 512, 400  # pixels


def on_white(path: Path) -> Image.Image:
    """A cut-out in the middle of a white square."""
    with Image.open(path) as opened:
        cutout = opened.convert("RGBA")
    cutout.thumbnail((SUBJECT, SUBJECT))
    picture = Image.new("RGBA", (SIDE, SIDE), "white")
    picture.alpha_composite(cutout, ((SIDE - cutout.width) // 2, (SIDE - cutout.height) // 2))
    return picture.convert("RGB")


def main(library: str, count: str = "200") -> None:
    """Print the counts, of the pictures and of their copies."""
    opened = Library(library)
    entries = list(opened.foregrounds)
    random.Random(0).shuffle(entries)
    by_group = {entry.group: entry for entry in entries}
    settings = BuildSettings(require_caption=False)
    with tempfile.TemporaryDirectory() as folder:
        for number, entry in enumerate(list(by_group.values())[: int(count)]):
            picture = on_white(opened.path(entry))
            picture.save(Path(folder, f"a{number:04d}.jpg"), quality=92)
            copy = picture.resize((300, 300)).point(lambda value: int(0.8 * value))
            copy.save(Path(folder, f"b{number:04d}.jpg"), quality=50)
        index = PhotoIndex(":memory:")
        index.fill(open_photos(folder), settings, progress=False)
        index.chunks(len(index))
        said = {"a": Counter(), "b": Counter()}
        for ref, rejection in index.chunk(0):
            photo = Photo(ref, rejected=rejection)
            if rejection is None:
                Decode(settings).run([photo])
            reason = photo.rejected.reason if photo.rejected else "kept"
            said[Path(ref.location).name[0]][reason] += 1
    print("pictures:", dict(said["a"]))
    print("copies:", dict(said["b"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
