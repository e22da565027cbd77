"""Finding the cut-out that a prompt asks for: by name first, then by meaning."""

from collections.abc import Callable

import pytest
import torch

from text2layer.data.cutout_search import (
    LEAST_COSINE,
    USUAL_STYLES,
    caption_vectors,
    find_cutout,
    object_phrase,
)
from text2layer.data.library import ForegroundRecord
from text2layer.errors import InputError
from text2layer.models.text_encoder import encode_prompts, load_text_encoder


def record(caption: str, concept: str, style: str = "3d icon", **fields: str) -> ForegroundRecord:
    name = f"{caption} {style} {fields.get('color', '')}".strip()
    return ForegroundRecord(
        id=name, file="x.webp", caption=caption, style=style, concept=concept,
        license="CC0-1.0", source="toy==1.0", split="train", **fields,
    )  # fmt: skip


RECORDS = [
    record("a car", "car", "3d render"),
    record("a car", "car", "flat icon"),
    record("a car", "car", "3d icon"),
    record("an apple", "apple", "3d icon", color="green"),
    record("an apple", "apple", "flat icon", color="red"),
    record("a man with a beard", "man"),
    record("a man", "man", "clip art"),
    record("a fox", "fox", "a style of its own"),
]


def embedding(*pairs: tuple[str, str, float]) -> Callable[[list[str]], torch.Tensor]:
    """An encoder for which texts have nothing in common but what the pairs say."""

    def embed(texts: list[str]) -> torch.Tensor:
        gram = torch.eye(len(texts), dtype=torch.float64)
        for row, one in enumerate(texts):
            for column, other in enumerate(texts):
                if one == other:
                    gram[row, column] = 1 - 1e-9 * (row != column)
                for *words, cosine in pairs:
                    if {one, other} == set(words):
                        gram[row, column] = cosine
        return torch.linalg.cholesky(gram + 1e-6 * torch.eye(len(texts)))

    return embed


@pytest.mark.parametrize(
    ("prompt", "phrase", "style"),
    [
        ("a red apple", "a red apple", ""),
        ("A Red  Apple in front of a snowy mountain.", "a red apple", ""),
        ("a flat icon of a fox, hills behind", "a fox", "flat icon"),
        ("a small glossy 3d icon of a fox on the left", "a fox", "3d icon"),
        ("a low-poly 3d render of a dog in a forest", "a dog", "low-poly 3d render"),
        ("a 3d model of a chair against a lake", "a chair", "3d render"),
        ("a picture of a cup of coffee", "a cup of coffee", ""),
        ("clip art of a car", "a car", "clip art"),
        ("a man with a beard", "a man with a beard", ""),
        ("a man with a beard with hills in the background", "a man with a beard", ""),
        ("the sea with a flat icon of a fox in the foreground", "a fox", "flat icon"),
        ("a chair with mountains behind", "a chair", ""),
        ("a bicycle leaning on a wall", "a bicycle leaning", ""),
    ],
)
def test_the_object_and_the_style_of_a_prompt(prompt, phrase, style):
    assert object_phrase(prompt) == (phrase, style)


def test_what_is_called_so_comes_first_and_nearness_in_meaning_does_not_count():
    embed = embedding(("a car", "a man", 0.99))
    assert find_cutout(RECORDS, "a man on a beach", embed)[0].id == "a man clip art"
    found, cosine = find_cutout(RECORDS, "a man with a beard", embed)
    assert found.caption == "a man with a beard"
    assert cosine == pytest.approx(1, abs=1e-3)
    assert find_cutout(RECORDS, "two foxes in a meadow", embed)[0].concept == "fox"
    assert find_cutout(RECORDS, "a racing car", embed)[0].concept == "car"


def test_of_one_name_the_style_that_is_asked_for_then_the_usual_one():
    embed = embedding()
    assert find_cutout(RECORDS, "a car", embed)[0].style == USUAL_STYLES[0] == "3d icon"
    assert find_cutout(RECORDS, "a flat icon of a car", embed)[0].style == "flat icon"
    assert find_cutout(RECORDS, "clip art of a car", embed)[0].style == "3d icon"  # there is none
    found, _ = find_cutout(RECORDS, "a flat icon of a green apple", embed)
    assert found.style == "flat icon"  # before the colour: a reference's colour counts little


def test_a_colour_that_is_asked_for_decides_within_a_name():
    embed = embedding()
    assert find_cutout(RECORDS, "a red apple", embed)[0].color == "red"
    assert find_cutout(RECORDS, "a green apple", embed)[0].color == "green"
    assert find_cutout(RECORDS, "an apple", embed)[0].style == "3d icon"


def test_what_has_no_name_here_is_found_by_meaning_above_the_threshold():
    near = embedding(("an automobile", "a car", 0.9), ("an automobile", "an apple", 0.3))
    found, cosine = find_cutout(RECORDS, "an automobile on a beach", near)
    assert (found.caption, found.style) == ("a car", "3d icon")
    assert cosine == pytest.approx(0.9, abs=1e-3)
    far = embedding(("a narwhal", "a fox", LEAST_COSINE - 0.01))
    with pytest.raises(InputError, match=r"nothing like 'a narwhal' \(the nearest is 'a fox'\)"):
        find_cutout(RECORDS, "a narwhal", far)
    just = embedding(("a narwhal", "a fox", LEAST_COSINE + 0.01))
    assert find_cutout(RECORDS, "a narwhal", just)[0].caption == "a fox"


def test_an_object_that_is_not_said_is_not_found():
    for prompt in (", in front of a lake", "in front of a lake"):
        with pytest.raises(InputError, match="The library has nothing like"):
            find_cutout(RECORDS, prompt, embedding())
    with pytest.raises(InputError, match="The library has nothing like 'a car'"):
        find_cutout([], "a car", embedding())


def test_vectors_are_mean_token_states_in_the_order_of_the_texts(toy_text_encoder):
    tokenizer, encoder = load_text_encoder(toy_text_encoder)
    texts = ["a red apple in front of a lake", "a dog", "a cat", "a red apple"] * 50
    vectors = caption_vectors(tokenizer, encoder, texts)
    assert vectors.shape == (200, 16)
    for row in (0, 1, 199):
        states, mask = encode_prompts(tokenizer, encoder, [texts[row]])
        mean = states[0][mask[0]].mean(0)
        torch.testing.assert_close(vectors[row], mean / mean.norm())
