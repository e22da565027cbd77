"""The matting network: shapes, what it looks at, and what it refuses."""

from pathlib import Path

import pytest
import torch

from text2layer.errors import InputError
from text2layer.models.efficientnet import EfficientNetLite0
from text2layer.models.frozen import Held
from text2layer.models.matting import MattingNetwork
from text2layer.tensors import bytes_to_colour, padded


@pytest.fixture
def network() -> MattingNetwork:
    torch.manual_seed(0)
    return MattingNetwork.from_preset("tiny").eval().requires_grad_(False)


def picture(height: int = 64, width: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, height, width, generator=generator) * 2 - 1


@pytest.mark.parametrize("size", [(64, 64), (72, 104), (8, 16), (5, 7)])
def test_a_mask_has_the_size_of_its_picture(network: MattingNetwork, size: tuple[int, int]):
    mask = network(picture(*size))
    assert mask.shape == (2, 1, *size)
    assert 0 <= float(mask.min()) <= float(mask.max()) <= 1
    torch.testing.assert_close(mask, torch.sigmoid(network.logits(picture(*size))))


def test_fine_detail_reaches_the_mask(network: MattingNetwork):
    """One pixel of the picture changes the mask at that pixel: nothing is lost on the way down."""
    one, other = picture(), picture()
    other[:, :, 20, 33] = -other[:, :, 20, 33]
    difference = (network.logits(one) - network.logits(other)).abs()[0, 0]
    assert float(difference[20, 33]) > 0
    assert float(difference[18:23, 31:36].mean()) > 2 * float(difference.mean())


def test_sizes_that_do_not_fit_are_continued():
    maps = torch.arange(6.0).view(1, 1, 2, 3)
    assert padded(maps, 4)[0, 0].tolist() == [
        [0, 1, 2, 2],
        [3, 4, 5, 5],
        [3, 4, 5, 5],
        [3, 4, 5, 5],
    ]
    assert padded(maps, 1) is maps


def test_unknown_presets_are_named():
    with pytest.raises(InputError, match="'huge'; choose one of tiny, base"):
        MattingNetwork.from_preset("huge")


@pytest.fixture
def looking() -> MattingNetwork:
    """A network that looks through a backbone of random weights."""
    torch.manual_seed(0)
    network = MattingNetwork(
        block_out_channels=(8, 8, 16), middle_blocks=1, backbone="efficientnet-lite0"
    ).eval()
    network.frozen = Held(EfficientNetLite0(pretrained=False))
    return network.requires_grad_(False)


def test_a_backbone_is_silent_until_it_is_trained(looking: MattingNetwork):
    inner = {k: v for k, v in looking.state_dict().items() if not k.startswith("looks.")}
    without = MattingNetwork(block_out_channels=(8, 8, 16), middle_blocks=1).eval()
    without.load_state_dict(inner)
    torch.testing.assert_close(looking(picture(72, 104)), without(picture(72, 104)).detach())
    torch.nn.init.normal_(looking.looks[2].weight)
    assert not torch.allclose(looking(picture()), without(picture()))


def test_a_backbone_sees_levels_as_it_was_trained_on(looking: MattingNetwork):
    seen = []
    looking.frozen.network.register_forward_pre_hook(lambda *_: pytest.fail("maps, not features"))
    looking.frozen.network.stem.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    levels = torch.tensor([0, 127, 255]).view(3, 1, 1, 1).expand(3, 3, 16, 16)
    looking.look(bytes_to_colour(levels))
    expected = (levels.float() - 127) / 128
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=0)


def test_a_backbone_is_neither_saved_nor_trained(looking: MattingNetwork, tmp_path: Path):
    looking.requires_grad_(True)
    looking.looks[0].weight.data.normal_()
    looking(picture()).sum().backward()
    assert looking.looks[0].weight.grad is not None
    backbone = list(looking.frozen.network.parameters())
    assert all(p.grad is None for p in backbone)
    assert {id(p) for p in looking.parameters()}.isdisjoint(map(id, backbone))
    looking.save_pretrained(tmp_path)
    again = MattingNetwork.from_pretrained(tmp_path)
    assert again.frozen is None
    assert len(again.looks) == 3
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 400_000


@pytest.mark.parametrize("given", [
    {"backbone": "resnet"}, {"backbone": "efficientnet-lite0", "block_out_channels": (8,) * 6}
])  # fmt: skip
def test_a_backbone_that_does_not_fit_is_refused(given: dict):
    with pytest.raises(InputError, match="looks through efficientnet-lite0"):
        MattingNetwork(**given)
