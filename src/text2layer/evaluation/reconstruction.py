"""Protocol `reconstruct`: how well an autoencoder gives back layers that it codes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from text2layer.data.known_samples import KnownBatch, KnownSamples
from text2layer.errors import InputError
from text2layer.evaluation.collector import Collector
from text2layer.evaluation.drawing import DrawnBatch
from text2layer.evaluation.halo import halo
from text2layer.evaluation.mask_overlap import OPAQUE, hard_iou, mean_absolute_error, soft_iou
from text2layer.evaluation.networks import Networks
from text2layer.evaluation.picture_similarity import (
    perceptual_distance,
    psnr,
    squared_error,
    ssim,
)
from text2layer.evaluation.results import ProtocolResult
from text2layer.evaluation.run import Run
from text2layer.layers import Layer, LayeredImage
from text2layer.models.autoencoder import CaT2IAutoencoder, LayerComponents
from text2layer.models.plain_autoencoder import PlainAutoencoder
from text2layer.tensors import (
    bytes_to_colour,
    bytes_to_mask,
    colour_to_bytes,
    composite,
    mask_to_bytes,
    tensor_to_colour,
    tensor_to_mask,
)

VERSION = 1


@torch.no_grad()
def reconstruct(
    autoencoder: CaT2IAutoencoder | PlainAutoencoder,
    known: KnownSamples,
    networks: Networks,
    run: Run,
    drawer: Any = None,
) -> ProtocolResult:
    """Encode (posterior mean), decode and score every sample.

    Figures: PSNR of the foreground inside the mask, of background and composite; SSIM and LPIPS of
    background and composite; IoU and MAE of the mask; halo; PSNR of the auxiliary head's picture
    against the decoded layers' composite. Of a flat autoencoder only those of the composite, which
    is its picture.

    Args:
        autoencoder: trained; two-layer models only.
        known: samples.
        networks: for LPIPS.
        run: how samples are led.
        drawer: whose name and hash the result carries.

    Raises:
        InputError: for models of several foregrounds.
    """
    if autoencoder.config.num_foregrounds != 1:
        raise InputError("Reconstruction scores are defined for one foreground per picture.")
    result = ProtocolResult("reconstruct", VERSION, len(known))
    autoencoder.eval()
    flat = bool(getattr(autoencoder, "is_flat", False))
    with Collector() as collector:
        for batch in run.batches(known, "reconstruct"):
            target = as_components(batch, autoencoder.device)
            output = autoencoder(target.foreground, target.background, target.mask)
            rows = reconstruction_rows(target, output, networks.get("lpips"))
            if flat:
                rows = {name: row for name, row in rows.items() if name.endswith("_composite")}
            collector.add(batch.numbers, rows)
            run.show(result, batch, as_drawn(output))
        result.add_means(collector.per_sample())
    return run.finish(result, drawer, known, networks)


def as_components(batch: KnownBatch, device: torch.device) -> LayerComponents:
    """Known layers as the autoencoder takes them."""
    return LayerComponents(
        foreground=bytes_to_colour(batch.foreground).to(device),
        background=bytes_to_colour(batch.background).to(device),
        mask=bytes_to_mask(batch.mask).to(device),
        predicted_image=bytes_to_colour(batch.image).to(device),
    )


def reconstruction_rows(
    target: LayerComponents, output: LayerComponents, lpips: Any = None
) -> dict[str, Tensor]:
    """Scores (B,) of one batch, rounded to 8 bits as files hold it.

    Args:
        target: ground truth; see `LayerComponents` for shapes and ranges.
        output: of the decoder, clamped.
        lpips: ``LPIPS("alex")``, or None to leave its scores out.
    """
    true = {k: colour_to_bytes(getattr(target, k)) for k in ("foreground", "background")}
    made = {k: colour_to_bytes(getattr(output, k)) for k in ("foreground", "background")}
    true_mask, made_mask = (bytes_to_mask(mask_to_bytes(p.mask)) for p in (target, output))
    pictures = [colour_to_bytes(composite(p.foreground, p.background, p.mask))
                for p in (target, output)]  # fmt: skip
    inside = true_mask > OPAQUE
    rows = {
        "psnr_foreground": psnr(squared_error(true["foreground"], made["foreground"], inside)),
        "psnr_background": psnr(squared_error(true["background"], made["background"])),
        "psnr_composite": psnr(squared_error(*pictures)),
        "ssim_background": ssim(true["background"], made["background"]),
        "ssim_composite": ssim(*pictures),
        "soft_iou": soft_iou(true_mask, made_mask),
        "hard_iou": hard_iou(true_mask, made_mask),
        "mean_absolute_error": mean_absolute_error(true_mask, made_mask),
        "halo": halo(made["foreground"], made_mask, true["foreground"], true_mask),
    }
    if lpips is not None:
        rows["lpips_background"] = perceptual_distance(
            true["background"], made["background"], lpips
        )
        rows["lpips_composite"] = perceptual_distance(pictures[0], pictures[1], lpips)
    if output.predicted_image is not None:
        predicted = colour_to_bytes(output.predicted_image)
        rows["psnr_predicted"] = psnr(squared_error(pictures[1], predicted))
    return rows


def as_drawn(output: LayerComponents) -> DrawnBatch:
    """Decoded layers as pictures, for the sheet."""
    parts = (
        tensor_to_colour(output.foreground), tensor_to_mask(output.mask),
        tensor_to_colour(output.background),
    )  # fmt: skip
    layers = [
        LayeredImage(background, (Layer(colour, mask),))
        for colour, mask, background in zip(*parts, strict=True)
    ]
    seen = colour_to_bytes(composite(output.foreground, output.background, output.mask))
    return DrawnBatch(
        layers, colour_to_bytes(output.foreground), colour_to_bytes(output.background),
        output.mask.float(), seen, None,
    )  # fmt: skip
