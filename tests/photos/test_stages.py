"""Saliency, rules, foreground and background on drawn pictures with toy networks."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests import toy_onnx
from text2layer import photos
from text2layer.blend import composite_over
from text2layer.errors import WeightsError
from text2layer.models.inpainting import (
    MIGAN_GIVES,
    MIGAN_TAKES,
    MiganInpainter,
    OpencvInpainter,
)
from text2layer.models.saliency import SaliencyMap, load_saliency
from text2layer.photos.photo import Photo, PhotoRef, run_stages
from text2layer.photos.rules import Agreement, Rules
from text2layer.photos.settings import BuildSettings
from text2layer.photos.stages import Background, Foreground, Saliency, make_stages
from text2layer.pretrained import resolve

SETTINGS = BuildSettings(second_saliency="")
SIDE = 200


class Drawn:
    """A network that finds what it was told to find; counts the photos it saw."""

    name = "drawn"
    sha256 = "d" * 64

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask
        self.seen = 0

    def predict(self, images: Sequence[np.ndarray]) -> list[SaliencyMap]:
        self.seen += len(images)
        return [SaliencyMap(self.mask, 1.0) for _ in images]


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


MIDDLE = box(60, 130, 60, 140)


def photo_with(mask: np.ndarray, maximum: float = 0.95) -> Photo:
    image = np.random.default_rng(1).integers(0, 255, (*mask.shape, 3), np.uint8)
    return Photo(PhotoRef("key", "nowhere"), image=image, mask=mask, saliency_maximum=maximum)


def specks() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for corner in range(10, 190, 40):
        mask[corner : corner + 25, corner : corner + 25] = 255
    return mask


BROKEN = {
    "nothing found": photo_with(MIDDLE, maximum=0.3),
    "object too small": photo_with(box(90, 120, 90, 120)),
    "object too large": photo_with(box(10, 190, 10, 190)),
    "too many parts": photo_with(specks()),
    "touches the border": photo_with(box(0, 110, 0, 110)),
    "hole too large": photo_with(box(35, 160, 35, 160)),
}


def test_a_good_photo_passes_with_its_scores() -> None:
    photo = photo_with(MIDDLE)
    Rules(SETTINGS).run([photo])
    assert photo.rejected is None
    assert photo.scores["object_share"] == 0.14
    assert photo.scores["components"] == 1
    assert photo.scores["border_share"] == 0
    assert photo.scores["saliency_maximum"] == 0.95
    assert photo.hole is not None
    assert photo.scores["hole_share"] == pytest.approx(photo.hole.mean(), abs=1e-4)
    assert 0.14 < photo.scores["hole_share"] < 0.22
    assert "agreement" not in photo.scores


@pytest.mark.parametrize("reason", BROKEN)
def test_each_rule_rejects_with_its_reason_and_its_number(reason: str) -> None:
    photo = replace(BROKEN[reason], scores={})
    second = Drawn(MIDDLE)
    run_stages([Rules(SETTINGS), Agreement(SETTINGS, second=second)], [photo])
    assert photo.rejected is not None
    assert photo.rejected.stage == "rules"
    assert photo.rejected.reason == reason
    assert any(character.isdigit() for character in photo.rejected.detail)
    assert second.seen == 0  # the expensive rule is not asked


def test_networks_must_agree() -> None:
    agreeing, differing = Drawn(box(60, 130, 60, 138)), Drawn(box(60, 130, 100, 180))
    photo = photo_with(MIDDLE)
    stage = Agreement(SETTINGS, second=agreeing)
    stage.run([photo])
    assert photo.rejected is None
    assert photo.scores["agreement"] == pytest.approx(78 / 80, abs=1e-4)
    assert stage.model_hashes == {"second_saliency": "d" * 64}
    Agreement(SETTINGS, second=differing).run([photo])
    assert photo.rejected is not None
    assert photo.rejected.stage == "agreement"
    assert photo.rejected.reason == "networks disagree"
    assert photo.scores["agreement"] == pytest.approx(40 / 120, abs=1e-4)


def test_networks_that_both_find_nothing_agree() -> None:
    photo = photo_with(box(0, 0, 0, 0))
    Agreement(SETTINGS, second=Drawn(box(0, 0, 0, 0))).run([photo])
    assert photo.scores["agreement"] == 1
    assert photo.rejected is None  # the rules say that an empty mask is of no use


def test_without_the_filter_everything_is_scored_and_kept() -> None:
    settings = replace(SETTINGS, quality_filter=False)
    photos = [replace(photo, scores={}) for photo in BROKEN.values()]
    second = Drawn(box(0, 10, 0, 10))
    run_stages([Rules(settings), Agreement(settings, second=second)], photos)
    assert [photo.rejected for photo in photos] == [None] * len(photos)
    assert all("agreement" in photo.scores for photo in photos)


@pytest.mark.parametrize("quality_filter", [True, False])
def test_what_no_later_stage_could_use_is_always_rejected(quality_filter: bool) -> None:
    settings = replace(SETTINGS, quality_filter=quality_filter)
    empty, full = photo_with(box(0, 0, 0, 0)), photo_with(box(0, SIDE, 0, SIDE))
    Rules(settings).run([empty, full])
    assert empty.rejected is not None
    assert full.rejected is not None
    assert (empty.rejected.reason, full.rejected.reason) == ("nothing found", "hole too large")


def test_the_foreground_keeps_covered_colours_and_continues_them() -> None:
    mask = MIDDLE // 2
    mask[65:75, 65:75] = 25  # below the threshold: not foreground
    photo = photo_with(mask)
    Foreground(SETTINGS).run([photo])
    assert photo.image is not None
    assert photo.foreground is not None
    covered = mask >= 26
    assert np.array_equal(photo.foreground[covered], photo.image[covered])
    photo.image[65:75, 65:75] = 255 - photo.image[65:75, 65:75]
    photo.image[:20] = 0
    first = photo.foreground
    Foreground(SETTINGS).run([photo])
    assert np.array_equal(photo.foreground, first)  # made from covered pixels alone


def test_layers_of_a_photo_recompose_it(tmp_path: Path) -> None:
    """All four stages on a bright box before a dark wall, found by a toy network."""
    image = np.full((SIDE, SIDE, 3), 30, np.uint8)
    image[60:130, 60:140] = (250, 230, 240)
    network = load_saliency(
        str(toy_onnx.brightness_network(tmp_path / "toy.onnx", (1, 3, SIDE, SIDE))), 1
    )
    photo = Photo(PhotoRef("key", "nowhere"), image=image)
    stages = [
        Saliency(SETTINGS, network=network),
        Rules(SETTINGS),
        Foreground(SETTINGS),
        Background(SETTINGS, inpainter=OpencvInpainter()),
    ]
    run_stages(stages, [photo])
    assert photo.rejected is None
    assert photo.background is not None
    assert photo.hole is not None
    assert np.array_equal(photo.background[~photo.hole], image[~photo.hole])
    assert np.abs(photo.background.astype(int) - 30).max() <= 10  # the box is gone
    assert photo.foreground is not None
    whole = composite_over(photo.background, photo.foreground, photo.mask)
    assert np.abs(whole.astype(int) - image).max() <= 10  # Telea's own error around the box
    assert np.abs(whole.astype(int) - image)[~photo.hole].max() == 0
    assert photo.scores["recomposition_error"] <= 1
    assert stages[0].model_hashes == {"saliency": network.sha256}
    assert stages[3].model_hashes == {}
    assert set(photo.seconds) == {"saliency", "rules", "foreground", "background"}


def test_photos_together_give_the_layers_of_single_ones(tmp_path: Path) -> None:
    """As on a GPU: networks take several, photos differ in size, one leaves the line."""
    saliency = toy_onnx.brightness_network(tmp_path / "toy.onnx", (1, 3, SIDE, SIDE))
    migan = toy_onnx.migan_like(tmp_path / "migan.onnx", MIGAN_TAKES, MIGAN_GIVES)

    def through(numbers: Sequence[int], batch: int) -> list[Photo]:
        photos = []
        for n in numbers:
            image = np.full((SIDE + 3 * n, SIDE - 5 * n, 3), 30 + 10 * n, np.uint8)
            if n != 2:
                image[60 - n : 110, 60 : 130 - 4 * n] = (250, 230 - 20 * n, 240)
            photos.append(Photo(PhotoRef(f"key{n}", "nowhere"), image=image))
        stages = [
            Saliency(SETTINGS, network=load_saliency(str(saliency), 1, batch=batch)),
            Rules(SETTINGS),
            Foreground(SETTINGS),
            Background(SETTINGS, inpainter=MiganInpainter(migan, 1, batch)),
        ]
        run_stages(stages, photos)
        return photos

    together = through(range(5), 3)
    assert [photo.rejected is None for photo in together] == [True, True, False, True, True]
    for n, photo in enumerate(together):
        (alone,) = through([n], 1)
        assert photo.scores == pytest.approx(alone.scores, abs=1e-3)
        if n != 2:
            assert np.abs(photo.mask.astype(int) - alone.mask).max() <= 1
            assert np.abs(photo.background.astype(int) - alone.background).max() <= 1


ORDER = [
    "decode", "saliency", "rules", "mask quality", "agreement", "foreground", "background",
    "fill quality", "pair quality",
]  # fmt: skip


def test_stages_come_in_the_order_that_the_documents_say(tmp_path: Path) -> None:
    network = toy_onnx.brightness_network(tmp_path / "toy.onnx", (1, 3, SIDE, SIDE))
    settings = BuildSettings(
        saliency=str(network), second_saliency="", inpainter="opencv", mask_quality=0,
        fill_quality=0, pair_quality=0, licence="CC0-1.0",
    )  # fmt: skip
    assert [stage.name for stage in make_stages(settings, threads=1)] == ORDER
    assert " -> ".join(ORDER) in one_line(photos.__doc__)
    guide = (Path(__file__).parents[2] / "docs" / "build.md").read_text(encoding="utf-8")
    assert ", ".join(ORDER) in re.sub(r" \([^)]*\)", "", one_line(guide))


def test_what_a_photo_says_of_stages_names_those_that_there_are() -> None:
    named = re.findall(r"set by ([a-z ]+?)[.;,]", one_line(Photo.__doc__))
    assert {"decode", "background"} <= set(named)
    assert set(named) <= set(ORDER)


def one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def test_the_hash_of_a_network_is_that_of_its_weights() -> None:
    try:
        resolve("u2netp", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    stage = Saliency(replace(SETTINGS, saliency="u2netp"), threads=1)
    assert stage.model_hashes["saliency"].startswith("309c8469")
