"""A CLIP of the user's: what it gives against plain transformers, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import toy_clip
from text2layer.errors import InputError, WeightsError
from text2layer.models.clip import BATCH, load_clip

TEXTS = ["a red ball on grass", "dog", "a blue dog on a red ball"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy_clip.save_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="module")
def clip(folder):
    return load_clip(folder)


def pictures(count: int, height: int = toy_clip.SIDE, width: int = toy_clip.SIDE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def normalised(batch: torch.Tensor) -> torch.Tensor:
    """Pictures that need no resizing, as the picture tower wants them."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (toy_clip.MEAN, toy_clip.STD))
    return (batch.float() / 255 - mean) / std


def unit(rows: torch.Tensor) -> torch.Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


def test_embeddings_are_those_of_transformers(folder, clip):
    from transformers import CLIPModel, CLIPTokenizer

    network, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    tokens = [torch.tensor([tokenizer(text)["input_ids"]]) for text in TEXTS]
    with torch.no_grad():
        seen = network.visual_projection(network.vision_model(normalised(pictures(3)))[1])
        read = torch.cat([network.text_projection(network.text_model(ids)[1]) for ids in tokens])
    torch.testing.assert_close(clip.embed_pictures(pictures(3)), unit(seen), atol=1e-5, rtol=0)
    torch.testing.assert_close(clip.embed_texts(TEXTS), unit(read), atol=1e-5, rtol=0)
    assert unit(read).T.std(dim=1).min() > 1e-3  # the toy tells texts apart


def test_siglip_reads_padding_too(tmp_path):
    from transformers import BertTokenizer, SiglipModel

    folder = toy_clip.save_siglip(tmp_path / "siglip")
    clip = load_clip(folder)
    network, tokenizer = SiglipModel.from_pretrained(folder), BertTokenizer.from_pretrained(folder)
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    ids = torch.tensor([row + [0] * (toy_clip.MAX_TOKENS - len(row)) for row in rows])
    with torch.no_grad():
        read, seen = network.text_model(ids)[1], network.vision_model(normalised(pictures(3)))[1]
    torch.testing.assert_close(clip.embed_texts(TEXTS), unit(read), atol=1e-5, rtol=0)
    torch.testing.assert_close(clip.embed_pictures(pictures(3)), unit(seen), atol=1e-5, rtol=0)


def test_any_size_and_number_of_pictures_and_texts(clip):
    many = pictures(BATCH + 2, 20, 40)
    embedded = clip.embed_pictures(many)
    assert embedded.shape == (BATCH + 2, 8)
    torch.testing.assert_close(embedded[-1:], clip.embed_pictures(many[-1:]), atol=1e-5, rtol=0)
    texts = clip.embed_texts(TEXTS * BATCH)
    assert texts.shape == (3 * BATCH, 8)
    torch.testing.assert_close(texts[-3:], clip.embed_texts(TEXTS), atol=1e-5, rtol=0)
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(3 * BATCH))


def test_a_long_text_is_cut_off(clip):
    cut = clip.embed_texts(["red " * 10, "red " * 50])
    torch.testing.assert_close(cut[0], cut[1])


def test_the_hash_is_that_of_the_weights(clip, folder, tmp_path):
    assert clip.sha256 == load_clip(folder).sha256
    assert clip.sha256 != load_clip(toy_clip.save_clip(tmp_path / "other", seed=1)).sha256


@pytest.mark.parametrize(
    "given", [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8),
              torch.zeros(0, 3, 8, 8, dtype=torch.uint8)],
)  # fmt: skip
def test_what_are_no_pictures_is_named(clip, given):
    with pytest.raises(InputError, match="must be a uint8 tensor"):
        clip.embed_pictures(given)


@pytest.mark.parametrize("texts", [[], "a dog", [None]])
def test_what_are_no_texts_is_named(clip, texts):
    with pytest.raises(InputError, match=r"list of at least one text|must be text"):
        clip.embed_texts(texts)


@pytest.mark.parametrize("missing", ["model.safetensors", "preprocessor_config.json", "tokenizer"])
def test_a_folder_without_a_part_is_one_sentence(tmp_path, missing):
    folder = toy_clip.save_clip(tmp_path / "clip")
    for file in folder.iterdir():
        if file.name.startswith(missing):
            file.unlink()
    refused(folder)


def test_weights_that_are_missing_are_never_made_up(tmp_path):
    folder = toy_clip.save_clip(tmp_path / "clip")
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "visual_projection.weight" in refused(folder)


def test_a_network_without_towers_is_refused(toy_text_encoder):
    assert "has no get_image_features" in refused(toy_text_encoder)


def test_a_damaged_file_and_a_strange_model_are_refused(tmp_path):
    folder = toy_clip.save_clip(tmp_path / "clip")
    (folder / "model.safetensors").write_bytes(b"not weights")
    refused(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "none such"}))
    refused(folder)
    refused(tmp_path / "absent")
    with pytest.raises(WeightsError, match="has no name"):
        load_clip("")


def refused(folder) -> str:
    with pytest.raises(WeightsError, match="cannot be loaded") as error:
        load_clip(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)
    return str(error.value)
