"""How well the autoencoder gives back foreground, background, mask and composite."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from text2layer.errors import InputError
from text2layer.models.autoencoder import CaT2IAutoencoder, LayerComponents
from text2layer.tensors import bytes_to_mask, colour_to_bytes, composite, mask_to_bytes

OPAQUE = 0.5  # mask level above which a pixel counts as foreground


def squared_error(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error per sample between 8-bit pictures, levels 0..255.

    Args:
        a: (N, 3, H, W) uint8.
        b: likewise.
        weight: (N, 1, H, W), which pixels count; all when None.

    Returns:
        (N,) float64; NaN for a sample in which no pixel counts.
    """
    error = (a.double() - b.double()) ** 2
    weight = torch.ones_like(error[:, :1]) if weight is None else weight.double()
    return (error * weight).sum((1, 2, 3)) / (weight.sum((1, 2, 3)) * error.shape[1])


def psnr(mean_squared_error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for levels 0..255; equal pictures count as 1/12 level^2.

    The floor is the error of rounding, so that one perfect sample cannot make a mean infinite.

    Example:
        >>> round(float(psnr(torch.tensor(65.025))), 2)
        30.0
    """
    return 10 * torch.log10(255.0**2 / mean_squared_error.clamp(min=1 / 12))


def soft_iou(a: Tensor, b: Tensor) -> Tensor:
    """Soft intersection over union per sample: sum min(a, b) / sum max(a, b); 1 if both are empty.

    Args:
        a: (N, 1, H, W) in [0, 1].
        b: likewise.

    Returns:
        (N,) in [0, 1].

    Example:
        >>> soft_iou(torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 1, 2, 2)).item()
        0.5
    """
    union = torch.maximum(a, b).flatten(1).sum(1)
    shared = torch.minimum(a, b).flatten(1).sum(1)
    return torch.where(union > 0, shared / union.clamp(min=1e-12), torch.ones_like(union))


@dataclass
class ReconstructionScores:
    """Running means of `evaluate_reconstruction`, per sample."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, target: LayerComponents, output: LayerComponents) -> None:
        """Score one batch, rounded to 8 bits as files hold it."""
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
            "soft_iou_mask": soft_iou(true_mask, made_mask),
            "mask_mean_absolute_error": (true_mask - made_mask).abs().mean((1, 2, 3)),
        }
        if output.predicted_image is not None:
            predicted = colour_to_bytes(output.predicted_image)
            rows["psnr_predicted_image"] = psnr(squared_error(pictures[0], predicted))
            rows["psnr_predicted_image_to_own_composite"] = psnr(
                squared_error(pictures[1], predicted)
            )
        for name, row in rows.items():
            self.values.setdefault(name, []).extend(v for v in row.tolist() if v == v)

    def means(self) -> dict[str, float]:
        """Mean of every score over the samples."""
        return {name: sum(row) / len(row) for name, row in self.values.items() if row}


@torch.no_grad()
def evaluate_reconstruction(
    autoencoder: CaT2IAutoencoder, batches: Iterable[LayerComponents]
) -> dict[str, float]:
    """Encode (posterior mean), decode and score batches with known layers.

    Args:
        autoencoder: trained; two-layer models only.
        batches: ground truth; see `LayerComponents` for shapes and ranges.

    Returns:
        Means over samples: `psnr_foreground` (dB, where the true mask is above one half),
        `psnr_background`, `psnr_composite` (dB), `soft_iou_mask`, `mask_mean_absolute_error`, and
        with an auxiliary head `psnr_predicted_image` and the same against the own composite;
        `samples`.

    Raises:
        InputError: for models of several foregrounds, or when there is no batch.
    """
    if autoencoder.config.num_foregrounds != 1:
        raise InputError("Reconstruction scores are defined for one foreground per picture.")
    autoencoder.eval()
    scores = ReconstructionScores()
    samples = 0
    for target in batches:
        scores.add(target, autoencoder(target.foreground, target.background, target.mask))
        samples += target.mask.shape[0]
    if not samples:
        raise InputError("There is nothing to score: no batch was given.")
    return {**scores.means(), "samples": samples}
