"""Layers of a picture and its mask: each has its own colour alone, and all of its own pixels."""

import torch

from text2layer.evaluation.mask_overlap import soft_iou
from text2layer.pipelines.rough_layers import RIM, rough_layers


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
