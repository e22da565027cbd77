"""Relevance per sample and retrieval through a probe."""

import pytest
import torch

from tests import toy_clip
from text2layer.errors import InputError
from text2layer.evaluation.relevance import clip_cosine, clip_score, relevance, retrieval
from text2layer.judges.relevance import (
    COLOUR_WIDTH,
    RelevanceConfig,
    RelevanceProbe,
    SentenceEncoder,
    retrieval_figures,
)
from text2layer.models.clip import load_clip

TEXTS = ["a red apple", "a blue lake", "the dog", "a yellow cat and a ball"]


@pytest.fixture(scope="module")
def probe(toy_text_encoder):
    sentences = SentenceEncoder(str(toy_text_encoder))
    config = RelevanceConfig("stand-in", "", 6, sentences.name, sentences.sha256, sentences.width)
    torch.manual_seed(0)
    return RelevanceProbe(config, sentences).eval().requires_grad_(False)


@pytest.fixture
def features():
    return torch.randn(4, 6 + COLOUR_WIDTH, generator=torch.Generator().manual_seed(2))


def test_it_is_the_cosine_of_each_pair(probe, features):
    found = relevance(probe, features, TEXTS)
    assert found.shape == (4,)
    for row, text in enumerate(TEXTS):
        picture = probe.picture_tower.layers(features[row : row + 1])
        sentence = probe.text_tower.layers(probe.sentences([text]))
        expected = torch.nn.functional.cosine_similarity(picture, sentence)
        assert float(found[row]) == pytest.approx(float(expected), abs=1e-5)


def test_retrieval_is_that_of_the_embeddings(probe, features):
    pictures, texts = probe.embed_features(features), probe.embed_texts(TEXTS)
    assert retrieval(probe, features, TEXTS, 3, 2, 7) == retrieval_figures(
        pictures, texts, TEXTS, 3, 2, 7
    )


def test_different_numbers_are_refused(probe, features):
    with pytest.raises(InputError, match="4 rows of features came with 1 texts"):
        relevance(probe, features, ["a dog"])
    with pytest.raises(InputError, match="4 pictures came with 3 texts"):
        retrieval(probe, features, TEXTS[:3], gallery=2)


CLIP_TEXTS = [
    "a red ball on grass",
    "dog",
    "a blue dog",
    "on a red ball",
    "grass",
    "a ball on a dog",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy_clip.save_clip(tmp_path_factory.mktemp("models") / "clip", seed=1)


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(len(CLIP_TEXTS), 3, 3, 4, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, size=(24, 32)).to(torch.uint8)


def published(folder):
    """The model and processor that torchmetrics wants, which was written for transformers 4."""
    from transformers import AutoImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    network = CLIPModel.from_pretrained(folder).eval()

    class Features:
        config = network.config

        def to(self, _device):
            return self

        def get_image_features(self, values):
            return network.visual_projection(network.vision_model(values)[1])

        def get_text_features(self, ids, mask):
            return network.text_projection(network.text_model(ids, mask)[1])

    tokenizer = CLIPTokenizer.from_pretrained(folder)
    return Features(), CLIPProcessor(AutoImageProcessor.from_pretrained(folder), tokenizer)


def test_it_is_torchmetrics_score_of_each_pair(folder, pictures):
    torchmetrics = pytest.importorskip("torchmetrics.functional.multimodal")
    ours = clip_score(load_clip(folder), pictures, CLIP_TEXTS)
    with torch.no_grad():
        theirs = [
            torchmetrics.clip_score(picture, text, lambda: published(folder))
            for picture, text in zip(pictures, CLIP_TEXTS, strict=True)
        ]
    torch.testing.assert_close(ours, torch.stack(theirs), atol=1e-3, rtol=1e-4)
    assert ours.max() > 5  # not all are cut at 0


def test_the_two_forms_differ_where_the_cosine_is_negative(folder, pictures):
    clip = load_clip(folder)
    cosine, score = clip_cosine(clip, pictures, CLIP_TEXTS), clip_score(clip, pictures, CLIP_TEXTS)
    assert cosine.shape == score.shape == (len(CLIP_TEXTS),)
    assert cosine.min() < 0 < cosine.max()
    torch.testing.assert_close(score, 100 * cosine.clamp(min=0))


def test_pictures_and_texts_of_different_numbers_are_refused(folder, pictures):
    with pytest.raises(InputError, match="6 pictures came with 1 texts"):
        clip_cosine(load_clip(folder), pictures, ["dog"])
