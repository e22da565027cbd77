"""Put trained networks together as a model folder.

    python recipes/assemble.py OUT --autoencoder DIR --denoiser DIR [--start MODEL]
        [--guidance 3] [--steps 20] [--size 256]

DIR is a folder that `save_pretrained` wrote: RUN/model of an autoencoder, RUN/checkpoint-N/ema of a
denoiser that is still being trained. The denoiser's latents must be this autoencoder's: of another
decoder, but of the same frozen encoder. Attribution and other small files that lie in --start, a
model folder, are copied.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from text2layer.files import CHECKSUMS, write_checksums
from text2layer.models.denoiser import build_scheduler
from text2layer.models.text_encoder import load_text_encoder
from text2layer.models.transformer import LayerTransformer2DModel
from text2layer.pipelines import Text2LayerPipeline
from text2layer.training.checkpoints import load_autoencoder
from text2layer.training.outputs import export_pipeline

COPIED = ("*.md",)  # of --start


def main() -> None:
    """Write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--autoencoder", type=Path, required=True)
    parser.add_argument("--denoiser", type=Path, required=True)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--text-encoder", default="minilm")
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--shift", type=float, default=2.0)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    tokenizer, text_encoder = load_text_encoder(options.text_encoder)
    pipeline = Text2LayerPipeline(
        load_autoencoder(options.autoencoder),
        LayerTransformer2DModel.from_pretrained(options.denoiser),
        text_encoder, tokenizer, build_scheduler("base", options.shift),
        default_size=options.size, default_steps=options.steps,
        default_guidance_scale=options.guidance, text_encoder_name=options.text_encoder,
    )  # fmt: skip
    export_pipeline(pipeline, options.out)
    for pattern in COPIED if options.start else ():
        for file in options.start.glob(pattern):
            shutil.copy2(file, options.out / file.name)
    write_checksums(options.out)
    print(options.out, "with", CHECKSUMS)


if __name__ == "__main__":
    main()
