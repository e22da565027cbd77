"""The matting network: shapes, what it looks at, and what it refuses."""

from pathlib import Path

import pytest
import torch

from text2layer.errors import InputError
from text2layer.models.efficientnet import EfficientNetLite0
from text2layer.models.matting import MattingNetwork, padded
from text2layer.tensors import bytes_to_colour


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


@pytest.fixture
def looking() -> MattingNetwork:
    """A network that looks through a backbone of random weights."""
    torch.manual_seed(0)
    network = MattingNetwork(
        4, block_out_channels=(8, 8, 16), middle_blocks=1, backbone="efficientnet-lite0"
    ).eval()
    network.frozen = (EfficientNetLite0(pretrained=False),)
    return network.requires_grad_(False)


def test_a_backbone_is_silent_until_it_is_trained(looking: MattingNetwork):
    inner = {k: v for k, v in looking.state_dict().items() if not k.startswith("looks.")}
    without = MattingNetwork(4, block_out_channels=(8, 8, 16), middle_blocks=1).eval()
    without.load_state_dict(inner)
    torch.testing.assert_close(looking(*inputs(72, 104)), without(*inputs(72, 104)).detach())
    torch.nn.init.normal_(looking.looks[2].weight)
    assert not torch.allclose(looking(*inputs()), without(*inputs()))


def test_a_backbone_sees_levels_as_it_was_trained_on(looking: MattingNetwork):
    seen = []
    looking.frozen[0].register_forward_pre_hook(lambda *_: pytest.fail("maps, not features"))
    looking.frozen[0].stem.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    levels = torch.tensor([0, 127, 255]).view(3, 1, 1, 1).expand(3, 3, 16, 16)
    looking.look(bytes_to_colour(levels))
    expected = (levels.float() - 127) / 128
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=0)


def test_a_backbone_is_neither_saved_nor_trained(looking: MattingNetwork, tmp_path: Path):
    looking.requires_grad_(True)
    looking.looks[0].weight.data.normal_()
    looking(*inputs()).sum().backward()
    assert looking.looks[0].weight.grad is not None
    backbone = list(looking.frozen[0].parameters())
    assert all(p.grad is None for p in backbone)
    assert {id(p) for p in looking.parameters()}.isdisjoint(map(id, backbone))
    looking.save_pretrained(tmp_path)
    again = MattingNetwork.from_pretrained(tmp_path)
    assert again.frozen == ()
    assert len(again.looks) == 3
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 400_000


@pytest.mark.parametrize("given", [
    {"backbone": "resnet"}, {"backbone": "efficientnet-lite0", "block_out_channels": (8,) * 6}
])  # fmt: skip
def test_a_backbone_that_does_not_fit_is_refused(given: dict):
    with pytest.raises(InputError, match="looks through efficientnet-lite0"):
        MattingNetwork(4, **given)
