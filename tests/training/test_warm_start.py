"""Starting from Stable Diffusion: a tiny random one of its classes, and what must be equal."""

import json
import re

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from tests.training.runs import weights
from tests.training.toy_source import DiscSource
from text2layer.errors import InputError, WeightsError
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.denoiser import build_denoiser, denoise
from text2layer.training.autoencoder import train_autoencoder
from text2layer.training.denoiser import train_denoiser
from text2layer.training.settings import settings_from
from text2layer.training.warm_start import warm_start

TEXT = 16
# the config.json of Stable Diffusion 1.5's UNet, what decides its shape
SD_15 = {
    "act_fn": "silu", "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False, "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"], "downsample_padding": 1,
    "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
    "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4,
    "sample_size": 64, "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}  # fmt: skip


def tiny_vae(**overrides):
    given = {
        "block_out_channels": (32, 32), "latent_channels": 4, "layers_per_block": 1,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    }  # fmt: skip
    return AutoencoderKL(**(given | overrides))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Stable Diffusion of toy size, on disk as diffusers saves it."""
    torch.manual_seed(11)
    root = tmp_path_factory.mktemp("stable-diffusion")
    tiny_vae().save_pretrained(root / "vae")
    unet = UNet2DConditionModel(
        in_channels=4, out_channels=4, block_out_channels=(32, 64), cross_attention_dim=TEXT,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), attention_head_dim=2,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    unet.save_pretrained(root / "unet")
    return root


def autoencoder(**overrides):
    return CaT2IAutoencoder.from_preset("tiny", patch_size=1, **overrides).eval()


def moments(posterior):
    return posterior.parameters


def test_equal_layers_are_coded_as_the_vae_codes_their_picture(folder):
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    picture, mask = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        expected = moments(vae.encode(picture).latent_dist)
        ours = autoencoder()
        warm_start(ours, folder)
        torch.testing.assert_close(moments(ours.encode(picture, picture, mask)), expected)
        other = torch.rand(2, 3, 32, 32) * 2 - 1  # of two layers it sees the mean
        mean = moments(vae.encode((picture + other) / 2).latent_dist)
        torch.testing.assert_close(moments(ours.encode(picture, other, mask)), mean)
        three = autoencoder(num_foregrounds=2)
        warm_start(three, folder)
        stack, masks = picture[:, None].repeat(1, 2, 1, 1, 1), mask[:, None].repeat(1, 2, 1, 1, 1)
        torch.testing.assert_close(moments(three.encode(stack, picture, masks)), expected)


def test_the_decoders_trunk_is_the_vaes(folder):
    vae = AutoencoderKL.from_pretrained(folder / "vae").eval()
    ours, latents = autoencoder(), torch.randn(2, 4, 16, 16)
    heads = {k: v.clone() for k, v in ours.heads.state_dict().items()}
    warm_start(ours, folder)
    with torch.no_grad():
        trunk = ours.decoder(ours.post_quant_conv(latents))
        torch.testing.assert_close(vae.decoder.conv_out(trunk), vae.decode(latents).sample)
    assert all(torch.equal(v, heads[k]) for k, v in ours.heads.state_dict().items())


@pytest.mark.parametrize("latent_channels", [4, 6, 3])
def test_text_alone_gives_what_the_unet_gives(latent_channels, folder):
    unet = UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    ours = build_denoiser("tiny-paper", latent_channels, TEXT).eval()
    warm_start(ours, folder)
    noisy = torch.randn(2, latent_channels, 8, 8)
    theirs = torch.zeros(2, 4, 8, 8)
    theirs[:, :latent_channels] = noisy[:, :4]
    timestep, text = torch.tensor([10, 800]), torch.randn(2, 5, TEXT)
    nothing, mask = torch.zeros_like(noisy), torch.ones(2, 5, dtype=torch.bool)
    with torch.no_grad():
        expected = unet(theirs, timestep, text).sample
        made = denoise(ours, noisy, nothing, torch.zeros(2, 3), timestep, text, mask)
        assert made.shape == noisy.shape
        shared = min(4, latent_channels)
        torch.testing.assert_close(made[:, :shared], expected[:, :shared])
        assert (made[:, shared:] == 0).all()
        given = denoise(ours, noisy, noisy, torch.ones(2, 3), timestep, text, mask)
    assert torch.equal(given, made)  # what is new is silent, until it is trained


def test_the_paper_unet_has_the_shape_of_stable_diffusion_1_5():
    with torch.device("meta"):
        theirs = UNet2DConditionModel.from_config(SD_15)
        ours = build_denoiser("paper", latent_channels=4, text_channels=768, sample_size=64)
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (theirs, ours)]
    assert {k for k, v in shapes[1].items() if shapes[0].get(k) != v} == {"conv_in.weight"}
    for name, value in SD_15.items():
        if name != "in_channels":
            mine = getattr(ours.config, name)
            assert (list(mine) if isinstance(mine, tuple) else mine) == value, name


def test_names_of_older_vae_files_are_known(folder, tmp_path):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    (tmp_path / "vae").mkdir()
    file = "diffusion_pytorch_model.safetensors"
    renamed = {
        re.sub("|".join(map(re.escape, old)), lambda match: old[match[0]], name): value
        for name, value in load_file(folder / "vae" / file).items()
    }
    assert any(name.endswith("proj_attn.weight") for name in renamed)
    save_file(renamed, tmp_path / "vae" / file, metadata={"format": "pt"})
    (tmp_path / "vae" / "config.json").write_text((folder / "vae" / "config.json").read_text())
    one, other = autoencoder(), autoencoder()
    warm_start(one, folder)
    warm_start(other, tmp_path)
    for name, value in one.state_dict().items():
        if not name.startswith("heads."):
            assert torch.equal(other.state_dict()[name], value), name


def test_trainers_start_from_it(folder, denoiser_settings, tmp_path):
    settings = denoiser_settings(
        preset="tiny-paper", warm_start=str(folder), steps=1, learning_rate=1e-12, weight_decay=0.0
    )
    result = train_denoiser(settings, DiscSource(), DiscSource())
    given = weights(folder / "unet")
    for part in ("model", "ema"):
        trained = weights(result.checkpoint / part)
        torch.testing.assert_close(trained["mid_block.resnets.0.conv1.weight"],
                                   given["mid_block.resnets.0.conv1.weight"])  # fmt: skip
        assert not trained["conv_in.weight"][:, 4:].any()
    with pytest.raises(InputError, match="init and warm_start both name weights to start from"):
        denoiser_settings(init="a", warm_start="b")


def test_what_does_not_fit_is_one_sentence(folder, autoencoder_settings, tmp_path):
    with pytest.raises(InputError, match=r"A PixArtTransformer2DModel cannot start from Stable"):
        warm_start(build_denoiser("tiny", 4, TEXT), folder)
    settings = autoencoder_settings(warm_start=str(folder), steps=1)  # of patches
    with pytest.raises(
        WeightsError, match=r"encoder.conv_in.weight is \[32, 7, 3, 3\] there, \[32, 112, 3, 3\]"
    ) as error:
        train_autoencoder(settings, DiscSource(), DiscSource())
    assert "\n" not in str(error.value)
    with pytest.raises(WeightsError, match=r"conv_in.weight is \[32, 12, 3, 3\] there, \[96, 12"):
        warm_start(build_denoiser("base-unet", 4, TEXT), with_heads(folder, tmp_path, 8))
    with pytest.raises(WeightsError, match="has 8 attention heads, this network 2"):
        warm_start(build_denoiser("tiny-paper", 4, TEXT), with_heads(folder, tmp_path, 8))
    with pytest.raises(WeightsError, match=r"vae holds no config.json; give a Stable Diffusion"):
        warm_start(autoencoder(), tmp_path)


def with_heads(folder, root, heads):
    """The UNet of the folder with another number of attention heads."""
    (root / "unet").mkdir(exist_ok=True)
    config = json.loads((folder / "unet" / "config.json").read_text())
    (root / "unet" / "config.json").write_text(json.dumps({**config, "attention_head_dim": heads}))
    file = "diffusion_pytorch_model.safetensors"
    (root / "unet" / file).write_bytes((folder / "unet" / file).read_bytes())
    return root


def test_pickled_and_missing_weights_are_refused(folder, tmp_path):
    vae = tmp_path / "vae"
    vae.mkdir()
    (vae / "config.json").write_text((folder / "vae" / "config.json").read_text())
    torch.save(weights(folder / "vae"), vae / "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"holds no diffusion_pytorch_model.safetensors"):
        warm_start(autoencoder(), tmp_path)
    some = {k: v for k, v in weights(folder / "vae").items() if "mid_block" not in k}
    save_file(some, vae / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks weights \(.*mid_block"):
        warm_start(autoencoder(), tmp_path)
    (vae / "diffusion_pytorch_model.safetensors").write_bytes(b"not a file of weights")
    with pytest.raises(WeightsError, match="cannot be loaded") as error:
        warm_start(autoencoder(), tmp_path)
    assert "\n" not in str(error.value)


def test_the_papers_presets_fit():
    for name in ("paper-256", "paper-512"):
        assert settings_from("autoencoder", name).preset == "paper"
        assert settings_from("denoiser", name).preset == "paper"
