"""Rough layers, and the best of several attempts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.toy_model import build_pipeline
from text2layer.errors import InputError
from text2layer.evaluation.mask_overlap import soft_iou
from text2layer.parts import Parts
from text2layer.pipelines.assemble import (
    AGREEMENT_WEIGHT,
    ATTEMPTS,
    RIM,
    STEPS,
    agreement_of,
    best_attempts,
    rough_layers,
)
from text2layer.tensors import colour_to_tensor, composite


def red_disc_on_blue() -> tuple[torch.Tensor, torch.Tensor]:
    axis = torch.arange(64) - 31.5
    distance = torch.hypot(axis[None], axis[:, None])
    mask = ((20 - distance) / 4).clamp(0, 1)[None, None]
    red, blue = torch.tensor([1.0, -1.0, -1.0]), torch.tensor([-1.0, -1.0, 1.0])
    colour = mask * red.view(1, 3, 1, 1) + (1 - mask) * blue.view(1, 3, 1, 1)
    return colour, mask


def test_colours_do_not_mix():
    picture, mask = red_disc_on_blue()
    foreground, background = rough_layers(picture, mask)
    assert float((foreground - torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1)).abs().max()) < 0.15
    assert float((background - torch.tensor([-1.0, -1, 1]).view(1, 3, 1, 1)).abs().max()) < 0.02


def test_what_is_seen_stays():
    generator = torch.Generator().manual_seed(0)
    picture = (torch.randint(256, (2, 3, 32, 32), generator=generator) / 127.5) - 1
    mask = torch.zeros(2, 1, 32, 32)
    mask[0, :, 10:20, 8:16] = 1.0
    foreground, background = rough_layers(picture, mask)
    inside = mask[:1].expand(-1, 3, -1, -1) == 1
    torch.testing.assert_close(foreground[:1][inside], picture[:1][inside])
    torch.testing.assert_close(background[0, :, :, 16 + RIM :], picture[0, :, :, 16 + RIM :])
    torch.testing.assert_close(background[0, :, :, : 8 - RIM], picture[0, :, :, : 8 - RIM])
    assert float(soft_iou(mask[:1], (background[:1] != picture[:1]).any(1, True).float())) > 0.2
    torch.testing.assert_close(torch.stack([foreground[1], background[1]]), picture[[1, 1]])


@pytest.fixture
def pipeline(toy_text_encoder):
    pipeline = build_pipeline(toy_text_encoder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_attempt_that_makes_the_picture_is_found():
    generator = torch.Generator().manual_seed(0)
    foreground, background = (torch.rand(6, 3, 8, 8, generator=generator) for _ in range(2))
    mask = torch.rand(6, 1, 8, 8, generator=generator)
    mask = mask[:1].expand(6, -1, -1, -1)  # all agree
    pictures = composite(foreground, background, mask)[[2, 4]] + 0.01
    parts = Parts(foreground=foreground, background=background, mask=mask)
    assert best_attempts(parts, pictures, 3).tolist() == [2, 4]
    assert best_attempts(parts, pictures[:1], 6).tolist() == [2]


def test_of_several_foregrounds_the_whole_stack_counts():
    generator = torch.Generator().manual_seed(0)
    parts = Parts(
        foreground=torch.rand(4, 2, 3, 8, 8, generator=generator),
        background=torch.rand(4, 3, 8, 8, generator=generator),
        mask=torch.rand(1, 2, 1, 8, 8, generator=generator).expand(4, -1, -1, -1, -1),
    )
    pictures = composite(parts.foreground, parts.background, parts.mask)
    assert best_attempts(parts, pictures[3:], 4).tolist() == [3]


def test_of_attempts_that_make_the_picture_alike_the_usual_one_is_found():
    """An empty mask over a background that is the picture explains it as well as the truth."""
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(5, 1, 8, 8)
    mask[1:4, :, 2:6, 2:6] = 1.0
    mask[2, :, 6, 2:6] = 1.0  # one row more
    mask[3, :, 2, 2:6] = 0.0  # one row less
    mask[4, :, 0] = 1.0  # somewhere else
    foreground = picture.expand(5, -1, -1, -1)
    parts = Parts(foreground=foreground, background=foreground.clone(), mask=mask)
    assert best_attempts(parts, picture, 5).tolist() == [1]


def test_agreement_is_the_mean_soft_iou_with_all():
    masks = torch.rand(2, 3, 50, generator=torch.Generator().manual_seed(0))
    expected = [
        [
            sum(float(soft_iou(a.view(1, 1, 5, 10), b.view(1, 1, 5, 10))) for b in one) / 3
            for a in one
        ]
        for one in masks
    ]
    torch.testing.assert_close(agreement_of(masks, masks), torch.tensor(expected))
    assert agreement_of(torch.zeros(1, 2, 4), torch.zeros(1, 1, 4)).tolist() == [[0.0, 0.0]]


def test_a_call_keeps_the_attempt_with_the_best_score(pipeline):
    given = picture()
    target = colour_to_tensor(given)

    def apart(**options):
        return pipeline("a red ball", image=given, output_type="pt", **options).layers

    chosen = apart(attempts=4, generator=seeded())
    generator = seeded()  # attempts draw from it one after the other
    each = [
        apart(latents=torch.randn(1, 4, *sides(pipeline), generator=generator)) for _ in range(4)
    ]
    errors = [
        float((composite(one.foreground, one.background, one.mask) - target).abs().mean())
        for one in each
    ]
    masks = torch.stack([one.mask.flatten() for one in each])[None]
    agreement = agreement_of(masks, masks)[0]
    scores = torch.tensor(errors) - AGREEMENT_WEIGHT * agreement
    assert len(set(scores.tolist())) == 4
    best = each[int(scores.argmin())]
    torch.testing.assert_close(chosen.mask, best.mask, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(chosen.background, best.background, rtol=1e-4, atol=1e-5)


def sides(pipeline) -> tuple[int, int]:
    side = 64 // pipeline.size_multiple
    return side, side


def test_defaults_and_what_the_file_says(pipeline):
    calls = []
    pipeline.denoiser.register_forward_pre_hook(lambda _, given: calls.append(len(given[0])))
    pipeline.register_to_config(default_steps=20)
    made = pipeline("a red ball", image=picture(), generator=seeded()).layers[0]
    assert calls == [ATTEMPTS] * STEPS
    assert (made.metadata["attempts"], made.metadata["steps"]) == (ATTEMPTS, STEPS)
    assert np.array_equal(made.composite, picture())
    asked = pipeline("a", image=picture(), attempts=2, num_inference_steps=7, generator=seeded())
    assert asked.layers[0].metadata["attempts"] == 2
    assert asked.layers[0].metadata["steps"] == 7
    text = pipeline("a red ball", generator=seeded(), num_inference_steps=1).layers[0]
    assert "attempts" not in text.metadata


def test_several_pictures_of_one_call_are_those_of_several_calls(pipeline):
    together = pipeline(
        ["a red ball", "a blue lake"], image=picture(), attempts=3,
        generator=[seeded(1), seeded(2)],
    ).layers  # fmt: skip
    for made, (prompt, seed) in zip(together, [("a red ball", 1), ("a blue lake", 2)], strict=True):
        alone = pipeline(prompt, image=picture(), attempts=3, generator=seeded(seed)).layers[0]
        assert np.abs(alone.mask.astype(int) - made.mask).max() <= 1


def test_with_guidance_every_attempt_has_its_words(pipeline):
    guided = pipeline(
        "a red ball", image=picture(), attempts=2, guidance_scale=3.0, generator=seeded()
    ).layers[0]
    plain = pipeline("a red ball", image=picture(), attempts=2, generator=seeded()).layers[0]
    assert guided.metadata["guidance_scale"] == 3.0
    assert not np.array_equal(guided.mask, plain.mask)


@pytest.mark.parametrize("attempts", [0, 65, 2.5, True])
def test_attempts_that_cannot_be_made(pipeline, attempts):
    with pytest.raises(InputError, match=r"attempts must (be|lie)"):
        pipeline("a", image=picture(), attempts=attempts)


def test_attempts_belong_to_a_given_picture(pipeline):
    with pytest.raises(InputError, match="give an image"):
        pipeline("a", attempts=2)
