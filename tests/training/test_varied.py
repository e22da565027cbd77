"""Layers made more various: in range, each by its own draws, and not changed beyond recognition."""

import torch

from text2layer.training.varied import (
    COLOUR_DRAWS,
    CONTRAST,
    DRAWS,
    MERGED,
    recoloured,
    varied_layers,
)

UNCHANGED = (1 - CONTRAST[0]) / (CONTRAST[1] - CONTRAST[0])  # the draw that keeps contrast


def pictures(seed: int, count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_middle_of_all_draws_changes_little():
    picture = pictures(0)
    draws = torch.full((4, COLOUR_DRAWS), 0.5)
    draws[:, 0] = UNCHANGED
    torch.testing.assert_close(recoloured(picture, draws), picture)


def test_values_stay_in_range_and_rows_are_their_own():
    draws = torch.rand(4, DRAWS, generator=torch.Generator().manual_seed(1))
    foreground, background, other = (pictures(seed) for seed in range(3))
    both = varied_layers(foreground, background, other, draws)
    for one in both:
        assert one.shape == (4, 3, 16, 16)
        assert float(one.abs().max()) <= 1
    rows = varied_layers(foreground[2:3], background[2:3], other[2:3], draws[2:3])
    for one, alone in zip(both, rows, strict=True):
        torch.testing.assert_close(one[2:3], alone)


def test_some_backgrounds_are_two_in_one():
    black, white = torch.full((2, 3, 16, 16), -1.0), torch.full((2, 3, 16, 16), 1.0)
    draws = torch.full((2, DRAWS), 0.5)
    draws[:, 0::COLOUR_DRAWS][:, :3] = UNCHANGED
    merges = 3 * COLOUR_DRAWS
    draws[0, merges], draws[1, merges] = MERGED, 0.9 * MERGED
    draws[:, merges + 1] = 0.0  # the field: one corner is the first's, the other the second's
    draws[:, -1] = 1.0
    _, background = varied_layers(black, black, white, draws)
    assert torch.equal(background[0], black[0])
    assert float(background[1, :, 0, 0].max()) < -0.9
    assert float(background[1, :, -1, -1].min()) > 0.9
