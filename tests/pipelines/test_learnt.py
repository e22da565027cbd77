"""The list of what a model has learnt: what counts as learnt, and lists that cannot be read."""

import json

import pytest

from text2layer.errors import WeightsError
from text2layer.pipelines.loading import (
    CONCEPTS,
    LearntThing,
    read_grounds,
    read_learnt,
    unknown_pieces,
    write_learnt,
)

FOX = LearntThing("a fox", "3d icon", "fox", 3, 3)
CUP = LearntThing("a flat icon of a cup", "flat icon", "cup", 2, 3)
OWL = LearntThing("an owl", "3d icon", "owl", 1, 3)


def test_two_of_three_pictures_must_be_right():
    assert [thing.is_learnt for thing in (FOX, CUP, OWL)] == [True, True, False]
    assert LearntThing("a", "b", "c", 1, 1).is_learnt
    assert not LearntThing("a", "b", "c", 1, 2).is_learnt
    assert [LearntThing("a", "b", "c", n, 5).is_learnt for n in (3, 4)] == [False, True]


def test_the_list_holds_what_was_taught_by_style_and_name(tmp_path):
    assert read_learnt(tmp_path) is None
    bee = LearntThing("a bee", "3d icon", "bee", 3, 3)
    write_learnt(tmp_path, [CUP, FOX, OWL, bee])
    assert read_learnt(tmp_path) == [bee, FOX, OWL, CUP]
    stored = json.loads((tmp_path / CONCEPTS).read_text())
    assert stored["things"][1] == {
        "name": "a fox", "style": "3d icon", "concept": "fox", "top1": 3, "seeds": 3,
    }  # fmt: skip
    write_learnt(tmp_path, [])
    assert read_learnt(tmp_path) == []


def test_what_is_seen_in_the_grounds_is_listed_where_it_is_known(tmp_path):
    assert read_grounds(tmp_path) == []
    write_learnt(tmp_path, [FOX])
    assert read_grounds(tmp_path) == []
    write_learnt(tmp_path, [FOX], ["pine trees", "a lake", "pine trees"])
    assert read_grounds(tmp_path) == ["a lake", "pine trees"]
    assert read_learnt(tmp_path) == [FOX]
    (tmp_path / CONCEPTS).write_text('{"things": [], "grounds": 3}')
    with pytest.raises(WeightsError, match="no list of things that can be read"):
        read_grounds(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"things": 3}', '{"things": [{"name": "a fox"}]}',
     '{"things": [{"name": "a", "style": "b", "concept": "c", "top1": "3", "seeds": 3}]}'],
)  # fmt: skip
def test_a_damaged_list_is_one_sentence(tmp_path, text):
    (tmp_path / CONCEPTS).write_text(text)
    with pytest.raises(WeightsError, match="no list of things that can be read"):
        read_learnt(tmp_path)


def test_pieces_that_a_model_was_never_trained_on_are_found(toy_text_encoder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(toy_text_encoder)
    known = ["a red apple", "in front of a snowy mountain"]
    prompts = ["a snowy apple in front of a red mountain", "a yellow apple"]
    assert unknown_pieces(prompts, known, tokenizer) == [([], 9), (["yellow"], 3)]
    assert unknown_pieces(["ein Apfel \N{RED APPLE}"], known, tokenizer)[0][0][-1] == "[UNK]"
    assert unknown_pieces(["a dog"], [], tokenizer) == [(["a", "dog"], 2)]
