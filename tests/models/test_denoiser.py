"""The denoiser: stock networks, flags, conditions, schedulers."""

from unittest import mock

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    PixArtTransformer2DModel,
    UNet2DConditionModel,
)

from tests.toy_model import TEXT_WIDTH, build_network
from text2layer.errors import InputError
from text2layer.models.denoiser import (
    GIVEN,
    build_denoiser,
    build_scheduler,
    denoise,
    fill_flags,
    flag_channels,
    flag_tensor,
    initialise,
    is_flow,
    patch_size,
    whitening_of,
)
from text2layer.models.transformer import LayerTransformer2DModel


@pytest.fixture(scope="module", params=["tiny", "tiny-paper"])
def network(request):
    return build_network(request.param)


def arguments(count: int = 2, height: int = 8, width: int = 8, tokens: int = 5) -> dict:
    """Inputs of `denoise` for the toy networks."""
    generator = torch.Generator().manual_seed(0)
    return {
        "noisy": torch.randn(count, 4, height, width, generator=generator),
        "condition": torch.randn(count, 4, height, width, generator=generator),
        "flags": flag_tensor([None, "background"][:count], torch.empty(0)),
        "timestep": torch.full((count,), 500.0),
        "text_states": torch.randn(count, tokens, TEXT_WIDTH, generator=generator),
        "text_mask": torch.ones(count, tokens, dtype=torch.bool),
    }


def test_flags_name_what_is_given_in_the_order_of_the_channels():
    assert GIVEN == ("foreground", "background", "image", "reference")
    given = [None, "image", "foreground", "background", "reference"]
    flags = flag_tensor(given, torch.empty(0).half())
    assert flags.tolist() == [
        [0, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1],
    ]  # fmt: skip
    assert flags.dtype == torch.float16


@pytest.mark.parametrize(
    ("preset", "kind"),
    [
        ("tiny", PixArtTransformer2DModel),
        ("bench", PixArtTransformer2DModel),
        ("base", LayerTransformer2DModel),
        ("large", LayerTransformer2DModel),
        ("base-unet", UNet2DConditionModel),
        ("tiny-paper", UNet2DConditionModel),
        ("paper", UNet2DConditionModel),
    ],
)
def test_presets_are_stock_networks_over_noise_condition_and_flags(preset, kind):
    with torch.device("meta"):
        built = build_denoiser(preset, latent_channels=6, text_channels=24)
    assert type(built) is kind
    assert built.config.in_channels == 2 * 6 + 4
    assert built.config.out_channels == 6


def test_the_paper_preset_is_stable_diffusions_unet_apart_from_its_input():
    with torch.device("meta"):
        built = build_denoiser("paper", latent_channels=4, text_channels=768)
    in_channels = 2 * 4 + 4
    stable_diffusion = 859_520_964
    more_inputs = (in_channels - 4) * 320 * 9
    assert sum(p.numel() for p in built.parameters()) == stable_diffusion + more_inputs


def test_schedulers_are_flow_or_the_papers_epsilon_ddim():
    flow, epsilon = build_scheduler("base"), build_scheduler("paper")
    assert isinstance(flow, FlowMatchEulerDiscreteScheduler)
    assert is_flow(flow)
    assert isinstance(epsilon, DDIMScheduler)
    assert not is_flow(epsilon)
    assert epsilon.config.prediction_type == "epsilon"
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2  # Stable Diffusion's schedule
    expected = np.cumprod(1 - betas)
    np.testing.assert_allclose(epsilon.alphas_cumprod.numpy(), expected, rtol=1e-4)
    assert build_scheduler("tiny", shift=3.0).config.shift == 3.0


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 12), (10, 6)])
def test_the_output_is_like_the_noisy_latent(network, height, width):
    with torch.no_grad():
        output = denoise(network, **arguments(2, height, width))
    assert output.shape == (2, 4, height, width)
    assert torch.isfinite(output).all()


def network_of_three_flags(preset: str):
    """A toy network as older models have them: without the channel of references."""
    with mock.patch("text2layer.models.denoiser.GIVEN", GIVEN[:3]):
        return build_network(preset)


@pytest.mark.parametrize("preset", ["tiny", "tiny-paper"])
def test_a_network_of_three_flags_gets_three_and_gives_the_same(preset):
    older = network_of_three_flags(preset)
    assert (older.config.in_channels, flag_channels(older, 4)) == (11, 3)
    given = arguments()
    maps = given["flags"][:, :3, None, None].expand(-1, -1, 8, 8)
    with torch.no_grad():
        expected = older(
            torch.cat([given["noisy"], given["condition"], maps], 1),
            encoder_hidden_states=given["text_states"],
            timestep=given["timestep"],
            encoder_attention_mask=given["text_mask"],
            return_dict=False,
        )[0]
        assert torch.equal(denoise(older, **given), expected)


@pytest.mark.parametrize("preset", ["tiny", "tiny-paper"])
def test_weights_of_three_flags_go_on_in_a_network_of_four(preset):
    older, newer = network_of_three_flags(preset), build_network(preset)
    given = arguments()
    newer.load_state_dict(fill_flags(newer, older.state_dict()))
    with torch.no_grad():
        torch.testing.assert_close(denoise(newer, **given), denoise(older, **given))
        given["flags"] = flag_tensor(["reference", None], torch.empty(0))
        torch.testing.assert_close(denoise(newer, **given), denoise(older, **given))
    untouched = newer.state_dict()
    assert fill_flags(newer, untouched) is untouched


