"""A whole CLIP, and a SigLIP, of a few thousand random weights, as folders of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WORDS = ["a", "red", "blue", "ball", "on", "grass", "dog"]
SIDE = 16  # pixels that the picture tower sees
MAX_TOKENS = 32
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
         "num_attention_heads": 2}  # fmt: skip


def save_clip(folder: Path, seed: int = 0) -> Path:
    """Write model, tokenizer and preprocessing of a CLIP."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    letters = sorted({letter for word in WORDS for letter in word})
    pieces = [f"{word}</w>" for word in WORDS] + letters
    pieces += [f"{letter}</w>" for letter in letters if letter != "a"]
    vocabulary = {
        piece: place for place, piece in enumerate(["<|startoftext|>", "<|endoftext|>", *pieces])
    }
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=MAX_TOKENS).save_pretrained(folder)
    text = {**TOWER, "vocab_size": len(vocabulary), "max_position_embeddings": MAX_TOKENS,
            "bos_token_id": 0, "eos_token_id": 1}  # fmt: skip
    vision = {**TOWER, "image_size": SIDE, "patch_size": 8}
    torch.manual_seed(seed)
    config = CLIPConfig(
        text_config=text, vision_config=vision, projection_dim=8, initializer_factor=5.0
    )
    CLIPModel(config).save_pretrained(folder)
    _save_preprocessing(folder, "CLIPImageProcessor", {"shortest_edge": SIDE}, crop=True)
    return folder


def save_siglip(folder: Path) -> Path:
    """Write model, tokenizer (a WordPiece one) and preprocessing of a SigLIP."""
    from transformers import BertTokenizer, SiglipConfig, SiglipModel

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizer(
        vocab={piece: place for place, piece in enumerate(vocabulary)}, model_max_length=MAX_TOKENS
    ).save_pretrained(folder)
    text = {**TOWER, "vocab_size": len(vocabulary), "max_position_embeddings": MAX_TOKENS,
            "projection_size": 16}  # fmt: skip
    vision = {**TOWER, "image_size": SIDE, "patch_size": 8}
    torch.manual_seed(0)
    SiglipModel(SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    _save_preprocessing(folder, "SiglipImageProcessor", {"height": SIDE, "width": SIDE}, crop=False)
    return folder


def _save_preprocessing(folder: Path, kind: str, size: dict[str, int], *, crop: bool) -> None:
    settings = {
        "image_processor_type": kind,
        "do_resize": True, "size": size, "resample": 3,
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": MEAN, "image_std": STD,
    }  # fmt: skip
    if crop:
        settings |= {"do_center_crop": True, "crop_size": {"height": SIDE, "width": SIDE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
