"""A photo on its way through the stages, and what a stage is."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from text2layer.data.places import read_bytes
from text2layer.errors import InputError, Text2LayerError


@dataclass(frozen=True)
class PhotoRef:
    """Where a photo lies and what its source says about it; no pixel is read yet.

    Attributes:
        key: name of the sample to be, unique in a build (`schema.KEY`).
        location: path or address of the picture, or of the tar or table that holds it.
        offset: first byte of the picture in the tar, or its row in the table; -1 for a file of its
            own on this machine.
        size: bytes of the picture from there; -1 where it is not known.
        caption: words for the photo; "" when the source has none.
        source: data set, page or file that the photo comes from.
        license: as the source says; "" is unknown.
        author: as the source says; "" is unknown.
        opt_out: the owner asks for it not to be used in training (noai and the like).
        column: of the table that holds it; "" where it lies in no table.
    """

    key: str
    location: str
    offset: int = -1
    size: int = -1
    caption: str = ""
    source: str = ""
    license: str = ""
    author: str = ""
    opt_out: bool = False
    column: str = ""

    def read(self) -> bytes:
        """The encoded picture.

        Raises:
            OSError: it cannot be read.
            DataError: it is not this photo alone that cannot be read: its disk or server is gone,
                or access is refused.
        """
        if self.column:
            from text2layer.photos.tables import picture_of_row

            return picture_of_row(self.location, self.column, self.offset)
        return read_bytes(self.location, self.offset, self.size)

    def to_json(self) -> dict[str, Any]:
        """All fields, for journals and for workers on other machines."""
        return asdict(self)


WORKER = "worker"  # named as the stage of photos on which a worker died or hung


@dataclass(frozen=True)
class Rejection:
    """Why a photo is not in the data set.

    Attributes:
        stage: name of the stage that rejected it.
        reason: one of a few short names, counted in the report ("too small", "no object").
        detail: what was measured, in words ("120x90 px, at least 256 are needed").
    """

    stage: str
    reason: str
    detail: str = ""


@dataclass
class Photo:
    """What is known of a photo so far; each stage fills in its part.

    Attributes:
        ref: where it comes from.
        image: (H, W, 3) uint8, upright sRGB, at working size; set by decode.
        mask: (H, W) uint8, soft saliency mask; set by saliency.
        saliency_maximum: raw maximum of the saliency network before it is stretched to 0..1.
        second_mask: (H, W) uint8 of the second saliency network, if one is used.
        foreground: (H, W, 3) uint8, the photo's colour where the mask is above the threshold and
            edge colours continued outward elsewhere; set by foreground.
        hole: (H, W) bool, where the background is filled in; set by rules.
        background: (H, W, 3) uint8, the photo outside the hole; set by background.
        scores: measured values by name; each stage that measures adds its own.
        seconds: time spent by stage.
        rejected: why it left the line, or None.
    """

    ref: PhotoRef
    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    saliency_maximum: float = 0.0
    second_mask: np.ndarray | None = None
    foreground: np.ndarray | None = None
    hole: np.ndarray | None = None
    background: np.ndarray | None = None
    scores: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    rejected: Rejection | None = None

    def reject(self, stage: str, reason: str, detail: str = "") -> None:
        """Take the photo out of the line; the first rejection counts."""
        if self.rejected is None:
            self.rejected = Rejection(stage, reason, detail)

    def drop_pictures(self) -> None:
        """Forget all pixels; what is known of the photo stays."""
        self.image = self.mask = self.second_mask = self.foreground = None
        self.hole = self.background = None


class Stage(Protocol):
    """One step of the build.

    Attributes:
        name: shown in reports.
        model_hashes: SHA-256 of every model it uses, by role.

    A stage may have `model_licences` too: the licence of each model, by role. And `device`, which
    says where a cluster with GPUs runs it: "gpu" or "cpu". Without it, those with models run on a
    GPU.
    """

    name: str

    @property
    def model_hashes(self) -> dict[str, str]: ...

    def run(self, photos: Sequence[Photo]) -> None:
        """Fill in its part of every photo, or reject it; never raises for a bad photo."""
        ...


def run_stages(stages: Sequence[Stage], photos: Sequence[Photo]) -> None:
    """Lead a batch of photos through all stages; a rejected photo skips the rest.

    The time of a stage is divided among the photos it saw.
    """
    for stage in stages:
        alive = [photo for photo in photos if photo.rejected is None]
        if not alive:
            return
        begun = perf_counter()
        stage.run(alive)
        share = (perf_counter() - begun) / len(alive)
        for photo in alive:
            photo.seconds[stage.name] = photo.seconds.get(stage.name, 0.0) + share


def through_stages(photos: Sequence[Photo], stages: Sequence[Stage]) -> list[Photo]:
    """A batch through all stages; if a stage breaks, each photo goes alone to find the culprit."""
    before = deepcopy(photos)  # a stage that breaks leaves its batch half done
    try:
        run_stages(stages, photos)
        return list(photos)
    except (Text2LayerError, MemoryError):
        raise  # about the build, not about a photo
    except Exception:
        return [_alone(photo, stages) for photo in before]


def _alone(photo: Photo, stages: Sequence[Stage]) -> Photo:
    for stage in stages:
        try:
            run_stages([stage], [photo])
        except (Text2LayerError, MemoryError):
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            photo.reject(stage.name, "stage failed", said[:300])
    return photo


def licence_of(network: Any, *, named: bool = True) -> str:
    """The licence of a network that takes part in a build.

    Args:
        network: with `name`, `sha256` and, where it is known, `licence`.
        named: the settings name it; one that a program gives needs no licence.

    Raises:
        InputError: it has weights, and nobody says under which licence.
    """
    licence = str(getattr(network, "licence", ""))
    if named and network.sha256 and not licence:
        raise InputError(
            f"The network {network.name!r} comes without a licence, which every sample must name; "
            "give it: --licence NAME."
        )
    return licence
