"""Latents for the denoiser: jobs, captions, the cache, and the measured statistics."""

import random
from collections import Counter

import pytest
import torch

from tests.toy_library import build_toy_library
from tests.toy_model import build_autoencoder
from tests.training.toy_source import DiscSource, TwoDiscs, soft_disc
from text2layer.data.composer import Composer
from text2layer.data.library import Library
from text2layer.data.world import World, read_drawings
from text2layer.errors import InputError
from text2layer.models.denoiser import condition_latents
from text2layer.models.text_encoder import (
    MAX_PROMPT_TOKENS,
    encode_prompts,
    load_text_encoder,
)
from text2layer.training.latent_cache import (
    CachedLatents,
    encode_samples,
    encode_texts,
    gather_text,
)
from text2layer.training.latents import (
    LatentsOnTheFly,
    draw_captions,
    draw_jobs,
    measure_latent_statistics,
)
from text2layer.training.objective import fast_inference


@pytest.fixture(scope="module")
def text(toy_text_encoder):
    return load_text_encoder(toy_text_encoder)


@pytest.fixture
def on_the_fly(text):
    """Build `LatentsOnTheFly` for settings."""

    def make(settings, source=None):
        return LatentsOnTheFly(
            settings, source or DiscSource(), build_autoencoder(), *text, torch.device("cpu")
        )

    return make


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_jobs_come_in_their_shares(denoiser_settings):
    settings = denoiser_settings(
        job_text=0.4, job_background=0.3, job_foreground=0.2, job_image=0.1
    )
    counts = Counter(draw_jobs(settings, 4000, generator(), DiscSource()))
    shares = {None: 0.4, "background": 0.3, "foreground": 0.2, "image": 0.1}
    assert {k: v / 4000 for k, v in counts.items()} == pytest.approx(shares, abs=0.03)


class TwinSource(DiscSource):
    """Has a second drawing of every disc: a white one in the middle."""

    def references(self, composition, generators):
        count = len(composition.placements)
        assert count == len(generators)
        mask = soft_disc(self.size, 0.5, 0.5, 0.3).expand(count, 1, self.size, self.size)
        return torch.ones(count, 3, self.size, self.size), mask


def test_a_reference_is_the_condition_where_there_is_a_second_drawing(
    on_the_fly, denoiser_settings
):
    settings = denoiser_settings(
        job_text=0.0, job_background=0.0, job_foreground=0.0, job_image=0.0, job_reference=1.0,
        imperfect=0.0, cache_samples=8,
    )  # fmt: skip
    live = on_the_fly(settings, TwinSource())
    batch = live.draw(4, generator())
    colour, mask = live.source.references(live.source.compose(4, generator()), [generator()] * 4)
    with fast_inference(torch.device("cpu")):
        expected = condition_latents(live.autoencoder, foreground=colour, mask=mask)
    torch.testing.assert_close(batch.condition, expected.float(), atol=0.02, rtol=0)
    assert batch.condition.std() > 0.1
    assert batch.flags.tolist() == [[0, 0, 0, 1]] * 4
    held = encode_samples(live, generator())
    assert held["flags"][:, 3].all()
    without = on_the_fly(settings).draw(4, generator())  # no second drawing: from text alone
    assert not without.condition.any()
    assert not without.flags.any()


def test_a_given_layer_is_left_out_of_half_the_captions(source):
    batch = source.compose(400, generator())
    for job, left_out in (("background", "sky"), ("foreground", "ball")):
        captions = draw_captions(source, batch, [job] * 400, random.Random(0))
        without = [text for text in captions if left_out not in text]
        assert 0.4 < len(without) / 400 < 0.6
        assert all({"background": "ball", "foreground": "sky"}[job] in text for text in captions)
    for job in (None, "image"):
        captions = draw_captions(source, batch, [job] * 400, random.Random(0))
        assert all("ball" in text and "sky" in text for text in captions)


