"""The matting network: shapes, what it looks at, and what it refuses."""

import pytest
import torch

from text2layer.errors import InputError
from text2layer.models.matting import MattingNetwork, padded


@pytest.fixture
def network() -> MattingNetwork:
    torch.manual_seed(0)
    return MattingNetwork.from_preset("tiny", latent_channels=4).eval().requires_grad_(False)


def inputs(height: int = 64, width: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand(2, 3, height, width, generator=generator) * 2 - 1
    return picture, torch.randn(2, 4, height // 8, width // 8, generator=generator)


@pytest.mark.parametrize("size", [(64, 64), (72, 104), (8, 16), (8, 8)])
def test_a_mask_has_the_size_of_its_picture(network: MattingNetwork, size: tuple[int, int]):
    mask = network(*inputs(*size))
    assert mask.shape == (2, 1, *size)
    assert 0 <= float(mask.min()) <= float(mask.max()) <= 1
    torch.testing.assert_close(mask, torch.sigmoid(network.logits(*inputs(*size))))


def test_both_picture_and_latent_count(network: MattingNetwork):
    picture, latents = inputs()
    mask = network(picture, latents)
    assert not torch.equal(mask, network(-picture, latents))
    assert not torch.equal(mask, network(picture, -latents))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_latent_cell_speaks_of_its_own_place(factor: int):
    """Far from a cell that changes, nothing does: the coarsest level alone reaches everywhere."""
    network = MattingNetwork(4, factor, block_out_channels=(8, 8, 16), middle_blocks=0).eval()
    network.requires_grad_(False)
    picture = torch.zeros(1, 3, 128, 128)
    latents = torch.zeros(1, 4, 128 // factor, 128 // factor)
    changed = latents.clone()
    row, column = 24 // factor, 80 // factor
    changed[:, :, row, column] = 5.0
    difference = (network(picture, latents) - network(picture, changed)).abs()[0, 0]
    top, left = divmod(int(difference.argmax()), 128)
    assert abs(top - 24) <= 24
    assert abs(left - 80) <= 24
    assert float(difference[:, :8].max()) == 0


def test_sizes_that_do_not_fit_are_continued():
    maps = torch.arange(6.0).view(1, 1, 2, 3)
    assert padded(maps, 4)[0, 0].tolist() == [
        [0, 1, 2, 2],
        [3, 4, 5, 5],
        [3, 4, 5, 5],
        [3, 4, 5, 5],
    ]
    assert padded(maps, 1) is maps


@pytest.mark.parametrize("factor", [1, 6, 16])
def test_latents_of_another_resolution_are_refused(factor: int):
    with pytest.raises(InputError, match=f"cells of {factor} pixels"):
        MattingNetwork(4, factor, block_out_channels=(8, 8, 16))


def test_unknown_presets_are_named():
    with pytest.raises(InputError, match="'huge'; choose one of tiny, base"):
        MattingNetwork.from_preset("huge")
