"""Given parts made imperfect and layers made more various: what changes, how far, what stays."""

import pytest
import torch

from tests.training.toy_source import DiscSource
from text2layer.training.augmentation import (
    COLOUR_DRAWS,
    CONTRAST,
    DRAWS,
    MERGED,
    make_imperfect,
    recoloured,
    varied_layers,
)


@pytest.fixture(scope="module")
def batch():
    return DiscSource(size=64).compose(200, torch.Generator().manual_seed(0))


def damaged(parts, share=1.0, seed=0):
    count = len(next(iter(parts.values())))
    return make_imperfect(parts, share, [torch.Generator().manual_seed(seed)] * count)


def differs(first, second):
    return (first - second).abs().flatten(1).amax(1) > 0


def test_share_of_rows_that_change(batch):
    noise = torch.rand(200, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    changed = differs(damaged({"background": noise}, 0.3)["background"], noise)
    assert 0.2 < changed.float().mean() < 0.4
    untouched = {"background": batch.background}
    assert damaged(untouched, 0.0) is untouched


def test_no_share_draws_nothing(batch):
    generator = torch.Generator().manual_seed(0)
    make_imperfect({"image": batch.image}, 0.0, [generator] * 200)
    assert torch.rand((), generator=generator) == torch.rand(
        (), generator=torch.Generator().manual_seed(0)
    )


def test_a_cut_out_is_damaged_in_its_mask_or_its_colour_never_in_both(batch):
    grain = torch.rand(batch.image.shape, generator=torch.Generator().manual_seed(2)) * 0.2
    grainy = (batch.image + grain).clamp(-1, 1)
    made = damaged({"foreground": grainy, "mask": batch.mask})
    mask, colour = differs(made["mask"], batch.mask), differs(made["foreground"], grainy)
    assert (mask ^ colour).all()
    assert 0.3 < mask.float().mean() < 0.7


def test_of_several_foregrounds_each_is_damaged_by_itself(batch):
    foreground, mask = (t[:100].unflatten(0, (50, 2)) for t in (batch.image, batch.mask))
    made = damaged({"foreground": foreground, "mask": mask}, 0.5)
    flat = damaged({"foreground": batch.image[:100], "mask": batch.mask[:100]}, 0.5)
    assert made["mask"].shape == (50, 2, 1, 64, 64)
    assert torch.equal(made["foreground"].flatten(0, 1), flat["foreground"])
    assert torch.equal(made["mask"].flatten(0, 1), flat["mask"])


def test_damage_is_mild_and_leaves_what_was_given_alone(batch):
    given = {"foreground": batch.image, "mask": batch.mask}
    before = {name: tensor.clone() for name, tensor in given.items()}
    made = damaged(given)
    assert all(torch.equal(given[name], before[name]) for name in given)
    overlap = torch.minimum(made["mask"], batch.mask).sum((1, 2, 3))
    union = torch.maximum(made["mask"], batch.mask).sum((1, 2, 3))
    assert float((overlap / union).min()) > 0.6
    assert float((made["foreground"] - batch.image).square().mean()) < 0.01
    assert 0 <= float(made["mask"].min()) <= float(made["mask"].max()) <= 1
    assert float(made["foreground"].abs().max()) <= 1


def test_same_generator_same_damage(batch):
    given = {"image": batch.image}
    assert torch.equal(damaged(given, seed=5)["image"], damaged(given, seed=5)["image"])
    assert not torch.equal(damaged(given, seed=5)["image"], damaged(given, seed=6)["image"])


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
