"""What a run leaves in its folder besides checkpoints.

RUN/metrics.jsonl    means of every term, one JSON line per ten updates
RUN/previews/        a sheet of pictures at every look
RUN/model/           the trained autoencoder, or pipeline/, matting/, adapter/: folders that
                     `from_pretrained` loads
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ModelMixin
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from text2layer.data.contact_sheet import grid
from text2layer.data.grounds import listed
from text2layer.files import write_checksums, writing
from text2layer.layers import LayeredImage
from text2layer.parts import Parts
from text2layer.pipelines.text2layer import Text2LayerPipeline
from text2layer.tensors import composite, tensor_to_colour, tensor_to_mask
from text2layer.training.checkpoints import replacing
from text2layer.training.settings import TrainingSettings

UPDATES_PER_LINE = 10  # updates per line
PREVIEWS = [
    ("a red apple", "in front of a snowy mountain"),
    ("a 3d icon of a cat", "on a green meadow"),
    ("a yellow sports car", "against a desert at sunset"),
    ("a wooden chair", "in front of a forest"),
    ("a flat icon of a blue fish", "on a rocky seashore"),
    ("a 3d icon of a house", "in front of a starry night sky"),
    ("clip art of a tree", "in front of a calm lake"),
    ("a green sofa", "in front of a city skyline"),
]


class MetricsLog:
    """Progress bar on stderr and one line per UPDATES_PER_LINE updates.

    Args:
        path: metrics.jsonl of the run; lines of updates after `start` are dropped, because the
            resumed run takes those updates again.
        start: updates done so far.
        settings: of the run.
        main: whether this process writes; the others only count.
        pending: what `pending()` gave at `start`, so that the next line's means are those of an
            uninterrupted run.
    """

    def __init__(
        self,
        path: Path,
        start: int,
        settings: TrainingSettings,
        main: bool,
        pending: dict[str, list[float]] | None = None,
    ) -> None:
        self.settings = settings
        self.sums = {key: list(value) for key, value in (pending or {}).items()}
        self.values: dict[str, list[Tensor | float]] = {}
        self.updates = 0
        self.clock = time.monotonic()
        if main and path.is_file():
            _drop_after(path, start)
        self.file = path.open("a", encoding="utf-8") if main else None
        self.bar = tqdm(
            total=settings.steps, initial=start, disable=not main, file=sys.stderr,
            mininterval=2.0, desc=path.parent.name,
        )  # fmt: skip

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.file:
            self.file.close()

    def add(
        self,
        step: int,
        values: dict[str, Tensor | float],
        rate: float,
        moment: float | None = None,
    ) -> None:
        """Take the values of update number `step`; write a line of means when one is due.

        The update ended at this `moment` of the monotonic clock, or now.
        """
        moment = time.monotonic() if moment is None else moment
        for key, value in values.items():
            kept = value.detach() if isinstance(value, Tensor) else value
            self.values.setdefault(key, []).append(kept)
        self.updates += 1
        self.bar.update(1)
        if step % UPDATES_PER_LINE and step != self.settings.steps:
            return
        self._settle()
        means = {key: total / count for key, (total, count) in self.sums.items()}
        seconds = moment - self.clock
        speed = self.updates * self.settings.batch_size / max(seconds, 1e-9)
        self.bar.set_postfix(loss=f"{means['loss']:.4f}", refresh=False)
        self.write({"step": step, **means, "learning_rate": rate, "samples_per_second": speed})
        self.sums, self.updates, self.clock = {}, 0, moment

    def _settle(self) -> None:
        """Add up the values taken so far; only here is a GPU waited for."""
        for key, values in self.values.items():
            total, count = self.sums.get(key, (0.0, 0))
            self.sums[key] = [total + sum(map(float, values)), count + len(values)]
        self.values = {}

    def pending(self) -> dict[str, list[float]]:
        """Sums and counts that no line holds yet, for a checkpoint."""
        self._settle()
        return {key: list(value) for key, value in self.sums.items()}

    def write(self, values: dict[str, float | int]) -> None:
        """Append one JSON line at once, so that a kill loses nothing."""
        if self.file is None:
            return
        rounded = {
            key: value if isinstance(value, int) or not math.isfinite(value) else round(value, 6)
            for key, value in values.items()
        }
        self.file.write(json.dumps(rounded) + "\n")
        self.file.flush()


def _drop_after(path: Path, step: int) -> None:
    """Keep the lines up to `step`; a line that a kill cut short goes too."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if record.get("step", 0) <= step:
            kept.append(line + "\n")
    with writing(path) as file:
        file.write("".join(kept).encode())


def preview_prompts(num_foregrounds: int = 1) -> list[str]:
    """The same prompts every time, each of so many objects.

    Example:
        >>> preview_prompts(2)[0]
        'a red apple and a 3d icon of a cat in front of a snowy mountain'
    """
    things = [thing for thing, _ in PREVIEWS]
    return [
        f"{listed((things[number:] + things)[:num_foregrounds])} {place}"
        for number, (_, place) in enumerate(PREVIEWS)
    ]


def component_rows(parts: Parts, index: int) -> list[np.ndarray]:
    """Foregrounds, background, masks, composite and predicted picture of one sample, as uint8."""
    pick = slice(index, index + 1)
    row = [
        *tensor_to_colour(parts.foreground[pick].flatten(0, -4)),
        *tensor_to_colour(parts.background[pick]),
        *tensor_to_mask(parts.mask[pick].flatten(0, -4)),
        *tensor_to_colour(
            composite(parts.foreground[pick], parts.background[pick], parts.mask[pick])
        ),
    ]
    if parts.image is not None:
        row.extend(tensor_to_colour(parts.image[pick]))
    return row


def reconstruction_sheet(target: Parts, output: Parts) -> Image.Image:
    """Per sample one row of truth and one of reconstruction: F, B, m, C, I."""
    rows = []
    captions = []
    for index in range(target.mask.shape[0]):
        rows += [component_rows(target, index), component_rows(output, index)]
        captions += ["truth", "reconstruction"]
    return grid(rows, captions)


def generation_sheet(pictures: list[LayeredImage]) -> Image.Image:
    """Per picture one row: foreground colours, background, masks, composite; its prompt below."""
    rows = [
        [*(layer.colour for layer in p.foregrounds), p.background,
         *(layer.alpha for layer in p.foregrounds), p.composite]
        for p in pictures
    ]  # fmt: skip
    return grid(rows, [str(p.metadata.get("prompt", "")) for p in pictures])


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
