"""The quality classifiers of the data set: is a mask good, is a fill good.

Source: Text2Layer (arXiv 2307.09781), section 5.4. A frozen ImageNet network (EfficientNet-lite0
here, b0 in the paper) looks at a few views of a sample, its features are pooled, and one neuron for
each question is trained. The paper does not say how the network sees picture and mask together.
Here (figures in docs/quality.md):

    mask   the cut-out over grey in its own box, the rest of the picture with the object greyed
           out, and the mask as a picture
    fill   the filled background in a box around the hole, at three depths of the network, pooled
           inside the hole and over a band around it
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from text2layer.errors import InputError, WeightsError
from text2layer.judges.stored import SHIPPED, read_judge, write_judge
from text2layer.models.efficientnet import SIZE, WEIGHTS_NAME, EfficientNetLite0, network_input
from text2layer.pretrained import WEIGHTS

HEADS_FILE = "heads.safetensors"
KINDS = ("mask", "fill")
PAIR = "pair"  # the head that sees both layers (`judges.pair`); older files lack it

GREY = 127  # nothing, to the network: (127 - 127) / 128
MASK_LEVEL = 26  # of 255; above .1 a pixel is foreground (the paper's threshold)
MASK_BOX, FILL_BOX = 1.2, 1.5  # side of the square that is looked at / side of the object or hole
SMALLEST_BOX = 32  # pixels
FILL_DEPTHS = (2, 4, 7)  # rows of blocks (40, 112 channels) and the network's last features
BAND = 33  # width in pixels of 224 of the dilation that makes the band around the hole


class Backbone(Protocol):
    """A frozen network that gives feature maps, shallow first."""

    def maps(self, x: Tensor) -> list[Tensor]:
        """(N, C, h, w) maps of (N, 3, 224, 224) pictures from `network_input`."""
        ...


@dataclass(frozen=True)
class QualityConfig:
    """What is stored beside the heads.

    Attributes:
        backbone: name of the frozen network, or a hub id for transformers' EfficientNetModel.
        backbone_sha256: of its weights; "" for a hub id.
        thresholds: score above which held-out precision reached what was asked for, by kind.
        labels: how many labels the heads were trained on, by source, kind and verdict.
        held_out: figures by kind and source, as docs/quality.md explains them.
    """

    backbone: str = WEIGHTS_NAME
    backbone_sha256: str = ""
    thresholds: dict[str, float] = field(default_factory=lambda: {"mask": 0.5, "fill": 0.5})
    labels: dict[str, int] = field(default_factory=dict)
    held_out: dict[str, Any] = field(default_factory=dict)


class QualityModel(nn.Module):
    """Frozen backbone and one neuron for each question.

    Args:
        backbone: gives feature maps.
        heads: one linear layer to a single logit for "mask", for "fill", and perhaps for "pair".
        config: stored with the heads.

    Attributes:
        sha256: hash of the heads' values and the backbone's, by which a build names the model.
        batch: pictures that the backbone is given together; 1 holds the memory of one.
    """

    batch = 1

    def __init__(
        self, backbone: Backbone, heads: dict[str, nn.Linear], config: QualityConfig
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)
        self.config = config
        self.eval().requires_grad_(False)

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) over the backbone's hash and the heads' values."""
        digest = hashlib.sha256((self.config.backbone + self.config.backbone_sha256).encode())
        for kind in heads_of(self.heads):
            head = self.heads[kind]
            for values in head.state_dict().values():
                digest.update(values.cpu().float().numpy().tobytes())
        return digest.hexdigest()

    def mask_scores(self, images: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> list[float]:
        """Probability (0..1) that each mask is good.

        Args:
            images: (H, W, 3) uint8 photos; they may differ in size.
            masks: (H, W) uint8 soft masks of the same sizes.

        Raises:
            InputError: the numbers or sizes of photos and masks differ.
        """
        return self._scores("mask", images, masks)

    def fill_scores(
        self, backgrounds: Sequence[np.ndarray], holes: Sequence[np.ndarray]
    ) -> list[float]:
        """Probability (0..1) that each filled background is good.

        Args:
            backgrounds: (H, W, 3) uint8, filled in; they may differ in size.
            holes: (H, W) bool, or uint8 with 255 where it was filled in.

        Raises:
            InputError: the numbers or sizes of backgrounds and holes differ.
        """
        return self._scores("fill", backgrounds, holes)

    def _scores(
        self, kind: str, pictures: Sequence[np.ndarray], masks: Sequence[np.ndarray]
    ) -> list[float]:
        if len(pictures) != len(masks):
            raise InputError(f"{len(pictures)} pictures came with {len(masks)} masks or holes.")
        scores = []
        head = self.heads[kind]
        for first in range(0, len(pictures), self.batch):
            part = slice(first, first + self.batch)
            features = features_of_all(kind, self.backbone, pictures[part], masks[part])
            logits: Tensor = head(features.to(next(head.parameters()).device))
            scores += torch.sigmoid(logits)[:, 0].tolist()
        return scores


def heads_of(found: Iterable[str]) -> tuple[str, ...]:
    """The kinds of heads that are there, in their order."""
    there = set(found)
    return tuple(kind for kind in (*KINDS, PAIR) if kind in there)


def features_of(kind: str, backbone: Backbone, picture: np.ndarray, mask: np.ndarray) -> Tensor:
    """What the head of `kind` sees of one sample: (C,) float32.

    Args:
        kind: "mask" (picture is the photo) or "fill" (picture is the filled background).
        backbone: gives feature maps.
        picture: (H, W, 3) uint8.
        mask: (H, W) uint8 mask or hole, or a bool hole.

    Raises:
        InputError: the sizes differ.
    """
    return features_of_all(kind, backbone, [picture], [mask])[0]


def features_of_all(
    kind: str, backbone: Backbone, pictures: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> Tensor:
    """What `features_of` gives for each of some samples, looked at together: (N, C) float32."""
    whole = []
    for picture, mask in zip(pictures, masks, strict=True):
        if mask.shape != picture.shape[:2]:
            raise InputError(f"A mask of {mask.shape} does not fit a picture of {picture.shape}.")
        whole.append(np.where(mask, 255, 0).astype(np.uint8) if mask.dtype == bool else mask)
    views = _mask_views if kind == "mask" else _fill_views
    seen = [view for pair in zip(pictures, whole, strict=True) for view in views(*pair)]
    given = network_input(seen)
    weights = list(backbone.parameters()) if isinstance(backbone, nn.Module) else []
    if weights:
        given = given.to(weights[0].device)
    with torch.no_grad():
        maps = backbone.maps(given)
        if kind == "mask":  # last features of the three views: (N, 3 * 1280)
            return maps[-1].mean(dim=(2, 3)).reshape(len(whole), -1)
        parts = [
            _fill_features([one[place : place + 1] for one in maps], hole)
            for place, hole in enumerate(whole)
        ]
        return torch.stack(parts)


def _mask_views(photo: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """The cut-out in its box, the rest, and the mask."""
    cut_out = _cropped(over_grey(photo, mask), box_around(mask, MASK_BOX), GREY)
    return [cut_out, over_grey(photo, 255 - mask), np.repeat(mask[..., None], 3, axis=2)]


def _fill_views(background: np.ndarray, hole: np.ndarray) -> list[np.ndarray]:
    """The background in a box around the hole."""
    return [_cropped(background, box_around(hole, FILL_BOX), GREY)]


def _fill_features(maps: Sequence[Tensor], hole: np.ndarray) -> Tensor:
    """Features at `FILL_DEPTHS` inside the hole and in the band around it, and how they differ."""
    box = box_around(hole, FILL_BOX)
    inside = torch.from_numpy(np.array(_resized(_cropped(hole, box, 0)))) > 127
    weight = inside.float()[None, None].to(maps[0].device)  # (1, 1, 224, 224)
    band = F.max_pool2d(weight, BAND, 1, BAND // 2) - weight
    parts = []
    for depth in FILL_DEPTHS:
        filled, around = (_pooled(maps[depth], area) for area in (weight, band))
        parts += [filled, around, (filled - around).abs()]
    return torch.cat(parts)


def over_grey(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The picture (H, W, 3) where the mask (H, W) is 255, grey where it is 0; uint8."""
    share = mask[..., None].astype(np.float32) / 255
    return np.rint(picture * share + GREY * (1 - share)).astype(np.uint8)


def box_around(mask: np.ndarray, scale: float) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a square around the mask; all of it if the mask is empty.

    It may reach beyond the picture.
    """
    rows, columns = np.nonzero(mask >= MASK_LEVEL)
    if not len(rows):
        rows, columns = (np.array([0, length - 1]) for length in mask.shape)
    top, bottom = int(rows.min()), int(rows.max()) + 1
    left, right = int(columns.min()), int(columns.max()) + 1
    side = round(max(bottom - top, right - left, SMALLEST_BOX) * scale)
    corner_x, corner_y = (left + right - side) // 2, (top + bottom - side) // 2
    return corner_x, corner_y, corner_x + side, corner_y + side


def load_quality(path: str | Path | None = None) -> QualityModel:
    """Load the shipped classifiers, or those that `text2layer train quality` wrote to `path`.

    Raises:
        WeightsError: the heads are missing or damaged, or the backbone's weights are neither on
            this machine nor can be fetched.
    """
    folder = Path(path) if path is not None else SHIPPED / "quality"
    remedy = "reinstall text2layer" if path is None else "name a folder of `train quality`"
    try:
        fields, tensors = read_judge(folder, HEADS_FILE)
        config = QualityConfig(**fields)
        kinds = (*KINDS, PAIR) if f"{PAIR}.weight" in tensors else KINDS
        heads = {kind: _head(tensors[f"{kind}.weight"], tensors[f"{kind}.bias"]) for kind in kinds}
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(
            f"The quality classifiers cannot be loaded from {folder} ({reason}); {remedy}."
        ) from None
    return QualityModel(load_backbone(config.backbone), heads, config)


def save_quality(model: QualityModel, folder: str | Path) -> None:
    """Write the heads and their config; the backbone stays a name and a hash.

    Raises:
        InputError, FormatError: the folder cannot be written.
    """
    tensors = {
        f"{kind}.{name}": value.detach().contiguous()
        for kind in heads_of(model.heads)
        for name, value in model.heads[kind].state_dict().items()
    }
    write_judge(Path(folder), asdict(model.config), HEADS_FILE, tensors)


def load_backbone(name: str = WEIGHTS_NAME) -> Backbone:
    """EfficientNet-lite0, or by hub id one of transformers' EfficientNets, frozen.

    Raises:
        WeightsError: its weights are not on this machine and cannot be fetched.
    """
    return EfficientNetLite0() if name == WEIGHTS_NAME else HubBackbone(name)


def backbone_sha256(name: str) -> str:
    """SHA-256 that the weights table promises for a backbone; "" for a hub id."""
    return WEIGHTS[name].sha256 if name in WEIGHTS else ""


class HubBackbone(nn.Module):
    """An EfficientNet of the transformers library (the paper's b0, for example).

    Its hidden states stand for the feature maps; pictures are normalised as ImageNet's were.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        from transformers import EfficientNetModel

        try:
            self.network = EfficientNetModel.from_pretrained(name)
        except (OSError, ValueError) as error:
            reason = str(error).split("\n")[0]
            raise WeightsError(f"The backbone '{name}' cannot be loaded: {reason}") from None
        self.eval().requires_grad_(False)

    def maps(self, x: Tensor) -> list[Tensor]:
        """See `Backbone.maps`; eight maps, as many as lite0 has."""
        mean, deviation = (
            torch.tensor(values, device=x.device).view(1, 3, 1, 1)
            for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        )
        colours = (x * 128.0 + 127.0) / 255.0
        given = self.network((colours - mean) / deviation, output_hidden_states=True)
        blocks = list(given.hidden_states[1:])
        # the last map of each row: where the number of channels is about to change
        rows = [
            one
            for one, following in zip(blocks, [*blocks[1:], None], strict=True)
            if following is None or following.shape[1] != one.shape[1]
        ]
        return [*rows[:7], given.last_hidden_state]


def _head(weight: Tensor, bias: Tensor) -> nn.Linear:
    if weight.ndim != 2 or weight.shape[0] != 1 or bias.shape != (1,):
        raise ValueError(f"a head is {tuple(weight.shape)} and not one neuron")
    head = nn.Linear(weight.shape[1], 1)
    head.load_state_dict({"weight": weight.float(), "bias": bias.float()})
    return head


def _cropped(picture: np.ndarray, box: tuple[int, int, int, int], beyond: int) -> np.ndarray:
    """A part of a uint8 picture or mask; what lies beyond its border is `beyond`."""
    colour = beyond if picture.ndim == 2 else (beyond,) * 3
    width, height = box[2] - box[0], box[3] - box[1]
    canvas = Image.new("L" if picture.ndim == 2 else "RGB", (width, height), colour)
    canvas.paste(Image.fromarray(picture), (-box[0], -box[1]))
    return np.asarray(canvas)


def _resized(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask).resize((SIZE, SIZE), Image.Resampling.BILINEAR)


def _pooled(features: Tensor, area: Tensor) -> Tensor:
    """Mean of (1, C, h, w) features over an area (1, 1, H, W) of 0..1: (C,); 0 if it is empty."""
    weight = F.interpolate(area, size=features.shape[-2:], mode="area")
    summed: Tensor = (features * weight).sum(dim=(2, 3)) / weight.sum().clamp(min=1e-3)
    return summed[0]
