"""Training of the probe: the loss, that it learns, what it keeps and what it refuses."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests import toy_model
from tests.toy_library import build_toy_library
from text2layer.data.composer import Composer
from text2layer.data.library import Library
from text2layer.errors import DataError, InputError
from text2layer.judges.relevance import RelevanceProbe, SentenceEncoder, load_relevance
from text2layer.judges.relevance_training import (
    RelevanceSettings,
    contrastive_loss,
    fit,
    gather_pairs,
    measure,
    train_relevance,
)
from text2layer.models.frozen import module_sha256

SETTINGS = RelevanceSettings(
    samples=24, held_out=12, captions=2, size=32, width=16, steps=150, batch_size=24,
    learning_rate=1e-2, weight_decay=0, dropout=0, validate_every=50, gallery=4, galleries=3,
)  # fmt: skip


class RandomFeatures(nn.Module):
    """A random convolution and nothing learnt; counts the pictures it has seen."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.convolution = nn.Conv2d(3, 8, 5, stride=4)
        self.sha256 = module_sha256(self)
        self.seen = 0

    @torch.no_grad()
    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        self.seen += len(pictures)
        maps = torch.relu(self.convolution(pictures.float() / 127.5 - 1))
        return F.adaptive_avg_pool2d(maps, 3).flatten(1)


@pytest.fixture(scope="module")
def text_encoder(tmp_path_factory):
    """The tiny BERT with room for the library's captions, which it mostly spells."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy_model, "MAX_TOKENS", 160)
        return toy_model.save_text_encoder(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    library = Library(build_toy_library(tmp_path_factory.mktemp("data") / "library"))
    return tuple(Composer(library, split, 32, progress=False) for split in ("train", "val", "test"))


def train(sources, out, text_encoder, settings=SETTINGS, **options):
    extractor = options.pop("extractor", None) or RandomFeatures()
    return train_relevance(
        sources, extractor, out, settings, extractor_name="random",
        text_encoder=str(text_encoder), progress=False, **options,
    )  # fmt: skip


def test_the_loss_is_clips_where_no_caption_repeats():
    """Written again by hand: the mean of -log softmax of the own pair, over both axes."""
    generator = torch.Generator().manual_seed(0)
    pictures, texts = (F.normalize(torch.randn(5, 3, generator=generator), dim=1) for _ in "ab")
    found = contrastive_loss(pictures, texts, torch.tensor(7.0), torch.arange(5))
    expected = 0.0
    for row in range(5):
        for likeness in (pictures @ texts.T, texts @ pictures.T):
            shares = [math.exp(7 * float(value)) for value in likeness[row]]
            expected -= math.log(shares[row] / sum(shares)) / 10
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_pairs_with_one_caption_are_no_wrong_answers():
    generator = torch.Generator().manual_seed(0)
    pictures, texts = (F.normalize(torch.randn(3, 3, generator=generator), dim=1) for _ in "ab")
    scale = torch.tensor(5.0)
    found = contrastive_loss(pictures, texts, scale, torch.tensor([4, 9, 4]))
    logits = scale * pictures @ texts.T
    expected = 0.0
    for row, others in ((0, [0, 1]), (1, [0, 1, 2]), (2, [1, 2])):
        for axis in (logits, logits.T):
            expected += float(axis[row, others].logsumexp(0) - axis[row, row]) / 6
    assert float(found) == pytest.approx(expected, rel=1e-5)
    alone = contrastive_loss(pictures, texts, scale, torch.tensor([4, 4, 4]))
    assert float(alone) == pytest.approx(0, abs=1e-6)


def test_it_learns_its_pairs_by_heart(sources, text_encoder, tmp_path):
    train(sources, tmp_path, text_encoder)
    probe = load_relevance(tmp_path)
    pairs = gather_pairs(sources[0], RandomFeatures(), probe.sentences, SETTINGS, 0, progress=False)
    fresh = RelevanceProbe(probe.config, probe.sentences)
    fitted, step = fit(fresh, pairs, pairs, SETTINGS, progress=False)
    figures = measure(fitted, pairs, SETTINGS)
    assert step in (50, 100, 150)
    assert figures["text_to_picture"]["r1"] == figures["picture_to_text"]["r1"] == 1
    assert not any(parameter.requires_grad for parameter in fitted.parameters())


def test_the_report_is_measured_on_what_is_stored(sources, text_encoder, tmp_path):
    report = train(sources, tmp_path, text_encoder)
    probe = load_relevance(tmp_path)
    assert probe.config.held_out == report["held_out"]
    assert probe.config.trained_on["data"] == sources[0].fingerprint
    assert probe.config.extractor_sha256 == RandomFeatures().sha256
    held_out = gather_pairs(
        sources[2], RandomFeatures(), SentenceEncoder(str(text_encoder)), SETTINGS, 2,
        progress=False,
    )  # fmt: skip
    assert measure(probe, held_out, SETTINGS) == report["held_out"]


def test_the_same_run_gives_the_same_bytes(sources, text_encoder, tmp_path):
    for name in ("first", "second"):
        train(sources, tmp_path / name, text_encoder)
    for name in ("probe.safetensors", "config.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_cached_features_are_used_only_for_the_same_pictures(sources, text_encoder, tmp_path):
    cache = tmp_path / "cache"

    def seen(extractor, settings=SETTINGS) -> int:
        report = train(sources, tmp_path / "probe", text_encoder, settings,
                       extractor=extractor, cache=cache)  # fmt: skip
        reports.append(report["held_out"])
        return extractor.seen

    reports: list[dict] = []
    whole = SETTINGS.samples + 2 * SETTINGS.held_out
    assert seen(RandomFeatures()) == whole
    assert seen(RandomFeatures()) == 0
    assert reports[0] == reports[1]
    assert seen(RandomFeatures(), RelevanceSettings(**{**vars(SETTINGS), "seed": 1})) == whole
    assert seen(RandomFeatures(seed=1)) == whole
    (cache / "val.safetensors").write_bytes(b"damaged")
    assert seen(RandomFeatures(seed=1)) > 0


def test_galleries_that_cannot_be_filled_are_refused(sources, text_encoder, tmp_path):
    settings = RelevanceSettings(**{**vars(SETTINGS), "gallery": 100})
    with pytest.raises(DataError, match="of the val split have"):
        train(sources, tmp_path / "probe", text_encoder, settings)
    assert not (tmp_path / "probe").exists()


@pytest.mark.parametrize(
    "given", [{"samples": 0}, {"hidden": -1}, {"dropout": 1}, {"gallery": 1}, {"learning_rate": 0}]
)
def test_settings_out_of_range_are_named(given):
    with pytest.raises(InputError, match=next(iter(given))):
        RelevanceSettings(**given)
