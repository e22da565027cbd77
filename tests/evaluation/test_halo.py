"""Halos: constructed layers whose score is known, and a reference by NumPy and scipy."""

import numpy as np
import pytest
import torch

from text2layer.errors import InputError
from text2layer.evaluation.halo import GROUNDS, edge_band, halo, halo_without_truth

INNER = torch.tensor([200.0, 60.0, 30.0]).view(1, 3, 1, 1)
BEHIND = torch.tensor([20.0, 90.0, 230.0]).view(1, 3, 1, 1)


def disc(size: int = 48, radius: float = 14, softness: float = 4) -> torch.Tensor:
    """(1, 1, size, size) mask: 1 inside, a linear ramp, 0 outside; 8-bit levels."""
    y, x = torch.meshgrid(*[torch.arange(size) - size / 2] * 2, indexing="ij")
    soft = ((radius - torch.hypot(x, y)) / softness + 0.5).clamp(0, 1)
    return soft[None, None].mul(255).round() / 255


def plain(colour: torch.Tensor, size: int = 48) -> torch.Tensor:
    return colour.expand(1, 3, size, size).round().clamp(0, 255).to(torch.uint8)


def over(ground: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (mask * INNER + (1 - mask) * ground).round().to(torch.uint8)


def levels(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_the_error_is_numpys_over_the_dilated_edge(radius):
    ndimage = pytest.importorskip("scipy.ndimage")
    mask, true_mask = disc(), disc(radius=16, softness=6)
    foreground, true_foreground = levels(0, 1, 3, 48, 48), levels(1, 1, 3, 48, 48)
    a, b = (m[0, 0].double().numpy() for m in (mask, true_mask))
    partly = ((a > 0.02) & (a < 0.98)) | ((b > 0.02) & (b < 0.98))
    band = ndimage.binary_dilation(partly, np.ones((2 * radius + 1,) * 2))
    errors = []
    for ground in GROUNDS:
        seen = [
            np.rint(m * f[0].double().numpy() + (1 - m) * np.array(ground)[:, None, None])
            for m, f in ((a, foreground), (b, true_foreground))
        ]
        errors.append(np.abs(seen[0] - seen[1])[:, band].mean())
    score = halo(foreground, mask, true_foreground, true_mask, radius=radius)
    assert score.dtype == torch.float64
    assert score.item() == pytest.approx(np.mean(errors), rel=1e-9)


def test_a_hard_edge_is_an_edge_and_a_plain_mask_has_none():
    mask = torch.zeros(1, 1, 5, 6)
    mask[..., 3:] = 1
    assert edge_band(mask, 1)[0, 0, 0].tolist() == [False, False, True, True, False, False]
    assert not edge_band(mask, 0).any()
    assert not edge_band(torch.ones(1, 1, 5, 6)).any()  # nor is the picture's border one
    assert not edge_band(torch.zeros(1, 1, 5, 6)).any()


def test_the_true_layer_has_no_halo_and_colour_that_is_not_seen_does_not_count():
    mask, colour = disc(), plain(INNER)
    hidden = torch.where(mask == 0, levels(0, 1, 3, 48, 48), colour)
    assert halo(colour, mask, colour, mask).item() == 0
    assert halo(hidden, mask, colour, mask).item() == 0


def test_the_old_background_in_the_edge_is_a_halo():
    mask = disc()
    undone = over(BEHIND, mask)  # the matte laid on the photograph
    score = halo(undone, mask, plain(INNER), mask).item()
    worse = halo(torch.where(mask > 0.98, undone, plain(BEHIND)), mask, plain(INNER), mask).item()
    assert 5 < score < worse


def test_each_ground_shows_what_another_hides():
    black = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    mask, wider = torch.full((1, 1, 8, 8), 0.4), torch.full((1, 1, 8, 8), 0.6)
    assert halo(black, wider, black, mask, grounds=[(0, 0, 0)]).item() == 0
    assert halo(black, wider, black, mask, grounds=[(255, 255, 255)]).item() == 51
    assert halo(black, wider, black, mask, grounds=[(0, 255, 0)]).item() == 17
    assert halo(black, wider, black, mask, grounds=[(0, 0, 0), (255,) * 3]).item() == 25.5


def test_masks_without_an_edge():
    colour = levels(0, 3, 3, 8, 8)
    mask, true_mask = torch.zeros(3, 1, 8, 8), torch.zeros(3, 1, 8, 8)
    mask[1:], true_mask[2:] = 1, 1
    score = halo(colour, mask, colour, true_mask)
    assert score.tolist()[0] == 0  # both empty
    assert score.isnan().tolist() == [False, True, True]
    mask[0, 0, 0, 0] = torch.nan
    assert halo(colour, mask, colour, true_mask).isnan().all()


def test_an_undone_matte_has_one_less_alpha_of_background():
    mask = disc()
    a = mask[(mask > 0.02) & (mask < 0.98)].double()
    expected = float((a * (1 - a) * (1 - a)).sum() / (a * (1 - a)).sum())
    score = halo_without_truth(over(BEHIND, mask), plain(BEHIND), mask)
    assert score.dtype == torch.float64
    assert score.item() == pytest.approx(expected, abs=0.01)
    assert 0.4 < expected < 0.6


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0, 1.5])
def test_a_share_of_background_in_the_edge_is_found(share):
    mask = disc()
    edge = INNER + share * (BEHIND - INNER)
    foreground = torch.where(mask >= 0.98, plain(INNER), plain(edge))
    score = halo_without_truth(foreground, plain(BEHIND), mask).item()
    assert score == pytest.approx(min(share, 1), abs=0.01)