def test_flags_of_an_older_cache_are_those_of_a_network_of_four(network):
    given = arguments()
    with torch.no_grad():
        expected = denoise(network, **given)
        assert torch.equal(denoise(network, **{**given, "flags": given["flags"][:, :3]}), expected)


@pytest.mark.parametrize("changed", ["noisy", "condition", "flags", "timestep", "text_states"])
def test_every_input_counts_for_its_own_sample_alone(network, changed):
    given = arguments()
    other = {**given, changed: given[changed].clone()}
    other[changed][1] = 1 - other[changed][1]
    with torch.no_grad():
        before, after = denoise(network, **given), denoise(network, **other)
    torch.testing.assert_close(after[0], before[0], atol=1e-5, rtol=1e-5)
    assert (after[1] - before[1]).abs().max() > 1e-3


def test_masked_tokens_do_not_count(network):
    given = arguments()
    given["text_mask"][:, 3:] = False
    other = {**given, "text_states": given["text_states"].clone()}
    other["text_states"][:, 3:] += 10
    shorter = {k: v[:, :3] if k.startswith("text") else v for k, v in given.items()}
    with torch.no_grad():
        output = denoise(network, **given)
        torch.testing.assert_close(denoise(network, **other), output)
        torch.testing.assert_close(denoise(network, **shorter), output, atol=1e-5, rtol=1e-5)


def test_a_scalar_timestep_serves_the_batch(network):
    given = arguments()
    with torch.no_grad():
        expected = denoise(network, **given)
        given["timestep"] = torch.tensor(500.0)
        assert torch.equal(denoise(network, **given), expected)


def test_patch_sizes_are_what_the_networks_need():
    assert patch_size(build_network("tiny")) == 2
    assert patch_size(build_network("tiny-paper")) == 2
    with torch.device("meta"):
        assert patch_size(build_denoiser("paper", 4, 768)) == 8


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(InputError, match="No denoiser preset is called 'huge'; choose one of tiny"):
        build_denoiser("huge", 4, 16)


def correlated_states(count: int = 4000) -> torch.Tensor:
    """States of which a few strong shared directions hide the rest, as sentence encoders give."""
    generator = torch.Generator().manual_seed(3)
    mixing = torch.randn(TEXT_WIDTH, TEXT_WIDTH, generator=generator)
    mixing *= torch.logspace(1, -1, TEXT_WIDTH)[:, None]
    states = torch.randn(count, TEXT_WIDTH, generator=generator) @ mixing
    return 0.4 * states / states.std() + 0.1  # MiniLM's scale


def test_whitening_leaves_no_mean_and_no_correlation():
    states = correlated_states()
    mean, matrix = whitening_of(states, floor=1e-6)
    white = (states - mean) @ matrix.T
    torch.testing.assert_close(white.mean(0), torch.zeros(TEXT_WIDTH), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(TEXT_WIDTH), atol=0.03, rtol=0)


def test_whitening_of_constant_states_stays_finite():
    mean, matrix = whitening_of(torch.ones(10, 4))
    assert torch.equal(mean, torch.ones(4))
    assert torch.isfinite(matrix).all()


def test_an_initialised_network_is_silent_and_hears_its_text():
    torch.manual_seed(0)
    built = build_denoiser("tiny", latent_channels=4, text_channels=TEXT_WIDTH, sample_size=8)
    states = correlated_states()
    initialise(built, states)
    given = arguments()
    assert denoise(built, **given).abs().max() == 0
    with torch.no_grad():
        projected = built.caption_projection.linear_1(states)
    torch.testing.assert_close(projected.mean(0), torch.zeros(32), atol=1e-3, rtol=0)

    def spread(values: torch.Tensor) -> float:
        """Share of the variance in the strongest direction."""
        return float(torch.linalg.svdvals(torch.cov(values.T))[0] / values.var(0).sum())

    assert spread(projected) < 0.7 * spread(states)

    def text_share(network: PixArtTransformer2DModel) -> float:
        """How much of the blocks' output changes with the text."""
        outputs = []
        network.norm_out.register_forward_hook(lambda _, inputs, __: outputs.append(inputs[0]))
        with torch.no_grad():
            for shift in (0, 7):  # other captions' tokens in the same places
                text = states[shift : shift + 10].view(2, 5, TEXT_WIDTH)
                denoise(network, **{**given, "text_states": text})
        return float((outputs[0] - outputs[1]).std() / outputs[0].std())

    plain = build_denoiser("tiny", latent_channels=4, text_channels=TEXT_WIDTH, sample_size=8)
    assert text_share(built) > 2 * text_share(plain)


def test_initialising_leaves_a_unet_as_it_is():
    built = build_network("tiny-paper")
    before = {name: value.clone() for name, value in built.state_dict().items()}
    initialise(built, correlated_states())
    for name, value in built.state_dict().items():
        assert torch.equal(value, before[name])
