"""The toy stages and one before them that does to its worker what broken libraries do.

What happens is written in the caption of a photo; DEADLY_STAGES=mended makes all of it harmless.
`IN_PARTS` has one in each part of a chunk, which acts when the caption names that part, and takes
DEADLY_STAGES_SECONDS.
"""

import ctypes
import os
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.photos import toy_stages
from text2layer.photos.photo import Photo, Stage
from text2layer.photos.settings import BuildSettings

NAME = f"{__name__}:make_stages"
IN_PARTS = f"{__name__}:make_stages_in_parts"


class Deadly:
    name = "deadly"

    def __init__(self, where: str = "", device: str = "cpu") -> None:
        self.where, self.device = where, device
        self.model_hashes: dict[str, str] = {}

    def run(self, photos: Sequence[Photo]) -> None:
        if self.where and "TOY_STAGES_WORKERS" in os.environ:  # a folder: who was at work where
            (Path(os.environ["TOY_STAGES_WORKERS"]) / f"{self.where}-{os.getpid()}").touch()
        if self.where in ("networks", "encode"):  # decode is slow by itself
            time.sleep(float(os.environ.get("DEADLY_STAGES_SECONDS", 0)))
        if os.environ.get("DEADLY_STAGES") == "mended":
            return
        for photo in photos:
            where, _, act = photo.ref.caption.partition(": ")
            if not where.endswith(self.where):
                continue
            if act == "segfault":
                ctypes.string_at(0)  # reads address 0, in native code
            elif act == "abort":
                os.abort()
            elif act == "killed":
                os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
            elif act == "killed once with its parent":
                if not Path(f"{photo.ref.location}.killed").exists():
                    Path(f"{photo.ref.location}.killed").touch()
                    os.kill(os.getppid(), signal.SIGKILL)
                    os.kill(os.getpid(), signal.SIGKILL)
            elif act == "exit if a GPU may be used":
                if os.environ.get("CUDA_VISIBLE_DEVICES") != "":
                    os._exit(8)
            elif act == "exit":
                os._exit(7)
            elif act == "hang":
                re.match(r"(a+)+$", "a" * 80 + "b")  # for ages, and no other thread gets a turn
            elif act == "eat":
                eaten = []
                while True:
                    eaten.append(np.ones(4 << 20, np.uint8))  # written, so it is held
                    time.sleep(0.002)
            elif act == "refused":
                np.ones(1 << 60, np.uint8)
            elif act == "together" and len(photos) > 1:
                ctypes.string_at(0)


def make_stages(settings: BuildSettings, threads: int) -> list[Stage]:
    return [Deadly(), *toy_stages.make_stages(settings, threads)]


def make_stages_in_parts(settings: BuildSettings, threads: int) -> list[Stage]:
    decode, network, *others = toy_stages.make_stages(settings, threads)
    return [
        Deadly("decode"), decode, network, Deadly("networks", "gpu"), *others, Deadly("encode"),
    ]  # fmt: skip
