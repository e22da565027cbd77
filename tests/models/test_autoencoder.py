"""The composition-aware autoencoder: shapes, the paper's architecture, saving, statistics."""

import json
from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from text2layer.errors import InputError
from text2layer.models.autoencoder import CaT2IAutoencoder, PredictionHead
from text2layer.pipelines import released_model

KL_F8_PARAMETERS = 83_653_863  # Stable Diffusion v1's AutoencoderKL
PARTS = ("foreground", "background", "mask", "image")


def random_layers(count: int = 2, layers: int = 1, height: int = 32, width: int = 48):
    """(foreground, background, mask) in the public convention."""
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.rand(count, *shape, height, width, generator=generator)

    lead = (layers,) if layers > 1 else ()
    return rand(*lead, 3) * 2 - 1, rand(3) * 2 - 1, rand(*lead, 1)


@pytest.fixture(scope="module")
def tiny() -> CaT2IAutoencoder:
    torch.manual_seed(0)
    return CaT2IAutoencoder.from_preset("tiny").eval()


@pytest.fixture(scope="module")
def paper() -> CaT2IAutoencoder:
    with torch.device("meta"):
        return CaT2IAutoencoder.from_preset("paper")


def test_one_layer_has_the_shapes_of_the_docstring(tiny):
    layers = random_layers()
    posterior = tiny.encode(*layers)
    assert posterior.mode().shape == (2, 4, 4, 6)
    output = tiny.decode(posterior.mode())
    assert output.foreground.shape == output.background.shape == (2, 3, 32, 48)
    assert output.image.shape == (2, 3, 32, 48)
    assert output.mask.shape == (2, 1, 32, 48)
    reconstruction = tiny(*layers)
    assert all(torch.equal(getattr(reconstruction, part), getattr(output, part)) for part in PARTS)


def test_three_layers_have_an_axis_of_their_own():
    autoencoder = CaT2IAutoencoder.from_preset("tiny", num_foregrounds=3).eval()
    output = autoencoder(*random_layers(layers=3))
    assert output.foreground.shape == (2, 3, 3, 32, 48)
    assert output.mask.shape == (2, 3, 1, 32, 48)
    assert output.background.shape == output.image.shape == (2, 3, 32, 48)


