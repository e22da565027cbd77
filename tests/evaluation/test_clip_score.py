"""CLIP score against torchmetrics with the same tiny CLIP."""

import pytest
import torch

from tests import toy_clip
from text2layer.errors import InputError
from text2layer.evaluation.clip_score import clip_cosine, clip_score
from text2layer.models.clip import load_clip

TEXTS = ["a red ball on grass", "dog", "a blue dog", "on a red ball", "grass", "a ball on a dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy_clip.save_clip(tmp_path_factory.mktemp("models") / "clip", seed=1)


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(len(TEXTS), 3, 3, 4, generator=generator) * 255
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
    ours = clip_score(load_clip(folder), pictures, TEXTS)
    with torch.no_grad():
        theirs = [
            torchmetrics.clip_score(picture, text, lambda: published(folder))
            for picture, text in zip(pictures, TEXTS, strict=True)
        ]
    torch.testing.assert_close(ours, torch.stack(theirs), atol=1e-3, rtol=1e-4)
    assert ours.max() > 5  # not all are cut at 0


def test_the_two_forms_differ_where_the_cosine_is_negative(folder, pictures):
    clip = load_clip(folder)
    cosine, score = clip_cosine(clip, pictures, TEXTS), clip_score(clip, pictures, TEXTS)
    assert cosine.shape == score.shape == (len(TEXTS),)
    assert cosine.min() < 0 < cosine.max()
    torch.testing.assert_close(score, 100 * cosine.clamp(min=0))


def test_pictures_and_texts_of_different_numbers_are_refused(folder, pictures):
    with pytest.raises(InputError, match="6 pictures came with 1 texts"):
        clip_cosine(load_clip(folder), pictures, ["dog"])
