"""Settings of the judges' trainers: one dataclass each. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from text2layer.options import check_fields, setting


@dataclass(frozen=True)
class QualitySettings:
    """How the heads are trained."""

    precision: float = setting(
        0.9, "Precision that the stored thresholds reach, held out.", above=0, at_most=1
    )
    decay: float = setting(3e-3, "Weight of the squared weights in the loss.", above=0)
    photo_share: float = setting(
        0.6, "Weight of the photo labels; composed ones get the rest.", above=0, below=1
    )
    folds: int = setting(5, "Parts of the cross-validation over photos.", at_least=2)
    backbone: str = setting(
        "efficientnet-lite0", "efficientnet-lite0, or the hub id of an EfficientNet."
    )

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class RelevanceSettings:
    """How the probe is trained."""

    samples: int = setting(8000, "Pictures to train on.", at_least=1)
    held_out: int = setting(1000, "Pictures of the val split, and of the test split.", at_least=1)
    captions: int = setting(4, "Captions of a picture to sample from.", at_least=1)
    size: int = setting(128, "Width and height of the pictures in pixels.", at_least=8)
    seed: int = setting(0, "Of pictures, captions, weights and batches.")
    width: int = setting(128, "Dimensions of the common sphere.", at_least=1)
    hidden: int = setting(0, "Width of a hidden layer in each tower; 0 for none.", at_least=0)
    steps: int = setting(400, "Optimiser steps at most.", at_least=1)
    batch_size: int = setting(512, "Pairs in a step.", at_least=1)
    learning_rate: float = setting(2e-3, "Of AdamW, falling to 0 along a half cosine.", above=0)
    weight_decay: float = setting(1.0, "Of AdamW.", at_least=0)
    dropout: float = setting(
        0.8, "Share of each tower's inputs that a step does not see.", at_least=0, below=1
    )
    validate_every: int = setting(25, "Steps between measurements on the val split.", at_least=1)
    gallery: int = setting(100, "Pairs per gallery when retrieval is measured.", at_least=2)
    galleries: int = setting(20, "Random galleries that are averaged over.", at_least=1)

    def __post_init__(self) -> None:
        check_fields(self)