def test_every_input_channel_reaches_the_latent(tiny):
    layers = [part.requires_grad_() for part in random_layers(count=1)]
    tiny.encode(*layers).mode().square().sum().backward()
    for part in layers:
        assert (part.grad.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_decoded_values_are_held_in_range_unless_asked_otherwise():
    torch.manual_seed(6)
    autoencoder = CaT2IAutoencoder.from_preset("tiny").eval()
    for head in autoencoder.heads.values():
        nn.init.normal_(head[3].weight)
    latents = torch.randn(2, 4, 4, 4)
    free, held = autoencoder.decode(latents, clamp=False), autoencoder.decode(latents)
    assert free.foreground.abs().max() > 1
    assert free.mask.min() < 0
    for part in PARTS:
        low = 0.0 if part == "mask" else -1.0
        assert torch.equal(getattr(held, part), getattr(free, part).clamp(low, 1.0))


def test_without_auxiliary_head_no_picture_is_predicted():
    autoencoder = CaT2IAutoencoder.from_preset("tiny", auxiliary_head=False).eval()
    assert set(autoencoder.heads) == {"foreground", "background", "mask"}
    assert autoencoder(*random_layers()).image is None


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("part", PARTS)
def test_with_a_block_of_its_own_the_mask_shares_only_the_trunk_below(part, layers):
    torch.manual_seed(7)
    autoencoder = CaT2IAutoencoder.from_preset("tiny", num_foregrounds=layers, mask_block=True)
    output = autoencoder(*random_layers(layers=layers))
    getattr(output, part).square().sum().backward()
    own, other = ("mask", "pictures") if part == "mask" else ("pictures", "mask")
    assert all(p.grad.any() for p in autoencoder.last_blocks[own].parameters())
    assert all(p.grad is None for p in autoencoder.last_blocks[other].parameters())
    for module in (autoencoder.decoder, autoencoder.post_quant_conv, autoencoder.encoder):
        assert all(p.grad is not None for p in module.parameters())
    assert autoencoder.decoder.up_blocks[-1].resnets[-1].conv2.weight.grad.any()


@pytest.mark.parametrize("layers", [1, 2])
def test_two_equal_last_blocks_compute_what_one_does(layers):
    torch.manual_seed(8)
    one = CaT2IAutoencoder.from_preset("tiny", num_foregrounds=layers).eval()
    two = CaT2IAutoencoder.from_preset("tiny", num_foregrounds=layers, mask_block=True).eval()
    last = {"decoder.up_blocks.1.resnets.1.": "block.", "decoder.conv_norm_out.": "norm."}
    weights = one.state_dict()
    for there, here in last.items():
        for name in [name for name in weights if name.startswith(there)]:
            value = weights.pop(name)
            for block in ("mask", "pictures"):
                weights[f"last_blocks.{block}.{here}{name.removeprefix(there)}"] = value
    two.load_state_dict(weights)
    given = random_layers(layers=layers)
    expected, output = one(*given), two(*given)
    assert all(torch.equal(getattr(output, part), getattr(expected, part)) for part in PARTS)
    nn.init.zeros_(two.last_blocks["pictures"].norm.weight)
    changed = two(*given)
    assert torch.equal(changed.mask, expected.mask)
    for part in ("foreground", "background", "image"):
        assert not torch.equal(getattr(changed, part), getattr(expected, part))


@pytest.mark.parametrize("head", [True, False])
def test_a_block_for_the_mask_is_one_residual_block_and_norm_more(head):
    counts = [
        CaT2IAutoencoder.from_preset("tiny", auxiliary_head=head, mask_block=block).num_parameters()
        for block in (False, True)
    ]
    channels = 32
    two_convolutions = 2 * (9 * channels**2 + channels)
    three_norms = 3 * 2 * channels
    assert counts[1] - counts[0] == two_convolutions + three_norms


def with_doubling(small: CaT2IAutoencoder, **options) -> CaT2IAutoencoder:
    """The same weights in an autoencoder of twice the size."""
    large = CaT2IAutoencoder.from_config(small.config, doublings=1, **options).eval()
    large.load_state_dict(small.state_dict())
    return large


@pytest.mark.parametrize("layers", [1, 2])
def test_a_doubling_is_what_it_was_enlarged(layers):
    torch.manual_seed(9)
    small = CaT2IAutoencoder.from_preset("tiny", num_foregrounds=layers, linear_shortcut=True)
    small = small.eval()
    large = with_doubling(small)
    assert (small.latent_factor, large.latent_factor) == (8, 16)
    given = random_layers(layers=layers)
    halves = [functional.avg_pool2d(part.flatten(0, -4), 2).view(*part.shape[:-2], 16, 24)
              for part in given]  # fmt: skip
    latents = large.encode(*given).mode()
    assert latents.shape == (2, 4, 2, 3)
    torch.testing.assert_close(latents, small.encode(*halves).mode())
    expected, output = small.decode(latents, clamp=False), large.decode(latents, clamp=False)
    for part in PARTS:
        assert getattr(output, part).shape == (*getattr(expected, part).shape[:-2], 32, 48)
        enlarged = functional.interpolate(
            getattr(expected, part).flatten(0, -4), scale_factor=2, mode="bilinear"
        )
        assert torch.equal(getattr(output, part).flatten(0, -4), enlarged)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"doublings": -1}, "doublings must be 0 or more, got -1"),
        ({"decoder_channels": (16,), "mask_block": True}, "exclude each other"),
        ({"doublings": 1, "decoder_channels": (16,) * 6}, "more than their factor of 16 allows"),
        ({"doublings": 1, "detail_channels": (96, 64)}, "use newer weights"),
    ],
)
def test_a_doubling_that_cannot_be_is_one_sentence(options, words):
    with pytest.raises(InputError, match=words) as error:
        CaT2IAutoencoder.from_preset("tiny", **options)
    assert "\n" not in str(error.value)


def test_sizes_that_cannot_be_halved_before_they_are_coded_are_one_sentence(tiny):
    with pytest.raises(InputError, match="multiples of 16, got 40x32") as error:
        with_doubling(tiny).encode(*random_layers(width=40))
    assert "\n" not in str(error.value)


def test_base_256_encodes_as_base_does():
    with torch.device("meta"):
        base, larger = (CaT2IAutoencoder.from_preset(name) for name in ("base", "base-256"))

    def of_encoder(model):
        starts = ("encoder.", "quant_conv.", "shortcuts.encoder.")
        return {k: v.shape for k, v in model.state_dict().items() if k.startswith(starts)}

    assert of_encoder(larger) == of_encoder(base)
    assert set(larger.state_dict()) - set(of_encoder(larger)) == {
        name for name in larger.state_dict() if name.startswith("decoder.")
    }
    assert larger.latent_factor == 2 * base.latent_factor == 16


def test_released_weights_have_the_names_of_preset_base_256():
    with torch.device("meta"):
        names = set(CaT2IAutoencoder.from_preset("base-256").state_dict())
    file = released_model() / "autoencoder" / "diffusion_pytorch_model.safetensors"
    with safe_open(file, "pt") as stored:
        assert set(stored.keys()) == names


