"""Quick stages without networks, named by tests as `tests.photos.toy_stages:make_stages`.

A photo is a bright shape on a dark ground; photos without one, and those that are wholly dark, are
rejected. TOY_STAGES_SECONDS makes each batch that much slower, so that a test can kill a build.
"""

import hashlib
import io
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from text2layer.photos.photo import Photo, Stage
from text2layer.photos.settings import BuildSettings

NAME = f"{__name__}:make_stages"


class Decode:
    name = "decode"
    model_hashes: dict[str, str]

    def __init__(self, settings: BuildSettings) -> None:
        self.settings = settings
        self.model_hashes = {}

    def run(self, photos: Sequence[Photo]) -> None:
        time.sleep(float(os.environ.get("TOY_STAGES_SECONDS", 0)))
        if "TOY_STAGES_WORKERS" in os.environ:  # a folder: who was at work
            (Path(os.environ["TOY_STAGES_WORKERS"]) / str(os.getpid())).touch()
        for photo in photos:
            with Image.open(io.BytesIO(photo.ref.read())) as picture:
                photo.image = np.asarray(picture.convert("RGB"))
            if photo.image.mean() < 8:
                photo.reject(self.name, "too dark", f"mean {photo.image.mean():.1f}")


class Bright:
    name = "bright"

    def __init__(self, settings: BuildSettings) -> None:
        model = os.environ.get("TOY_STAGES_MODEL", "bright")
        self.model_hashes = {"saliency": hashlib.sha256(model.encode()).hexdigest()}

    def run(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            assert photo.image is not None
            grey = photo.image.mean(axis=2)
            photo.mask = np.clip((grey - 100) * 4, 0, 255).astype(np.uint8)
            photo.scores["share"] = float((photo.mask > 127).mean())
            photo.scores["undefined"] = float("nan")
            if photo.scores["share"] > 0.5:
                photo.reject(self.name, "object too large", f"share {photo.scores['share']:.2f}")
            if photo.scores["share"] == 0:
                photo.reject(self.name, "nothing found")


class Layers:
    name = "layers"

    def __init__(self) -> None:
        self.model_hashes: dict[str, str] = {}

    def run(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            assert photo.image is not None
            assert photo.mask is not None
            photo.hole = photo.mask > 0
            photo.foreground = photo.image.copy()
            photo.background = photo.image.copy()
            photo.background[photo.hole] = photo.image[~photo.hole].mean(axis=0).astype(np.uint8)


class Faulty:
    """Breaks on photos whose caption says so, as no stage should."""

    name = "faulty"

    def __init__(self) -> None:
        self.model_hashes: dict[str, str] = {}

    def run(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            if "cursed" in photo.ref.caption:
                raise RuntimeError("this photo is cursed")


class Strict:
    """Stands where the judge of the pair stands."""

    name = "pair quality"

    def __init__(self) -> None:
        self.model_hashes: dict[str, str] = {}

    def run(self, photos: Sequence[Photo]) -> None:
        for photo in photos:
            if photo.ref.key < os.environ.get("TOY_STAGES_KEPT_FROM", ""):
                photo.reject(self.name, "poor pair", "scored .1")


def make_judged_stages(settings: BuildSettings, threads: int) -> list[Stage]:
    """The stages and a judge that rejects all photos before the key TOY_STAGES_KEPT_FROM."""
    return [*make_stages(settings, threads), Strict()]


def make_stages(settings: BuildSettings, threads: int) -> list[Stage]:
    return [Decode(settings), Bright(settings), Faulty(), Layers()]