def test_a_batch_on_the_fly_is_the_encoding_of_its_samples(
    on_the_fly, text, denoiser_settings, source
):
    latents = on_the_fly(
        denoiser_settings(
            job_text=0.25, job_background=0.25, job_foreground=0.25, job_image=0.25,
            caption_dropout=0.0, imperfect=0.0,
        )
    )  # fmt: skip
    made = latents.draw(12, generator(3))
    batch = source.compose(12, generator(3))
    autoencoder = latents.autoencoder
    with torch.no_grad():
        expected = autoencoder.scale_latents(
            autoencoder.encode(batch.foreground, batch.background, batch.mask).mode()
        )
    torch.testing.assert_close(made.latents, expected, atol=0.03, rtol=0.03)  # bfloat16
    kinds = [tuple(row) for row in made.flags.int().tolist()]
    assert set(kinds) == {(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)}
    for row, kind in enumerate(kinds):
        one = slice(row, row + 1)
        given = {
            (1, 0, 0, 0): {"foreground": batch.foreground[one], "mask": batch.mask[one]},
            (0, 1, 0, 0): {"background": batch.background[one]},
            (0, 0, 1, 0): {"image": batch.image[one]},
        }.get(kind)
        if given is None:
            assert (made.condition[row] == 0).all()
            continue
        with torch.no_grad():
            condition = condition_latents(autoencoder, **given)[0]
        torch.testing.assert_close(made.condition[row], condition, atol=0.03, rtol=0.03)
    assert made.text_states.shape[:2] == made.text_mask.shape
    assert made.text_states.dtype == made.latents.dtype == torch.float32


def test_a_batch_of_several_foregrounds_is_encoded_as_one(text, denoiser_settings):
    source, autoencoder = TwoDiscs(32), build_autoencoder(num_foregrounds=2)
    shares = dict.fromkeys(("job_text", "job_background", "job_foreground", "job_image"), 0.0)

    def draw(job, imperfect=0.0):
        settings = denoiser_settings(**{**shares, f"job_{job}": 1.0}, imperfect=imperfect)
        live = LatentsOnTheFly(settings, source, autoencoder, *text, torch.device("cpu"))
        return live.draw(12, generator(3))

    batch = source.compose(12, generator(3))
    with torch.no_grad():
        posterior = autoencoder.encode(batch.foreground, batch.background, batch.mask)
        expected = autoencoder.scale_latents(posterior.mode())
        given = {
            "foreground": {"foreground": batch.foreground, "mask": batch.mask},
            "background": {"background": batch.background},
            "image": {"image": batch.image},
        }
        for job, parts in given.items():
            made = draw(job)
            condition = condition_latents(autoencoder, **parts)
            torch.testing.assert_close(made.latents, expected, atol=0.03, rtol=0.03)  # bfloat16
            torch.testing.assert_close(made.condition, condition, atol=0.03, rtol=0.03)
    clean, damaged = draw("foreground"), draw("foreground", imperfect=1.0)
    assert torch.equal(damaged.latents, clean.latents)
    changed = (damaged.condition - clean.condition).abs().amax((1, 2, 3)) > 0
    assert changed.sum() > 6  # a blurred plain colour stays what it is


