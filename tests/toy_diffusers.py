"""Tiny random pipelines of diffusers, saved in its layout: Stable Diffusion, SDXL and Flux.

The sizes follow the components that diffusers' own tests of these pipelines build.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz"
START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 77


def clip_tokenizer() -> Any:
    """CLIP's tokenizer of single letters, without any merge."""
    from transformers import CLIPTokenizer

    pieces = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), START, END]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=MAX_TOKENS)


def clip_config(**changes: Any) -> Any:
    from transformers import CLIPTextConfig

    sizes = {
        "hidden_size": 32, "intermediate_size": 37, "num_attention_heads": 4,
        "num_hidden_layers": 2, "projection_dim": 32, "vocab_size": 54,
        "max_position_embeddings": MAX_TOKENS, "bos_token_id": 52, "eos_token_id": 53,
        "pad_token_id": 53, "hidden_act": "gelu",
    }  # fmt: skip
    return CLIPTextConfig(**sizes | changes)


def autoencoder(**changes: Any) -> Any:
    """Halves the picture once: sides of pictures are multiples of 2."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    sizes = {
        "block_out_channels": (8, 8), "in_channels": 3, "out_channels": 3, "norm_num_groups": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4, "sample_size": 64,
    }  # fmt: skip
    return AutoencoderKL(**sizes | changes)


def unet(**changes: Any) -> Any:
    """Draws 32 x 32 latents, so 64 x 64 pixels."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    sizes = {
        "block_out_channels": (8, 16), "layers_per_block": 1, "sample_size": 32, "in_channels": 4,
        "out_channels": 4, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 32,
        "norm_num_groups": 4, "attention_head_dim": 4,
    }  # fmt: skip
    return UNet2DConditionModel(**sizes | changes)


def stable_diffusion() -> Any:
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextModel

    torch.manual_seed(0)
    return StableDiffusionPipeline(
        vae=autoencoder(), unet=unet(), text_encoder=CLIPTextModel(clip_config()),
        tokenizer=clip_tokenizer(), scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl() -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    network = unet(
        addition_embed_type="text_time", addition_time_embed_dim=8, cross_attention_dim=64,
        projection_class_embeddings_input_dim=80, transformer_layers_per_block=(1, 2),
        use_linear_projection=True, attention_head_dim=(2, 4),
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=autoencoder(), unet=network, scheduler=EulerDiscreteScheduler(),
        text_encoder=CLIPTextModel(clip_config()), tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(clip_config()), tokenizer_2=clip_tokenizer(),
        add_watermarker=False,
    )  # fmt: skip


def t5_tokenizer() -> Any:
    """T5's tokenizer of single letters."""
    from transformers import T5Tokenizer

    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    return T5Tokenizer(vocab=[*marks, *((letter, -3.0) for letter in LETTERS)], extra_ids=0)


def flux() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, T5Config, T5EncoderModel

    torch.manual_seed(0)
    network = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    words = T5Config(
        vocab_size=30, d_model=32, d_ff=37, d_kv=8, num_layers=2, num_heads=4, pad_token_id=0
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(), transformer=network,
        vae=autoencoder(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0,
                        scaling_factor=1.5),
        text_encoder=CLIPTextModel(clip_config()), tokenizer=clip_tokenizer(),
        text_encoder_2=T5EncoderModel(words), tokenizer_2=t5_tokenizer(),
    )  # fmt: skip


def qwen_image_layered() -> Any:
    """Tiny Qwen-Image-Layered; works at about 640 x 640 pixels, whatever the picture's size.

    Its processor is the tokenizer: what makes captions needs torchvision, and calls with a prompt
    do not use it.
    """
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImageLayeredPipeline,
        QwenImageTransformer2DModel,
    )
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(0)
    channels = 8  # not 4: the pipeline would take an RGBA picture for latents
    network = QwenImageTransformer2DModel(
        in_channels=4 * channels, out_channels=channels, num_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
        use_additional_t_cond=True, use_layer3d_rope=True,
    )  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=4, z_dim=channels, dim_mult=[1] * 5, num_res_blocks=1, input_channels=4,
        temperal_downsample=[False, True, True, True], latents_mean=[0.0] * channels,
        latents_std=[1.0] * channels,
    )  # fmt: skip
    words = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 300,
        "num_attention_heads": 2, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0,
        "pad_token_id": 0,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
    }  # fmt: skip
    eyes = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2,
        "out_hidden_size": 16,
    }  # fmt: skip
    encoder = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=words, vision_config=eyes)
    )
    tokenizer = qwen_tokenizer()
    return QwenImageLayeredPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, shift=1.0, base_shift=0.5, max_shift=0.9
        ),
        vae=vae, text_encoder=encoder, tokenizer=tokenizer, processor=tokenizer,
        transformer=network,
    )  # fmt: skip


def qwen_tokenizer() -> Any:
    """Qwen2's tokenizer of single bytes."""
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    pieces = [*bytes_to_unicode().values(), "<|endoftext|>"]
    return Qwen2Tokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[])


PIPELINES = {"stable-diffusion": stable_diffusion, "sdxl": sdxl, "flux": flux}


def saved(name: str, folder: Path) -> Path:
    """The folder of a tiny pipeline in diffusers' layout, written anew."""
    PIPELINES[name]().save_pretrained(folder / name)
    return folder / name
