"""The probe: its towers, its files, and retrieval whose answer is known."""

import json

import pytest
import torch
import torch.nn.functional as F

from text2layer.errors import InputError, WeightsError
from text2layer.judges.relevance import (
    COLOUR_WIDTH,
    RelevanceConfig,
    RelevanceProbe,
    SentenceEncoder,
    load_relevance,
    retrieval_figures,
    save_relevance,
    with_colours,
)
from text2layer.judges.stored import SHIPPED
from text2layer.models.text_encoder import encode_prompts, load_text_encoder
from text2layer.pretrained import WEIGHTS, resolve

WIDTH = 10  # of the stand-in's features


@pytest.fixture(scope="module")
def sentences(toy_text_encoder):
    return SentenceEncoder(str(toy_text_encoder))


def build(sentences, seed=0, **fields) -> RelevanceProbe:
    config = RelevanceConfig(
        "stand-in", "ab" * 32, WIDTH, sentences.name, sentences.sha256, sentences.width, **fields
    )
    torch.manual_seed(seed)
    return RelevanceProbe(config, sentences).eval().requires_grad_(False)


def features(count: int) -> torch.Tensor:
    return torch.randn(count, WIDTH + COLOUR_WIDTH, generator=torch.Generator().manual_seed(1))


def test_a_sentence_is_the_mean_of_its_token_states(sentences, toy_text_encoder):
    texts = ["a red apple on the blue lake", "dog", "a cat"]
    tokenizer, encoder = load_text_encoder(toy_text_encoder)
    for text, found in zip(texts, sentences(texts), strict=True):
        states, _ = encode_prompts(tokenizer, encoder, [text])
        torch.testing.assert_close(found, states[0].mean(dim=0), atol=1e-5, rtol=1e-4)


def test_colours_are_the_means_of_sixteen_fields():
    pictures = torch.zeros(2, 3, 8, 16, dtype=torch.uint8)
    pictures[1, 0, 2:4, 12:] = 255  # red in the second row's last field
    seen = with_colours(torch.ones(2, WIDTH), pictures)
    assert seen.shape == (2, WIDTH + COLOUR_WIDTH)
    expected = torch.zeros(2, COLOUR_WIDTH)
    expected[1, 7] = 1
    torch.testing.assert_close(seen, torch.cat([torch.ones(2, WIDTH), expected], dim=1))
    with pytest.raises(InputError, match="1 rows of features came with 2 pictures"):
        with_colours(torch.ones(1, WIDTH), pictures)


@pytest.mark.parametrize("hidden", [0, 6])
def test_it_comes_back_from_its_files(sentences, tmp_path, hidden):
    probe = build(sentences, hidden=hidden, width=7, held_out={"gallery": 3})
    probe.picture_tower.standardise(features(20) * 3 + 1)
    save_relevance(probe, tmp_path / "probe")
    again = load_relevance(tmp_path / "probe")
    assert again.config == probe.config
    texts = ["a red apple", "a dog"]
    for one, other in (
        (probe.embed_features(features(4)), again.embed_features(features(4))),
        (probe.embed_texts(texts), again.embed_texts(texts)),
    ):
        torch.testing.assert_close(one, other, atol=5e-3, rtol=0)  # stored as float16
        torch.testing.assert_close(other.norm(dim=1), torch.ones(len(other)))
    assert again.sha256 == load_relevance(tmp_path / "probe").sha256 != probe.sha256


def test_the_hash_tells_probes_and_extractors_apart(sentences):
    one = build(sentences)
    assert one.sha256 == build(sentences).sha256 != build(sentences, seed=1).sha256
    other = build(sentences)
    other.config = RelevanceConfig("stand-in", "cd" * 32, WIDTH, "", sentences.sha256, 16)
    assert one.sha256 != other.sha256


def test_features_of_another_network_are_refused(sentences):
    probe = build(sentences)

    class Other(torch.nn.Identity):
        sha256 = "cd" * 32

    with pytest.raises(WeightsError, match="trained on features of 'stand-in'"):
        probe.check_extractor(Other())
    with pytest.raises(InputError, match=r"takes features \(N, 58\)"):
        probe.embed_features(torch.zeros(2, WIDTH))


