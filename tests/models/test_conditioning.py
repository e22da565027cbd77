"""The condition latent: exactly the encoding of what is given with the rest neutral."""

import pytest
import torch

from tests.toy_model import build_autoencoder
from text2layer.errors import InputError
from text2layer.models.denoiser import condition_latents


@pytest.fixture(scope="module")
def autoencoder():
    return build_autoencoder()


@pytest.fixture(scope="module")
def parts() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    colour = torch.rand(2, 2, 3, 16, 24, generator=generator) * 2 - 1
    mask = torch.rand(2, 1, 16, 24, generator=generator)
    return {"foreground": colour[0], "mask": mask, "picture": colour[1]}


def scaled_mean(autoencoder, *layers: torch.Tensor) -> torch.Tensor:
    """The scaled mean of a posterior, by the config's numbers."""
    mean = autoencoder.encode(*layers).mean
    shift, scale = (
        torch.tensor(autoencoder.config[name])[None, :, None, None]
        for name in ("latent_shift", "latent_scale")
    )
    return (mean - shift) * scale


def test_a_foreground_stands_before_mid_grey(autoencoder, parts):
    grey = torch.zeros(2, 3, 16, 24)
    with torch.no_grad():
        made = condition_latents(autoencoder, foreground=parts["foreground"], mask=parts["mask"])
        expected = scaled_mean(autoencoder, parts["foreground"], grey, parts["mask"])
    assert made.shape == (2, 4, 2, 3)
    torch.testing.assert_close(made, expected)


@pytest.mark.parametrize("kind", ["background", "image"])
def test_a_picture_lies_under_an_empty_foreground(kind, autoencoder, parts):
    picture = parts["picture"]
    with torch.no_grad():
        made = condition_latents(autoencoder, **{kind: picture})
        expected = scaled_mean(
            autoencoder, torch.zeros_like(picture), picture, torch.zeros(2, 1, 16, 24)
        )
    torch.testing.assert_close(made, expected)


def test_several_foregrounds_stand_before_mid_grey_and_empty_ones_before_a_picture():
    autoencoder = build_autoencoder(num_foregrounds=2)
    generator = torch.Generator().manual_seed(0)
    foreground = torch.rand(2, 2, 3, 16, 24, generator=generator) * 2 - 1
    mask = torch.rand(2, 2, 1, 16, 24, generator=generator)
    picture = torch.rand(2, 3, 16, 24, generator=generator) * 2 - 1
    with torch.no_grad():
        made = condition_latents(autoencoder, foreground=foreground, mask=mask)
        expected = scaled_mean(autoencoder, foreground, torch.zeros(2, 3, 16, 24), mask)
        torch.testing.assert_close(made, expected)
        empty = scaled_mean(autoencoder, torch.zeros_like(foreground), picture, 0 * mask)
        for kind in ("background", "image"):
            torch.testing.assert_close(condition_latents(autoencoder, **{kind: picture}), empty)


def test_exactly_one_part_is_taken(autoencoder, parts):
    with pytest.raises(InputError, match="0 were given"):
        condition_latents(autoencoder)
    with pytest.raises(InputError, match="2 were given"):
        condition_latents(autoencoder, background=parts["picture"], image=parts["picture"])
    with pytest.raises(InputError, match="needs its mask"):
        condition_latents(autoencoder, foreground=parts["foreground"])
