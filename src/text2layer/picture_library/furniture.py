"""Furniture and objects of Debian's `sweethome3d-furniture`, seen from six sides."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from text2layer.errors import DataError, WeightsError
from text2layer.files import file_sha256
from text2layer.picture_library.models import View, check_models
from text2layer.picture_library.offer import FOREGROUND, LeftOut, Offer, Taken
from text2layer.picture_library.package_facts import furniture_facts, furniture_models
from text2layer.picture_library.packages import LARGEST, DebianPackage, fetch_debian
from text2layer.picture_library.places import licence_of, paragraphs
from text2layer.picture_library.words import FURNITURE, describe
from text2layer.pretrained.sources import unpack

PACKAGE = DebianPackage(
    "sweethome3d-furniture",
    {"1.8-1": "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668"},
)
CATALOGUES = "usr/share/sweethome3d/furniture"
SPDX = {"CC-BY-3.0-USA": "CC-BY-3.0-US"}  # as the copyright file names it
AZIMUTHS = (-60, -32, -4, 24, 54, 160)  # degrees; the last one is a back view
TURNED, LOWEST, HIGHEST = 5, 10, 30  # degrees: each model and view is a little different


@dataclass(frozen=True)
class Furniture:
    """The models of the catalogues."""

    name: str = "furniture"
    own: bool = False
    notices: dict[str, str] = field(default_factory=dict)

    def offers(self, packages: Path) -> Iterator[Offer | LeftOut]:
        """Six views of every model that is a thing by itself; see `Source`."""
        check_models()
        folder, version = fetch_debian(PACKAGE, packages)
        text = (folder / f"usr/share/doc/{PACKAGE.name}/copyright").read_text("utf-8")
        stated = tuple(paragraphs(text))
        taken = Taken()
        for catalogue in sorted((folder / CATALOGUES).glob("*.sh3f")):
            unpacked = unpacked_models(catalogue, packages)
            license_name, _ = licence_of(f"{catalogue.stem}/model", stated)
            digest = file_sha256(catalogue)
            for model, properties in furniture_models(catalogue):
                words = describe(FURNITURE, model, **furniture_facts(properties))
                if words.left_out:
                    yield LeftOut(self.name, model, words.left_out)
                    continue
                unique = taken(f"{catalogue.stem}/{Path(model).stem}")
                size = tuple(
                    float(properties[side]) for side in ("width", "height", "depth")
                    if properties.get(side)
                )  # fmt: skip
                rotation = tuple(map(float, properties.get("modelRotation", "").split()))
                for number, (azimuth, elevation) in enumerate(views(model, AZIMUTHS)):
                    view = View(
                        unpacked / properties["model"].lstrip("/"), azimuth, elevation,
                        size if len(size) == 3 else (), rotation if len(rotation) == 9 else (),
                    )  # fmt: skip
                    stamp = f"{digest}{model}{view.size}{view.rotation}"
                    record = {
                        **words.record(),
                        "source": f"{PACKAGE.name}=={version}", "source_file": model,
                        "license": SPDX.get(license_name, license_name),
                        "author": properties.get("creator", ""),
                        "view": {"azimuth": azimuth, "elevation": elevation},
                    }  # fmt: skip
                    yield Offer(
                        FOREGROUND, self.name, f"{unique}-v{number}",
                        hashlib.sha256(stamp.encode()).hexdigest(), record, view,
                        may_be_opaque=True,  # a wardrobe from the front is a rectangle
                    )  # fmt: skip


def views(model: str, azimuths: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Azimuth and elevation in degrees of each view, a little different from model to model."""
    for number, azimuth in enumerate(azimuths):
        first, second = hashlib.sha256(f"{model}|{number}".encode()).digest()[:2]
        yield (
            azimuth + round((first / 255 * 2 - 1) * TURNED),
            LOWEST + round(second / 255 * (HIGHEST - LOWEST)),
        )


def unpacked_models(archive: Path, packages: Path) -> Path:
    """The folder of a zip with models, unpacked once; DataError if it is damaged."""
    folder = packages / f"models-{file_sha256(archive)[:16]}"
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory(dir=packages, prefix=".text2layer-", suffix=".part") as own:
        try:
            unpack(
                archive, Path(own) / "all", lambda name: True, drop_top_level=False,
                size_limit=LARGEST,
            )  # fmt: skip
        except (WeightsError, OSError) as error:
            raise DataError(f"'{archive}' cannot be unpacked: {error}") from None
        shutil.move(Path(own) / "all", folder)
    return folder
