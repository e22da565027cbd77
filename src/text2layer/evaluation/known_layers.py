"""Protocols that compare layers with the known ones of a sample.

`reconstruct`: how well an autoencoder gives back layers that it codes. `decompose`: how well a
picture is decomposed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from text2layer.data.known_samples import KnownBatch, KnownSamples
from text2layer.errors import InputError
from text2layer.evaluation import matting
from text2layer.evaluation.collector import Collector
from text2layer.evaluation.drawing import Drawer, reconstructed
from text2layer.evaluation.halo import halo
from text2layer.evaluation.layer_edits import layer_edit_scores
from text2layer.evaluation.mask_overlap import OPAQUE, hard_iou, mean_absolute_error, soft_iou
from text2layer.evaluation.picture_similarity import (
    perceptual_distance,
    psnr,
    recomposition_error,
    squared_error,
    ssim,
)
from text2layer.evaluation.results import ProtocolResult
from text2layer.evaluation.run import Networks, Run
from text2layer.models.autoencoder import CaT2IAutoencoder
from text2layer.models.plain_autoencoder import PlainAutoencoder
from text2layer.parts import Parts, joined, pictures_of
from text2layer.pipelines.photo_layers import PhotoLayers
from text2layer.tensors import (
    bytes_to_mask,
    colour_to_bytes,
    composite,
    mask_to_bytes,
)

VERSION = 1
TakeApart = Callable[[KnownBatch], Parts]


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
            target = batch.to_float().to(autoencoder.device)
            output = reconstructed(autoencoder, target)
            rows = reconstruction_rows(target, output, networks.get("lpips"))
            if flat:
                rows = {name: row for name, row in rows.items() if name.endswith("_composite")}
            collector.add(batch.numbers, rows)
            made = Parts(output.foreground, output.background, output.mask)
            run.show(result, batch, made.to_bytes())
        result.add_means(collector.per_sample())
    return run.finish(result, drawer, known, networks)


def reconstruction_rows(target: Parts, output: Parts, lpips: Any = None) -> dict[str, Tensor]:
    """Scores (B,) of one batch, rounded to 8 bits as files hold it.

    Args:
        target: ground truth in float32.
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
    if output.image is not None:
        predicted = colour_to_bytes(output.image)
        rows["psnr_predicted"] = psnr(squared_error(pictures[1], predicted))
    return rows


def decompose(
    drawer: Drawer | PhotoLayers, known: KnownSamples, networks: Networks, run: Run
) -> ProtocolResult:
    """Take every picture apart and compare with the layers it was made of.

    Figures: IoU, MAE, SAD, MSE, gradient and connectivity error of the mask; PSNR of the foreground
    inside the true mask, of the background, and of the part of it that the object hid; halo; the
    difference of the layers' composite from the picture; LayerD's colour error and alpha overlap
    without merges, as published and corrected.
    """
    result = ProtocolResult("decompose", VERSION, len(known))
    take_apart = taking_apart(drawer)
    with Collector() as collector:
        for batch in run.batches(known, "decompose"):
            drawn = take_apart(batch)
            collector.add(batch.numbers, truth_rows(batch, drawn))
            run.show(result, batch, drawn)
        result.add_means(collector.per_sample())
    return run.finish(result, drawer, known, networks)


def taking_apart(drawer: Drawer | PhotoLayers) -> TakeApart:
    """How a model, or networks of others, take a batch of pictures apart."""
    if isinstance(drawer, PhotoLayers):
        return lambda batch: Parts.from_layered(
            [drawer(picture) for picture in pictures_of(batch.image)]
        )
    if drawer.is_flat and drawer.take_apart is not None:
        apart = drawer.take_apart
        return lambda batch: Parts.from_layered(
            [apart(picture) for picture in pictures_of(batch.image)]
        )

    def by_model(batch: KnownBatch) -> Parts:
        made = [
            drawer([prompt], [number], image=picture)
            for prompt, number, picture in zip(
                batch.captions["whole"], batch.numbers.tolist(), pictures_of(batch.image),
                strict=True,
            )
        ]  # fmt: skip
        return joined(made)

    return by_model


def truth_rows(batch: KnownBatch, drawn: Parts) -> dict[str, Tensor]:
    """Errors of drawn layers against known ones, (B,) each."""
    true_mask, mask = batch.soft_mask, drawn.soft_mask
    inside = true_mask > OPAQUE
    error = recomposition_error(batch.image, drawn.foreground, drawn.background, mask)
    rows = {
        "hard_iou": hard_iou(mask, true_mask),
        "soft_iou": soft_iou(mask, true_mask),
        "mean_absolute_error": mean_absolute_error(mask, true_mask),
        "sum_of_absolute_differences": matting.sum_of_absolute_differences(mask, true_mask),
        "mean_squared_error": matting.mean_squared_error(mask, true_mask),
        "gradient_error": matting.gradient_error(mask, true_mask),
        "connectivity_error": matting.connectivity_error(mask, true_mask),
        "psnr_foreground": psnr(squared_error(drawn.foreground, batch.foreground, inside)),
        "psnr_background": psnr(squared_error(drawn.background, batch.background)),
        "psnr_hidden": psnr(squared_error(drawn.background, batch.background, inside)),
        "ssim_background": ssim(drawn.background, batch.background),
        "halo": halo(drawn.foreground, mask, batch.foreground, true_mask),
        "recomposition_max": error.maximum,
        "recomposition_mean": error.mean,
    }
    edits = [_edits(batch, drawn, place) for place in range(len(batch))]
    for name in ("layerd_rgb_l1", "layerd_alpha_iou", "edits_rgb_l1", "edits_alpha_iou"):
        rows[name] = torch.tensor([edit[name] for edit in edits], dtype=torch.float64)
    return rows


def _edits(batch: Parts, drawn: Parts, place: int) -> dict[str, float]:
    true, made = _stack(batch, place), _stack(drawn, place)
    rows = {}
    for variant, prefix in (("layerd", "layerd"), ("corrected", "edits")):
        scores = layer_edit_scores(made, true, variant)  # type: ignore[arg-type]
        rows[f"{prefix}_rgb_l1"] = scores.rgb_l1
        rows[f"{prefix}_alpha_iou"] = scores.alpha_iou
    return rows


def _stack(parts: Parts, place: int) -> list[np.ndarray]:
    """Background and foreground of one sample as (H, W, 4) uint8, back to front."""
    opaque = torch.full_like(parts.mask[place], 255)
    layers = [
        (parts.background[place], opaque),
        (parts.foreground[place], parts.mask[place]),
    ]
    return [
        torch.cat([colour, alpha]).permute(1, 2, 0).contiguous().cpu().numpy()
        for colour, alpha in layers
    ]
