"""The two stages that ask the quality classifiers about mask and fill (PAPER.md, 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from text2layer.data.build.photo import Photo
from text2layer.data.build.settings import BuildSettings

if TYPE_CHECKING:
    from text2layer.models.quality import QualityModel


class MaskQuality:
    """photo.scores["mask_quality"], 0..1; rejects below the setting, before anything is filled.

    Args:
        settings: a bound of 0 turns the classifier off; with `quality_filter=False` it only scores.
        model: the classifiers; None where they are turned off.
    """

    name = "mask quality"

    def __init__(self, settings: BuildSettings, model: QualityModel | None) -> None:
        self._least = settings.mask_quality
        self._filter = settings.quality_filter
        self._model = model if self._least else None
        self.model_hashes = {"quality": self._model.sha256} if self._model is not None else {}

    def run(self, photos: Sequence[Photo]) -> None:
        """Score every mask."""
        if self._model is None:
            return
        images = [photo.image for photo in photos if photo.image is not None]
        masks = [photo.mask for photo in photos if photo.mask is not None]
        scores = self._model.mask_scores(images, masks)
        _judge(photos, self.name, "mask", scores, self._least, self._filter)


class FillQuality:
    """photo.scores["fill_quality"], 0..1; see `MaskQuality`."""

    name = "fill quality"

    def __init__(self, settings: BuildSettings, model: QualityModel | None) -> None:
        self._least = settings.fill_quality
        self._filter = settings.quality_filter
        self._model = model if self._least else None
        self.model_hashes = {"quality": self._model.sha256} if self._model is not None else {}

    def run(self, photos: Sequence[Photo]) -> None:
        """Score every filled background."""
        if self._model is None:
            return
        fills = [photo.background for photo in photos if photo.background is not None]
        holes = [photo.hole for photo in photos if photo.hole is not None]
        scores = self._model.fill_scores(fills, holes)
        _judge(photos, self.name, "fill", scores, self._least, self._filter)


def load_classifiers(settings: BuildSettings, threads: int = 0) -> QualityModel | None:
    """The shipped classifiers, or None if the settings turn both off.

    Args:
        settings: of the build.
        threads: of torch, whose default of all cores would slow a pool of processes down; 0
            leaves it.

    Raises:
        WeightsError: they or their backbone are missing.
    """
    if not (settings.mask_quality or settings.fill_quality):
        return None
    import torch

    from text2layer.models.quality import load_quality

    if threads:
        torch.set_num_threads(threads)
    return load_quality()


def _judge(
    photos: Sequence[Photo],
    stage: str,
    kind: str,
    scores: Sequence[float],
    least: float,
    reject: bool,
) -> None:
    for photo, score in zip(photos, scores, strict=True):
        photo.scores[f"{kind}_quality"] = round(score, 4)
        if reject and score < least:
            photo.reject(stage, f"poor {kind}", f"scored {score:.2f}, at least {least:g} is asked")