def test_perfect_and_worst_embeddings_have_the_figures_they_must():
    rows = torch.eye(30)
    captions = [f"caption {number}" for number in range(30)]
    found = retrieval_figures(rows, rows, captions, gallery=10, galleries=3)
    perfect = {"r1": 1.0, "r5": 1.0}
    assert found["text_to_picture"] == found["picture_to_text"] == perfect
    assert (found["chance_r1"], found["chance_r5"]) == (0.1, 0.5)
    blind = retrieval_figures(torch.ones(30, 4), rows[:, :4], captions, gallery=10, galleries=3)
    assert blind["text_to_picture"] == {"r1": 0.0, "r5": 0.0}  # a tie is no find


def test_retrieval_is_that_of_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    pictures = F.normalize(torch.randn(12, 5, generator=generator), dim=1)
    texts = F.normalize(pictures + torch.randn(12, 5, generator=generator) / 2, dim=1)
    found = retrieval_figures(pictures, texts, [str(row) for row in range(12)], 12, 1)
    for way, queries, answers in (
        ("text_to_picture", texts, pictures),
        ("picture_to_text", pictures, texts),
    ):
        for limit in (1, 5):
            hits = 0
            for own, query in enumerate(queries):
                order = sorted(range(12), key=lambda row: -float(query @ answers[row]))
                hits += own in order[:limit]
            assert found[way][f"r{limit}"] == pytest.approx(hits / 12, abs=1e-4)


def test_a_gallery_has_no_caption_twice():
    """Pairs that share a caption look alike; were two of them in a gallery, none would be found."""
    rows = torch.eye(10).repeat_interleave(2, dim=0)
    captions = [str(row // 2) for row in range(20)]
    found = retrieval_figures(rows, rows, captions, gallery=10, galleries=5)
    assert found["text_to_picture"]["r1"] == 1
    with pytest.raises(InputError, match="10 distinct captions make no 5 galleries of 11"):
        retrieval_figures(rows, rows, captions, gallery=11, galleries=5)
    with pytest.raises(InputError, match="came with 20 texts and 3 captions"):
        retrieval_figures(rows, rows, captions[:3])


def test_damaged_files_are_one_sentence(sentences, tmp_path):
    folder = tmp_path / "probe"
    for damage in ("config.json", "probe.safetensors"):
        save_relevance(build(sentences), folder)
        (folder / damage).write_bytes(b"no")
        refused(folder, "cannot be loaded from")
    save_relevance(build(sentences), folder)
    fields = json.loads((folder / "config.json").read_text())
    for change, sentence in (
        ({"width": 5}, "cannot be loaded from"),
        ({"format": 9}, "not of format 1"),
        ({"text_encoder_sha256": "ef" * 32}, "was trained with the text encoder efefefefefef"),
        ({"text_encoder": str(tmp_path)}, "No text encoder could be read"),
    ):
        (folder / "config.json").write_text(json.dumps(fields | change))
        refused(folder, sentence)
    refused(tmp_path / "absent", "cannot be loaded from")


def refused(folder, sentence) -> None:
    with pytest.raises(WeightsError, match=sentence) as error:
        load_relevance(folder)
    assert "\n" not in str(error.value)


def test_the_shipped_probe_knows_an_apple_from_a_mountain():
    """It reads synonyms alike; its pictures are held to the figures in its config."""
    try:
        resolve("minilm", offline=True)
    except WeightsError as error:
        pytest.skip(str(error))
    probe = load_relevance()
    assert probe.config.extractor_sha256 == WEIGHTS["fid-inception"].sha256
    assert probe.config.held_out["text_to_picture"]["r5"] > 3 * probe.config.held_out["chance_r5"]
    assert sum(file.stat().st_size for file in (SHIPPED / "relevance").iterdir()) < 2_000_000
    taxi, cab, lake = probe.embed_texts(["a yellow taxi", "a yellow cab", "a lake at night"])
    assert taxi @ cab > taxi @ lake + 0.2
