"""The three stages that ask the quality classifiers about mask, fill and the pair of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from text2layer.photos.photo import Photo
from text2layer.photos.settings import BuildSettings

if TYPE_CHECKING:
    from text2layer.judges.quality import QualityModel


class _Judge:
    """Scores photos by one classifier, 0..1, and rejects those below the setting.

    Args:
        settings: a bound of 0 turns the classifier off; with `quality_filter=False` it only scores.
        model: the classifiers; None where they are turned off.
    """

    kind: str
    name: str

    def __init__(self, settings: BuildSettings, model: QualityModel | None) -> None:
        self._least: float = getattr(settings, f"{self.kind}_quality")
        self._filter = settings.quality_filter
        self._model = model if self._least else None
        self.model_hashes = {"quality": self._model.sha256} if self._model is not None else {}

    def run(self, photos: Sequence[Photo]) -> None:
        """Write photo.scores["mask_quality"], ["fill_quality"] or ["pair_quality"]; reject."""
        if self._model is None:
            return
        for photo, score in zip(photos, self._scores(self._model, photos), strict=True):
            photo.scores[f"{self.kind}_quality"] = round(score, 4)
            if self._filter and score < self._least:
                detail = f"scored {score:.2f}, at least {self._least:g} is asked"
                photo.reject(self.name, f"poor {self.kind}", detail)

    def _scores(self, model: QualityModel, photos: Sequence[Photo]) -> list[float]:
        raise NotImplementedError


class MaskQuality(_Judge):
    """Judges every mask, before anything is filled."""

    kind, name = "mask", "mask quality"

    def _scores(self, model: QualityModel, photos: Sequence[Photo]) -> list[float]:
        images = [photo.image for photo in photos if photo.image is not None]
        masks = [photo.mask for photo in photos if photo.mask is not None]
        return model.mask_scores(images, masks)


class FillQuality(_Judge):
    """Judges every filled background."""

    kind, name = "fill", "fill quality"

    def _scores(self, model: QualityModel, photos: Sequence[Photo]) -> list[float]:
        fills = [photo.background for photo in photos if photo.background is not None]
        holes = [photo.hole for photo in photos if photo.hole is not None]
        return model.fill_scores(fills, holes)


class PairQuality(_Judge):
    """Judges layers and composite together; nothing can be known before both layers exist."""

    kind, name = "pair", "pair quality"

    def _scores(self, model: QualityModel, photos: Sequence[Photo]) -> list[float]:
        from text2layer.judges.pair import Layers, pair_scores

        samples = []
        for photo in photos:
            assert photo.image is not None
            assert photo.mask is not None
            assert photo.foreground is not None
            assert photo.background is not None
            assert photo.hole is not None
            layers = (photo.image, photo.mask, photo.foreground, photo.background, photo.hole)
            samples.append(Layers(*layers))
        return pair_scores(model, samples)


def load_classifiers(settings: BuildSettings, threads: int = 0) -> QualityModel | None:
    """The shipped classifiers, or None if the settings turn all of them off.

    Args:
        settings: of the build.
        threads: of torch, whose default of all cores would slow a pool of processes down; 0
            leaves it.

    Raises:
        WeightsError: they or their backbone are missing.
    """
    if not (settings.mask_quality or settings.fill_quality or settings.pair_quality):
        return None
    import torch

    from text2layer.judges.quality import load_quality
    from text2layer.models.frozen import TORCH, batch_on, torch_device
    from text2layer.models.placement import place

    if threads:
        torch.set_num_threads(threads)
    model = load_quality()
    device = torch_device()
    if device != "cpu":
        model.to(device)
        model.batch = batch_on(device)
    place("quality classifiers", TORCH, device, model.batch)
    return model
