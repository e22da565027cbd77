"""Settings of a build: one dataclass, a doc line for each field. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from text2layer.models.hole import DILATION, DILATION_BELOW, MASK_THRESHOLD
from text2layer.options import check_fields, setting, share


@dataclass(frozen=True)
class BuildSettings:
    """Everything that decides what a build gives for a photo; other settings, other data set."""

    size: int = setting(
        512, "Longest side of the samples in pixels; larger photos are shrunk.", at_least=1
    )
    min_size: int = setting(256, "Shortest side in pixels that a photo must have.", at_least=1)
    max_aspect: float = setting(
        2.5, "Longest over shortest side that a photo may have.", at_least=1
    )
    min_colour: float = setting(
        8.0,
        "Mean chroma (0..255) of the most colourful 5 %, below which a photo counts as grey.",
        at_least=0,
    )
    duplicate_distance: int = setting(
        6, "Bits of 64 by which near-duplicates' hashes may differ.", at_least=0, at_most=15
    )
    require_license: bool = setting(False, "Reject photos whose source names no licence.")
    require_caption: bool = setting(True, "Reject photos without a caption.")
    saliency: str = setting("u2net", "u2net | u2netp | isnet | an .onnx file | a folder or hub id.")
    second_saliency: str = setting(
        "isnet", "A second saliency network whose mask must agree; empty for none."
    )
    inpainter: str = setting(
        "migan", "migan | opencv | a LaMa .onnx file | a folder or hub id of one or of diffusers."
    )
    licence: str = setting(
        "", "Licence of networks of your own (a file, a hub id) whose model card names none."
    )
    mask_threshold: float = share(
        MASK_THRESHOLD, "Mask value above which a pixel is foreground (paper)."
    )
    dilation: float = share(DILATION, "Growth of the hole around the object / longest side.")
    dilation_below: float = share(DILATION_BELOW, "Growth below the object, where its shadow lies.")
    min_saliency: float = share(0.5, "Raw saliency maximum below which nothing was found.")
    min_object: float = share(0.04, "Minimum share of the picture that the object covers.")
    max_object: float = share(0.6, "Largest share of the picture that the object covers.")
    max_hole: float = share(0.4, "Largest share of the picture that may be filled in.")
    max_border: float = share(0.25, "Largest share of the picture's border that it touches.")
    max_components: int = setting(
        3, "Most parts (of 100 pixels or more) that it falls into.", at_least=1
    )
    min_agreement: float = share(0.8, "Minimum IoU of the two saliency networks.")
    mask_quality: float = share(0.5, "Minimum score of the mask classifier; 0 turns it off.")
    fill_quality: float = share(0.5, "Minimum score of the fill classifier; 0 turns it off.")
    pair_quality: float = share(
        0.74, "Minimum score of mask and fill seen together; 0 turns it off."
    )
    quality_filter: bool = setting(True, "Reject by rules and classifiers; off keeps all scored.")
    split: str = setting(
        "train",
        "Split that is written into every sample: train | val | test.",
        choices=("train", "val", "test"),
    )
    jpeg: bool = setting(True, "Store photo and background as JPEG; off stores them lossless.")
    photos_per_shard: int = setting(
        100, "Photos per shard; an interrupted build repeats at most one.", at_least=1
    )

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all values."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
