"""A whole model of a few thousand random weights: everything `from_pretrained` needs, no download.

Pictures from it mean nothing, but every part is the real class and every seed counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = (
    "a an the red green blue yellow apple ball bicycle cat dog forest meadow mountain lake sky "
    "snowy sunny in front of on by with and picture photo blurred"
)
TEXT_WIDTH = 16
MAX_TOKENS = 96


def save_text_encoder(folder: Path) -> Path:
    """Write a random two-layer BERT and a WordPiece tokenizer of WORDS and single letters."""
    from transformers import BertConfig, BertModel, BertTokenizer

    words, letters = WORDS.split(), "abcdefghijklmnopqrstuvwxyz"
    pieces = [*words, *(c for c in letters if c not in words), *(f"##{c}" for c in letters)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]
    tokenizer = BertTokenizer(
        vocab={piece: index for index, piece in enumerate(vocabulary)}, model_max_length=MAX_TOKENS
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=MAX_TOKENS,
        initializer_range=0.5,  # so that words differ enough to steer a picture
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_autoencoder(**overrides: Any) -> Any:
    """A tiny autoencoder in eval mode, with latent statistics of no special meaning."""
    from text2layer.models.autoencoder import CaT2IAutoencoder

    torch.manual_seed(1)
    autoencoder = CaT2IAutoencoder.from_preset("tiny", **overrides).eval()
    shift = torch.linspace(-0.2, 0.2, 4)
    autoencoder.set_latent_statistics(shift, torch.linspace(0.8, 1.4, 4))
    return autoencoder


def build_network(preset: str = "tiny") -> Any:
    """A tiny denoiser whose last layers are not near zero, as fresh ones are."""
    from text2layer.models.denoiser import build_denoiser

    torch.manual_seed(2)
    network = build_denoiser(preset, latent_channels=4, text_channels=TEXT_WIDTH, sample_size=8)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and not name.startswith("pos_embed"):
            torch.nn.init.xavier_uniform_(parameter.flatten(1), gain=1.5)
    return network.eval()


def build_pipeline(text_encoder: Path, preset: str = "tiny", **overrides: Any) -> Any:
    """The pipeline around tiny networks; `overrides` are those of `build_autoencoder`."""
    from text2layer.models.denoiser import build_scheduler
    from text2layer.models.text_encoder import load_text_encoder
    from text2layer.pipelines import Text2LayerPipeline

    tokenizer, encoder = load_text_encoder(text_encoder)
    pipeline = Text2LayerPipeline(
        autoencoder=build_autoencoder(**overrides),
        denoiser=build_network(preset),
        text_encoder=encoder,
        tokenizer=tokenizer,
        scheduler=build_scheduler(preset),
        default_size=64,
        default_steps=3,
        default_guidance_scale=2.0,
        max_prompt_tokens=MAX_TOKENS,
        text_encoder_name=str(text_encoder),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
