"""The stage that asks the quality classifiers whether mask and fill are good (PAPER.md, 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from text2layer.data.build.photo import Photo
from text2layer.data.build.settings import BuildSettings

if TYPE_CHECKING:
    from text2layer.models.quality import QualityModel


class Quality:
    """photo.scores["mask_quality"] and ["fill_quality"], 0..1; rejects below the settings' bounds.

    Args:
        settings: a bound of 0 turns a classifier off; with `quality_filter=False` both only score.
        model: the classifiers; None loads the shipped ones, unless both are turned off.

    Raises:
        WeightsError: the classifiers or their backbone are missing.
    """

    name = "quality"

    def __init__(self, settings: BuildSettings, model: QualityModel | None = None) -> None:
        self._settings = settings
        self._model = model
        if model is None and (settings.mask_quality or settings.fill_quality):
            from text2layer.models.quality import load_quality

            self._model = load_quality()
        self.model_hashes: dict[str, str] = {}
        if self._model is not None:
            self.model_hashes["quality"] = self._model.sha256

    def run(self, photos: Sequence[Photo]) -> None:
        """Score masks, then the fills of photos whose mask stays."""
        if self._model is None:
            return
        if self._settings.mask_quality:
            images = [photo.image for photo in photos if photo.image is not None]
            masks = [photo.mask for photo in photos if photo.mask is not None]
            scores = self._model.mask_scores(images, masks)
            self._judge(photos, "mask", scores, self._settings.mask_quality)
        photos = [photo for photo in photos if photo.rejected is None]
        if self._settings.fill_quality and photos:
            fills = [photo.background for photo in photos if photo.background is not None]
            holes = [photo.hole for photo in photos if photo.hole is not None]
            scores = self._model.fill_scores(fills, holes)
            self._judge(photos, "fill", scores, self._settings.fill_quality)

    def _judge(
        self, photos: Sequence[Photo], kind: str, scores: Sequence[float], least: float
    ) -> None:
        for photo, score in zip(photos, scores, strict=True):
            photo.scores[f"{kind}_quality"] = round(score, 4)
            if self._settings.quality_filter and score < least:
                photo.reject(
                    self.name, f"poor {kind}", f"scored {score:.2f}, at least {least:g} is asked"
                )
