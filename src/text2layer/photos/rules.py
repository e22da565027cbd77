"""What a mask must be like: rules on measures of it, and the agreement of a second network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from text2layer.masks import OBJECT_LEVEL, connected_components, intersection_over_union
from text2layer.models.hole import cut_hole
from text2layer.models.saliency import SaliencyModel, load_saliency
from text2layer.photos.photo import Photo, licence_of
from text2layer.photos.settings import BuildSettings

PART_PIXELS = 100  # smaller parts are specks, as in the statistics of LAION-L2I


class Rules:
    """Measure every mask, reject by the settings' bounds.

    With `quality_filter=False` everything is measured and nothing rejected, but for masks without
    any object and holes that leave nothing to fill from: no later stage could go on with those.

    Scores it writes: saliency_maximum, object_share, border_share, components, hole_share (all but
    the count in 0..1).
    """

    name = "rules"

    def __init__(self, settings: BuildSettings) -> None:
        self._settings = settings
        self.model_hashes: dict[str, str] = {}

    def run(self, photos: Sequence[Photo]) -> None:
        """Write scores and `photo.hole`; reject."""
        for photo in photos:
            self._measure(photo)
            for reason, detail in self._complaints(photo):
                photo.reject(self.name, reason, detail)

    def _measure(self, photo: Photo) -> None:
        mask, settings = photo.mask, self._settings
        assert mask is not None
        photo.hole = cut_hole(
            mask, settings.mask_threshold, settings.dilation, settings.dilation_below
        )
        photo.scores |= {
            "saliency_maximum": round(photo.saliency_maximum, 4),
            "object_share": round(object_share(mask), 4),
            "border_share": round(border_share(mask), 4),
            "components": float(count_parts(mask)),
            "hole_share": round(float(photo.hole.mean()), 4),
        }

    def _complaints(self, photo: Photo) -> Iterator[tuple[str, str]]:
        """Reason and detail of every rule that the photo breaks, in order."""
        settings, scores = self._settings, photo.scores
        assert photo.hole is not None
        if not photo.hole.any():
            yield "nothing found", "the mask is empty"
        if photo.hole.all():
            yield "hole too large", "it is the whole picture"
        if not settings.quality_filter:
            return
        found, share = scores["saliency_maximum"], scores["object_share"]
        if found < settings.min_saliency:
            yield "nothing found", f"saliency {found:.2f}, at least {settings.min_saliency:g}"
        if share < settings.min_object:
            yield (
                "object too small",
                f"{share:.1%} of the picture, at least {settings.min_object:g}",
            )
        if share > settings.max_object:
            yield "object too large", f"{share:.1%} of the picture, at most {settings.max_object:g}"
        if scores["components"] > settings.max_components:
            parts = f"{scores['components']:.0f} parts, at most {settings.max_components}"
            yield "too many parts", parts
        if scores["border_share"] > settings.max_border:
            border = f"{scores['border_share']:.1%} of the border, at most {settings.max_border:g}"
            yield "touches the border", border
        if scores["hole_share"] > settings.max_hole:
            hole = f"{scores['hole_share']:.1%} of the picture, at most {settings.max_hole:g}"
            yield "hole too large", hole


class Agreement:
    """Ask a second saliency network, and reject photos on which the two find different objects.

    The costliest look at a mask, so it comes after the rules and the mask classifier. Score it
    writes: agreement, the IoU (0..1) of the two masks.

    Args:
        settings: of the build; no second network, no agreement is asked for.
        threads: of one operator.
        second: the network; None loads the one that the settings name.
    """

    name = "agreement"

    def __init__(
        self, settings: BuildSettings, threads: int = 0, second: SaliencyModel | None = None
    ) -> None:
        self._settings = settings
        self._second = second
        if second is None and settings.second_saliency:
            self._second = load_saliency(settings.second_saliency, threads, settings.licence)
        self.model_hashes: dict[str, str] = {}
        self.model_licences: dict[str, str] = {}
        if self._second is not None:
            self.model_hashes["second_saliency"] = self._second.sha256
            said = licence_of(self._second, named=second is None)
            self.model_licences["second_saliency"] = said

    def run(self, photos: Sequence[Photo]) -> None:
        """Write `photo.second_mask` and the score; reject."""
        if self._second is None:
            return
        images = [photo.image for photo in photos if photo.image is not None]
        for photo, found in zip(photos, self._second.predict(images), strict=True):
            assert photo.mask is not None
            photo.second_mask = found.mask
            agreement = intersection_over_union(photo.mask, photo.second_mask)
            photo.scores["agreement"] = round(agreement, 4)
            if self._settings.quality_filter and agreement < self._settings.min_agreement:
                detail = f"IoU {agreement:.2f}, at least {self._settings.min_agreement:g}"
                photo.reject(self.name, "networks disagree", detail)


def object_share(mask: np.ndarray) -> float:
    """Share (0..1) of a (H, W) uint8 mask that is object."""
    return float((mask >= OBJECT_LEVEL).mean())


def border_share(mask: np.ndarray) -> float:
    """Share (0..1) of the picture's outermost pixels that are object."""
    inside = mask >= OBJECT_LEVEL
    border = np.concatenate([inside[0], inside[-1], inside[1:-1, 0], inside[1:-1, -1]])
    return float(border.mean())


def count_parts(mask: np.ndarray) -> int:
    """Number of 8-connected parts of the object with at least `PART_PIXELS` pixels."""
    sizes = connected_components(mask >= OBJECT_LEVEL, 8)[1]
    return int((sizes >= PART_PIXELS).sum())
