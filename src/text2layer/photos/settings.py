"""Settings of a build: one dataclass, a doc line for each field. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from text2layer.errors import InputError
from text2layer.models.hole import DILATION, DILATION_BELOW, MASK_THRESHOLD
from text2layer.setting import setting


@dataclass(frozen=True)
class BuildSettings:
    """Everything that decides what a build gives for a photo; other settings, other data set."""

    size: int = setting(512, "Longest side of the samples in pixels; larger photos are shrunk.")
    min_size: int = setting(256, "Shortest side in pixels that a photo must have.")
    max_aspect: float = setting(2.5, "Longest over shortest side that a photo may have.")
    min_colour: float = setting(4.0, "Mean chroma (0..255) below which a photo counts as grey.")
    duplicate_distance: int = setting(4, "Bits of 64 by which near-duplicates' hashes may differ.")
    require_license: bool = setting(False, "Reject photos whose source names no licence.")
    require_caption: bool = setting(True, "Reject photos without a caption.")
    saliency: str = setting("u2net", "u2net | u2netp | isnet | an .onnx file | a hub id.")
    second_saliency: str = setting(
        "isnet", "A second saliency network whose mask must agree; empty for none."
    )
    inpainter: str = setting("migan", "migan | opencv | a diffusers inpainting pipeline.")
    mask_threshold: float = setting(
        MASK_THRESHOLD, "Mask value above which a pixel is foreground (paper)."
    )
    dilation: float = setting(DILATION, "Growth of the hole around the object / longest side.")
    dilation_below: float = setting(
        DILATION_BELOW, "Growth below the object, where its shadow lies."
    )
    min_saliency: float = setting(0.5, "Raw saliency maximum below which nothing was found.")
    min_object: float = setting(0.04, "Least share of the picture that the object covers.")
    max_object: float = setting(0.6, "Largest share of the picture that the object covers.")
    max_hole: float = setting(0.4, "Largest share of the picture that may be filled in.")
    max_border: float = setting(0.25, "Largest share of the picture's border that it touches.")
    max_components: int = setting(3, "Most parts (of 100 pixels or more) that it falls into.")
    min_agreement: float = setting(0.8, "Least IoU of the two saliency networks.")
    mask_quality: float = setting(0.5, "Least score of the mask classifier; 0 turns it off.")
    fill_quality: float = setting(0.5, "Least score of the fill classifier; 0 turns it off.")
    quality_filter: bool = setting(True, "Reject by rules and classifiers; off keeps all scored.")
    split: str = setting("train", "Split that is written into every sample: train | val | test.")
    jpeg: bool = setting(True, "Store photo and background as JPEG; off stores them lossless.")
    photos_per_shard: int = setting(100, "Photos looked at per shard; a killed build repeats one.")

    def __post_init__(self) -> None:
        for name in ("size", "min_size", "max_components", "photos_per_shard"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}.")
        shares = (
            "mask_threshold", "dilation", "dilation_below", "min_saliency", "min_object",
            "max_object", "max_hole", "max_border", "min_agreement", "mask_quality",
            "fill_quality",
        )  # fmt: skip
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in 0..1, got {getattr(self, name)}.")
        if self.max_aspect < 1:
            raise InputError(f"max_aspect must be at least 1, got {self.max_aspect}.")
        if not 0 <= self.duplicate_distance <= 15:
            raise InputError(
                f"duplicate_distance must lie in 0..15, got {self.duplicate_distance}."
            )
        if self.split not in ("train", "val", "test"):
            raise InputError(f"split must be train, val or test, got {self.split!r}.")

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all values."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
