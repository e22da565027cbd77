"""The stages of a build in their order, and those that make the layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property

import numpy as np

from text2layer.blend import composite_over, extend_edge_colours
from text2layer.models.hole import threshold_level
from text2layer.models.inpainting import Inpainter, load_inpainter
from text2layer.models.saliency import SaliencyModel, load_saliency
from text2layer.photos.photo import Photo, Stage, licence_of
from text2layer.photos.rules import Agreement, Rules
from text2layer.photos.settings import BuildSettings


def make_stages(settings: BuildSettings, threads: int = 0) -> list[Stage]:
    """All stages in order; what costs least comes first.

    Their networks are loaded when a stage is first run or asked for its models. This raises
    InputError if an optional package is missing, or a setting names no known network or one whose
    licence is not known; and WeightsError if weights are missing or damaged.

    Args:
        settings: of the build.
        threads: of one network's operator; 0 leaves it to the libraries. A pool of processes
            wants 1.
    """
    from text2layer.photos.decode import Decode
    from text2layer.photos.quality import (
        FillQuality,
        MaskQuality,
        PairQuality,
        load_classifiers,
    )

    classifiers = cache(lambda: load_classifiers(settings, threads))
    return [
        Decode(settings),
        WithNetworks(Saliency.name, lambda: Saliency(settings, threads)),
        Rules(settings),
        WithNetworks(MaskQuality.name, lambda: MaskQuality(settings, classifiers())),
        WithNetworks(Agreement.name, lambda: Agreement(settings, threads)),
        Foreground(settings),
        WithNetworks(Background.name, lambda: Background(settings, threads)),
        WithNetworks(FillQuality.name, lambda: FillQuality(settings, classifiers())),
        WithNetworks(PairQuality.name, lambda: PairQuality(settings, classifiers())),
    ]


class WithNetworks:
    """A stage that is made when it is first needed: most workers of a cluster do without."""

    device = "gpu"

    def __init__(self, name: str, make: Callable[[], Stage]) -> None:
        self.name = name
        self._make = make

    @cached_property
    def _stage(self) -> Stage:
        return self._make()

    @cached_property
    def model_hashes(self) -> dict[str, str]:
        """SHA-256 of its models, by role."""
        return self._stage.model_hashes

    @property
    def model_licences(self) -> dict[str, str]:
        """The licence of each model that says it, by role."""
        return getattr(self._stage, "model_licences", {})

    def run(self, photos: Sequence[Photo]) -> None:
        """See the stage that it makes."""
        self._stage.run(photos)


class Saliency:
    """photo.image -> photo.mask and photo.saliency_maximum."""

    name = "saliency"

    def __init__(
        self, settings: BuildSettings, threads: int = 0, network: SaliencyModel | None = None
    ) -> None:
        self._network = network or load_saliency(settings.saliency, threads, settings.licence)
        self.model_hashes = {"saliency": self._network.sha256}
        self.model_licences = {"saliency": licence_of(self._network, named=network is None)}

    def run(self, photos: Sequence[Photo]) -> None:
        """Find the salient object of every photo."""
        images = [photo.image for photo in photos if photo.image is not None]
        for photo, found in zip(photos, self._network.predict(images), strict=True):
            photo.mask = found.mask
            photo.saliency_maximum = found.maximum


class Foreground:
    """photo.image and photo.mask -> photo.foreground.

    The paper: the photo's pixels where the mask exceeds .1. Elsewhere the colours at the edge are
    continued outward, so that no halo appears when the layer is moved.
    """

    name = "foreground"
    model_hashes: dict[str, str]

    def __init__(self, settings: BuildSettings) -> None:
        self._level = threshold_level(settings.mask_threshold)
        self.model_hashes = {}

    def run(self, photos: Sequence[Photo]) -> None:
        """Cut out every photo's object."""
        for photo in photos:
            assert photo.image is not None
            assert photo.mask is not None
            photo.foreground = extend_edge_colours(photo.image, photo.mask, self._level)


class Background:
    """photo.image and photo.hole -> photo.background; kept pixels stay as they are.

    Score it writes: recomposition_error, mean difference in levels (0..255) between the photo and
    its layers laid over one another.
    """

    name = "background"

    def __init__(
        self, settings: BuildSettings, threads: int = 0, inpainter: Inpainter | None = None
    ) -> None:
        self._inpainter = inpainter or load_inpainter(settings.inpainter, threads, settings.licence)
        self.model_hashes, self.model_licences = {}, {}
        if self._inpainter.sha256:
            self.model_hashes["inpainter"] = self._inpainter.sha256
            said = licence_of(self._inpainter, named=inpainter is None)
            self.model_licences["inpainter"] = said

    def run(self, photos: Sequence[Photo]) -> None:
        """Fill the hole that `Rules` has cut into every photo."""
        images = [photo.image for photo in photos if photo.image is not None]
        holes = [photo.hole for photo in photos if photo.hole is not None]
        fills = self._inpainter.fill_all(images, holes)
        for photo, image, fill in zip(photos, images, fills, strict=True):
            photo.background = fill
            if photo.foreground is not None and photo.mask is not None:
                whole = composite_over(fill, photo.foreground, photo.mask)
                difference = np.abs(whole.astype(np.int16) - image)
                photo.scores["recomposition_error"] = round(float(difference.mean()), 3)