def test_only_the_way_to_the_background_counts():
    mask = disc()
    way = (BEHIND - INNER).flatten()
    across = torch.linalg.cross(way, torch.tensor([0.0, 1.0, 0.0]))
    across = (across / across.norm() * 30).view(1, 3, 1, 1)
    foreground = torch.where(mask >= 0.98, plain(INNER), plain(INNER + across))
    assert halo_without_truth(foreground, plain(BEHIND), mask).item() == pytest.approx(0, abs=0.01)
    away = torch.where(mask >= 0.98, plain(INNER), plain(INNER + 0.1 * (INNER - BEHIND)))
    assert halo_without_truth(away, plain(BEHIND), mask).item() == 0


def test_texture_is_no_halo():
    mask = disc(96, 30, 6)
    noise = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 20
    foreground = (plain(INNER, 96) + noise).round().clamp(0, 255).to(torch.uint8)
    assert halo_without_truth(foreground, plain(BEHIND, 96), mask).item() < 0.03


def test_without_a_soft_edge_an_inside_or_a_difference_there_is_no_score():
    mask = torch.cat([disc(), torch.zeros(1, 1, 48, 48), torch.ones(1, 1, 48, 48),
                      (disc() > 0.5).float(), disc() * 0.9, disc(), disc()])  # fmt: skip
    mask[6, 0, 0, 0] = torch.nan
    foreground, background = (plain(c).repeat(7, 1, 1, 1) for c in (INNER, BEHIND))
    background[5] = foreground[5]
    score = halo_without_truth(foreground, background, mask)
    assert score.isnan().tolist() == [False] + [True] * 6
    assert score.tolist()[0] == 0


def test_what_does_not_fit_is_refused():
    mask, colour = disc(), plain(INNER)
    with pytest.raises(InputError, match="one shape"):
        halo(colour, mask, colour[..., :40], mask)
    with pytest.raises(InputError, match="does not fit"):
        halo_without_truth(colour, colour, mask[..., :40])
    with pytest.raises(InputError, match="uint8"):
        halo_without_truth(colour / 127.5 - 1, colour, mask)
    with pytest.raises(InputError, match="radius"):
        halo(colour, mask, colour, mask, radius=-1)
    with pytest.raises(InputError, match="at least one ground"):
        halo(colour, mask, colour, mask, grounds=[])