@pytest.mark.parametrize("preset", ["tiny", "base", "paper"])
def test_heads_are_conv_bn_relu_conv(preset):
    with torch.device("meta"):
        autoencoder = CaT2IAutoencoder.from_preset(preset)
    assert list(autoencoder.heads) == ["foreground", "background", "mask", "image"]
    for name, head in autoencoder.heads.items():
        assert isinstance(head, PredictionHead)
        kinds = [type(layer) for layer in head]
        assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d, nn.PixelShuffle]
        assert head[4].upscale_factor == autoencoder.config.patch_size
        pixels = autoencoder.config.patch_size**2
        assert head[3].out_channels == pixels * (1 if name == "mask" else 3)


def test_the_paper_preset_is_kl_f8_with_seven_channels_and_heads(paper):
    assert paper.latent_factor == 8
    assert paper.encoder.conv_in.weight.shape == (128, 7, 3, 3)
    assert isinstance(paper.decoder.conv_out, nn.Identity)
    heads = sum(p.numel() for p in paper.heads.parameters())
    trunk = sum(p.numel() for p in paper.parameters()) - heads
    four_more_inputs, last_layer = 4 * 128 * 9, 128 * 3 * 9 + 3
    assert trunk == KL_F8_PARAMETERS + four_more_inputs - last_layer


def test_the_paper_preset_names_its_weights_as_autoencoder_kl_does(paper):
    with torch.device("meta"):
        reference = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
        ).state_dict()
    ours = {k: v for k, v in paper.state_dict().items() if not k.startswith("heads.")}
    last = {"decoder.conv_out.weight", "decoder.conv_out.bias"}
    assert set(reference) - set(ours) == last
    assert set(ours) <= set(reference)
    assert {k for k in ours if ours[k].shape != reference[k].shape} == {"encoder.conv_in.weight"}


def test_the_trunk_computes_what_autoencoder_kl_computes():
    torch.manual_seed(3)
    ours = CaT2IAutoencoder.from_preset("tiny", patch_size=1).eval()
    reference = AutoencoderKL(
        in_channels=7,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(32, 32),
        layers_per_block=1,
    ).eval()
    trunk = {k: v for k, v in ours.state_dict().items() if not k.startswith("heads.")}
    missing, unexpected = reference.load_state_dict(trunk, strict=False)
    assert set(missing) == {"decoder.conv_out.weight", "decoder.conv_out.bias"}
    assert not unexpected
    reference.decoder.conv_out = nn.Identity()

    foreground, background, mask = random_layers(height=16, width=24)
    posterior = ours.encode(foreground, background, mask)
    stacked = torch.cat([foreground, background, 2 * mask - 1], dim=1)
    expected = reference.encode(stacked).latent_dist
    torch.testing.assert_close(posterior.mean, expected.mean)
    torch.testing.assert_close(posterior.logvar, expected.logvar)
    expected_trunk = reference.decode(expected.mean).sample  # (2, 32, 16, 24)
    output = ours.decode(posterior.mean, clamp=False)
    assert tuple(output.tensors()) == PARTS
    for name, value in output.tensors().items():
        torch.testing.assert_close(value, ours.heads[name](expected_trunk))


