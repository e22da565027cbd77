"""One run of the benchmark: batches, processes, progress, sheets, and where figures come from."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from text2layer.data.contact_sheet import contact_sheet, layered_item
from text2layer.data.known_samples import KnownBatch, KnownSamples
from text2layer.evaluation.collector import Collector, gathered
from text2layer.evaluation.drawing import DrawnBatch
from text2layer.evaluation.networks import Networks
from text2layer.evaluation.references import References
from text2layer.evaluation.results import ProtocolResult

SHEET = 24  # samples shown of each protocol
COLUMNS = 3


@dataclass
class Run:
    """How samples are led through protocols.

    Attributes:
        batch_size: samples at a time.
        progress: show a bar on stderr.
        judge_samples: how many of the first samples the judge of masks looks at; 0 for all. The
            usual one takes seconds a picture on a CPU.
        references: features of known samples, kept for the next protocol or run.
        about: goes into every result: split, size, seed and the like.
        sheets: the first samples of each protocol, uncurated.
    """

    batch_size: int = 16
    progress: bool = False
    judge_samples: int = 0
    references: References = field(default_factory=References)
    about: dict[str, Any] = field(default_factory=dict)
    sheets: dict[str, Image.Image] = field(default_factory=dict)
    _shown: dict[str, list[Any]] = field(default_factory=dict)
    _begun: dict[str, float] = field(default_factory=dict)
    _prompts: dict[str, dict[int, str]] = field(default_factory=dict)

    def batches(self, known: KnownSamples, protocol: str) -> Iterator[KnownBatch]:
        """This process's share of the samples."""
        from accelerate import PartialState

        state = PartialState()
        self._begun[protocol] = time.perf_counter()
        prompts: dict[int, str] = {}
        bar = tqdm(
            total=len(known), desc=protocol, unit="sample", mininterval=1.0,
            disable=not (self.progress and state.is_main_process),
        )  # fmt: skip
        with bar:
            for batch in known.batches(self.batch_size, state.process_index, state.num_processes):
                prompts.update(zip(batch.numbers.tolist(), batch.captions["whole"], strict=True))
                yield batch
                bar.update(len(batch))
        self._prompts[protocol] = prompts

    def collector(self, inception: Any, known: KnownSamples) -> Collector:
        """Collects features beside those that are known already."""
        from accelerate import PartialState

        decided_by = (
            known.fingerprint, known.count, known.seed, self.batch_size,
            PartialState().num_processes, getattr(inception, "sha256", ""),
            *(f"{name}={value}" for name, value in sorted(self.about.items())),
        )  # fmt: skip
        return Collector(inception, self.references, decided_by)

    def show(self, result: ProtocolResult, batch: KnownBatch, drawn: DrawnBatch) -> None:
        """Keep the first samples for a sheet."""
        kept = self._shown.setdefault(result.protocol, [])
        for place in range(min(len(batch), SHEET - len(kept))):
            picture = layered_item(drawn.layers[place])
            number, text = int(batch.numbers[place]), batch.captions["whole"][place]
            kept.append((picture, f"{number}: {text}"))

    def finish(
        self, result: ProtocolResult, drawer: Any, known: KnownSamples, networks: Networks
    ) -> ProtocolResult:
        """Add where the figures come from, and draw the sheet."""
        seconds = time.perf_counter() - self._begun[result.protocol]
        result.about |= {
            **self.about,
            **_about(drawer),
            "data": known.fingerprint,
            "data_seed": known.seed,
            "picture_seeds": f"0 to {len(known) - 1}",
            "prompts_sha256": prompts_sha256(self._prompts[result.protocol]),
            "networks": networks.hashes(),
            "seconds": round(seconds, 1),
            "machine": machine(),
        }
        for name, reason in networks.missing.items():
            result.absent.setdefault(f"network {name}", reason)
        shown = self._shown.get(result.protocol)
        if shown:
            pictures, captions = zip(*shown, strict=True)
            self.sheets[result.protocol] = contact_sheet(list(pictures), COLUMNS, list(captions))
        return result


def prompts_sha256(prompts: dict[int, str]) -> str:
    """SHA-256 (hex) of the prompts of all processes in the order of their samples."""
    whole = {number: text for share in gathered([prompts]) for number, text in share.items()}
    return hashlib.sha256("\n".join(whole[number] for number in sorted(whole)).encode()).hexdigest()


def _about(drawer: Any) -> dict[str, Any]:
    """Model, steps and guidance of a `Drawer`; the networks of `PhotoLayers`."""
    pipeline = getattr(drawer, "pipeline", None)
    about: dict[str, Any] = {}
    if pipeline is not None:
        about = {
            "model": pipeline.model_name,
            "model_hash": pipeline.model_hash,
            "steps": drawer.steps,
            **({"attempts": drawer.attempts} if drawer.attempts > 1 else {}),
            **({"matting_hash": drawer.matting_hash} if drawer.matting_hash else {}),
            "guidance": drawer.guidance,
            "drawing_seconds": round(drawer.seconds, 1),
        }
    apart = drawer if pipeline is None else (drawer.take_apart if drawer.is_flat else None)
    if apart is not None:
        about["taken_apart_by"] = {
            apart.saliency.name: apart.saliency.sha256,
            apart.inpainter.name: apart.inpainter.sha256,
        }
    return about


def machine() -> dict[str, str]:
    """What it ran on, and with which versions."""
    import diffusers
    import torch

    from text2layer import __version__

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return {
        "device": gpu or f"{platform.machine()} CPU, {torch.get_num_threads()} threads",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "numpy": np.__version__,
        "text2layer": __version__,
    }
