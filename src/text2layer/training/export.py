"""Write a trained pipeline as a folder that `Text2LayerPipeline.from_pretrained` loads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from text2layer.pipelines.text2layer import Text2LayerPipeline


def export_pipeline(
    pipeline: Text2LayerPipeline, out: Path, dtype: torch.dtype = torch.float16
) -> Path:
    """Write autoencoder, denoiser and scheduler; the text encoder stays a name in the config.

    Args:
        pipeline: with trained weights; it is not changed.
        out: folder to write; an older model there is replaced once the new one is complete.
        dtype: of the stored weights; half precision halves the file.
    """
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for name in ("autoencoder", "denoiser"):
            model = getattr(pipeline, name)
            copy = type(model).from_config(model.config)
            copy.load_state_dict(model.state_dict())
            copy.to(dtype).save_pretrained(temporary / name)
        pipeline.scheduler.save_pretrained(temporary / "scheduler")
        pipeline.save_config(temporary)
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            os.replace(out, old)
        os.replace(temporary, out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out