def test_the_same_generator_state_gives_the_same_batch(on_the_fly, denoiser_settings):
    latents = on_the_fly(denoiser_settings())
    one, same, other = (latents.draw(4, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(getattr(one, name), getattr(same, name)) for name in vars(one))
    assert not torch.equal(one.latents, other.latents)


@pytest.mark.parametrize("cached", [False, True], ids=["on the fly", "cached"])
def test_rows_of_a_batch_are_those_of_the_whole(cached, on_the_fly, denoiser_settings):
    settings = denoiser_settings(imperfect=0.5, cache_samples=20, job_text=0.1, job_image=0.7)
    latents = on_the_fly(settings)
    if cached:
        latents = CachedLatents(settings, latents.device, encode_samples(latents, generator()))
    whole = latents.draw(8, generator(4))
    for rank in range(2):
        rows, after = slice(rank, 8, 2), generator(4)
        part = latents.draw(8, after, rows)
        length = part.text_states.shape[1]
        assert torch.equal(part.flags, whole.flags[rows])
        assert torch.equal(part.text_mask, whole.text_mask[rows][:, :length])
        for name in ("latents", "condition"):
            torch.testing.assert_close(getattr(part, name), getattr(whole, name)[rows],
                                       atol=0.03, rtol=0.03)  # fmt: skip
        torch.testing.assert_close(part.text_states, whole.text_states[rows][:, :length],
                                   atol=1e-4, rtol=1e-4)  # fmt: skip


def test_captions_longer_than_a_prompt_may_be_are_cut(on_the_fly, text, denoiser_settings):
    class Talker(DiscSource):
        def captions(self, composition, rng, part="whole"):
            return ["a red ball " * 60] * len(composition.placements)

    batch = on_the_fly(denoiser_settings(caption_dropout=0.0), Talker()).draw(2, generator())
    assert batch.text_mask.shape == (2, MAX_PROMPT_TOKENS)
    assert batch.text_mask.all()


def test_dropped_captions_are_the_empty_prompt(on_the_fly, text, denoiser_settings):
    batch = on_the_fly(denoiser_settings(caption_dropout=1.0)).draw(3, generator())
    states, mask = encode_prompts(*text, ["", "", ""])
    torch.testing.assert_close(batch.text_states, states)
    assert torch.equal(batch.text_mask, mask)


def test_cached_latents_are_those_encoded_on_the_fly(on_the_fly, text, denoiser_settings):
    """The one sample of the cache, drawn again and again, against the same sample encoded live."""

    class OneCaption(DiscSource):
        def captions(self, composition, rng, part="whole"):
            return ["a red ball"] * len(composition.placements)

    settings = denoiser_settings(
        cache_samples=1, caption_variants=1, caption_dropout=0.0, imperfect=0.0,
        job_text=0.0, job_background=1.0, job_foreground=0.0, job_image=0.0,
    )  # fmt: skip
    live = on_the_fly(settings, OneCaption())
    held = encode_samples(live, generator(5))
    cached = CachedLatents(settings, live.device, held).draw(3, generator(6))
    expected = live.draw(1, generator(5))
    for row in range(3):
        for name in ("latents", "condition"):
            value, wanted = getattr(cached, name)[row], getattr(expected, name)[0]
            torch.testing.assert_close(value, wanted.bfloat16().float())
            assert value.dtype == torch.float32
        assert torch.equal(cached.flags[row], expected.flags[0])
        assert torch.equal(cached.text_mask[row], expected.text_mask[0])
        torch.testing.assert_close(
            cached.text_states[row], expected.text_states[0].bfloat16().float()
        )


def test_the_cache_keeps_jobs_conditions_and_captions_together(
    on_the_fly, text, denoiser_settings, source
):
    settings = denoiser_settings(
        cache_samples=40, caption_variants=2, caption_dropout=0.3,
        job_text=0.4, job_background=0.2, job_foreground=0.2, job_image=0.2, imperfect=0.5,
    )  # fmt: skip
    live = on_the_fly(settings)
    held = encode_samples(live, generator(5))
    assert held["latents"].shape == (40, 4, 4, 4)
    replay = generator(5)  # the samples once more, in the batches of the cache
    start = 0
    for count in (16, 16, 8):
        batch = source.compose(count, replay)
        jobs = draw_jobs(settings, count, replay, source)
        latents, condition = live.encode(batch, jobs, [replay] * count)
        rng = random.Random(int(torch.randint(2**62, (), generator=replay)))
        captions = [draw_captions(source, batch, jobs, rng) for _ in range(2)]
        rows = slice(start, start + count)
        assert torch.equal(held["latents"][rows], latents.bfloat16())
        assert torch.equal(held["conditions"][held["condition_rows"][rows]], condition.bfloat16())
        given = torch.tensor([job is not None for job in jobs])
        assert torch.equal(held["flags"][rows].sum(1).bool(), given)
        for variant, texts in enumerate(captions):
            states, mask = gather_text(held, held["captions"][rows, variant])
            expected, expected_mask = encode_prompts(*text, texts)
            assert torch.equal(mask, expected_mask)
            torch.testing.assert_close(states, expected, atol=0.02, rtol=0.01)
        start += count

    cache = CachedLatents(settings, live.device, held)
    drawn = cache.draw(200, generator(1))
    empty, _ = encode_prompts(*text, [""])
    lengths = drawn.text_mask.sum(1)
    dropped = lengths == empty.shape[1]
    assert 0.2 < dropped.float().mean() < 0.4
    assert drawn.text_mask.shape[1] == lengths.max()


def test_a_cache_file_is_read_again_only_for_the_same_samples(
    on_the_fly, denoiser_settings, tmp_path, source
):
    file = tmp_path / "latents.safetensors"
    live = on_the_fly(denoiser_settings(cache_samples=6), source)
    first = CachedLatents.open(file, live, generator(5))
    written = file.stat().st_mtime_ns
    again = CachedLatents.open(file, live, generator(99))  # not encoded again: the seed is unused
    assert file.stat().st_mtime_ns == written
    assert torch.equal(first.tensors["latents"], again.tensors["latents"])

    other = CachedLatents.open(
        file, on_the_fly(denoiser_settings(cache_samples=7), source), generator(5)
    )
    assert len(other.tensors["latents"]) == 7
    file.write_bytes(file.read_bytes()[:-100])
    whole = CachedLatents.open(
        file, on_the_fly(denoiser_settings(cache_samples=7), source), generator(5)
    )
    assert torch.equal(whole.tensors["latents"], other.tensors["latents"])


def test_a_list_of_drawings_says_how_often_cached_ones_are_drawn(
    on_the_fly, denoiser_settings, tmp_path
):
    listed, file = tmp_path / "drawings.txt", tmp_path / "latents.safetensors"
    names = ["circle-000", "ring-002", "square-006"]
    library = Library(build_toy_library(tmp_path / "library"))

    def opened(weights):
        lines = (f"{name}\t{weight}\n" for name, weight in zip(names, weights, strict=True))
        listed.write_text("".join(lines))
        settings = denoiser_settings(cache_samples=40, drawings=str(listed), size=32)
        world = World(drawings=read_drawings(listed))
        source = Composer(library, "train", 32, world=world, progress=False)
        return CachedLatents.open(file, on_the_fly(settings, source), generator(5))

    def drawn(cache):
        """How often each of the list, in 600 draws, by the latents that come."""
        rows = [row.tobytes() for row in cache.tensors["latents"].float().numpy()]
        held = cache.tensors["drawings"].tolist()
        shown = dict(zip(rows, held, strict=True))
        latents = cache.draw(600, generator(1)).latents
        return Counter(names[shown[row.tobytes()]] for row in latents.numpy())

    counts = drawn(opened([1, 0.2, 0]))
    assert set(counts) == {"circle-000", "ring-002"}
    written = file.stat().st_mtime_ns
    cache = opened([0.2, 1, 1])
    assert file.stat().st_mtime_ns == written  # other weights, the same encoded samples
    held = Counter(names[index] for index in cache.tensors["drawings"].tolist())
    assert min(held.values()) > 40 / 3 / 2.5  # alike, whatever the weights were
    shares = {name: held[name] * weight for name, weight in zip(names, [0.2, 1, 1], strict=True)}
    expected = {name: 600 * share / sum(shares.values()) for name, share in shares.items()}
    assert drawn(cache) == pytest.approx(expected, rel=0.35)
    listed.write_text("circle-000\nring-002\t0\n")
    rings = {**cache.tensors, "drawings": torch.ones(40, dtype=torch.long)}
    with pytest.raises(InputError, match="No encoded sample shows"):
        CachedLatents(cache.settings, cache.device, rings)


def test_the_text_table_gives_the_encoders_states(text):
    captions = ["a red ball", "a blue sky", "a red ball in front of a blue sky", "a red ball"]
    index, table = encode_texts(*text, captions)
    assert index == {"": 0, "a red ball": 1, "a blue sky": 2, captions[2]: 3}
    rows = torch.tensor([3, 0, 1])
    states, mask = gather_text(table, rows)
    expected, expected_mask = encode_prompts(*text, [captions[2], "", "a red ball"])
    assert torch.equal(mask, expected_mask)
    torch.testing.assert_close(states, expected, atol=0.02, rtol=0.01)  # kept in bfloat16
    assert (states[~mask] == 0).all()


def test_texts_can_be_gathered_at_a_fixed_length(text):
    captions = ["a red ball", "a red ball in front of a blue sky"]
    _, table = encode_texts(*text, captions)
    rows = torch.tensor([1, 2, 0])
    states, mask = gather_text(table, rows)
    longer, longer_mask = gather_text(table, rows, mask.shape[1] + 5)
    assert torch.equal(longer[:, : mask.shape[1]], states)
    assert torch.equal(longer_mask[:, : mask.shape[1]], mask)
    assert not longer_mask[:, mask.shape[1] :].any()
    assert (longer[:, mask.shape[1] :] == 0).all()


def test_measured_statistics_give_unit_variance_per_channel(source):
    autoencoder = build_autoencoder()
    shift, scale = measure_latent_statistics(autoencoder, source, samples=64, seed=3)
    replay = generator(3)
    parts = [source.compose(16, replay) for _ in range(4)]
    with torch.no_grad():
        latents = torch.cat(
            [autoencoder.encode(p.foreground, p.background, p.mask).mode() for p in parts]
        )
    for channel in range(4):
        values = latents[:, channel].double().numpy()
        assert float(shift[channel]) == pytest.approx(values.mean(), abs=1e-5)
        assert float(scale[channel]) == pytest.approx(1 / values.std(), rel=1e-4)
    autoencoder.set_latent_statistics(shift, scale)
    scaled = autoencoder.scale_latents(latents)
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(scaled.std((0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)


def test_a_constant_channel_is_one_sentence(source):
    autoencoder = build_autoencoder()
    with torch.no_grad():
        autoencoder.quant_conv.weight[2] = 0
    with pytest.raises(InputError, match="Latent channel 2 is constant over 32 samples"):
        measure_latent_statistics(autoencoder, source, samples=32)
