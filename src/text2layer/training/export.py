"""Write trained models as folders that `from_pretrained` loads."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import ModelMixin
from torch import nn

from text2layer.files import write_checksums
from text2layer.pipelines.text2layer import Text2LayerPipeline
from text2layer.training.checkpoints import replacing


def export_pipeline(
    pipeline: Text2LayerPipeline, out: Path, dtype: torch.dtype = torch.float16
) -> Path:
    """Write autoencoder, denoiser and scheduler; the text encoder stays a name in the config.

    SHA256SUMS lies beside them, for `text2layer weights verify`.

    Args:
        pipeline: with trained weights; it is not changed.
        out: folder to write; an older model there is replaced once the new one is complete.
        dtype: of the stored weights; half precision halves the file.
    """
    with replacing(out) as folder:
        for name in ("autoencoder", "denoiser"):
            model = getattr(pipeline, name)
            copy = type(model).from_config(model.config)
            copy.load_state_dict(model.state_dict())
            nn.Module.to(copy, dtype).save_pretrained(folder / name)
        pipeline.scheduler.save_pretrained(folder / "scheduler")
        pipeline.save_config(folder)
        _forget_origins(folder)
        write_checksums(folder)
    return out


def save_model(model: ModelMixin, out: Path) -> Path:
    """Write one network with `save_pretrained`; an older one is replaced once this is complete."""
    with replacing(out) as folder:
        model.save_pretrained(folder)
        _forget_origins(folder)
    return out


def export_network(model: ModelMixin, out: Path, dtype: torch.dtype = torch.float16) -> Path:
    """Write one network that is released by itself, with SHA256SUMS; the model is changed to dtype.

    An older one is replaced once this is complete.
    """
    with replacing(out) as folder:
        nn.Module.to(model, dtype).save_pretrained(folder)
        _forget_origins(folder)
        write_checksums(folder)
    return out


def _forget_origins(folder: Path) -> None:
    """Drop the path of this machine that diffusers notes of what it loaded."""
    for file in (*folder.rglob("config.json"), *folder.glob("model_index.json")):
        config = json.loads(file.read_text(encoding="utf-8"))
        config.pop("_name_or_path", None)
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
