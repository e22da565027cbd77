"""How far the prompt counts: an oracle that knows the pictures, and a network that is deaf."""

import pytest
import torch
from torch import nn

from tests.evaluation.toy_samples import known_samples
from tests.toy_model import build_pipeline
from text2layer.errors import InputError
from text2layer.evaluation.drawing import Drawer
from text2layer.evaluation.prompt_following import LEVELS, follow_prompt, prompt_rows
from text2layer.evaluation.run import Networks, Run
from text2layer.parts import Parts

CAPTIONS = ["a red apple", "a blue ball", "a green dog", "a yellow cat"]


@pytest.fixture
def pipeline(toy_text_encoder):
    return build_pipeline(toy_text_encoder)


def pictures(count: int) -> Parts:
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(2, count, 3, 1, 1, generator=generator) * 2 - 1
    foreground, background = colours.expand(2, count, 3, 64, 64)
    mask = torch.zeros(count, 1, 64, 64)
    mask[:, :, 16:48, 16:48] = 1
    return Parts(foreground, background, mask)


def rows_of(pipeline, count: int, choices: int) -> dict[str, torch.Tensor]:
    captions = [[CAPTIONS[(n + shift) % count] for shift in range(choices)] for n in range(count)]
    return prompt_rows(pipeline, pictures(count), captions, range(count))


class Reader(nn.Module):
    """Knows the picture behind each caption and moves to it; elsewhere it says `blind`."""

    def __init__(self, pipeline, parts: Parts, blind: float) -> None:
        super().__init__()
        posterior = pipeline.autoencoder.encode(parts.foreground, parts.background, parts.mask)
        self.clean = pipeline.autoencoder.scale_latents(posterior.mode()).detach()
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.blind, self.config = blind, pipeline.denoiser.config
        self.known: dict[tuple[float, ...], int] = {}

    def key(self, states: torch.Tensor) -> tuple[float, ...]:
        return tuple(round(float(value), 4) for value in states.sum(0)[:4])

    def forward(self, stacked, encoder_hidden_states, timestep, **_: object):
        noisy = stacked[:, :4]
        level = (timestep / 1000)[:, None, None, None]
        rows = [self.known.get(self.key(states)) for states in encoder_hidden_states]
        clean = torch.stack([
            self.clean[row] if row is not None else torch.full_like(noisy[0], self.blind)
            for row in rows
        ])  # fmt: skip
        return ((noisy - clean) / level,)  # x_t = (1 - t) x + t e, so e - x = (x_t - x) / t


def test_a_network_that_reads_is_always_right(pipeline):
    from text2layer.models.text_encoder import encode_prompts

    reader = Reader(pipeline, pictures(4), blind=0.0)
    states, _ = encode_prompts(pipeline.tokenizer, pipeline.text_encoder, [*CAPTIONS, ""])
    reader.known = {reader.key(states[row]): row for row in range(4)}
    pipeline.denoiser = reader
    rows = rows_of(pipeline, 4, choices=4)
    assert rows["chosen_own"].tolist() == [1.0] * 4
    for level in LEVELS:
        own, empty, other = (rows[f"error_{k}_{level:g}"].mean() for k in ("own", "empty", "other"))
        assert float(own) == pytest.approx(0, abs=1e-8)
        to_empty = reader.clean.square().mean() / level**2
        assert float(empty) == pytest.approx(float(to_empty), rel=1e-4)
        pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
        apart = sum(float((reader.clean[a] - reader.clean[b]).square().mean()) for a, b in pairs)
        assert float(other) == pytest.approx(apart / len(pairs) / level**2, rel=1e-4)


def test_a_deaf_network_has_the_same_error_for_every_caption(pipeline):
    for block in pipeline.denoiser.transformer_blocks:
        nn.init.zeros_(block.attn2.to_out[0].weight)
    rows = rows_of(pipeline, 4, choices=4)
    for level in LEVELS:
        own = rows[f"error_own_{level:g}"]
        torch.testing.assert_close(own, rows[f"error_other_{level:g}"], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(own, rows[f"error_empty_{level:g}"], rtol=1e-4, atol=1e-6)


def test_epsilon_models_are_scored_too(toy_text_encoder):
    pipeline = build_pipeline(toy_text_encoder, preset="tiny-paper")
    rows = rows_of(pipeline, 2, choices=2)
    assert all((rows[f"error_own_{level:g}"] > 0).all() for level in LEVELS)


def test_batches_do_not_change_what_a_sample_is_asked(pipeline, library):
    """Before version 2 the other captions and the noise were those of the batch."""
    drawer, known = Drawer(pipeline, 64), known_samples(library, 6)
    whole, *others = (
        follow_prompt(drawer, known, Networks.of(), Run(batch_size=size), choices=3)
        for size in (6, 1, 4)
    )
    assert whole.about["choices"] == 3
    assert whole.metrics["chosen_own"].ignored == 0
    for name, row in whole.per_sample.items():
        for other in others:
            assert other.per_sample[name] == pytest.approx(row, rel=1e-4), name


def test_too_few_samples_are_refused(pipeline, library):
    drawer = Drawer(pipeline, 64)
    with pytest.raises(InputError, match="6 samples cannot offer 8 captions"):
        follow_prompt(drawer, known_samples(library, 6), Networks.of(), Run())
    with pytest.raises(InputError, match="at least 2 choices"):
        follow_prompt(drawer, known_samples(library, 6), Networks.of(), Run(), choices=1)
