"""The toy stages and one before them that does to its worker what broken libraries do.

What happens is written in the caption of a photo; DEADLY_STAGES=mended makes all of it harmless.
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


class Deadly:
    name = "deadly"

    def __init__(self) -> None:
        self.model_hashes: dict[str, str] = {}

    def run(self, photos: Sequence[Photo]) -> None:
        if os.environ.get("DEADLY_STAGES") == "mended":
            return
        for photo in photos:
            act = photo.ref.caption.partition(":")[2].strip()
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
