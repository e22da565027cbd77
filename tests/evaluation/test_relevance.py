"""Relevance per sample and retrieval through a probe."""

import pytest
import torch

from text2layer.errors import InputError
from text2layer.evaluation.relevance import relevance, retrieval
from text2layer.models.relevance import (
    COLOUR_WIDTH,
    RelevanceConfig,
    RelevanceProbe,
    SentenceEncoder,
    retrieval_figures,
)

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
