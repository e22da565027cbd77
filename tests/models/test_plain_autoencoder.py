"""The baselines' autoencoder: parts side by side, each coded on its own."""

import pytest
import torch

from text2layer.errors import InputError
from text2layer.models.plain_autoencoder import PARTS, PlainAutoencoder
from text2layer.tensors import composite
from text2layer.training.checkpoints import load_autoencoder


@pytest.fixture(scope="module")
def whole() -> PlainAutoencoder:
    torch.manual_seed(0)
    network = PlainAutoencoder.from_preset("tiny-plain", linear_shortcut=True).eval()
    network.set_latent_statistics(torch.arange(8.0), torch.arange(1.0, 9.0))
    return network


def layers(seed: int = 0, size: int = 32):
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(2, 3, 3, size, size, generator=generator) * 2 - 1
    return colours[0], colours[1], torch.rand(3, 1, size, size, generator=generator)


def test_each_part_is_coded_on_its_own(whole):
    foreground, background, mask = layers()
    latents = whole.encode(foreground, background, mask).mode()
    assert latents.shape == (3, 8, 4, 4)
    changed = whole.encode(foreground, -background, mask).mode()
    rows = [(latents[:, i : i + 2] == changed[:, i : i + 2]).all() for i in range(0, 8, 2)]
    assert [bool(row) for row in rows] == [True, False, True, False]  # F, B, mask, image
    image = whole.with_parts(("image",))
    picture = composite(foreground, background, mask)
    alone = image.encode(picture, picture, torch.ones_like(mask)).mode()
    torch.testing.assert_close(alone, latents[:, 6:])


def test_parts_keep_their_weights_and_their_statistics(whole):
    pair = whole.with_parts(PARTS[:3])
    assert pair.config.latent_channels == 6
    assert pair.config.latent_shift == [0, 1, 2, 3, 4, 5]
    assert whole.with_parts(("image",)).config.latent_scale == [7, 8]
    both = [network(*layers()) for network in (whole, pair)]
    torch.testing.assert_close(both[0].foreground, both[1].foreground)
    torch.testing.assert_close(both[0].mask, both[1].mask)
    assert both[1].image is None


def test_a_flat_picture_is_one_opaque_layer(whole):
    flat = whole.with_parts(("image",))
    assert flat.is_flat
    assert not whole.is_flat
    output = flat(*layers())
    assert torch.equal(output.foreground, output.image)
    assert bool((output.mask == 1).all())


def test_it_saves_and_loads_as_what_it_is(whole, tmp_path):
    whole.with_parts(PARTS[:3]).save_pretrained(tmp_path)
    again = load_autoencoder(tmp_path)
    assert isinstance(again, PlainAutoencoder)
    assert tuple(again.config.parts) == PARTS[:3]
    torch.testing.assert_close(again(*layers()).background, whole(*layers()).background)


@pytest.mark.parametrize("parts", [("mask",), ("background", "foreground", "mask"), ()])
def test_other_parts_are_refused(whole, parts):
    with pytest.raises(InputError, match="codes foreground, background, mask"):
        whole.with_parts(parts)


def test_bad_input_is_one_sentence(whole):
    with pytest.raises(InputError, match="was not made for the part 'image'"):
        whole.with_parts(PARTS[:3]).with_parts(PARTS)
    foreground, background, mask = layers()
    with pytest.raises(InputError, match="must agree"):
        whole.encode(foreground[:1], background, mask)
    with pytest.raises(InputError, match="multiples of 8"):
        whole.encode(*layers(size=36))
    with pytest.raises(InputError, match="evenly among 4 parts"):
        PlainAutoencoder.from_preset("tiny-plain", latent_channels=6)
    with pytest.raises(InputError, match="No plain autoencoder"):
        PlainAutoencoder.from_preset("huge")
