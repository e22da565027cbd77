"""The decoder that writes layers larger than those that were encoded."""

import pytest
import torch
from torch import nn

from text2layer.errors import InputError
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.layer_decoder import LayerDecoder, start_as_nearest

PICTURES = {"foreground": 3, "background": 3, "mask": 1}


@pytest.mark.parametrize(("channels", "patch"), [((32,), 16), ((32, 16), 8), ((32, 16, 16), 4)])
def test_before_training_every_patch_has_one_colour(channels, patch):
    torch.manual_seed(0)
    decoder = LayerDecoder(4, channels, 1, PICTURES, 16)
    pictures = decoder(torch.randn(2, 4, 3, 2))
    assert {name: part.shape for name, part in pictures.items()} == {
        name: (2, count, 48, 32) for name, count in PICTURES.items()
    }
    for part in pictures.values():
        patches = part.unflatten(-1, (-1, patch)).unflatten(-3, (-1, patch))
        first = patches[..., :1, :, :1].expand_as(patches)
        torch.testing.assert_close(patches, first)
        assert part.std() > 0


def test_channels_of_any_deviation_are_heard_alike():
    torch.manual_seed(3)
    decoder, other = (LayerDecoder(4, (32, 16), 1, PICTURES, 4) for _ in range(2))
    other.load_state_dict(decoder.state_dict())
    shift, scale = [0.5, -1.0, 0.0, 3.0], [1.0, 10.0, 0.1, 2.0]
    other.standardise(shift, scale)
    latents = torch.randn(2, 4, 3, 3)
    raw = latents / torch.tensor(scale)[:, None, None] + torch.tensor(shift)[:, None, None]
    for name, part in decoder(latents).items():
        torch.testing.assert_close(other(raw)[name], part)
    copy = LayerDecoder(4, (32, 16), 1, PICTURES, 4)
    copy.load_state_dict(other.state_dict())
    assert copy.scale.tolist() == pytest.approx(scale)


def test_plain_colours_come_from_a_map_of_the_latents():
    decoder = LayerDecoder(1, (32,), 1, {"mask": 1}, 8)
    latents = torch.linspace(-1, 1, 4).expand(1, 1, 4, 4)
    before = decoder(latents)["mask"]
    decoder.plain.weight.data[0, 0, 1, 1] = 2.0
    added = decoder(latents)["mask"] - before
    expected = nn.functional.interpolate(2 * latents, scale_factor=8, mode="bilinear")
    torch.testing.assert_close(added, expected)


def test_icnr_repeats_each_channel_for_its_patch():
    conv = nn.Conv2d(3, 2 * 9, 3)
    before = conv.weight.detach().clone()
    start_as_nearest(conv, 3)
    for channel in range(2):
        rows = conv.weight[channel * 9 : (channel + 1) * 9]
        assert torch.equal(rows, before[channel * 9].expand_as(rows))
        assert len(conv.bias[channel * 9 : (channel + 1) * 9].unique()) == 1


@pytest.mark.parametrize("name", PICTURES)
def test_every_weight_learns_from_every_picture(name):
    torch.manual_seed(1)
    decoder = LayerDecoder(4, (32, 16), 2, PICTURES, 4)
    nn.init.normal_(decoder.refine[-1].weight)  # starts at zero, so that nothing before it learns
    decoder(torch.randn(1, 4, 4, 4))[name].square().sum().backward()
    missed = [key for key, weight in decoder.named_parameters() if not weight.grad.any()]
    assert missed == []


def test_more_doublings_than_the_factor_has_are_one_sentence():
    with pytest.raises(
        InputError, match=r"double the latents 3 times, more than their factor of 4"
    ):
        LayerDecoder(4, (16,) * 4, 1, PICTURES, 4)


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
def test_an_autoencoder_with_it_gives_what_the_papers_gives(head, layers):
    torch.manual_seed(2)
    autoencoder = CaT2IAutoencoder.from_preset(
        "tiny", num_foregrounds=layers, auxiliary_head=head, doublings=1,
        decoder_channels=(32, 16), linear_shortcut=True,
    )  # fmt: skip
    output = autoencoder.decode(torch.randn(2, 4, 2, 3) * 9)
    assert output.background.shape == (2, 3, 32, 48)
    several = (layers,) if layers > 1 else ()
    assert output.foreground.shape == (2, *several, 3, 32, 48)
    assert output.mask.shape == (2, *several, 1, 32, 48)
    assert (output.image is not None) == head
    assert 0 <= output.mask.min() <= output.mask.max() <= 1
    assert output.foreground.abs().max() <= 1