def test_no_convolution_of_base_runs_at_full_resolution():
    autoencoder = CaT2IAutoencoder.from_preset("base").eval()
    widest = 0

    def look(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal widest
        widest = max(widest, arguments[0].shape[-1])

    for module in autoencoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(look)
    with torch.no_grad():
        autoencoder(*random_layers(count=1, height=64, width=64))
    assert widest == 64 // 4 + 1  # where the stride-2 convolution pads one column
    assert autoencoder.latent_factor == 8
    assert autoencoder.config.latent_channels == 16


@pytest.mark.parametrize(
    "options",
    [{}, {"linear_shortcut": True}, {"mask_block": True}, {"decoder_channels": (32, 16)}],
    ids=["plain", "shortcut", "mask block", "decoder"],
)
def test_saving_and_loading_keeps_outputs_and_config(options, tmp_path):
    torch.manual_seed(4)
    saved = CaT2IAutoencoder.from_preset("tiny", **options).eval()
    saved.set_latent_statistics(torch.arange(4.0), torch.arange(4.0) + 0.5)
    saved.save_pretrained(tmp_path)
    assert [path.suffix for path in tmp_path.glob("*pytorch_model*")] == [".safetensors"]
    loaded = CaT2IAutoencoder.from_pretrained(tmp_path)
    assert not loaded.training
    assert loaded.config.latent_shift == [0.0, 1.0, 2.0, 3.0]
    assert loaded.config.latent_scale == [0.5, 1.5, 2.5, 3.5]
    layers = random_layers()
    before, after = saved(*layers).tensors(), loaded(*layers).tensors()
    assert all(torch.equal(before[part], after[part]) for part in PARTS)


def test_saved_weights_hold_the_batch_statistics(tmp_path):
    autoencoder = CaT2IAutoencoder.from_preset("tiny")
    autoencoder.train()(*random_layers())
    assert autoencoder.heads["mask"][1].running_mean.abs().max() > 0
    autoencoder.save_pretrained(tmp_path)
    loaded = CaT2IAutoencoder.from_pretrained(tmp_path)
    for name, head in autoencoder.heads.items():
        assert torch.equal(head[1].running_mean, loaded.heads[name][1].running_mean)
        assert torch.equal(head[1].running_var, loaded.heads[name][1].running_var)


def test_a_linear_shortcut_alone_is_a_linear_code():
    torch.manual_seed(5)
    autoencoder = CaT2IAutoencoder.from_preset("tiny", linear_shortcut=True).eval()
    nn.init.zeros_(autoencoder.quant_conv.weight)
    nn.init.zeros_(autoencoder.quant_conv.bias)
    for shortcut in autoencoder.shortcuts.values():
        nn.init.zeros_(shortcut.bias)
    foreground, background, mask = random_layers()
    code = autoencoder.encode(foreground, background, mask).mode()
    doubled = autoencoder.encode(2 * foreground, 2 * background, 2 * mask - 0.5).mode()
    torch.testing.assert_close(doubled, 2 * code)  # the mask enters as 2 m - 1
    only_left = foreground.clone()
    only_left[..., 8:] = 0.3  # a cell of the latent sees its own pixels alone
    changed = autoencoder.encode(only_left, background, mask).mode()
    assert torch.equal(changed[..., 0], code[..., 0])
    assert not torch.equal(changed[..., 1:], code[..., 1:])


def test_the_path_of_the_class_is_written_into_model_indexes(pipeline, tmp_path):
    pipeline.save_config(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["autoencoder"] == ["text2layer.models.autoencoder", "CaT2IAutoencoder"]
    assert index["_class_name"] == "Text2LayerPipeline"


def test_scaling_by_measured_statistics_is_undone(tiny):
    latents = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    autoencoder = CaT2IAutoencoder.from_config(tiny.config)
    shift, scale = torch.tensor([0.5, -1.0, 0.0, 3.0]), torch.tensor([2.0, 0.25, 1.0, 8.0])
    autoencoder.set_latent_statistics(shift, scale)
    scaled = autoencoder.scale_latents(latents)
    for channel in range(4):
        expected = (latents[:, channel] - shift[channel]) * scale[channel]
        torch.testing.assert_close(scaled[:, channel], expected)
    torch.testing.assert_close(autoencoder.unscale_latents(scaled), latents)


def test_scaling_without_statistics_says_how_to_measure_them(tiny):
    with pytest.raises(InputError, match="measure_latent_statistics"):
        tiny.scale_latents(torch.zeros(1, 4, 2, 2))


def cut_columns(layers):
    return [part[..., :-4] for part in layers]


def background_of_another_size(layers):
    foreground, background, mask = layers
    return foreground, background[..., :-8], mask


def mask_of_another_size(layers):
    foreground, background, mask = layers
    return foreground, background, mask[..., :-8, :]


def two_masks(layers):
    foreground, background, mask = layers
    return foreground, background, torch.cat([mask, mask], dim=1)


def more_backgrounds(layers):
    foreground, background, mask = layers
    return foreground, torch.cat([background, background]), mask


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_columns, "multiples of 8, got 44x32"),
        (background_of_another_size, "background"),
        (mask_of_another_size, "mask"),
        (two_masks, "takes 7 channels"),
        (more_backgrounds, "background"),
    ],
)
def test_layers_that_do_not_fit_are_one_sentence(tiny, spoil: Callable, words: str):
    with pytest.raises(InputError, match=words) as error:
        tiny.encode(*spoil(random_layers()))
    assert "\n" not in str(error.value)


def test_layers_of_another_number_are_refused(tiny):
    with pytest.raises(InputError, match="takes 7 channels"):
        tiny.encode(*random_layers(layers=2))


def test_an_unknown_preset_names_the_known_ones():
    with pytest.raises(
        InputError, match="'huge'; choose one of tiny, bench, base, base-256, paper"
    ):
        CaT2IAutoencoder.from_preset("huge")
