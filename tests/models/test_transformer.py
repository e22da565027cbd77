"""The transformer with pooled text and local convolutions."""

import inspect
import json
from pathlib import Path

import pytest
import torch
from diffusers import PixArtTransformer2DModel

from text2layer.models.denoiser import build_denoiser, denoise, flag_tensor, initialise
from text2layer.models.transformer import LayerTransformer2DModel, pooled_text


@pytest.fixture
def network() -> LayerTransformer2DModel:
    torch.manual_seed(0)
    built = build_denoiser("tiny-pooled", latent_channels=4, text_channels=16, sample_size=8)
    assert isinstance(built, LayerTransformer2DModel)
    return built.eval()


def inputs(rows: int = 8, columns: int = 8) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "hidden_states": torch.randn(2, 12, rows, columns, generator=generator),
        "encoder_hidden_states": torch.randn(2, 5, 16, generator=generator),
        "timestep": torch.tensor([100.0, 900.0]),
        "encoder_attention_mask": torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
    }


def test_without_its_additions_it_is_pixart(network: LayerTransformer2DModel) -> None:
    """Convolutions are zero at first; with a silent pooled text all else is diffusers' own."""
    for weight in network.adaln_single.pooled[2].parameters():
        torch.nn.init.zeros_(weight)
    config = {name: network.config[name] for name in (
        "num_attention_heads", "attention_head_dim", "in_channels", "out_channels", "num_layers",
        "cross_attention_dim", "caption_channels", "sample_size", "patch_size",
        "interpolation_scale")}  # fmt: skip
    plain = PixArtTransformer2DModel(**config, use_additional_conditions=False).eval()
    missing, unexpected = plain.load_state_dict(network.state_dict(), strict=False)
    assert not missing
    assert {name.split(".")[-2] if "local" in name else "pooled" for name in unexpected} == {
        "local", "pooled"}  # fmt: skip
    with torch.no_grad():
        given = inputs()
        torch.testing.assert_close(
            network(**given).sample, plain(**given).sample, atol=1e-5, rtol=1e-5
        )


def test_pooled_text_is_the_mean_of_the_counted_tokens() -> None:
    states = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    expected = torch.tensor([[1.0, 2.0], [8.0, 9.0]])
    assert torch.equal(pooled_text(states, mask), expected)
    assert torch.equal(pooled_text(states, None)[1], expected[1])


def test_pooled_text_alone_changes_the_answer(network: LayerTransformer2DModel) -> None:
    for block in network.transformer_blocks:  # no way in by cross-attention
        for weight in block.attn2.to_out.parameters():
            torch.nn.init.zeros_(weight)
    given = inputs()
    with torch.no_grad():
        first = network(**given).sample
        given["encoder_hidden_states"] = given["encoder_hidden_states"].roll(1, 0)
        assert (network(**given).sample - first).abs().max() > 1e-3


def test_a_convolution_spreads_to_the_neighbours_of_a_token(
    network: LayerTransformer2DModel,
) -> None:
    layer = network.transformer_blocks[0].ff.net[0]
    layer.grid = (3, 4)
    torch.nn.init.ones_(layer.local.weight)
    tokens = torch.zeros(1, 12, 32)
    changed = tokens.clone()
    changed[0, 5] = 1.0  # row 1, column 1
    with torch.no_grad():
        touched = (layer(changed) - layer(tokens)).abs().sum(2)[0].view(3, 4) > 1e-6
    expected = torch.tensor([[1, 1, 1, 0]] * 3, dtype=torch.bool)
    assert torch.equal(touched, expected)


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (4, 12), (6, 2)])
def test_any_frame_is_drawn(network: LayerTransformer2DModel, rows: int, columns: int) -> None:
    with torch.no_grad():
        assert network(**inputs(rows, columns)).sample.shape == (2, 4, rows, columns)


def test_every_weight_learns_after_the_first_update(network: LayerTransformer2DModel) -> None:
    network.train()
    torch.manual_seed(2)
    initialise(network, torch.randn(64, 16), torch.randn(32, 16))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        network(**inputs()).sample.sub(1).square().mean().backward()
        optimizer.step()
    silent = [name for name, weight in network.named_parameters()
              if weight.grad is None or not weight.grad.any()]  # fmt: skip
    assert silent == []


def test_it_is_saved_and_loaded_with_its_statistics(
    network: LayerTransformer2DModel, tmp_path: Path
) -> None:
    initialise(network, torch.randn(64, 16), torch.randn(32, 16) + 3)
    assert network.adaln_single.pooled_mean.mean() > 2
    network.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert {name for name in stored if not name.startswith("_")} == set(
        inspect.signature(LayerTransformer2DModel.__init__).parameters
    ) - {"self"}
    again = LayerTransformer2DModel.from_pretrained(tmp_path).eval()
    latents, flags = torch.randn(1, 4, 8, 8), flag_tensor(["reference"], torch.empty(0))
    states, mask = torch.randn(1, 3, 16), torch.ones(1, 3, dtype=torch.bool)
    with torch.no_grad():
        one, other = (
            denoise(net, latents, latents, flags, torch.tensor(500.0), states, mask)
            for net in (network, again)
        )
    assert torch.equal(one, other)
