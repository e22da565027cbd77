"""Text encoders: shapes, padding, limits and both model families."""

import json
from pathlib import Path

import pytest
import torch

from text2layer.errors import InputError, WeightsError
from text2layer.models.frozen import parameter_hash
from text2layer.models.text_encoder import encode_prompts, load_text_encoder
from text2layer.pretrained import resolve

WORDS = ["a", "red", "blue", "ball", "on", "grass", "dog"]


@pytest.fixture(scope="module")
def minilm():
    try:
        resolve("minilm", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    return load_text_encoder("minilm")


@pytest.fixture
def bert_folder(tmp_path: Path) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizer

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)})
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    vocabulary = ["<|startoftext|>", "<|endoftext|>", *(f"{word}</w>" for word in WORDS)]
    letters = sorted({letter for word in WORDS for letter in word})
    vocabulary += [*letters, *(f"{letter}</w>" for letter in letters if letter != "a")]
    tokenizer = CLIPTokenizer(
        vocab={word: i for i, word in enumerate(vocabulary)}, merges=[], model_max_length=32
    )
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=1,
    )
    CLIPTextModel(config).save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def test_minilm_gives_token_states_as_long_as_the_longest_prompt(minilm):
    states, mask = encode_prompts(*minilm, ["a red bicycle in front of a forest", "a dog"])
    assert states.shape == (2, 10, 384)
    assert states.dtype == torch.float32
    assert mask.dtype == torch.bool
    assert mask.sum(dim=1).tolist() == [10, 4]  # [CLS] words [SEP]
    assert not states.requires_grad
    assert states[~mask].abs().max() == 0


def test_minilm_understands_what_is_alike(minilm):
    states, mask = encode_prompts(
        *minilm,
        ["a puppy plays on the lawn", "a young dog runs over grass", "the stock market fell"],
    )
    sentence = states.sum(dim=1) / mask.sum(dim=1, keepdim=True)
    sentence = sentence / sentence.norm(dim=1, keepdim=True)
    likeness = sentence @ sentence.T
    assert likeness[0, 1] > 0.5 > likeness[0, 2] + 0.3


def test_a_prompt_has_the_same_states_alone_and_in_a_batch(minilm):
    alone, _ = encode_prompts(*minilm, ["a dog"])
    together, _ = encode_prompts(*minilm, ["a dog", "a small boat on a quiet lake at dawn"])
    torch.testing.assert_close(together[0, : alone.shape[1]], alone[0], atol=1e-5, rtol=1e-4)


def test_the_empty_prompt_is_start_and_end_only(minilm):
    states, mask = encode_prompts(*minilm, [""])
    assert states.shape == (1, 2, 384)
    assert mask.all()


@pytest.mark.parametrize("family", ["bert_folder", "clip_folder"])
def test_both_families_load_from_a_folder_and_are_frozen(family, request):
    tokenizer, encoder = load_text_encoder(request.getfixturevalue(family))
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    states, mask = encode_prompts(tokenizer, encoder, ["a red ball on grass", "dog", ""])
    assert states.shape == (3, mask.sum(dim=1).max(), 16)
    lengths = mask.sum(dim=1).tolist()
    assert lengths[0] > lengths[1] > lengths[2] == 2
    alone, _ = encode_prompts(tokenizer, encoder, ["dog"])
    torch.testing.assert_close(states[1, : alone.shape[1]], alone[0], atol=1e-5, rtol=1e-4)


def test_only_the_text_half_of_a_whole_clip_is_loaded(clip_folder, tmp_path):
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

    text = CLIPTextConfig.from_pretrained(clip_folder)
    vision = CLIPVisionConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=8,
    )
    whole = CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict()))
    whole.save_pretrained(tmp_path / "whole")
    CLIPTokenizer.from_pretrained(clip_folder).save_pretrained(tmp_path / "whole")

    tokenizer, encoder = load_text_encoder(tmp_path / "whole")
    assert type(encoder).__name__ == "CLIPTextModel"
    states, _ = encode_prompts(tokenizer, encoder, ["dog"])
    ids = torch.tensor([tokenizer("dog")["input_ids"]])
    expected = whole.eval().text_model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(states, expected)


def test_a_long_prompt_names_its_tokens_and_the_limit(minilm):
    with pytest.raises(InputError, match=r"has 72 tokens and the limit is 64; shorten it"):
        encode_prompts(*minilm, ["a dog", "red " * 70])


def test_the_limit_is_never_above_the_position_table(bert_folder):
    with pytest.raises(InputError, match=r"has 22 tokens and the limit is 12"):
        encode_prompts(*load_text_encoder(bert_folder), ["red " * 20], max_length=64)


@pytest.mark.parametrize("prompts", [[], "a dog", [None], [3]])
def test_prompts_that_are_no_list_of_texts_are_refused(minilm, prompts):
    with pytest.raises(InputError, match=r"prompt|Prompts"):
        encode_prompts(*minilm, prompts)


def test_a_folder_without_a_model_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(WeightsError, match="No text encoder could be read from") as error:
        load_text_encoder(tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_without_a_tokenizer_is_one_sentence(bert_folder):
    for file in bert_folder.glob("*token*"):
        file.unlink()
    with pytest.raises(WeightsError, match="the tokenizer's files are missing") as error:
        load_text_encoder(bert_folder)
    assert "\n" not in str(error.value)


def test_the_hash_follows_the_values_and_not_the_file(bert_folder, tmp_path):
    _, encoder = load_text_encoder(bert_folder)
    before = parameter_hash(encoder)
    encoder.save_pretrained(tmp_path / "again", max_shard_size="2KB")
    load_text_encoder(bert_folder)[0].save_pretrained(tmp_path / "again")
    assert parameter_hash(load_text_encoder(tmp_path / "again")[1]) == before
    next(encoder.parameters()).data[0, 0] += 1e-3
    assert parameter_hash(encoder) != before
